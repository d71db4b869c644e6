"""Measures of quality: what they are by definition, and that they notice what they are for."""

from __future__ import annotations

import numpy as np
import pytest

from reid import quality
from reid.calibrate import calibrate
from reid.embed import Embedder
from reid.errors import ShapeError
from reid.images import read
from reid.quality import MEASURES, WAYS, blur, degrade, measure, measures, worsened
from reid.street import draw_street


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    folder = tmp_path_factory.mktemp("street")
    return [read(crop.path) for crop in draw_street(folder, people=4)][:24]


def slow_blur(grey: np.ndarray) -> float:
    """Crété-Roffet's measure pixel by pixel."""
    shares = []
    for picture in (grey.astype(float), grey.T.astype(float)):
        rows, columns = picture.shape
        kept = total = 0.0
        for x in range(columns):
            padded = np.pad(picture[:, x], quality.REACH // 2, mode="symmetric")
            soft = [padded[y : y + quality.REACH].mean() for y in range(rows)]
            for y in range(1, rows):
                sharp = abs(picture[y, x] - picture[y - 1, x])
                kept += max(0.0, sharp - abs(soft[y] - soft[y - 1]))
                total += sharp
        shares.append(1 - kept / total if total else 1.0)
    return max(shares)


@pytest.mark.parametrize("seed", range(3))
def test_blur_equals_a_plain_loop(seed: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (20, 14), dtype=np.uint8)
    assert blur(grey) == pytest.approx(slow_blur(grey), abs=1e-4)


def test_plain_definitions() -> None:
    half = np.full((128, 128, 3), 100, np.uint8)
    half[:64] = 10
    np.testing.assert_allclose(measure(half)[[0, 2, 3, 4]], [0, 0.5, 0.5, 0])
    np.testing.assert_allclose(measure(half[:64, :64])[[0, 2, 3, 4]], [0.5, 0.5, 1, 0])
    white = np.full((256, 128, 3), 255, np.uint8)
    np.testing.assert_allclose(measure(white), [0, 1, 0, 0, 1])
    assert measures([]).shape == (0, len(MEASURES))
    with pytest.raises(ShapeError, match="must be an RGB array"):
        measure(np.zeros((4, 4)))


@pytest.mark.parametrize("way", WAYS)
def test_a_measure_notices_what_it_is_for(way: str, people: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    place = MEASURES.index(way)
    before, after = (
        measures([degrade(p, way, strength, rng) for p in people])[:, place].mean() for strength in (0.0, 1.0)
    )
    assert after > before + 0.1
    assert after > measures(people)[:, place].mean() + 0.1


def test_measures_lie_in_0_to_1_and_worsening_repeats(people: list[np.ndarray]) -> None:
    worse = worsened(people)
    values = measures(worse)
    assert ((values >= 0) & (values <= 1)).all()
    for one, again in zip(worse, worsened(people), strict=True):
        np.testing.assert_array_equal(one, again)


def test_quality_is_learnt_and_helps_people_left_out(tmp_path, model) -> None:  # type: ignore[no-untyped-def]
    crops = draw_street(tmp_path, people=16)
    found = calibrate(Embedder(model, threads=1), [crops], cameras=False)
    assert found.losses["poor crops, quality seen"] <= found.losses["poor crops"]
    assert found.doubt is not None
    assert found.doubt.measures == MEASURES
