"""How things are called where people read of them: counts, models, and names on a terminal."""

from __future__ import annotations

import json
import unicodedata
from functools import cache
from importlib import resources


def many(count: int, one: str, more: str = "") -> str:
    """A count with its noun.

    >>> many(1, "crop"), many(1200, "crop"), many(2, "person", "people")
    ('1 crop', '1,200 crops', '2 people')
    """
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def model_named(fingerprint: str) -> str:
    """A model's fingerprint, after its name where it is one that comes with reid.

    >>> model_named("0123456789abcdef")
    '0123456789abcdef'
    """
    name = _shipped().get(fingerprint)
    return f"{name} ({fingerprint})" if name else fingerprint


@cache
def _shipped() -> dict[str, str]:
    """Names of the models that come with reid, by fingerprint: their calibrations say it."""
    ending = ".calibration.json"
    files = (resources.files("reid") / "weights").iterdir()
    return {json.loads(f.read_text())["model"]: f.name.removesuffix(ending) for f in files if f.name.endswith(ending)}


def visible(text: str) -> str:
    r"""Text as a terminal may show it: line ends and other control characters as escapes.

    >>> visible("two\nlines \x1b[31m"), visible("Zoë 中.jpg")
    ('two\\nlines \\x1b[31m', 'Zoë 中.jpg')
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(letter: str) -> str:
    hidden = unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp")  # controls, marks of direction, line ends
    return letter.encode("unicode_escape").decode() if hidden else letter
