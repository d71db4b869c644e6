"""Weights to ONNX, with the preprocessing inside: bytes in, embeddings out, any batch size."""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from reid import checkpoint
from reid.disk import replacing
from reid.embed import METADATA, Embedder, pair_head
from reid.errors import ModelError
from reid.images import Preprocess


class WithPreprocessing(nn.Module):
    """(N, H, W, 3) bytes to (N, D) embeddings, of unit length where the network's are compared so."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, net: nn.Module, preprocess: Preprocess, unit: bool):
        super().__init__()
        self.net, self.unit = net, unit
        self.register_buffer("mean", torch.tensor(preprocess.mean))
        self.register_buffer("deviation", torch.tensor(preprocess.deviation))

    def forward(self, images: Tensor) -> Tensor:
        pixels = ((images.float() - self.mean) / self.deviation).permute(0, 3, 1, 2)
        embedding = self.net(pixels).embedding
        return nn.functional.normalize(embedding) if self.unit else embedding


class PairHead(nn.Module):
    """Two (N, D) embeddings to the (N,) logits of a network's head for pairs."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        logits: Tensor = self.net.pair(first, second)  # type: ignore[operator]
        return logits


def export_onnx(
    weights: str | os.PathLike[str], target: str | os.PathLike[str], card: dict[str, Any] | None = None
) -> None:
    """Write the network of a weights file as ONNX, and check it before it gets its name.

    A head that judges pairs is written beside it, as `mine.pairs.onnx` beside `mine.onnx`; `reid.ReId` can use it.

    Args:
        weights: what `reid train` wrote.
        target: the `.onnx` file to write.
        card: further facts for the file's metadata: data, licence, hardware.

    Raises:
        ModelError: the exported file's embeddings differ from the network's, at any of several batch sizes.
    """
    net, header = checkpoint.load_net(weights)
    stored = Preprocess(**header["preprocess"])
    module = WithPreprocessing(net, stored, header.get("unit", True)).eval()
    inside = Preprocess(stored.height, stored.width, inside=True)
    example = torch.zeros(2, stored.height, stored.width, 3, dtype=torch.uint8)
    model = _traced(module, (example,), ["images"], "embeddings")
    facts = {k: v for k, v in header.items() if k != "preprocess"}
    about = {"preprocess": {"height": inside.height, "width": inside.width, "inside": True}, **facts, **(card or {})}
    onnx.helper.set_model_props(model, {METADATA: json.dumps(about)})
    with replacing(target) as partial:
        onnx.save(model, partial)
        _check(partial, module, inside)
    if hasattr(net, "pair"):
        with torch.no_grad():
            sides = tuple(torch.zeros_like(module(example)) for _ in range(2))
        head = _traced(PairHead(net).eval(), sides, ["first", "second"], "logits")
        with replacing(pair_head(target)) as partial:
            onnx.save(head, partial)


def _traced(module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], output: str) -> onnx.ModelProto:
    """A module as ONNX for any batch size, without a word of the source code."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of a torchvision that is not needed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            verbose=False,
            input_names=names,
            output_names=[output],
            dynamic_shapes=({0: torch.export.Dim("batch")},) * len(inputs),
        )
    assert program is not None
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info):
        del part.metadata_props[:]  # where on this machine each line of code lies
    return model


def _check(path: Path, module: nn.Module, preprocess: Preprocess) -> None:
    embedder = Embedder(path)
    rng = np.random.default_rng(0)
    for batch in (1, 2, 7, 64):
        pixels = rng.integers(0, 256, (batch, preprocess.height, preprocess.width, 3), dtype=np.uint8)
        with torch.no_grad():
            wanted = module(torch.from_numpy(pixels)).numpy()
        found = embedder.vectors(pixels)
        lengths = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
        cosine = ((wanted * found).sum(axis=1) / lengths).min()
        if cosine < 0.9999:
            raise ModelError(f"the exported model differs from the network at batch {batch} (cosine {cosine:.5f})")
