"""Graphs on disk: as ONNX, as OpenVINO's IR, and put in the place of older files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx

from reid.disk import replacing
from reid.engines import METADATA
from reid.errors import MissingExtra, ModelError
from reid.images import Preprocess


def told(preprocess: Preprocess) -> dict[str, Any]:
    """The fields of a Preprocess that are not as usual, and its size."""
    usual = Preprocess(preprocess.height, preprocess.width).fields()
    return {k: v for k, v in preprocess.fields().items() if k in ("height", "width") or v != usual[k]}


def save(graph: onnx.ModelProto, about: dict[str, Any], path: Path, half: bool = False) -> Path:
    """Write a graph and what it says of itself, as its suffix tells.

    Args:
        graph: changed in its metadata only.
        about: for the metadata, as JSON.
        path: `.onnx`, or `.xml`, which gets a `.bin` beside it.
        half: have OpenVINO store the weights as fp16.

    Raises:
        ModelError: OpenVINO does not know something in the graph.
        MissingExtra: it is not installed.
    """
    text = json.dumps(about)
    del graph.metadata_props[:]
    if path.suffix.lower() == ".onnx":
        onnx.helper.set_model_props(graph, {METADATA: text})
        onnx.save(graph, path)
        return path
    try:
        import openvino
    except ImportError:
        raise MissingExtra("writing OpenVINO's IR", "openvino") from None
    try:
        model = openvino.Core().read_model(graph.SerializeToString(), b"")
        model.set_rt_info(text, [METADATA])
        openvino.save_model(model, path, compress_to_fp16=half)
    except Exception as error:  # OpenVINO's have no common class
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1][:200]
        raise ModelError(f"OpenVINO cannot write this graph ({reason}); write it as .onnx") from None
    return path


def place(made: Path, target: Path) -> None:
    """Put a finished file, and the `.bin` beside an `.xml`, in the place of what may lie there."""
    pairs = [(made, target)]
    if made.suffix.lower() == ".xml":
        pairs.insert(0, (made.with_suffix(".bin"), target.with_suffix(".bin")))
    for new, name in pairs:
        with replacing(name) as partial:
            partial.write_bytes(new.read_bytes())
