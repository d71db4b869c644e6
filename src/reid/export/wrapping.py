"""Another maker's ONNX graph with its preprocessing put inside."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from reid.embed import Embedder
from reid.engines import METADATA
from reid.errors import ModelError
from reid.export.files import place
from reid.images import Preprocess


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
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "made.onnx")
        for free in (True, False):
            _write_wrapped(before, free, about, made)
            try:
                _compare(before, Embedder(made, threads=1))
            except ModelError:
                if not free:
                    raise
                continue
            place(made, Path(target))
            return about
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
        "mean": np.array(pictures.mean, np.float32).reshape(3, 1, 1) / np.float32(pictures.scale),
        "deviation": np.array(pictures.deviation, np.float32).reshape(3, 1, 1) / np.float32(pictures.scale),
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(v, f"reid/{k}") for k, v in constants.items())
    last = own.type.tensor_type.shape.dim[3].dim_value == 3 and own.type.tensor_type.shape.dim[1].dim_value != 3
    node = onnx.helper.make_node
    nodes = [  # channels first: engines are slow at three values that change in every pixel
        node("Transpose", ["reid/images"], ["reid/turned"], perm=[0, 3, 1, 2]),
        node("Gather", ["reid/turned", "reid/order"], ["reid/ordered"], axis=1),
        node("Cast", ["reid/ordered"], ["reid/floats"], to=onnx.TensorProto.FLOAT),
        node("Sub", ["reid/floats", "reid/mean"], ["reid/less"]),
        node("Div", ["reid/less", "reid/deviation"], ["reid/scaled"]),
        node("Transpose", ["reid/scaled"], ["reid/wanted"], perm=[0, 2, 3, 1] if last else [0, 1, 2, 3]),
        node("Cast", ["reid/wanted"], [own.name], to=own.type.tensor_type.elem_type),
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
