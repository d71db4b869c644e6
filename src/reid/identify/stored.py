"""An identifier as one file: arrays in NumPy's `.npz`, and what they mean as JSON. Nothing is ever unpickled."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from reid.disk import replacing
from reid.errors import DataError, ShapeError
from reid.identify.calibration import Calibration
from reid.identify.kinds import Learnt
from reid.identify.queries import FORMS

SUFFIX = ".people"
FORMAT, VERSION = "reid identifier", 1
LARGEST = 4 << 30  # bytes, unpacked


@dataclass(frozen=True, slots=True)
class Stored:
    """What a file holds, see `Identifier`."""

    kind: str
    model: str
    people: tuple[str, ...]
    learnt: Learnt
    calibrations: Mapping[str, Calibration]
    across: float | None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not isinstance(self.model, str) or not self.model:
            raise ShapeError("it names no kind or no model")
        if not all(isinstance(name, str) and name for name in self.people) or len(set(self.people)) < len(self.people):
            raise ShapeError("people are not names, each once")
        share = 0 if self.across is None else self.across
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ShapeError(f"the share of people seen across cameras is {self.across!r}")
        if len(self.people) != self.learnt.people:
            raise ShapeError(f"it names {len(self.people)} people and has learnt {self.learnt.people}")


def save(path: str | os.PathLike[str], it: Stored) -> None:
    """Write it. Replaces the file in one step."""
    sure = {
        form: {name: getattr(made, name) for name in ("temperature", "centre", "slope")}
        for form, made in it.calibrations.items()
    }
    head: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": it.kind,
        "model": it.model,
        "people": it.people,
    }
    head |= {"across": it.across} | sure
    arrays: dict[str, NDArray[Any]] = {
        "about": np.frombuffer(json.dumps(head).encode(), np.uint8),
        "points": it.learnt.points,
        "owners": it.learnt.owners.astype(np.int64),
    }
    if it.learnt.offsets is not None:
        arrays["offsets"] = it.learnt.offsets
    for form, made in it.calibrations.items():
        arrays |= {f"{form}-strangers": made.strangers, f"{form}-shares": made.shares}
    with replacing(path) as partial, open(partial, "wb") as out:
        np.savez(out, allow_pickle=False, **arrays)


def load(path: str | os.PathLike[str]) -> Stored:
    """Read what `save` wrote, checked in every part.

    Raises:
        DataError: the file is missing, damaged, too large, of another version or something else.
    """
    try:
        arrays = _read(Path(path))
        head = json.loads(arrays["about"].tobytes())
        if (head["format"], head["version"]) != (FORMAT, VERSION):
            raise ShapeError(f"it says {head['format']!r} {head['version']}, not {FORMAT!r} {VERSION}")
        learnt = Learnt(arrays["points"], arrays["owners"], arrays.get("offsets"))
        calibrations = {
            form: Calibration(arrays[f"{form}-strangers"], arrays[f"{form}-shares"], **_numbers(head[form]))
            for form in FORMS
            if form in head
        }
        return Stored(head["kind"], head["model"], tuple(head["people"]), learnt, calibrations, head["across"])
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; give a file that `reid identify --save` wrote") from None
    except KeyError as error:
        raise DataError(f"{path} is not a readable identifier (no {error}); enrol again") from None
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path} is not a readable identifier ({error}); enrol again") from None


def _numbers(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Temperature, centre and slope."""
    found = {name: row[name] for name in ("temperature", "centre", "slope")}
    if any(v is not None and not isinstance(v, int | float) for v in found.values()):
        raise ShapeError("a temperature, centre or slope is not a number")
    return found


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays, of the types they were written in; refused by their headers where they claim too much."""
    types = dict.fromkeys(("points", "offsets", *(f"{form}-strangers" for form in FORMS)), "<f4")
    types |= {"about": "|u1", "owners": "<i8"} | {f"{form}-shares": "<f8" for form in FORMS}
    found = {}
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > LARGEST:
            raise ShapeError(f"it unpacks to more than {LARGEST >> 30} GiB")
        for part in parts:
            name = part.filename.removesuffix(".npy")
            if name not in types or name in found:
                raise ShapeError(f"it holds {part.filename!r}, which no identifier does, or holds it twice")
            with archive.open(part) as file:
                _check_header(file, name, types[name], part.file_size)
            with archive.open(part) as file:
                found[name] = np.lib.format.read_array(file, allow_pickle=False)
    return found


def _check_header(file: IO[bytes], name: str, dtype: str, size: int) -> None:
    """Refuse an array that is of another type, or larger or smaller than its part of the file."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ShapeError(f"{name} is of another version of NumPy's format")
    shape, _, kind = np.lib.format.read_array_header_1_0(file)
    if kind != np.dtype(dtype) or math.prod(shape) * kind.itemsize != size - file.tell():
        raise ShapeError(f"{name} is {kind} of shape {shape}, which does not fit its place in the file")
