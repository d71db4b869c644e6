"""Solids made of four-cornered faces: tubes, balls, walls, leaves. Everything in the street is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Colour = tuple[float, float, float]
Mesh = tuple[Array, Array]  # (F, 4, 3) corners, anticlockwise seen from outside, and (F, 3) colours
Paint = Colour | Callable[[Array, Array], Array]  # a colour, or colours of (angle around, way along from 0 to 1)

NOTHING: Colour = (math.nan, math.nan, math.nan)  # paint that leaves a face out


@lru_cache
def _curve(knots: int, rings: int) -> tuple[Array, Array]:
    """(rings, knots) weights of a smooth curve through evenly spaced knots (cubic Hermite), and of its direction."""
    t = np.linspace(0, knots - 1, rings)
    i = np.minimum(t.astype(int), knots - 2)
    f, points = (t - i)[:, None], np.eye(knots)
    slopes = np.gradient(points, axis=0)
    straight = points[i] + (3 - 2 * f) * f**2 * (points[i + 1] - points[i])
    weights = straight + f * (1 - f) ** 2 * slopes[i] - f**2 * (1 - f) * slopes[i + 1]
    return weights, np.gradient(weights, axis=0)


@lru_cache
def _grid(rings: int, sides: int, square: float) -> tuple[Array, Array, NDArray[np.int64], Array, Array]:
    """Of a tube: cosine and sine around it, corners of its faces, and each face's angle and way along."""
    u = np.arange(sides) * 2 * math.pi / sides
    cos, sin = (np.sign(w) * np.abs(w) ** square for w in (np.cos(u), np.sin(u)))
    ring, side = (g.ravel() for g in np.meshgrid(np.arange(rings - 1), np.arange(sides), indexing="ij"))
    here, beside = ring * sides + side, ring * sides + (side + 1) % sides
    corners = np.stack([here, beside, beside + sides, here + sides], axis=1)
    return cos, sin, corners, u[side] + u[1] / 2, (ring + 0.5) / (rings - 1)


def tube(
    knots: ArrayLike, paint: Paint, rings: int = 8, sides: int = 12, square: float = 1.0, folds: float = 0.0
) -> Mesh:
    """A smooth tube, or several alike, through knots (..., k, 5): x, y, z, half width in x, half depth across it.

    Angles run from x (0) to y (π/2) where the tube rises. `square` below 1 makes its section boxy, `folds` is the depth
    of creases in cloth.
    """
    table = np.asarray(knots, dtype=np.float64)
    table = table.reshape(-1, *table.shape[-2:])
    weights, slopes = _curve(table.shape[1], rings)
    cos, sin, corners, angle, way = _grid(rings, sides, square)
    centre, along = weights @ table, slopes @ table[..., 1:3]
    radii = np.maximum(centre[..., 3:], 0.001)
    across = radii[..., 1:] * along / np.maximum(np.hypot(along[..., :1], along[..., 1:]), 1e-9)
    points = np.repeat(centre[..., None, :3], sides, axis=2)
    points[..., 0] += radii[..., :1] * cos
    points[..., 1] += across[..., 1:] * sin
    points[..., 2] -= across[..., :1] * sin
    faces = points.reshape(len(table), -1, 3)[:, corners]
    colours = paint(angle, way) if callable(paint) else np.broadcast_to(paint, (len(angle), 3))
    if folds:
        crease = np.sin(3 * angle + 11 * way) + np.sin(2 * angle - 19 * way + 1) * np.sin(angle + 7 * way)
        colours = colours * (1 + folds * crease[:, None])
    if callable(paint):
        there = ~np.isnan(colours[:, 0])
        faces, colours = faces[:, there], colours[there]
    return faces.reshape(-1, 4, 3), np.concatenate([colours] * len(table))


def ball(centre: ArrayLike, radii: Colour, paint: Paint, rings: int = 7, sides: int = 10) -> Mesh:
    """An ellipsoid around each centre (..., 3)."""
    t = np.linspace(0, math.pi, rings)
    knots = np.zeros((*np.shape(centre)[:-1], rings, 5))
    knots[..., :3] = np.asarray(centre)[..., None, :]
    knots[..., 2] -= radii[2] * np.cos(t)
    knots[..., 3], knots[..., 4] = radii[0] * np.sin(t), radii[1] * np.sin(t)
    return tube(knots, paint, rings, sides)


def panel(
    corner: Colour,
    along: Colour,
    up: Colour,
    colour: Colour,
    tiles: tuple[int, int] = (1, 1),
    spread: float = 0.0,
    gap: float = 0.0,
) -> Mesh:
    """A flat piece of wall or ground, cut into tiles with a gap around each, whose shades differ by `spread`."""
    i, j = (g.reshape(-1, 1, 1) for g in np.meshgrid(np.arange(tiles[0]), np.arange(tiles[1]), indexing="ij"))
    s = (i + np.array([gap, 1 - gap, 1 - gap, gap])[:, None]) / tiles[0]
    t = (j + np.array([gap, gap, 1 - gap, 1 - gap])[:, None]) / tiles[1]
    shade = 1 + spread * np.random.default_rng(tiles).uniform(-1, 1, (len(i), 1))
    return np.array(corner) + s * np.array(along) + t * np.array(up), np.array(colour) * shade


def leaves(low: Colour, high: Colour, count: int, size: float, colour: Colour) -> Mesh:
    """Leaves or blades of grass scattered in a box, the furthest first."""
    rng = np.random.default_rng(count)
    at = rng.uniform(low, high, (count, 3))
    at = at[np.argsort(-at[:, 1])]
    across = np.outer(size * rng.uniform(0.3, 0.7, count), [1, 0, 0])
    up = np.outer(size * rng.uniform(0.5, 1.2, count), [0.3, 0, 1])
    shade = rng.uniform(0.75, 1.2, (count, 1))
    return np.stack([at, at + across, at + across + up, at + up], axis=1), np.array(colour) * shade


def post(x: float, y: float, tall: float, radius: float, colour: Colour) -> Mesh:
    """A round post with a band around it."""
    rows = ((0, 1.2), (0.04, 1), (0.8, 1), (0.97, 1), (1, 0.9), (1, 0.05))
    knots = [[x, y, z * tall, radius * wide, radius * wide] for z, wide in rows]
    return tube(knots, lambda u, v: pick((v > 0.55) & (v < 0.7), darker(colour, 1.8), colour), 16, 16)


def join(meshes: Sequence[Mesh]) -> Mesh:
    """Several solids as one."""
    return np.concatenate([faces for faces, _ in meshes]), np.concatenate([colours for _, colours in meshes])


def pick(where: NDArray[np.bool_], yes: Colour, no: ArrayLike) -> Array:
    """(F, 3) colours: `yes` where it is true, `no`, one colour or (F, 3), elsewhere."""
    return np.where(where[:, None], yes, no)


def darker(colour: Colour, by: float) -> Colour:
    """A colour times a factor."""
    return colour[0] * by, colour[1] * by, colour[2] * by
