"""What is exported: a network or a graph, in fp32, beside what computes it now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from reid.embed import Embedder
from reid.errors import ModelError
from reid.export.files import save, told
from reid.export.modules import PairHead, WithPreprocessing, WithViews, traced
from reid.export.wrapping import wrap_onnx
from reid.images import RGB, Preprocess
from reid.types import Vectors


@dataclass(slots=True)
class Source:
    """The model to export, in fp32: as a graph that takes what `preprocess` gives, and as what computes it now."""

    graph: onnx.ModelProto
    preprocess: Preprocess
    about: dict[str, Any]
    reference: Embedder
    head: onnx.ModelProto | None = None


def from_net(net: nn.Module, header: dict[str, Any], inside: str, views: str | None, folder: Path) -> Source:
    """A network traced, with what should lie inside."""
    pictures = replace(Preprocess.stated(header["preprocess"], "the header"), inside=False)
    pictures = replace(pictures, views=views or pictures.views)
    module: nn.Module = WithPreprocessing(net, pictures, header.get("unit", True)).eval()
    example = torch.zeros(2, 3, pictures.height, pictures.width)
    taken = pictures
    if inside != "nothing":
        taken = Preprocess(pictures.height, pictures.width, inside=True, views=pictures.views)
        if inside == "views":
            assert isinstance(module, WithPreprocessing)
            module, taken = WithViews(module, pictures).eval(), WithViews.taken(pictures)
        example = torch.zeros(2, taken.height, taken.width, 3, dtype=torch.uint8)
    graph = traced(module, (example,), ["images"], "embeddings")
    about = {k: v for k, v in header.items() if k != "preprocess"}
    plain = save(graph, {"preprocess": told(taken), **about}, folder / "plain.onnx")
    reference = Embedder(plain, engine="onnxruntime")
    reference.engine = _Network(module, inside != "nothing")
    head = None
    if hasattr(net, "pair"):
        with torch.no_grad():
            sides = tuple(torch.zeros_like(module(example)) for _ in range(2))
        head = traced(PairHead(net).eval(), sides, ["first", "second"], "logits")
    return Source(graph, taken, about, reference, head)


class _Network:
    """A network as it was traced, in the place of an engine."""

    name, usual, alone, data = "torch", 16, False, b""
    batch: int | None = None
    height: int | None = None
    width: int | None = None

    def __init__(self, module: nn.Module, inside: bool):
        self.about: dict[str, Any] = {}
        self._module, self._inside = module, inside

    def run(self, pictures: RGB, preprocess: Preprocess, threads: int) -> Vectors:
        ready = np.ascontiguousarray(pictures) if self._inside else preprocess.prepare(pictures)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.no_grad():
                found: Vectors = self._module(torch.from_numpy(ready)).numpy()
            return found
        finally:
            torch.set_num_threads(before)


def from_graph(path: Path, inside: str, views: str | None, like: str | None, folder: Path) -> Source:
    """An ONNX file, ours or another maker's."""
    reference = Embedder(path, like=like, views=views, engine="onnxruntime")
    about = {k: v for k, v in reference.card.items() if k not in ("preprocess", "export")}
    if inside == "views" or (inside == "nothing" and reference.preprocess.inside):
        raise ModelError(
            f"{path} is a graph, to which only pixels can be added; export its weights to have {inside} inside"
        )
    taken = reference.preprocess
    if inside == "pixels" and not taken.inside:
        about |= wrap_onnx(path, folder / "wrapped.onnx", like)
        path = folder / "wrapped.onnx"
        taken = replace(Preprocess.stated(about.pop("preprocess"), path), views=taken.views)
    return Source(onnx.load(path), taken, about, reference)
