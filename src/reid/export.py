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
from reid.embed import Embedder
from reid.engines import METADATA
from reid.errors import ModelError
from reid.images import Preprocess


class WithPreprocessing(nn.Module):
    """(N, H, W, 3) bytes to (N, D) embeddings, of unit length where the network's are compared so."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, net: nn.Module, preprocess: Preprocess, unit: bool):
        super().__init__()
        self.net, self.unit, self.reverse = net, unit, preprocess.channels == "BGR"
        self.register_buffer("mean", torch.tensor(preprocess.mean) / preprocess.scale)
        self.register_buffer("deviation", torch.tensor(preprocess.deviation) / preprocess.scale)

    def forward(self, images: Tensor) -> Tensor:
        images = images.flip(3) if self.reverse else images
        pixels = ((images.float() - self.mean) / self.deviation).permute(0, 3, 1, 2)
        embedding = self.net(pixels).embedding
        return nn.functional.normalize(embedding) if self.unit else embedding


def export_onnx(
    weights: str | os.PathLike[str], target: str | os.PathLike[str], card: dict[str, Any] | None = None
) -> None:
    """Write the network of a weights file as ONNX, and check it before it gets its name.

    Args:
        weights: what `reid train` wrote.
        target: the `.onnx` file to write.
        card: further facts for the file's metadata: data, licence, hardware.

    Raises:
        ModelError: the exported file's embeddings differ from the network's, at any of several batch sizes.
    """
    net, header = checkpoint.load_net(weights)
    write_onnx(net, header, target, card)


def write_onnx(
    net: nn.Module,
    header: dict[str, Any],
    target: str | os.PathLike[str],
    card: dict[str, Any] | None = None,
) -> None:
    """`export_onnx` for a network that is loaded already, and its header."""
    stored = Preprocess(**header["preprocess"])
    module = WithPreprocessing(net, stored, header.get("unit", True)).eval()
    inside = Preprocess(stored.height, stored.width, inside=True, views=stored.views)
    example = torch.zeros(2, stored.height, stored.width, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of a torchvision that is not needed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["embeddings"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info):
        del part.metadata_props[:]  # where on this machine each line of code lies
    facts = {k: v for k, v in header.items() if k != "preprocess"}
    told: dict[str, Any] = {"height": inside.height, "width": inside.width, "inside": True}
    told |= {"views": inside.views} if inside.views != "plain" else {}
    about = {"preprocess": told, **facts, **(card or {})}
    onnx.helper.set_model_props(model, {METADATA: json.dumps(about)})
    with replacing(target) as partial:
        onnx.save(model, partial)
        _check(partial, module, inside)


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
        if not cosine >= 0.9999:
            raise ModelError(f"the exported model differs from the network at batch {batch} (cosine {cosine:.5f})")
