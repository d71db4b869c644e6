"""What every loss must do. A line in LOSSES is enough to be tested here, but for the slow loop it must agree with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reid.errors import DataError
from reid.losses import LOSSES, Centre, build, distances, statistics
from reid.nets import Features
from reid.recipes import RECIPES
from tests.reference import losses as slow

CLASSES, DIM = 6, 4
Slow = Callable[..., list[float]]
SLOW: dict[str, Slow] = {
    "cross-entropy": slow.cross_entropy,
    "triplet-random": slow.triplet_random,
    "triplet-semihard": slow.semi_hard,
    "triplet-hard": slow.batch_hard,
    "batch-all": slow.batch_all,
    "batch-sample": slow.batch_sample,
    "lifted": slow.lifted,
    "quadruplet": slow.quadruplet,
    "centre": lambda f, pids: slow.centre(f.metric.numpy(), pids, np.zeros((CLASSES, DIM)), 0.5)[0],
    "circle": slow.circle,
    "contrastive": slow.contrastive,
    "pair-cross-entropy": slow.pair_cross_entropy,
    "distil": slow.distil,
}
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("cross-entropy", {"smoothing": 0.1}),
    ("triplet-random", {"margin": 1.0, "normalise": False}),
    ("triplet-semihard", {"margin": 1.0}),
    ("triplet-semihard", {"normalise": False}),
    ("triplet-hard", {"margin": 0.3}),
    ("triplet-hard", {"normalise": True}),
    ("batch-all", {"margin": 0.3}),
    ("batch-all", {"margin": 0.3, "nonzero": True}),
    ("batch-all", {"nonzero": True, "normalise": True}),
    ("batch-sample", {"margin": 0.3, "normalise": True}),
    ("lifted", {"margin": None}),
    ("lifted", {"margin": 0.2, "normalise": True}),
    ("quadruplet", {"margin": 0.1, "second_margin": 0.7, "normalise": False}),
    ("circle", {"margin": 0.4, "gamma": 20.0}),
    ("contrastive", {"margin": 2.5}),
    ("contrastive", {"normalise": True}),
]
EVERY = [(name, {}) for name in LOSSES] + OPTIONS
RANDOM = {"triplet-random", "batch-sample"}
BATCHES = {
    "3 people × 3": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "uneven": [0, 1, 1, 2, 2, 2, 3, 3, 3, 3],
    "two people": [0, 0, 1, 1],
    "a pair and one": [0, 0, 1],
    "one person": [4, 4, 4],
    "one crop each": [0, 1, 2, 3],
    "one crop": [5],
}
FORCED = {"a pair and one", "one person", "one crop each", "one crop"}
"""Batches in which no anchor has more than one triplet, so that random losses have no choice."""


def features(count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Features:
    rng = np.random.default_rng(seed)

    def draw(width: int) -> Tensor:
        return torch.from_numpy(rng.normal(size=(count, width))).to(dtype)

    return Features(draw(DIM), draw(DIM), (draw(CLASSES), draw(CLASSES)), (), draw(count), draw(DIM))


def value(name: str, options: dict[str, Any], f: Features, pids: list[int] | Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return build(name, CLASSES, f.metric.shape[1], **options)(f, torch.as_tensor(pids))


@pytest.fixture(params=list(LOSSES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_equals_the_slow_loop(name: str, options: dict[str, Any]) -> None:
    for batch in sorted(FORCED) if name in RANDOM else BATCHES:
        pids = BATCHES[batch]
        expected = SLOW[name](features(len(pids)), pids, **options)
        out = value(name, options, features(len(pids)), pids)
        assert out.shape == (len(pids),)
        np.testing.assert_allclose(out, expected, atol=1e-9, err_msg=batch)
        out = value(name, options, features(len(pids), dtype=torch.float32), pids)
        np.testing.assert_allclose(out, expected, atol=1e-4, rtol=1e-4, err_msg=batch)


@pytest.mark.parametrize(
    ("name", "options", "terms"),
    [
        ("triplet-semihard", {}, slow.semi_hard_pairs),
        ("batch-all", {"margin": 0.3}, slow.batch_all_triplets),
        ("batch-all", {"margin": 0.3, "nonzero": True}, slow.batch_all_triplets),
    ],
)
def test_mean_over_anchors_is_the_mean_over_pairs_or_triplets(
    name: str, options: dict[str, Any], terms: Callable[..., list[tuple[int, float]]]
) -> None:
    pids = BATCHES["uneven"]
    found = [v for _, v in terms(features(len(pids)), pids, **options)]
    assert value(name, options, features(len(pids)), pids).mean().item() == pytest.approx(np.mean(found))


def test_semi_hard_negatives_are_farther_not_level() -> None:
    """On whole numbers, where distances are exact: −1 is as far from 0 as the positive at 1 is."""
    x, pids = torch.tensor([[0.0], [1.0], [-1.0], [3.0]]), [0, 0, 1, 1]
    options = {"margin": 10.0, "normalise": False}
    expected = slow.semi_hard(Features(x, x), pids, **options)
    np.testing.assert_allclose(value("triplet-semihard", options, Features(x, x), pids), expected)
    assert expected[0] == 1 - 9 + 10


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_draws_are_legal_triplets_in_the_right_proportion(name: str) -> None:
    pids, f = BATCHES["uneven"], features(10)
    options = {"normalise": False, "margin": 0.3}
    length = slow.squared if name == "triplet-random" else slow.distance
    x = f.metric.numpy()
    legal: dict[int, list[float]] = {a: [] for a in range(len(pids))}
    for a, p, n in slow.triplets(pids):
        legal[a].append(slow.hinge(length(x[a], x[p]) - length(x[a], x[n]), 0.3))
    loss, labels = build(name, CLASSES, DIM, **options), torch.tensor(pids)
    torch.manual_seed(0)
    draws = torch.stack([loss(f, labels) for _ in range(2000)]).numpy()
    for a in range(len(pids)):
        values = np.array(legal[a] or [0.0])
        assert np.abs(draws[:, a, None] - values).min(1).max() < 1e-9
    spread = draws.std(0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - SLOW[name](f, pids, **options)) <= 4 * spread + 1e-9).all()


def test_draws_follow_the_global_seed() -> None:
    pids, f = BATCHES["uneven"], features(10)
    for name in RANDOM:
        torch.testing.assert_close(value(name, {}, f, pids, seed=1), value(name, {}, f, pids, seed=1), rtol=0, atol=0)
        assert not torch.equal(value(name, {}, f, pids, seed=1), value(name, {}, f, pids, seed=2))


def test_order_does_not_matter(name: str) -> None:
    pids = torch.tensor(BATCHES["a pair and one" if name in RANDOM else "uneven"])
    whole, order = features(len(pids)), torch.randperm(len(pids), generator=torch.Generator().manual_seed(0))
    assert whole.pairs is not None
    assert whole.taught is not None
    shuffled = Features(
        whole.embedding[order],
        whole.metric[order],
        tuple(x[order] for x in whole.logits),
        (),
        whole.pairs[order][:, order],
        whole.taught[order],
    )
    torch.testing.assert_close(value(name, {}, shuffled, pids[order]), value(name, {}, whole, pids)[order])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(name: str, dtype: torch.dtype) -> None:
    pids, half = BATCHES["uneven"], features(10, dtype=dtype)
    single = Features(
        *(x if x == () else tuple(y.float() for y in x) if isinstance(x, tuple) else x.float() for x in half)
    )
    mine, plain, labels = build(name, CLASSES, DIM), build(name, CLASSES, DIM), torch.tensor(pids)
    for _ in range(2):  # the second sees what the first has left
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = mine(half, labels)
        assert out.dtype == torch.float32
        torch.manual_seed(0)
        torch.testing.assert_close(out, plain(single, labels), rtol=0, atol=0)


def test_everything_stays_on_the_device_of_the_features(name: str) -> None:
    """What is made without saying where would land on the meta device here, and refuse to mix."""
    pids, f = torch.tensor(BATCHES["uneven"]), features(10)
    torch.manual_seed(0)
    loss = build(name, CLASSES, DIM)
    with torch.device("meta"):
        out = loss(f, pids)
    torch.testing.assert_close(out, value(name, {}, f, pids), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize(("name", "options"), EVERY)
@pytest.mark.parametrize("where", ["at zero", "at one point", "in pairs", "far apart"])
def test_gradients_are_finite(name: str, options: dict[str, Any], where: str) -> None:
    for batch, pids in BATCHES.items():
        f = features(len(pids), dtype=torch.float32)
        assert f.pairs is not None
        scale = 1e4 if where == "far apart" else 0.0
        metric = {
            "at zero": 0 * f.metric,
            "at one point": 0 * f.metric + 1,
            "in pairs": f.metric[torch.arange(len(pids)) // 2],
            "far apart": 1e4 * f.metric,
        }[where]
        leaves = [x.clone().requires_grad_() for x in (metric, scale * f.pairs, *(scale * x for x in f.logits))]
        with torch.autograd.detect_anomaly():  # nothing becomes NaN on the way either
            out = value(name, options, Features(leaves[0], leaves[0], tuple(leaves[2:]), (), leaves[1], f.taught), pids)
            assert out.isfinite().all(), batch
            if out.requires_grad:
                out.sum().backward()
        assert all(x.grad is None or x.grad.isfinite().all() for x in leaves), batch


def test_a_network_that_diverged_shows(name: str) -> None:
    pids, f = BATCHES["uneven"], features(10)
    assert f.pairs is not None
    broken = Features(
        f.embedding * torch.nan, f.metric * torch.nan, tuple(x * torch.nan for x in f.logits), (), f.pairs * torch.nan
    )._replace(taught=f.taught)
    assert value(name, {}, broken, pids).isnan().any()


@pytest.mark.parametrize(("name", "options"), [(n, o) for n, o in EVERY if n != "circle"])
def test_gradient_is_the_slope(name: str, options: dict[str, Any]) -> None:
    """In double precision, away from the kinks of max and hinge."""
    pids, at = BATCHES["3 people × 3"], features(9, seed=3)

    def f(metric: Tensor, first: Tensor, second: Tensor, pairs: Tensor) -> Tensor:
        return value(name, options, Features(metric, metric, (first, second), (), pairs, at.taught), pids)

    assert at.pairs is not None
    leaves = tuple(x.clone().requires_grad_() for x in (at.metric, *at.logits, at.pairs))
    assert torch.autograd.gradcheck(f, leaves, fast_mode=True)


def test_gradient_of_circle_takes_its_weights_as_they_are() -> None:
    pids, at = BATCHES["3 people × 3"], features(9, seed=3)
    metric = at.metric.clone().requires_grad_()
    value("circle", {}, at._replace(metric=metric), pids).sum().backward()
    assert metric.grad is not None
    for i in range(9):
        for j in range(DIM):
            step = torch.zeros_like(at.metric)
            step[i, j] = 1e-6
            up, down = (slow.circle(at._replace(metric=at.metric + s), pids, weights=at) for s in (step, -step))
            slope = (sum(up) - sum(down)) / 2e-6
            assert metric.grad[i, j].item() == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_losses_say_which_network_they_need() -> None:
    x, pids = torch.zeros(2, DIM), torch.tensor([0, 1])
    with pytest.raises(DataError, match="classifier"):
        build("cross-entropy", 2, DIM)(Features(x, x), pids)
    with pytest.raises(DataError, match="compares pairs"):
        build("pair-cross-entropy", 2, DIM)(Features(x, x), pids)


def test_centres_follow_the_paper_over_several_batches() -> None:
    rng = np.random.default_rng(1)
    loss, centres = build("centre", CLASSES, DIM, rate=0.3), np.zeros((CLASSES, DIM))
    assert isinstance(loss, Centre)
    for _ in range(5):
        pids = rng.integers(0, CLASSES, 8).tolist()
        x = rng.normal(size=(8, DIM))
        expected, centres = slow.centre(x, pids, centres, 0.3)
        metric = torch.from_numpy(x).float().requires_grad_()
        out = loss(Features(metric, metric), torch.tensor(pids))
        out.sum().backward()
        np.testing.assert_allclose(out.detach(), expected, atol=1e-5)
        np.testing.assert_allclose(loss.centres, centres, atol=1e-5)


def test_centres_end_at_the_mean_rest_in_evaluation_and_resume() -> None:
    pids, f = torch.tensor(BATCHES["uneven"]), features(10, dtype=torch.float32)
    loss = Centre(CLASSES, DIM)
    for _ in range(100):
        loss(f, pids)
    torch.testing.assert_close(loss.centres[3], f.metric[6:].mean(0))
    assert not loss.centres[5].any()  # nobody
    again = Centre(CLASSES, DIM)
    again.load_state_dict(loss.state_dict())
    torch.testing.assert_close(again(f, pids), loss(f, pids), rtol=0, atol=0)
    before = again.eval().centres.clone()
    again(features(10, seed=1, dtype=torch.float32), pids)
    assert torch.equal(again.centres, before)
    assert not list(again.parameters())


def test_build_refuses_what_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"no loss 'batch_hard'; choose from cross-entropy, .*triplet-hard"):
        build("batch_hard", CLASSES, DIM)
    with pytest.raises(DataError, match="lifted has no option gamma, marign; it takes margin, normalise"):
        build("lifted", CLASSES, DIM, marign=1.0, gamma=2)
    with pytest.raises(DataError, match="centre has no option dim, name; it takes rate"):
        build("centre", CLASSES, DIM, name=1, dim=2)
    with pytest.raises(DataError, match="pair-cross-entropy has no option margin; it takes none"):
        build("pair-cross-entropy", CLASSES, DIM, margin=1)
    monkeypatch.setitem(LOSSES, "mine", lambda f, pids, scale: scale * pids.float())
    assert build("mine", CLASSES, DIM, scale=3)(features(2), torch.tensor([0, 1])).tolist() == [0, 3]


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_every_recipe_names_losses_that_can_be_built(recipe: str) -> None:
    for loss in RECIPES[recipe]().losses:
        assert callable(build(loss.name, CLASSES, DIM, **loss.options))


def test_distances_are_euclidean_and_their_gradient_is_finite_at_zero() -> None:
    x = torch.zeros(3, 2, requires_grad=True)
    distances(x, x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    a, b = torch.randn(5, 3), torch.randn(4, 3)
    torch.testing.assert_close(distances(a, b), torch.cdist(a, b), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("batch", BATCHES)
def test_statistics_equal_loops(batch: str) -> None:
    pids = BATCHES[batch]
    f = features(len(pids))
    values = {n: value(n, {"margin": 0.3}, f, pids) for n in ("triplet-hard", "batch-all")}
    found = statistics(f, torch.tensor(pids), values | {"cross-entropy": value("cross-entropy", {}, f, pids)})
    x = f.metric.numpy()
    near = [slow.distance(x[a], x[p]) for a in range(len(pids)) for p in slow.positives(pids, a)]
    away = [slow.distance(x[a], x[n]) for a in range(len(pids)) for n in slow.negatives(pids, a)]
    hard = slow.batch_hard(f, pids, 0.3)
    expected = {
        "active/triplet-hard": slow.mean([float(v > 0) for v in hard]),
        "active/batch-all": slow.mean([float(v > 0) for v in slow.batch_all(f, pids, margin=0.3)]),
        "distance/positive": slow.mean(near),
        "distance/negative": slow.mean(away),
        "norm": slow.mean([float(np.linalg.norm(row)) for row in f.embedding.numpy()]),
    }
    assert {k: v.item() for k, v in found.items()} == pytest.approx(expected)
    assert not any(v.requires_grad for v in found.values())
