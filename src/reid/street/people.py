"""People who do not exist, as solids that walk: how they look, how they move, and tubes around their bones.

A body faces y with x on its right and z up. It is made in body heights and scaled to metres last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from reid.errors import DataError
from reid.street.solids import NOTHING, Array, Colour, Mesh, ball, darker, join, pick, tube

CHOICES = {
    "hair": ("bald", "short", "bob", "long", "bun", "curly", "cap"),
    "top": ("tshirt", "hoodie", "jacket", "coat", "dress"),
    "pattern": ("plain", "stripes", "two-tone", "logo"),
    "bottom": ("trousers", "shorts", "skirt"),
    "carries": ("nothing", "backpack", "handbag", "shopping", "umbrella"),
}
_FRONT = math.pi / 2  # the angle of a torso's front
_SIDES = np.array([1.0, -1.0])  # right and left


@dataclass(frozen=True, slots=True)
class Person:
    """How somebody looks and walks. Colours are RGB in [0, 1]; what can be chosen from is in CHOICES.

    Attributes:
        height: metres.
        girth: 1 is average.
        hair_colour: also of a cap.
        pattern: of a T-shirt or hoodie, in the accent colour.
        accent: also of the shirt below a jacket or coat.
        step: length of a step in body heights.
        cadence: steps a second.
        swing: of the arms in radians.
    """

    height: float
    girth: float
    skin: Colour
    hair: str
    hair_colour: Colour
    beard: bool
    top: str
    top_colour: Colour
    pattern: str
    accent: Colour
    bottom: str
    bottom_colour: Colour
    shoes: Colour
    carries: str
    bag_colour: Colour
    step: float
    cadence: float
    swing: float

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise DataError(f"a person's {name} is {getattr(self, name)!r}; it can be {', '.join(allowed)}")

    @property
    def speed(self) -> float:
        """Metres a second."""
        return self.step * self.height * self.cadence


# ── looks ──

_SKINS = (0.96, 0.80, 0.69), (0.90, 0.71, 0.58), (0.78, 0.57, 0.42), (0.58, 0.39, 0.27), (0.38, 0.25, 0.18)
_HAIRS = ((0.10, 0.08, 0.07), (0.22, 0.14, 0.09), (0.42, 0.27, 0.15), (0.74, 0.58, 0.32), (0.60, 0.24, 0.12),
          (0.68, 0.67, 0.66))  # fmt: skip
_CLOTHS = ((0.12, 0.12, 0.14), (0.36, 0.37, 0.40), (0.90, 0.90, 0.88), (0.14, 0.20, 0.42), (0.30, 0.50, 0.75),
           (0.72, 0.14, 0.16), (0.16, 0.42, 0.28), (0.88, 0.70, 0.22), (0.52, 0.20, 0.42), (0.74, 0.58, 0.42),
           (0.92, 0.55, 0.62), (0.10, 0.50, 0.52), (0.85, 0.42, 0.14), (0.42, 0.40, 0.24))  # fmt: skip
_TROUSERS = ((0.12, 0.12, 0.14), (0.16, 0.22, 0.38), (0.32, 0.42, 0.60), (0.66, 0.56, 0.42), (0.42, 0.42, 0.44),
             (0.34, 0.34, 0.22), (0.84, 0.82, 0.78))  # fmt: skip
_SHOES = (0.92, 0.92, 0.92), (0.10, 0.10, 0.10), (0.40, 0.25, 0.14), (0.75, 0.20, 0.20)


def look(number: int, seed: int = 0) -> Person:
    """Person `number` of a street, the same whoever else is in it; 5, 13, 21 … are doubles of the one before them."""
    if number % 8 == 5:
        twin = look(number - 1, seed)
        hair = "short" if twin.hair == "cap" else "cap"
        return replace(twin, height=twin.height + 0.04, hair=hair, shoes=_SHOES[number // 8 % 4], swing=0.3)
    rng = np.random.default_rng([seed, number])

    def one(colours: Sequence[Colour]) -> Colour:
        return darker(colours[int(rng.integers(len(colours)))], rng.uniform(0.88, 1.08))

    def name(*choices: str) -> str:
        return choices[rng.integers(len(choices))]

    woman = bool(rng.random() < 0.5)
    top = name("tshirt", "tshirt", "hoodie", "jacket", "coat", "dress" if woman else "jacket")
    legs = name("trousers", "trousers", "shorts", "skirt" if woman else "trousers")
    hair = name("long", "long", "bob", "bun", "curly") if woman else name("short", "short", "short", "bald", "cap")
    bags = ("backpack", "backpack", "handbag" if woman else "shopping", "shopping", "umbrella")
    return Person(
        height=float(rng.normal(1.66 if woman else 1.79, 0.07)),
        girth=float(np.clip(rng.normal(0.96 if woman else 1.05, 0.12), 0.84, 1.4)),
        skin=_SKINS[rng.integers(len(_SKINS))],
        hair=hair,
        hair_colour=one(_CLOTHS if hair == "cap" else _HAIRS),
        beard=not woman and hair != "cap" and bool(rng.random() < 0.35),
        top=top,
        top_colour=one(_CLOTHS),
        pattern=name(*CHOICES["pattern"]) if top in ("tshirt", "hoodie") else "plain",
        accent=one(_CLOTHS),
        bottom={"dress": "skirt", "coat": "trousers"}.get(top, legs),
        bottom_colour=one(_TROUSERS),
        shoes=one(_SHOES),
        carries=name("nothing", "nothing", *bags),
        bag_colour=one(_CLOTHS),
        step=float(rng.uniform(0.37, 0.44)),
        cadence=float(rng.uniform(1.65, 2.15)),
        swing=float(rng.uniform(0.2, 0.5)),
    )


# ── gait ──


class Pose(NamedTuple):
    """How high the hips are, and joints (2, 3), the right one first, in body heights above the ground."""

    hips: float
    hip: Array
    knee: Array
    ankle: Array
    heel: Array
    toe: Array
    shoulder: Array
    elbow: Array
    hand: Array


def pose(person: Person, phase: float) -> Pose:
    """The skeleton at a moment of the gait: phase 0 to 1 is two steps, at 0 the right heel strikes."""
    turn = 2 * math.pi * (phase + np.array([0.0, 0.5]))

    def bump(at: float) -> Array:
        return np.asarray(np.exp(3 * (np.cos(turn - at * math.pi) - 1)))

    def reach(start: Array, length: float, angle: Array, out: float = 0.0) -> Array:
        return start + length * np.stack([out * _SIDES, np.sin(angle), -np.cos(angle)], axis=1)

    hip_angle = math.asin(person.step / 0.98) * np.cos(turn) + 0.06
    knee_bend = 0.10 + 0.16 * bump(0.3) + 0.95 * bump(1.45)
    pitch = 0.30 * bump(-0.05) - 0.85 * bump(1.28)
    hip = np.stack([0.048 * _SIDES, 0.010 * np.cos(turn), np.zeros(2)], axis=1)
    knee = reach(hip, 0.245, hip_angle, -0.03)
    ankle = reach(knee, 0.240, hip_angle - knee_bend, -0.03)
    sole = np.stack([0.14 * _SIDES, np.cos(pitch), np.sin(pitch)], axis=1)
    heel = reach(ankle, 0.030, pitch) - 0.030 * sole
    toe = heel + 0.135 * sole
    swing = 0.03 - person.swing * np.cos(turn)
    bend = 0.22 + 0.40 * person.swing * (1 - np.cos(turn))
    if person.carries == "umbrella":
        swing[0], bend[0] = 0.45, 1.95
    if person.carries == "shopping":
        swing[0], bend[0] = 0.3 * swing[0], 0.08
    wide = 0.087 * (0.4 + 0.6 * person.girth)
    shoulder = np.stack([wide * _SIDES, 0.013 - 0.016 * np.cos(turn), np.full(2, 0.283)], axis=1)
    elbow = reach(shoulder, 0.165, swing, 0.17)
    hand = reach(elbow, 0.160, swing + bend, 0.03)
    rise = np.array([0, 0, 0.012 - min(heel[:, 2].min(), toe[:, 2].min())])
    joints = (joint + rise for joint in (hip, knee, ankle, heel, toe, shoulder, elbow, hand))
    return Pose(float(rise[2]), *joints)


# ── bodies ──


def body(person: Person, phase: float) -> Mesh:
    """Somebody in mid-walk, in metres, standing on the origin and facing y."""
    joints = pose(person, phase)
    parts = (_legs, _skirt, _torso, _arms, _head, _hair, _carried)
    faces, colours = join([mesh for part in parts for mesh in part(person, joints)])
    return faces * person.height, colours


def _limb(low: Array, middle: Array, high: Array, radii: list[float], start: float, end: float) -> Array:
    """Knots of the part from start to end, within 0 to 1, of two limbs that bend in the middle."""
    t = np.linspace(start, end, 6)
    knots = np.zeros((2, 6, 5))
    lower, upper = np.minimum(t, 0.5)[:, None] * 2, np.maximum(t - 0.5, 0)[:, None] * 2
    knots[..., :3] = low[:, None] + lower * (middle - low)[:, None] + upper * (high - middle)[:, None]
    knots[..., 3] = knots[..., 4] = np.interp(t, np.linspace(0, 1, len(radii)), radii)
    return knots


def _upright(above: float, rows: ArrayLike) -> Array:
    """Knots of an upright tube from rows of (z, y, half width, half depth)."""
    z, y, wide, deep = np.array(rows).T
    return np.stack([np.zeros_like(z), y, z + above, wide, deep], axis=1)


def _legs(person: Person, at: Pose) -> list[Mesh]:
    girth, leg = person.girth, (at.ankle, at.knee, at.hip)
    bare = [0.021, 0.030, 0.033, 0.043 * girth, 0.050 * girth]
    cloth = [0.032, 0.036, 0.038, 0.048 * girth, 0.054 * girth]
    below_hem = 0.64 if person.bottom == "skirt" or person.top == "coat" else 0.97
    covered = {"trousers": 0.02, "shorts": 0.54, "skirt": below_hem}[person.bottom]
    parts = []
    if person.bottom != "trousers":
        parts.append(tube(_limb(*leg, bare, 0, min(covered + 0.05, 1)), person.skin, 9))
    if person.bottom != "skirt":
        parts.append(tube(_limb(*leg, cloth, covered, below_hem), person.bottom_colour, 12, 12, folds=0.06))
        seat = _upright(at.hips, [(-0.06, 0, 0.040, 0.030), (-0.035, 0, 0.074, 0.056), (-0.01, 0, 0.084, 0.062),
                                  (0.01, 0, 0.080, 0.056)])  # fmt: skip
        parts.append(tube(seat * [1, 1, 1, girth, girth], person.bottom_colour, 6, 16))
    rows = np.array([(-0.06, 0.010, 0.010), (0.05, 0.024, 0.030), (0.4, 0.027, 0.028), (0.85, 0.029, 0.017),
                     (1.08, 0.012, 0.006)])  # fmt: skip
    soles = at.heel[:, None] + rows[:, :1] * (at.toe - at.heel)[:, None]
    shoes = np.concatenate([soles, np.tile(rows[:, 1:], (2, 1, 1))], axis=2)
    shoes[..., 2] += 0.7 * shoes[..., 4]
    rubber = darker(person.shoes, 0.6) if sum(person.shoes) > 1.5 else (0.75, 0.74, 0.70)
    parts.append(tube(shoes, lambda u, v: pick(np.abs(u - _FRONT) < 0.7, rubber, person.shoes), 7, 10, 0.7))
    return parts


def _skirt(person: Person, at: Pose) -> list[Mesh]:
    """A skirt, or the lower part of a dress or coat, as deep as the stride needs."""
    if person.top == "coat":
        length, flare, colour = 0.20, 0.014, person.top_colour
    elif person.top == "dress":
        length, flare, colour = 0.24, 0.030, person.top_colour
    elif person.bottom == "skirt":
        length, flare, colour = 0.19, 0.020, person.bottom_colour
    else:
        return []
    z = np.linspace(-length, 0.06, 6)
    wide, deep = np.interp(z, [-0.3, 0, 0.06], [0.086, 0.094, 0.090]), np.interp(z, [-0.3, 0], [0.045, 0.068])
    knots = _upright(at.hips, np.stack([z, 0 * z, person.girth * wide, person.girth * deep], axis=1))
    leg = np.stack([at.ankle, at.knee, at.hip])
    right, left = (np.interp(knots[:, 2], leg[:, side, 2], leg[:, side, 1]) for side in (0, 1))
    knots[:, 1] = (right + left) / 2
    knots[:, 3:] += np.interp(z, [-length, 0.0, 0.06], [flare, 0.012, 0.008])[:, None]
    knots[:, 4] += np.interp(z, [-0.05, 0.06], [0.6, 0.0]) * np.abs(right - left)
    return [tube(knots, colour, 10, 20, 0.85, folds=0.06)]


def _torso(person: Person, at: Pose) -> list[Mesh]:
    girth, chest, colour = person.girth, 0.5 + 0.5 * person.girth, person.top_colour
    loose, low = {"tshirt": (0.003, -0.005), "dress": (0.0, 0.0)}.get(person.top, (0.009, -0.02))
    tucked = person.bottom == "skirt" or person.top == "coat"
    knots = _upright(at.hips, [
        (0.045 if tucked else low, 0.002, 0.094 * girth, 0.074 * girth), (0.06, 0.002, 0.087 * girth, 0.066 * girth),
        (0.12, 0.006, 0.081 * girth, 0.062 * girth), (0.18, 0.010, 0.086 * chest, 0.063 * chest),
        (0.24, 0.013, 0.092 * chest, 0.063 * chest), (0.282, 0.012, 0.089 * chest, 0.052), (0.307, 0.010, 0.070, 0.044),
        (0.333, 0.012, 0.032, 0.034)])  # fmt: skip
    knots[:7, 3:] += loose
    knots[0, 3:] *= 0.85 if tucked else 1

    def cloth(u: Array, v: Array) -> Array:
        aside = np.abs(u - _FRONT)
        if person.top in ("jacket", "coat"):
            accented = (aside < 0.15 + 0.40 * v**2) & (v > (0.55 if person.top == "coat" else 0))
        elif person.pattern == "stripes":
            accented = v * 9 % 1 > 0.5
        elif person.pattern == "two-tone":
            accented = v > 0.62
        else:
            accented = (aside < 0.5) & (v > 0.52) & (v < 0.74) & (person.pattern == "logo")
        painted = pick(accented, person.accent, colour)
        straps = (np.abs(aside - 0.75) < 0.15) & (v > 0.4) & (person.carries == "backpack")
        return pick(straps, person.bag_colour, painted)

    parts = [tube(knots, cloth, 19, 20, folds=0.04)]
    if person.top == "hoodie":
        parts.append(ball((0, -0.035, at.hips + 0.322), (0.058, 0.038, 0.034), colour, 8, 14))
    return parts


def _arms(person: Person, at: Pose) -> list[Mesh]:
    arm, bare = (at.hand, at.elbow, at.shoulder), person.top in ("tshirt", "dress")
    start = 0.70 if bare else 0.10
    colour = person.accent if bare and person.pattern == "two-tone" else person.top_colour
    radii = [r * (0.6 + 0.4 * person.girth) for r in (0.024, 0.027, 0.030, 0.034, 0.032)]
    bands = 7 * (1 - start) if person.pattern == "stripes" else 0
    sleeves = _limb(*arm, radii, start, 1)
    parts = [
        tube(sleeves, lambda u, v: pick(v * bands % 1 > 0.5, person.accent, colour), 14, 10, folds=0.05),
        ball(at.shoulder - [0, 0, 0.003], (0.029, 0.034, 0.029), colour, 6),
        ball(at.hand, (0.013, 0.020, 0.030), person.skin, 6, 8),
    ]
    if bare:
        parts.append(tube(_limb(*arm, [0.015, 0.021, 0.023, 0.027, 0.026], 0.05, start + 0.04), person.skin))
    return parts


# The skull in half heads: rows of z, y, half width, half depth.
_SKULL = np.array([(-1.0, 0.25, 0.20, 0.15), (-0.9, 0.2, 0.55, 0.5), (-0.6, 0.12, 0.78, 0.76), (-0.2, 0.0, 0.93, 0.92),
                   (0.25, -0.05, 1.0, 1.0), (0.65, -0.06, 0.86, 0.84), (0.92, -0.06, 0.5, 0.5),
                   (1.0, -0.06, 0.05, 0.05)])  # fmt: skip


class _Head:
    """Places and sizes in half heads; a tall person's head is not much larger than a small one's."""

    def __init__(self, person: Person, at: Pose):
        self.size = (0.42 + 0.58 * 1.72 / person.height) * np.array([0.046, 0.056, 0.068])
        self.middle = np.array([0, 0.030, at.hips + 0.408])

    def near(self, x: float, y: float, z: float) -> Array:
        return np.asarray(self.middle + self.size * [x, y, z])

    def ball(self, centres: Sequence[Array], radii: Colour, colour: Colour, sides: int = 6) -> Mesh:
        x, y, z = self.size * radii
        return ball(np.array(centres), (float(x), float(y), float(z)), colour, 5, sides)

    def knots(self, rows: ArrayLike) -> Array:
        return np.asarray(_upright(0, rows) * [*self.size, *self.size[:2]] + [*self.middle, 0, 0])


def _head(person: Person, at: Pose) -> list[Mesh]:
    head, skin, dark, hair = _Head(person, at), person.skin, darker(person.skin, 0.75), person.hair_colour
    bearded = 0.42 if person.beard else 0.0
    neck = _upright(at.hips, [(0.30, 0.008, 0.034, 0.034), (0.335, 0.014, 0.029, 0.030), (0.37, 0.02, 0.028, 0.031)])
    eyes, brows = ([head.near(0.38 * side, 0.87, z) for side in _SIDES] for z in (0.10, 0.27))
    return [
        tube(neck, dark, 5),
        tube(head.knots(_SKULL), lambda u, v: pick((np.abs(u - _FRONT) < 1.5) & (v < bearded), hair, skin), 12, 16),
        head.ball([head.near(0, 1.0, -0.12)], (0.13, 0.16, 0.20), skin, 8),  # nose
        head.ball([head.near(side, -0.05, -0.05) for side in _SIDES], (0.10, 0.2, 0.22), dark),  # ears
        head.ball(eyes, (0.15, 0.08, 0.07), (0.13, 0.10, 0.10)),
        head.ball(brows, (0.20, 0.08, 0.04), darker(hair, 0.8)),
        head.ball([head.near(0, 0.88, -0.48)], (0.26, 0.07, 0.05), (0.62, 0.30, 0.28)),  # mouth
    ]


def _hair(person: Person, at: Pose) -> list[Mesh]:
    head, style, colour = _Head(person, at), person.hair, person.hair_colour
    if style == "bald":
        return []
    thick, tall, back = {"short": (1.09, 1.07, 0.36), "cap": (1.12, 1.06, 0.50), "curly": (1.30, 1.15, 0.25),
                         "bun": (1.08, 1.06, 0.30)}.get(style, (1.12, 1.06, 0.1))  # fmt: skip
    brow = 0.66 if style == "cap" else 0.74

    def scalp(u: Array, v: Array) -> Array:
        front = np.sin(u)
        return pick(v > np.where(front > 0.25, brow, np.where(front > -0.1, max(back, 0.45), back)), colour, NOTHING)

    parts = [tube(head.knots(_SKULL * [tall, 1.04, thick, thick]), scalp, 12, 16, folds=0.06)]
    if style == "cap":
        visor = [(0.43, 0.7, 0.85, 0.06), (0.40, 1.1, 0.9, 0.06), (0.36, 1.5, 0.75, 0.06), (0.34, 1.75, 0.3, 0.06)]
        parts.append(tube(head.knots(visor), darker(colour, 0.8), 6, 10))
    if style == "bun":
        parts.append(head.ball([head.near(0, -1.0, 0.75)], (0.5, 0.42, 0.38), colour, 10))
    if style in ("long", "bob"):
        end = -2.3 if style == "long" else -1.05
        fall = [(end, -0.72, 0.75, 0.18), (0.6 * end, -0.68, 1.05, 0.36), (-0.2, -0.45, 1.12, 0.66),
                (0.5, -0.25, 1.05, 0.82)]  # fmt: skip
        parts.append(tube(head.knots(fall), colour, 9, 14, folds=0.08))
    return parts


def _carried(person: Person, at: Pose) -> list[Mesh]:
    colour, dark = person.bag_colour, darker(person.bag_colour, 0.6)
    x, y, z = at.hand[0]
    if person.carries == "backpack":
        sack = _upright(at.hips, [(0.085, -0.115, 0.020, 0.010), (0.09, -0.115, 0.078, 0.045),
                                  (0.17, -0.120, 0.082, 0.055), (0.25, -0.115, 0.078, 0.050),
                                  (0.295, -0.100, 0.060, 0.030), (0.30, -0.100, 0.020, 0.010)])  # fmt: skip
        return [tube(sack, lambda u, v: pick((np.abs(v - 0.36) < 0.2) & (np.sin(u) < -0.6), dark, colour), 13, 16, 0.6)]
    if person.carries == "handbag":
        side = 0.105 + 0.03 * person.girth
        bulge = (-0.070, 0.3), (-0.065, 1.0), (-0.02, 1.0), (0.02, 0.9), (0.025, 0.3)
        bag = [[side, -0.01, at.hips + up, 0.020 * wide, 0.075 * wide] for up, wide in bulge]
        strap = [[side, -0.01, at.hips, 0.004, 0.012], [0.112, 0, at.hips + 0.17, 0.004, 0.008],
                 [0.060, 0.01, at.hips + 0.322, 0.012, 0.008]]  # fmt: skip
        return [tube(bag, colour, 8, 12, 0.5), tube(strap, dark, 9, 6)]
    if person.carries == "shopping":
        sides = (-0.24, 0.3), (-0.235, 0.92), (-0.14, 1.0), (-0.075, 0.95)
        bag = [[x, y, z + up, 0.045 * wide, 0.085 * wide] for up, wide in sides]
        handles = [[[x, y + 0.03 * end, z - 0.08, 0.004, 0.004], [x, y, z, 0.004, 0.004]] for end in _SIDES]
        return [tube(bag, colour, 9, 12, 0.5), tube(handles, dark, 3, 6)]
    if person.carries == "umbrella":
        x, top = 0.4 * x, at.hips + 0.60
        stick = [[at.hand[0, 0], y, z - 0.03, 0.007, 0.007], [x, y - 0.03, top, 0.005, 0.005]]
        dome = [[x, y - 0.03, top - 0.38 * r**2, r, r] for r in (0.29, 0.25, 0.21, 0.15, 0.08, 0.01)]
        faces, outside = tube(dome, lambda u, v: pick(np.floor(u / (math.pi / 4)) % 2 > 0, dark, colour), 8, 16)
        return [tube(stick, (0.2, 0.2, 0.2), 5, 6), (faces, outside), (faces[:, ::-1], 0.55 * outside)]
    return []
