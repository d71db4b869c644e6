"""The three lines old users know, on a model with a calibration fitted on drawn people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reid import images, street
from reid.calibrate import calibrate
from reid.embed import Embedder
from reid.errors import ImageError, ModelError, ShapeError
from reid.reid import ReId
from reid.types import Crop
from reid.verify import Doubt, Verifier, beside


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A model with a calibration beside it, fitted on drawn people."""
    folder = tmp_path_factory.mktemp("calibrated")
    copy = folder / "mine.onnx"
    copy.write_bytes(model.read_bytes())
    crops = street.draw_street(folder / "street", people=12)
    calibrate(Embedder(copy, threads=1), [crops], cameras=False).save(beside(copy))
    return copy


@pytest.fixture(scope="module")
def drawn(calibrated: Path) -> list[np.ndarray]:
    paths = sorted((calibrated.parent / "street").rglob("*.jpg"))
    return [images.read(path) for path in paths[::7]][:12]


def test_the_old_snippet_runs_as_written(drawn: list[np.ndarray]) -> None:
    im1, im2 = drawn[:2]
    names = {"im1": im1, "im2": im2}
    code = """
from reid import reid

model = reid.ReId()
score = model.predict(im1, im2)
"""
    exec(compile(code, "snippet", "exec"), names)
    score = names["score"]
    assert isinstance(score, float)
    assert 0 <= score <= 1
    assert names["model"].predict(im1, im1) > 0.5


def test_predict_is_symmetric_and_a_batch_equals_singles(calibrated: Path, drawn: list[np.ndarray]) -> None:
    model = ReId(calibrated)
    first, second = drawn, drawn[::-1]
    batch = model.predict(first, second)
    assert batch.shape == (len(drawn),)
    assert ((batch >= 0) & (batch <= 1)).all()
    np.testing.assert_allclose(batch, model.predict(second, first), atol=1e-6)
    np.testing.assert_allclose(batch, [model.predict(a, b) for a, b in zip(first, second, strict=True)], atol=1e-6)
    np.testing.assert_allclose(batch, model.predict(tuple(first), list(second)), atol=1e-6)
    assert model.predict([], []).shape == (0,)
    stacked = np.stack([images.resize(p, 64, 32) for p in drawn])
    np.testing.assert_allclose(model.predict(stacked, stacked[::-1]), model.predict(stacked[::-1], stacked), atol=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.zeros((4, 4), np.uint8), None, r"the first picture is ndarray of shape \(4, 4\); it must be an RGB array"),
        (None, np.zeros((4, 4, 4), np.uint8), r"the second picture is ndarray of shape \(4, 4, 4\)"),
        (np.zeros((4, 4, 3)), None, "the first picture has type float64; it must be uint8"),
        (None, np.zeros((0, 4, 3), np.uint8), r"the second picture is ndarray of shape \(0, 4, 3\)"),
        ("a.jpg", None, "the first picture is str; it must be an RGB array .* as reid.images.read makes of a file"),
        (3, None, "the first picture is int"),
        ([None], [None, None], "a list of 1 picture cannot be compared with a list of 2 pictures"),
        (None, [None], "one picture cannot be compared with a list of 1 picture"),
        ([None, "x"], [None, None], "picture 1 of the first list is str"),
    ],
)
def test_what_cannot_be_predicted_is_told(calibrated: Path, a: object, b: object, said: str) -> None:
    good = np.zeros((8, 4, 3), np.uint8)

    def filled(side: object) -> object:
        return good if side is None else [good if p is None else p for p in side] if isinstance(side, list) else side

    with pytest.raises(ShapeError, match=said):
        ReId(calibrated).predict(filled(a), filled(b))  # type: ignore[call-overload]


def test_files_are_verified_and_broken_ones_named(calibrated: Path, draw: Callable[..., Path]) -> None:
    model = ReId(calibrated)
    good, broken = Crop(str(draw("a.jpg", size=(64, 128)))), Crop(str(draw("b.jpg")))
    Path(broken.path).write_bytes(b"")
    skipped: list[object] = []
    found = model.verify([(good, good), (good, broken)], on_skip=skipped.append)
    assert found[0] is not None
    assert found[0].distance == 0
    assert found[1] is None
    assert len(skipped) == 1
    assert model.verify([(broken, broken)], on_skip=skipped.append) == [None]
    with pytest.raises(ImageError, match=r"b\.jpg is empty"):
        model.verify([(good, broken)])


def test_a_model_without_a_calibration_or_with_that_of_another_is_refused(
    calibrated: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"has no calibration beside it \(tiny\.calibration\.json\)"):
        ReId(model)
    ReId(model, beside(calibrated))
    with pytest.raises(ModelError, match="is neither a file nor a model that comes with reid"):
        ReId("nobody")
    other = replace(Verifier.load(beside(calibrated)), model="another")
    with pytest.raises(ModelError, match="fitted for model another and tiny is"):
        ReId(model, other)
    odd = replace(Verifier.load(beside(calibrated)), doubt=Doubt(("charm",), (0.0,), (1.0,)))
    with pytest.raises(ModelError, match="goes by charm, and crops are measured by size, blur"):
        ReId(model, odd)
    with pytest.raises(ModelError, match="the same --model, --views and --precision"):
        ReId(calibrated, views="mirror")


def test_a_head_for_pairs_that_is_not_there_is_told() -> None:
    with pytest.raises(ModelError, match=r"has no head for pairs beside it \(general\.pairs\.onnx\)"):
        ReId(head=True)
