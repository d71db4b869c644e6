"""The models that come with reid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reid import checkpoint, images
from reid.data import read
from reid.embed import DEFAULT_MODEL, Embedder, find_model, models
from reid.evaluation import evaluate, query_and_gallery
from reid.reid import ReId
from reid.street import draw_street
from reid.validation import normalise
from reid.wording import model_named

MARKET = Path(__file__).parents[2] / "shared" / "data" / "market1501" / "bounding_box_train"
SIZE_LIMIT = 10 << 20


@pytest.mark.parametrize("name", models())
def test_every_model_explains_itself(name: str) -> None:
    embedder = Embedder(name, threads=1)
    assert {"net", "config", "validation", "preprocess", "data", "licence"} <= set(embedder.card)
    path = find_model(name)
    assert path.stat().st_size < SIZE_LIMIT
    assert path.with_suffix(".md").exists(), "a model needs a card"
    assert model_named(embedder.fingerprint) == f"{name} ({embedder.fingerprint})"
    noise = np.random.default_rng(0).integers(0, 256, (3, 128, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(np.linalg.norm(embedder.arrays(list(noise)), axis=1), 1, atol=1e-5)


def test_the_default_model_knows_people_even_when_they_are_drawn(tmp_path: Path) -> None:
    crops = draw_street(tmp_path, people=12)
    embedder = Embedder(DEFAULT_MODEL)
    query, gallery = (embedder(part) for part in query_and_gallery(crops))
    chance = 1 / 12
    assert evaluate(query, gallery, "cross-camera").metrics["rank-1"] > 4 * chance


@pytest.mark.parametrize("name", models())
def test_every_model_carries_a_calibration_that_says_what_it_was_fitted_on(name: str) -> None:
    verifier = ReId(name, threads=1).verifier  # refuses one of other weights; `scripts/calibrate DATA NAME` fits it
    assert "none of them in training" in str(verifier)
    assert verifier.people >= 100
    assert verifier.doubt is not None
    assert verifier.at(1e-2).distance > verifier.at(1e-3).distance


def test_predict_tells_drawn_people_apart(tmp_path: Path) -> None:
    crops = [crop for crop in draw_street(tmp_path, people=8) if crop.pid]
    pictures, pids = [images.read(crop.path) for crop in crops], np.array([crop.pid for crop in crops])
    i, j = np.triu_indices(len(crops), 1)
    p = ReId().predict([pictures[k] for k in i], [pictures[k] for k in j])
    assert p[pids[i] == pids[j]].mean() > p[pids[i] != pids[j]].mean() + 0.2


@pytest.mark.parametrize("name", models())
def test_the_weights_to_train_on_from_are_those_of_the_model_file(name: str) -> None:
    net, header = checkpoint.load_net(checkpoint.find(name))
    embedder = Embedder(name, threads=1)
    size = header["preprocess"]["height"], header["preprocess"]["width"]
    noise = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(net(normalise(torch.from_numpy(noise))).embedding)
    np.testing.assert_allclose(embedder.arrays(list(noise)), wanted, atol=1e-4)


@pytest.mark.skipif(not MARKET.is_dir(), reason="Market-1501 is not here; it may not be redistributed")
@pytest.mark.parametrize("name", models())
def test_a_model_reaches_what_it_states_on_market_validation_people(name: str) -> None:
    embedder = Embedder(name)
    query, gallery = (embedder(part) for part in query_and_gallery(read(MARKET), people=100))
    report = evaluate(query, gallery)
    stated = next(iter(embedder.card["validation"].values()))["metrics"]  # Market-1501 comes first
    assert stated["mAP"] >= 0.80
    assert report.metrics["mAP"] == pytest.approx(stated["mAP"], abs=0.005)
    assert report.metrics["rank-1"] == pytest.approx(stated["rank-1"], abs=0.01)
