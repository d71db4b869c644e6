"""The drawn street: the same seed, the same bytes; people who stay themselves; clocks and cameras that fit together."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from reid import images
from reid.data import table
from reid.errors import DataError
from reid.street import CAMERAS, draw_person, draw_street, look
from reid.street.cameras import project
from reid.street.people import CHOICES, body, pose
from reid.street.solids import Array, ball
from reid.types import Crop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("street")


@pytest.fixture(scope="module")
def crops(folder: Path) -> list[Crop]:
    return draw_street(folder)


def by_tracklet(crops: list[Crop]) -> dict[tuple[str | None, str | None], list[Crop]]:
    found: dict[tuple[str | None, str | None], list[Crop]] = {}
    for crop in crops:
        found.setdefault((crop.pid, crop.camera), []).append(crop)
    return found


def content(crops: list[Crop]) -> list[bytes]:
    return [Path(crop.path).read_bytes() for crop in crops]


def test_the_same_seed_draws_the_same_bytes(tmp_path: Path) -> None:
    first, second = draw_street(tmp_path / "a", 3), draw_street(tmp_path / "b", 3)
    assert content(first) == content(second)
    assert (tmp_path / "a" / "crops.csv").read_bytes() == (tmp_path / "b" / "crops.csv").read_bytes()


def test_another_seed_draws_other_people(tmp_path: Path, crops: list[Crop]) -> None:
    other = draw_street(tmp_path, 2, seed=1)
    assert not set(content(other)) & set(content(crops))
    assert look(0, seed=1) != look(0, seed=0)


def test_who_is_seen_where(crops: list[Crop]) -> None:
    assert {crop.pid for crop in crops} == {f"p{number:03d}" for number in range(24)}
    assert {crop.camera for crop in crops} == {"c1", "c2", "c3"}
    cameras = Counter(pid for pid, _ in by_tracklet(crops))
    assert Counter(cameras.values()) == {3: 17, 2: 5, 1: 2}
    assert [len(frames) for frames in by_tracklet(crops).values()] == [4] * (17 * 3 + 5 * 2 + 2)


def test_every_crop_can_be_read_and_looks_like_a_detection(crops: list[Crop]) -> None:
    for crop in crops:
        height, width, _ = images.read(crop.path).shape
        assert 80 <= height <= 330
        assert 0.3 < width / height < 0.9


def test_the_table_is_what_was_returned(folder: Path, crops: list[Crop]) -> None:
    assert list(table.read(folder)) == crops
    assert (folder / "crops.csv").read_text().startswith("path,pid,camera,time,tracklet,split")
    assert {f"crops/{crop.name}" for crop in crops} == {
        path.relative_to(folder).as_posix() for path in images.walk(folder)
    }
    assert [crop.path for crop in crops] == sorted(crop.path for crop in crops)


def test_names_do_not_tell_who_it_is(crops: list[Crop]) -> None:
    for crop in crops:
        assert crop.tracklet
        assert re.fullmatch(crop.tracklet + r"_\d\.jpg", crop.name)
        assert re.fullmatch(r"c\dt\d{3}", crop.tracklet)
    numbers = [int((crop.tracklet or "")[-3:]) for crop in sorted(crops, key=lambda crop: crop.pid or "")]
    assert numbers != sorted(numbers)


def test_all_cameras_share_one_clock(crops: list[Crop]) -> None:
    starts: dict[str | None, list[float]] = {}
    for (pid, _), frames in by_tracklet(crops).items():
        times = [crop.time or 0.0 for crop in frames]
        assert np.allclose(np.diff(times), 0.4)
        assert len({crop.tracklet for crop in frames}) == 1
        starts.setdefault(pid, []).append(times[0])
    waits = [later - earlier for times in starts.values() for earlier, later in pairwise(sorted(times))]
    assert min(waits) > 18
    assert max(waits) < 140
    assert 20 < np.median(waits) < 60


def test_a_person_does_not_depend_on_the_others(tmp_path: Path, crops: list[Crop]) -> None:
    alone = by_tracklet(draw_street(tmp_path, 2))
    among = by_tracklet(crops)
    assert alone
    for key, frames in alone.items():
        assert content(frames) == content(among[key])
        assert [crop.time for crop in frames] == [crop.time for crop in among[key]]


def test_people_can_be_told_apart_across_cameras(crops: list[Crop]) -> None:
    """By the mean colours of breast and legs, each camera's own cast taken out."""
    colours: dict[tuple[str | None, str | None], Array] = {}
    for key, frames in by_tracklet(crops).items():
        pictures = [images.resize(images.read(crop.path), 64, 32).astype(float) for crop in frames]
        parts = [
            np.mean([p[rows, 11:21].mean(axis=(0, 1)) for p in pictures], axis=0)
            for rows in (slice(14, 28), slice(34, 48))
        ]
        colours[key] = np.concatenate(parts)
    for camera in ("c1", "c2", "c3"):
        keys = [key for key in colours if key[1] == camera]
        values = np.array([colours[key] for key in keys])
        colours.update(zip(keys, (values - values.mean(axis=0)) / values.std(axis=0), strict=True))
    pairs = [
        (a[0] == b[0], np.linalg.norm(colours[a] - colours[b])) for a, b in combinations(colours, 2) if a[1] != b[1]
    ]
    same, different = ([distance for alike, distance in pairs if alike is wanted] for wanted in (True, False))
    assert np.mean(same) < 0.6 * np.mean(different)


def test_doubles_wear_the_same() -> None:
    for number in (4, 12, 20):
        one, other = look(number), look(number + 1)
        assert one.top_colour == other.top_colour
        assert one.bottom_colour == other.bottom_colour
        assert one != other


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, allowed in CHOICES.items() for value in allowed])
def test_every_choice_shows(name: str, value: str) -> None:
    base = replace(look(1), hair="short", top="tshirt", pattern="plain", bottom="trousers", carries="nothing")
    changed = replace(base, **{name: value})  # type: ignore[arg-type]
    same = draw_person(base, CAMERAS[1]).tobytes() == draw_person(changed, CAMERAS[1]).tobytes()
    assert same == (changed == base)


def test_the_front_is_not_the_back_and_a_step_moves_the_legs() -> None:
    person = look(2)
    front, back = draw_person(person, heading=np.pi), draw_person(person, heading=0.0)
    step = draw_person(person, heading=np.pi, phase=0.25)
    assert not np.array_equal(front, draw_person(person, heading=np.pi, seed=1))
    for other in (back, step):
        assert np.abs(images.resize(other, *front.shape[:2]).astype(float) - front).mean() > 3


def test_cameras_see_the_same_person_in_their_own_light() -> None:
    means = [draw_person(look(0), camera).reshape(-1, 3).mean(axis=0) for camera in CAMERAS]
    for one, other in combinations(means, 2):
        assert np.abs(one - other).max() > 10


@pytest.mark.parametrize("phase", np.linspace(0, 1, 9))
def test_the_gait(phase: float) -> None:
    """Somebody stands on the ground, half a cycle swaps the legs, and arms swing against them."""
    person = replace(look(0), carries="nothing")
    here, later = pose(person, phase), pose(person, phase + 0.5)
    assert min(here.heel[:, 2].min(), here.toe[:, 2].min()) == pytest.approx(0.012)
    for joint, swapped in zip(here[1:], later[1:], strict=True):
        assert np.allclose(joint, swapped[::-1] * [-1, 1, 1])
    stride, swing = here.ankle[0, 1] - here.ankle[1, 1], here.hand[0, 1] - here.hand[1, 1]
    assert abs(stride) < 0.2 or stride * swing < 0
    thigh = np.linalg.norm(here.knee - here.hip, axis=1)
    assert np.allclose(thigh, thigh[0])


def test_a_body_is_as_tall_as_the_person() -> None:
    for number in range(12):
        person = replace(look(number), carries="nothing", hair="bald")
        points = body(person, 0.25)[0].reshape(-1, 3)
        assert points[:, 2].min() > -0.03
        assert np.ptp(points[:, 2]) == pytest.approx(person.height, rel=0.04)


def test_faces_of_a_solid_look_outwards() -> None:
    """The volume inside, summed over the faces, is that of the ellipsoid."""
    faces, _ = ball((1.0, 2.0, 3.0), (0.5, 0.7, 0.9), (1, 1, 1), rings=40, sides=40)
    a, b, c, d = np.moveaxis(faces, 1, 0)
    volume = sum(np.einsum("fi,fi->", p, np.cross(q, r)) / 6 for p, q, r in ((a, b, c), (a, c, d)))
    assert volume == pytest.approx(4 / 3 * np.pi * 0.5 * 0.7 * 0.9, rel=0.02)


def test_perspective() -> None:
    camera = CAMERAS[0]
    width, height = camera.size
    ahead = np.array([0, np.cos(camera.pitch), -np.sin(camera.pitch)])
    above = np.array([0, np.sin(camera.pitch), np.cos(camera.pitch)])
    points = np.array([0, 0, camera.height]) + 10 * ahead + np.array([0 * above, above, [1, 0, 0]])
    step = camera.focal / 10
    expected = [[width / 2, height / 2], [width / 2, height / 2 - step], [width / 2 + step, height / 2]]
    assert np.allclose(project(camera, points), [[*at, 10] for at in expected])


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"people is 0; it must be at least 1$"):
        draw_street(tmp_path, people=0)
    with pytest.raises(DataError, match="seed is -1; it must be at least 0"):
        draw_street(tmp_path, seed=-1)
    with pytest.raises(DataError, match="hair is 'mohawk'; it can be bald, short"):
        replace(look(0), hair="mohawk")
    for place in ((50.0, 10.0), (0.0, 0.5), (0.0, -10.0)):
        with pytest.raises(DataError, match="camera c1 does not see"):
            draw_person(look(0), place=place)
    assert not list(tmp_path.iterdir())
