"""Maps of heat over pictures: what moves an embedding, and a sheet that shows pictures with their heat beside them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from reid import pages
from reid.errors import ShapeError
from reid.images import RGB, resize
from reid.pages import Pictures, text
from reid.types import Crop, Vectors

Heat = NDArray[np.float64]
ROWS, COLUMNS = 12, 6  # places at which a patch hides part of a picture
HIGH, WIDE = 256, 128  # of pictures shown
PATCH = 0.22, 0.34  # of the height and width
_RAMP = ("#14082f", "#4b0c6b", "#8c2369", "#cf4446", "#f78012", "#f9c932", "#fcffa4")  # even to the eye, dark to light
NOTES = {
    "activation": (
        "Heat is the sum over channels of the squared last feature map (activation-based attention: Zagoruyko and "
        "Komodakis 2017), from the lowest to the highest of each picture, so heat cannot be compared between pictures. "
        "It shows where the network responds, which need not be what tells this person from others: padding with zeros "
        "makes many networks respond most at a picture’s edges."
    ),
    "occlusion": (
        "Heat is how far the embedding moves when a grey patch hides that place (occlusion: Zeiler and Fergus 2014), "
        "from the lowest to the highest of each picture, so heat cannot be compared between pictures. What is visible "
        "twice, such as both legs, moves it less than it matters."
    ),
}


def level(values: NDArray[np.floating]) -> Heat:
    """Scaled to 0 at the lowest and 1 at the highest; all 0 where they do not differ."""
    lowest, highest = float(values.min()), float(values.max())
    return np.asarray((values - lowest) / (highest - lowest or 1.0), dtype=np.float64)


def occlusion(embed: Callable[[Sequence[RGB]], Vectors], picture: RGB) -> Heat:
    """How far an embedding moves when a patch hides part of a picture, at each place of a grid.

    Args:
        embed: pictures (H, W, 3) uint8 to (N, D); an Embedder's `arrays`.
        picture: (H, W, 3).

    Returns:
        (ROWS, COLUMNS) from 0 to 1.
    """
    height, width = picture.shape[:2]
    grey = np.rint(picture.mean(axis=(0, 1))).astype(np.uint8)
    high, wide = max(1, round(PATCH[0] * height)), max(1, round(PATCH[1] * width))
    hidden = []
    for y in (np.arange(ROWS) + 0.5) / ROWS * height:
        for x in (np.arange(COLUMNS) + 0.5) / COLUMNS * width:
            top, left = round(y - high / 2), round(x - wide / 2)
            other = picture.copy()
            other[max(0, top) : top + high, max(0, left) : left + wide] = grey
            hidden.append(other)
    vectors = embed([picture, *hidden])
    return level(np.linalg.norm(vectors[1:] - vectors[0], axis=1).reshape(ROWS, COLUMNS))


def overlay(picture: RGB, heat: Heat) -> RGB:
    """A picture in grey with heat laid over it, the hotter the more of it."""
    height, width = picture.shape[:2]
    smooth = np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float64)
    smooth = smooth.clip(0, 1)
    grey = 0.7 * (picture @ np.array([0.299, 0.587, 0.114]))[..., None] + 40
    share = (0.25 + 0.6 * smooth)[..., None]
    mixed = (1 - share) * grey + share * _hot(smooth)
    return np.asarray(np.rint(mixed.clip(0, 255)), dtype=np.uint8)


def _hot(heat: Heat) -> Heat:
    """Values from 0 to 1 as colours (…, 3) from 0 to 255."""
    ends = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in _RAMP], dtype=np.float64)
    at = np.linspace(0, 1, len(_RAMP))
    return np.stack([np.interp(heat, at, ends[:, c]) for c in range(3)], axis=-1)


def html(
    crops: Sequence[Crop],
    pictures: Sequence[RGB],
    heats: Sequence[Heat],
    by: str,
    facts: Sequence[tuple[str, str]] = (),
) -> str:
    """A page with each picture, at the shape in which networks see people, and beside it the same with heat.

    Args:
        crops, pictures, heats: N each.
        by: a name from NOTES.
        facts: (name, value) pairs shown below the heading.

    Raises:
        ShapeError: they differ in number.
    """
    _check(crops, pictures, heats)
    shown = Pictures()
    cards = "\n".join(
        f'<li><figure title="{text(crop.path)}"><div class="pair">{shown.add(picture, crop.name)}'
        f"{shown.add(overlay(picture, heat), f'{crop.name}, heat')}</div>"
        f"<figcaption>{pages.known(crop)}</figcaption></figure></li>"
        for crop, picture, heat in zip(crops, (resize(p, HIGH, WIDE) for p in pictures), heats, strict=True)
    )
    ramp = f'<i class="ramp" style="background: linear-gradient(to right, {", ".join(_RAMP)})"></i>'
    key = f'<p class="key"><span>little {ramp} much</span></p>'
    main = f'<ol class="heats-of">\n{cards}\n</ol>'
    return pages.page(_title(by), "", facts, key, main, shown, ["plot.css"], NOTES[by])


def png(crops: Sequence[Crop], pictures: Sequence[RGB], heats: Sequence[Heat], by: str) -> bytes:
    """The same as one picture, 8 pairs in a row at most."""
    _check(crops, pictures, heats)
    gap, head, margin = 28, 84, 36
    rows = max(1, -(-len(crops) // 8))
    columns = max(1, -(-len(crops) // rows))
    width = 2 * margin + columns * (2 * WIDE + 4 + gap) - gap
    sheet = Image.new("RGB", (max(width, 640), head + rows * (HIGH + gap) - gap + margin), "#f7f7f5")
    ImageDraw.Draw(sheet).text((margin, margin * 0.7), _title(by), "#1b1b19", ImageFont.load_default(28))
    for i, (picture, heat) in enumerate(zip(pictures, heats, strict=True)):
        left, top = margin + i % columns * (2 * WIDE + 4 + gap), head + i // columns * (HIGH + gap)
        for side, one in enumerate((picture, overlay(picture, heat))):
            sheet.paste(Image.fromarray(resize(one, HIGH, WIDE)), (left + side * (WIDE + 4), top))
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()


def _title(by: str) -> str:
    return "Where does the network respond?" if by == "activation" else "What must be seen?"


def _check(crops: Sequence[Crop], pictures: Sequence[RGB], heats: Sequence[Heat]) -> None:
    if not len(crops) == len(pictures) == len(heats):
        raise ShapeError(f"{len(crops)} crops, {len(pictures)} pictures and {len(heats)} maps were given; one each")
