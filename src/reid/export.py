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
from reid.embed import Embedder, pair_head
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
    model = _traced(module, (example,), ["images"], "embeddings")
    facts = {k: v for k, v in header.items() if k != "preprocess"}
    told: dict[str, Any] = {"height": inside.height, "width": inside.width, "inside": True}
    told |= {"views": inside.views} if inside.views != "plain" else {}
    about = {"preprocess": told, **facts, **(card or {})}
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
        if not cosine >= 0.9999:
            raise ModelError(f"the exported model differs from the network at batch {batch} (cosine {cosine:.5f})")


def wrap_onnx(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    like: str | None = None,
    card: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Another maker's ONNX file with its preprocessing put inside, and its batch made free where that works.

    Args:
        source: an ONNX file of one input.
        target: the `.onnx` file to write.
        like: how it wants its pictures, as for `Preprocess.like`; ONNX files do not say so.
        card: further facts for the file's metadata.

    Returns:
        What the new file says of itself.

    Raises:
        ModelError: the file is damaged, its preprocessing is not known, or the new file's embeddings differ.
    """
    before = Embedder(source, like=like, threads=1)
    if before.preprocess.inside:
        raise ModelError(f"{os.fspath(source)} has its preprocessing inside already; use it as it is")
    inside = Preprocess(before.preprocess.height, before.preprocess.width, inside=True, views=before.preprocess.views)
    told = {"from": Path(source).name, "format": "ONNX", "pictures": before.preprocess.fields()}
    about = {"preprocess": inside.fields(), "converted": told, **(card or {})}
    with replacing(target) as partial:
        for free in (True, False):
            _write_wrapped(before, free, about, partial)
            try:
                _compare(before, Embedder(partial, threads=1))
                return about
            except ModelError:
                if not free:
                    raise
    raise AssertionError("one of the two was written or refused")


def _write_wrapped(before: Embedder, free: bool, about: dict[str, Any], target: Path) -> None:
    """Nodes from bytes to what the model takes, before its first; its batch named instead of fixed where `free`."""
    model = onnx.load_model_from_string(before.engine.data)
    graph, pictures, first = model.graph, before.preprocess, before.engine
    own = next(i for i in graph.input if i.name not in {t.name for t in graph.initializer})
    batch: int | str = "batch" if free or first.batch is None else first.batch
    order = [0, 1, 2] if pictures.channels == "RGB" else [2, 1, 0]
    constants = {
        "order": np.array(order, np.int64),
        "mean": np.array(pictures.mean, np.float32) / np.float32(pictures.scale),
        "deviation": np.array(pictures.deviation, np.float32) / np.float32(pictures.scale),
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(v, f"reid/{k}") for k, v in constants.items())
    last = own.type.tensor_type.shape.dim[3].dim_value == 3 and own.type.tensor_type.shape.dim[1].dim_value != 3
    node = onnx.helper.make_node
    nodes = [
        node("Gather", ["reid/images", "reid/order"], ["reid/ordered"], axis=3),
        node("Cast", ["reid/ordered"], ["reid/floats"], to=onnx.TensorProto.FLOAT),
        node("Sub", ["reid/floats", "reid/mean"], ["reid/less"]),
        node("Div", ["reid/less", "reid/deviation"], ["reid/scaled"]),
        node("Transpose", ["reid/scaled"], ["reid/turned"], perm=[0, 1, 2, 3] if last else [0, 3, 1, 2]),
        node("Cast", ["reid/turned"], [own.name], to=own.type.tensor_type.elem_type),
    ]
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *kept])
    graph.input.remove(own)
    shape = [batch, pictures.height, pictures.width, 3]
    graph.input.insert(0, onnx.helper.make_tensor_value_info("reid/images", onnx.TensorProto.UINT8, shape))
    if free:
        del graph.value_info[:]
        for out in (o for o in graph.output if o.type.tensor_type.shape.dim):
            out.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA: json.dumps(about)})
    onnx.save(model, target)


def _compare(before: Embedder, after: Embedder) -> None:
    """The same embeddings from both, whatever the batch; pictures are noise."""
    rng, wants = np.random.default_rng(0), before.preprocess
    for batch in (1, 2, 7):
        pixels = rng.integers(0, 256, (batch, wants.height, wants.width, 3), dtype=np.uint8)
        wanted, found = before.vectors(pixels), after.vectors(pixels)
        if not np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max():
            raise ModelError(f"the file with its preprocessing inside differs from the model at batch {batch}")
