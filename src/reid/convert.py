"""Old models to files of our own: weights with a header, ONNX with the preprocessing inside."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reid import checkpoint, old
from reid.errors import ModelError
from reid.export import wrap_onnx, write_onnx

WRITTEN = (".safetensors", ".onnx")


def convert(
    source: str | os.PathLike[str],
    targets: Sequence[str | os.PathLike[str]],
    net: str | None = None,
    like: str | None = None,
    card: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write another toolkit's model as files of our own.

    Args:
        source: the old model.
        targets: `.safetensors`, to train on from and to export; `.onnx`, to embed with.
        net, like: as for `old.load`, where the file does not say it.
        card: further facts for the file's metadata: data, licence, scores.

    Returns:
        The header of what was written: network, options, preprocessing, where it comes from.

    Raises:
        ModelError: the file cannot be read safely, does not fit, or what would be written differs from it.
    """
    for target in map(Path, targets):
        if target.suffix.lower() not in WRITTEN:
            raise ModelError(f"{target} should end in {' or '.join(WRITTEN)}")
    if Path(source).suffix.lower() in (".onnx", ".xml"):
        return _rewrap(Path(source), targets, like, card)
    loaded, header = old.load(source, net, like)
    for target in map(Path, targets):
        if target.suffix.lower() == ".onnx":
            write_onnx(loaded, header, target, card)
        else:
            checkpoint.save(target, loaded.state_dict(), {**header, **(card or {})})
    return header


def _rewrap(
    source: Path, targets: Sequence[str | os.PathLike[str]], like: str | None, card: dict[str, Any] | None
) -> dict[str, Any]:
    if source.suffix.lower() == ".xml":
        raise ModelError(f"{source} is OpenVINO's, which is used as it is, as --model {source}; it is not converted")
    if any(Path(target).suffix.lower() != ".onnx" for target in targets):
        raise ModelError(f"{source} is a graph, not weights of a network of ours; it can be written as .onnx only")
    about = [wrap_onnx(source, target, like, card) for target in targets]
    return about[0]
