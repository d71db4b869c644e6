"""Three cameras, and how a solid becomes pixels in one of them: perspective, light, shadow, lens and sensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from reid.images import RGB
from reid.street.scenes import Scene, park, pavement, shops
from reid.street.solids import Array, Colour, Mesh, join

Picture = NDArray[np.float32]  # (height, width, 3 or 4) in [0, 1]

_FINE = 3  # solids are drawn this much larger and averaged down


@dataclass(frozen=True, slots=True)
class Camera:
    """Where a camera hangs, x to the right of its view, y away from it and z up, and what it makes of the light.

    Attributes:
        scene: what it looks at.
        height: metres above the ground.
        pitch: radians downwards.
        focal: length in pixels.
        size: (width, height) of its frame in pixels.
        path: the two ends, (x, y) in metres, between which people pass it.
        sun: the direction to it.
        ambient: the share of light that comes from everywhere else.
        cast: what white becomes, RGB.
        gamma: a value v in [0, 1] becomes cast × v^gamma.
        blur: sigma in pixels.
        noise: sigma in grey values.
        quality: of its JPEGs, 1 to 100.
    """

    name: str
    scene: Callable[[], Scene]
    height: float
    pitch: float
    focal: float
    size: tuple[int, int]
    path: tuple[tuple[float, float], tuple[float, float]]
    sun: Colour
    ambient: float
    cast: Colour
    gamma: float
    blur: float
    noise: float
    quality: int


CAMERAS = (
    Camera("c1", pavement, 2.5, 0.17, 1000, (900, 640), ((0.2, 12.0), (-0.3, 7.2)), sun=(-0.6, -0.5, 0.8), ambient=0.55,
           cast=(1.06, 1.02, 0.94), gamma=0.92, blur=0.5, noise=3.0, quality=90),
    Camera("c2", shops, 4.3, 0.40, 1250, (1200, 760), ((-2.6, 7.7), (2.6, 7.7)), sun=(0.5, -0.7, 1.0), ambient=0.75,
           cast=(0.92, 0.97, 1.04), gamma=1.04, blur=0.7, noise=4.0, quality=85),
    Camera("c3", park, 3.1, 0.16, 800, (900, 560), ((-2.6, 10.4), (2.6, 13.6)), sun=(0.9, -0.2, 0.7), ambient=0.60,
           cast=(1.00, 1.03, 0.92), gamma=0.98, blur=0.6, noise=5.0, quality=80),
)  # fmt: skip


def project(camera: Camera, points: Array) -> Array:
    """(..., 3) metres to (..., 3): x and y in pixels of the frame, and the depth in metres."""
    sin, cos = math.sin(camera.pitch), math.cos(camera.pitch)
    x, y, z = points[..., 0], points[..., 1], points[..., 2] - camera.height
    depth = y * cos - z * sin
    scale = camera.focal / depth
    return np.stack([camera.size[0] / 2 + x * scale, camera.size[1] / 2 - (y * sin + z * cos) * scale, depth], axis=-1)


@lru_cache(maxsize=8)
def empty(camera: Camera) -> tuple[Picture, Mesh]:
    """A camera's frame without people, (height, width, 3), and the solids in it that may stand before somebody."""
    flat, solids = camera.scene()
    faces, colours = join(flat)
    frame = _paint(camera.size, 2, project(camera, faces)[..., :2], colours)[..., :3]
    width, height = camera.size
    rng = np.random.default_rng(width)
    stains = cv2.resize(rng.normal(0, 0.04, (height // 9, width // 9)), camera.size, interpolation=cv2.INTER_CUBIC)
    frame = frame * (1 + stains + rng.normal(0, 0.02, (height, width))).astype(np.float32)[..., None]
    solid = join(solids)
    frame = add(camera, shade(camera, frame, (0, 0), solid), (0, 0), solid)
    frame.flags.writeable = False
    return frame, solid


def add(camera: Camera, picture: Picture, corner: tuple[int, int], solid: Mesh) -> Picture:
    """The part of a frame that starts at `corner`, with a solid in it."""
    faces, colours = solid
    seen = project(camera, faces)
    flat, depth = seen[..., :2] - corner, seen[:, 0, 2] + seen[:, 2, 2]
    height, width = picture.shape[:2]
    (ax, ay), (bx, by) = (flat[:, 2] - flat[:, 0]).T, (flat[:, 3] - flat[:, 1]).T
    x, y = ((flat[:, 0] + flat[:, 2]) / 2).T
    inside = (x > -20) & (x < width + 20) & (y > -20) & (y < height + 20)
    facing = np.flatnonzero((ax * by < ay * bx) & inside)
    order = facing[np.argsort(-depth[facing], kind="stable")]
    layer = _paint((width, height), _FINE, flat[order], _lit(camera, faces[order], colours[order]))
    return picture * (1 - layer[..., 3:]) + layer[..., :3]


def shade(camera: Camera, picture: Picture, corner: tuple[int, int], solid: Mesh) -> Picture:
    """The part of a frame that starts at `corner`, darker where a solid keeps the sun off the ground."""
    sun = _sun(camera)
    low, high = solid[0][:, 0], solid[0][:, 3]
    points = np.concatenate([low + (high - low) * step for step in (0.0, 0.25, 0.5, 0.75)])
    ground = np.zeros_like(points)
    ground[:, :2] = points[:, :2] - points[:, 2:] * sun[:2] / sun[2]
    x, y = np.rint(project(camera, ground)[:, :2] - corner).astype(int).T
    height, width = picture.shape[:2]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    mask = np.zeros((height, width), dtype=np.float32)
    mask[y[inside], x[inside]] = 1
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), dtype=np.uint8)).astype(np.float32)
    soft = cv2.GaussianBlur(mask, (0, 0), 1.0 + 2.5 * camera.ambient)
    return picture * (1 - np.float32(1.1 - camera.ambient) * soft[..., None])


def develop(camera: Camera, picture: Picture, rng: np.random.Generator) -> RGB:
    """Light to (height, width, 3) RGB: the camera's colours, the lens's blur, the sensor's noise."""
    curve = 255 * np.linspace(0, 1, 256)[:, None] ** camera.gamma * camera.cast
    values = cv2.LUT(np.clip(255 * picture, 0, 255).astype(np.uint8), curve[None].astype(np.float32))
    values = cv2.GaussianBlur(values, (0, 0), camera.blur)
    noise = camera.noise * rng.standard_normal(values.shape, dtype=np.float32)
    pixels: RGB = np.clip(np.rint(values + noise), 0, 255).astype(np.uint8)
    return pixels


def _sun(camera: Camera) -> Array:
    return np.array(camera.sun) / math.hypot(*camera.sun)


def _lit(camera: Camera, faces: Array, colours: Array) -> Array:
    """Colours of faces under the sun and the sky."""
    (ax, ay, az), (bx, by, bz) = (faces[:, 2] - faces[:, 0]).T, (faces[:, 3] - faces[:, 1]).T
    normal = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)
    normal /= np.maximum(np.sqrt(np.einsum("fi,fi->f", normal, normal)), 1e-12)[:, None]
    sky = camera.ambient * (0.78 + 0.22 * normal[:, 2])
    return colours * (sky + 1.3 * (1 - camera.ambient) * np.maximum(normal @ _sun(camera), 0))[:, None]


def _paint(size: tuple[int, int], fine: int, polygons: Array, colours: Array) -> Picture:
    """(F, 4, 2) polygons one over the other, as (height, width, 4): colours times coverage, and the coverage."""
    canvas = np.zeros((size[1] * fine, size[0] * fine, 4), dtype=np.uint8)
    corners = np.rint(polygons * fine).astype(np.int32)
    values = np.full((len(colours), 4), 255.0)
    values[:, :3] = np.clip(colours * 255, 0, 255)
    for polygon, value in zip(corners, values.tolist(), strict=True):
        cv2.fillConvexPoly(canvas, polygon, value)
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
