"""Same or not: curves against scikit-learn, thresholds against a naive bootstrap, and what must always hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from reid.errors import DataError, ModelError, ReidError, ShapeError
from reid.evaluation import pool_tracklets
from reid.roc import bootstrap
from reid.types import Crop, Embeddings, Verdict
from reid.verify import Accepts, Correction, Curve, Doubt, Verifier, beside
from reid.verify import fit as fitting
from reid.verify.curve import KINDS, fit_isotonic, isotonic, log_odds, logistic, sigmoid
from reid.verify.measure import calibration_error, log_loss, reliability
from reid.verify.pairs import Pairs, judged, labelled, thinned, tracked
from reid.verify.verifier import distances


def crowd(people: int = 40, seed: int = 0, noise: float = 0.5, cameras: int = 3, dim: int = 8) -> Embeddings:
    """People as noisy centres; the last camera shifts all of them alike, and person 0 has many more crops."""
    rng = np.random.default_rng(seed)
    crops, vectors = [], []
    for p in range(people):
        centre = rng.normal(size=dim)
        for c in range(cameras):
            for i in range(8 if p == 0 else 1 + rng.integers(2)):
                crops.append(Crop(f"p{p}/c{c}/{i}.jpg", f"p{p}", f"c{c}"))
                shift = 0.8 if c == cameras - 1 else 0.0
                vectors.append(centre + rng.normal(scale=noise, size=dim) + shift)
    return Embeddings(np.array(vectors, np.float32), tuple(crops), "drawn")


@pytest.fixture(scope="module")
def fitted() -> Verifier:
    return Verifier.fit(labelled([crowd()]), "drawn people")


# ── curves ──


@pytest.mark.parametrize("seed", range(20))
def test_isotonic_equals_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 200))
    values = rng.integers(0, 2, n).astype(float) if seed % 2 else rng.normal(size=n)
    weights = rng.uniform(0.1, 5, n)
    theirs = IsotonicRegression(increasing=False).fit_transform(np.arange(n), values, sample_weight=weights)
    np.testing.assert_allclose(isotonic(values, weights), theirs, atol=1e-12)


def test_a_fitted_isotonic_curve_passes_through_scikit_learns_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid.verify.curve.BINS", 10**6)  # a bin for each distance
    rng = np.random.default_rng(1)
    d = rng.uniform(0, 2, 500)
    same = rng.random(500) < sigmoid(5 - 5 * d)
    weights = rng.uniform(0.5, 2, 500)
    doubt = (0.3, 0.4)
    curve = fit_isotonic(d, same, weights, doubt)
    x, y = np.concatenate([[d.min()], d, [d.max()]]), np.concatenate([[0.0], same, [1.0]])
    w = np.concatenate([doubt[:1], weights, doubt[1:]])
    theirs = IsotonicRegression(increasing=False).fit(x, y, sample_weight=w)
    np.testing.assert_allclose(curve.probabilities, theirs.predict(curve.distances), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_logistic_equals_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(300, 2))
    same = rng.random(300) < sigmoid(x @ [1.0, -2.0] + 0.5)
    weights = rng.uniform(0.1, 3, 300)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, same, weights)
    ours = logistic(np.column_stack([np.ones(300), x]), same, weights)
    np.testing.assert_allclose(ours, np.append(theirs.intercept_, theirs.coef_), atol=1e-4)
    ridge = LogisticRegression(C=1 / 3, fit_intercept=False, tol=1e-10, max_iter=1000).fit(x, same, weights)
    np.testing.assert_allclose(logistic(x, same, weights, pull=3.0), ridge.coef_[0], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_fitted_curves_fall_and_are_never_certain(kind: str, data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 60))
    d = np.array(data.draw(st.lists(st.floats(0, 2, width=32), min_size=n, max_size=n)))
    same = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    curve = KINDS[kind](d, same, np.full(n, 1 / n), (0.01, 0.01))
    p = sigmoid(curve.log_odds(np.linspace(0, 3, 200)))
    assert (np.diff(p) <= 1e-12).all()
    assert ((p > 0) & (p < 1)).all()


def test_logistic_curves_find_the_truth() -> None:
    rng = np.random.default_rng(3)
    d = rng.uniform(0, 2, 200_000)
    same = rng.random(len(d)) < sigmoid(4 - 4 * d)
    for kind, fit in KINDS.items():
        curve = fit(d, same, np.full(len(d), 1 / len(d)), (1e-6, 1e-6))
        at = np.linspace(0.2, 1.8, 9)
        np.testing.assert_allclose(sigmoid(curve.log_odds(at)), sigmoid(4 - 4 * at), atol=0.02, err_msg=kind)


def test_a_blend_has_the_mean_of_both_log_odds() -> None:
    rng = np.random.default_rng(4)
    d = rng.uniform(0.2, 1.8, 300)
    given = d, rng.random(300) < sigmoid(3 - 3 * d), rng.uniform(0.5, 2, 300), (0.1, 0.2)
    at = np.linspace(0, 2, 50)
    isotonic, logistic, blend = (KINDS[kind](*given).log_odds(at) for kind in ("isotonic", "logistic", "blend"))
    np.testing.assert_allclose(blend, (isotonic + logistic) / 2, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_distances_where_only_others_were_seen_leave_little_doubt(kind: str) -> None:
    """Half a person's worth of it, as there once was, made 2 % of what was 0.2 % among 50 people left out."""
    pairs = labelled([crowd(50, noise=0.1, dim=32)])
    curve = fitting.curve_of(pairs, kind)
    far = sigmoid(curve.log_odds(pairs.distances.max()))
    assert 0 < far < 0.005


@pytest.mark.parametrize(
    ("distances", "probabilities", "said"),
    [
        ([], [], "each needs the other"),
        ([1.0, 2.0], [0.5], "each needs the other"),
        ([1.0, 1.0], [0.5, 0.4], "rise from knot to knot"),
        ([-1.0], [0.5], "at least 0"),
        ([1.0, 2.0], [0.4, 0.5], "never rise"),
        ([1.0], [1.0], "both excluded"),
    ],
)
def test_what_is_no_curve_is_refused(distances: list[float], probabilities: list[float], said: str) -> None:
    with pytest.raises(ShapeError, match=said):
        Curve(np.array(distances), np.array(probabilities))


@given(st.floats(-6, 6))
def test_crossing_is_where_the_curve_is_that_high(at: float) -> None:
    curve = Curve(np.array([0.2, 0.5, 0.5001, 1.0]), np.array([0.99, 0.9, 0.3, 0.02]))
    found = curve.crossing(at)
    if found == -1:
        assert curve.log_odds(np.array(0.0)) < at
    elif np.isinf(found):
        assert curve.log_odds(np.array(9.0)) >= at
    else:
        assert curve.log_odds(np.array(found)) == pytest.approx(at, abs=1e-6)


# ── measures ──


@pytest.mark.parametrize("seed", range(10))
def test_calibration_error_equals_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, w = rng.random(200), rng.random(200)
    p[:3] = 0, 1, 0.5
    same = rng.random(200) < p
    total = 0.0
    for b in range(15):
        inside = [i for i in range(200) if b / 15 <= p[i] < (b + 1) / 15 or (b == 14 and p[i] == 1)]
        if inside:
            heavy = sum(w[i] for i in inside)
            said = sum(w[i] * p[i] for i in inside) / heavy
            found = sum(w[i] * same[i] for i in inside) / heavy
            total += heavy / w.sum() * abs(said - found)
    assert calibration_error(p, same, w) == pytest.approx(total)
    said, found, heavy = reliability(p, same, w)
    assert heavy.sum() == pytest.approx(1)
    assert len(said) == len(found) == len(heavy)


def test_log_loss_of_a_guess_is_a_bit() -> None:
    assert log_loss(np.full(4, 0.5), np.array([True, False, True, True]), np.ones(4)) == pytest.approx(np.log(2))
    assert np.isfinite(log_loss(np.array([0.0]), np.array([True]), np.ones(1)))


# ── pairs ──


def test_pairs_are_those_of_the_protocol_each_once() -> None:
    made = crowd(6)
    found = labelled([made])
    wanted = {}
    for i, a in enumerate(made.crops):
        for j, b in enumerate(made.crops[:i]):
            if a.pid != b.pid or a.camera != b.camera:
                wanted[frozenset((i, j))] = (a.pid == b.pid, float(np.linalg.norm(made.vectors[i] - made.vectors[j])))
    assert {frozenset(r) for r in found.rows.tolist()} == set(wanted)
    assert len(found) == len(wanted)
    for row, same, d, between in zip(found.rows.tolist(), found.same, found.distances, found.between, strict=True):
        assert wanted[frozenset(row)] == (same, pytest.approx(d, abs=1e-4))
        assert found.cameras[between] == tuple(sorted(str(made.crops[i].camera) for i in row))
    everything = labelled([made], "diagonal")
    assert len(everything) == len(made) * (len(made) - 1) / 2


def test_each_person_and_each_two_people_weigh_the_same() -> None:
    found = labelled([crowd(6)])
    w, same = found.weights(), found.same
    assert w[same].sum() == pytest.approx(0.5)
    assert w[~same].sum() == pytest.approx(0.5)
    people = np.bincount(found.first[same], w[same])
    np.testing.assert_allclose(people, 0.5 / 6)
    two = np.array([w[found.pair == k].sum() for k in np.unique(found.pair[~same])])
    np.testing.assert_allclose(two, 0.5 / 15)


def test_counting_by_table_and_by_sorting_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    found = labelled([crowd(6)])
    wanted = found.weights()
    monkeypatch.setattr("reid.verify.pairs.FEW", 0)
    np.testing.assert_array_equal(found.weights(), wanted)


def test_sets_do_not_mix() -> None:
    one, two = crowd(6), crowd(5, seed=1)
    found = labelled([one, two])
    assert found.people == (6, 5)
    assert len(found) == len(labelled([one])) + len(labelled([two]))
    assert not ((found.first < 6) != (found.second < 6)).any()
    assert found.cameras == ()
    assert (found.between == -1).all()
    assert found.rows.max() < len(one) + len(two)
    with pytest.raises(ModelError, match="one model"):
        labelled([one, replace(two, model="another")])


def test_strangers_and_junk_make_no_pairs() -> None:
    made = crowd(6)
    crops = [replace(c, pid=None) if c.pid == "p1" else c for c in made.crops]
    crops = [replace(c, role="junk") if c.pid == "p2" else c for c in crops]
    found = labelled([replace(made, crops=tuple(crops))])
    assert found.people == (4,)
    assert {made.crops[i].pid for i in np.unique(found.rows)} == {"p0", "p3", "p4", "p5"}


def test_tracks_stand_in_for_labels() -> None:
    rng = np.random.default_rng(0)
    crops, vectors = [], []
    for p in range(30):
        centre = rng.normal(size=8)
        for i in range(4):
            crops.append(Crop(f"t{p}/{i}.jpg", camera=f"c{p % 2}", time=float(i), tracklet=f"t{p}"))
            vectors.append(centre + rng.normal(scale=0.5, size=8))
    made = Embeddings(np.array(vectors, np.float32), tuple(crops), "drawn")
    found = tracked([made])
    assert found.same.sum() == 30 * 6
    for i, j in found.rows[~found.same].tolist():
        a, b = crops[i], crops[j]
        assert (a.camera, a.time) == (b.camera, b.time)
        assert a.tracklet != b.tracklet
    assert (~found.same).sum() == 2 * 15 * 14 / 2 * 4
    with_labels = replace(made, crops=tuple(replace(c, pid=c.tracklet) for c in crops))
    by_tracks, by_labels = Verifier.fit(found), Verifier.fit(labelled([with_labels], "diagonal"))
    at = np.linspace(1, 5, 9)
    np.testing.assert_allclose(by_tracks.probability(at), by_labels.probability(at), atol=0.15)
    with pytest.raises(DataError, match="no crop names its track"):
        tracked([crowd(3)])


def test_tracks_of_one_name_in_two_cameras_are_two() -> None:
    crops = [
        Crop(f"{c}{t}{i}.jpg", camera=c, time=float(i), tracklet=f"{t}") for c in "ab" for t in (1, 2) for i in (1, 2)
    ]
    made = Embeddings(np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32), tuple(crops), "drawn")
    found = tracked([made])
    assert found.same.sum() == 4
    assert all(crops[i].camera == crops[j].camera for i, j in found.rows.tolist())
    assert len(pool_tracklets(made)) == 4


def test_a_picture_and_what_was_made_of_it_are_no_pair() -> None:
    made = crowd(12, cameras=2)
    twice = Embeddings(np.concatenate([made.vectors] * 2), made.crops * 2, made.model)
    words = {(a.path, b.path): a.pid == b.pid for a in made.crops for b in made.crops if a.path < b.path}
    for pairs in (judged([twice], words), labelled([twice], "diagonal")):
        assert all(twice.crops[i].path != twice.crops[j].path for i, j in pairs.rows[pairs.same].tolist())


def test_too_few_pairs_of_two_people_are_told() -> None:
    made = crowd(18, cameras=2)
    of = [[c.path for c in made.crops if c.pid == f"p{p}"] for p in range(18)]
    words = {(paths[0], paths[1]): True for paths in of} | {(of[0][0], of[1][0]): False}
    with pytest.raises(DataError, match="pairs of two people: 1, too few to check"):
        Verifier.fit(judged([made], words))


def test_thinning_keeps_everybody() -> None:
    made = crowd(10)
    kept = thinned(made.crops, 30)
    assert len(kept) == 30
    assert (np.diff(kept) > 0).all()
    assert len({(made.crops[i].pid, made.crops[i].camera) for i in kept}) == 30
    np.testing.assert_array_equal(thinned(made.crops, 10**6), np.arange(len(made)))


# ── thresholds ──


def naive_accepts(pairs: Pairs, rate: float) -> tuple[float, ...]:
    """Threshold and intervals by drawing people in plain loops."""
    wrong = pairs[~pairs.same]
    two = [frozenset(x) for x in zip(wrong.first.tolist(), wrong.second.tolist(), strict=True)]
    weight = {pair: 1 / two.count(pair) for pair in set(two)}
    seen = sorted(set(wrong.distances.tolist()))
    chosen, curves = [], []
    for times in bootstrap.draws(*pairs.people):
        total = sum(np.prod([times[p] for p in pair]) for pair in weight)
        rates = []
        for t in seen:
            inside = [pair for pair, d in zip(two, wrong.distances.tolist(), strict=True) if d <= t]
            rates.append(sum(weight[pair] * np.prod([times[p] for p in pair]) for pair in inside) / max(total, 1))
        curves.append(rates)
        allowed = [i for i, value in enumerate(rates) if value <= rate * (1 + 1e-9)]
        chosen.append(allowed[-1] if allowed else -1)
    steps = [*seen, float(np.nextafter(np.float32(seen[0]), np.float32(0)))]
    low, high = np.quantile([steps[i] for i in chosen[1:]], [0.025, 0.975])
    follow = [*chosen[2:], chosen[1]]
    met = [0.0 if i < 0 else curve[i] for curve, i in zip(curves[1:], follow, strict=True)]
    return (steps[chosen[0]], float(low), float(high), *map(float, np.quantile(met, [0.025, 0.975])))


def test_thresholds_and_intervals_equal_a_naive_vertex_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "DRAWS", 6)
    pairs = labelled([crowd(6, cameras=2), crowd(4, seed=3, cameras=2)])
    pairs = pairs.of(np.arange(10) % 6 > 0)  # without the two with many crops
    (found,) = fitting.accepts(pairs, (0.1,))
    wanted = naive_accepts(pairs, 0.1)
    assert found.rate == 0.1
    assert (found.distance, found.low, found.high) == pytest.approx(wanted[:3], abs=2e-6)
    assert (found.rate_low, found.rate_high) == pytest.approx(wanted[3:], rel=6e-3, abs=1e-3)


def test_the_threshold_has_its_rate_and_other_people_keep_within_the_interval() -> None:
    pairs = labelled([crowd(120)])
    weights, wrong = pairs.weights(), ~pairs.same
    fitted = Verifier.fit(pairs, cameras=False)
    for at in fitted.accepts[:3]:
        rate = np.average(pairs.distances[wrong] <= at.distance, weights=weights[wrong])
        assert at.rate * 0.97 < rate <= at.rate + 1e-9
    kept = 0
    for seed in range(1, 11):
        others = labelled([crowd(120, seed)])
        far = others.weights() * ~others.same
        at = fitted.at(0.02)
        kept += at.rate_low <= np.average(others.distances <= at.distance, weights=far) <= at.rate_high
    assert kept >= 8


def test_thresholds_between_rows_lie_between_and_beyond_are_refused(fitted: Verifier) -> None:
    assert fitted.at(0.01) == next(a for a in fitted.accepts if a.rate == 0.01)
    assert fitted.at(0.01).distance < fitted.at(0.015).distance < fitted.at(0.02).distance
    for rate in (1e-9, 0.9):
        with pytest.raises(DataError, match=r"run from .* to 0\.1, fit one on more people"):
            fitted.at(rate)


# ── the verifier ──


def test_fitting_chooses_by_people_left_out(fitted: Verifier) -> None:
    kinds = {name: loss for name, loss in fitted.losses.items() if name in KINDS}
    assert fitted.kind == min(kinds, key=kinds.__getitem__)
    assert all(loss < np.log(2) for loss in kinds.values())
    assert fitted.people == 40
    others = labelled([crowd(60, seed=9)])
    p = fitted.probability(others.distances)
    assert calibration_error(p, others.same, others.weights()) < 0.08


def test_cameras_that_differ_get_a_correction_and_those_with_few_people_none() -> None:
    made = crowd(60)
    pairs = labelled([made])
    found = Verifier.fit(pairs)
    assert set(found.cameras) == {("c0", "c1"), ("c0", "c2"), ("c1", "c2")}
    assert found.losses["with cameras"] < found.losses[found.kind]
    assert Verifier.fit(pairs, cameras=False).cameras == {}
    weak, strong = fitting.correct(found.curve, pairs, (1.0, 1000.0))
    for names, near in strong.items():
        assert abs(near.offset) <= abs(weak[names].offset)
        assert abs(near.scale - 1) < 0.05
    rare = [c for c in made.crops if c.camera != "c2" or c.pid in ("p1", "p2")]
    few = made[[i for i, c in enumerate(made.crops) if c in rare]]
    assert ("c0", "c2") not in fitting.correct(found.curve, labelled([few]), (1.0,))[0]


@given(st.lists(st.floats(0, 50), min_size=2, max_size=20), st.sampled_from(["c0", "c1", "c2", None]), st.floats(0, 1))
def test_a_larger_distance_is_never_likelier(
    fitted: Verifier, values: list[float], camera: str | None, left: float
) -> None:
    p = fitted.probability(np.sort(values), [(camera, "c1")] * len(values), left)
    assert (np.diff(p) <= 1e-12).all()
    assert ((p >= 0) & (p <= 1)).all()


def test_order_does_not_matter(fitted: Verifier) -> None:
    made = crowd(12, seed=4)
    rng = np.random.default_rng(0)
    a, b = made[rng.permutation(len(made))], made[rng.permutation(len(made))]
    quality = rng.random((len(made), 2)), rng.random((len(made), 2))
    doubting = replace(fitted, doubt=Doubt(("size", "blur"), (0.1, 0.2), (1.0, 2.0)))
    one = doubting.verify(a, b, quality=quality)
    two = doubting.verify(b, a, quality=quality[::-1])
    assert [replace(v, reasons=()) for v in one] == [replace(v, reasons=()) for v in two]


def test_same_is_more_than_a_half_and_within_the_threshold(fitted: Verifier) -> None:
    made = crowd(30, seed=5)
    a, b = made[:50], made[list(range(49, -1, -1))]
    for verifier in (fitted, fitted.given(0.05), fitted.given(0.9)):
        for verdict in verifier.verify(a, b):
            assert verdict.same == (verdict.distance <= verdict.threshold)
            assert verdict.same == (verdict.probability >= 0.5) or abs(verdict.probability - 0.5) < 1e-6
    strict = fitted.verify(a, b, far=0.01)
    assert {v.threshold for v in strict} == {fitted.at(0.01).distance}


def test_the_prior_moves_log_odds_by_as_much(fitted: Verifier) -> None:
    d = np.linspace(0, 6, 30)
    moved = log_odds(fitted.given(0.01).probability(d)) - log_odds(fitted.probability(d))
    np.testing.assert_allclose(moved, np.log(0.01 / 0.99), atol=1e-6)
    with pytest.raises(DataError, match=r"the prior is 1\.5"):
        fitted.given(1.5)


def test_poor_crops_draw_to_the_prior_and_end_in_no_answer(fitted: Verifier) -> None:
    doubting = replace(fitted, doubt=Doubt(("size", "blur"), (0.1, 0.2), (1.0, 3.0)))
    good, poor = np.array([[0.0, 0.1]]), np.array([[0.5, 0.9]])
    d = np.array([0.5])
    p = [doubting.judge(d, quality=sides)[0] for sides in ((good, good), (good, poor), (poor, poor))]
    assert p[0].probability > p[1].probability > p[2].probability > 0.5
    assert p[0].same is True
    assert p[0].reasons == ()
    assert p[2].same is None
    assert p[2].reasons[0] == "first: blur"
    assert doubting.given(0.1).judge(d, quality=(poor, poor))[0].probability < 0.5
    assert doubting.judge(d)[0].evidence == 1
    with pytest.raises(ShapeError, match=r"qualities are \(1, 3\)"):
        doubting.judge(d, quality=(np.ones((1, 3)), np.ones((1, 3))))


def test_a_poor_crop_that_moved_away_is_less_surely_somebody_else(fitted: Verifier) -> None:
    """With a lean, what is far is less surely two people; with all evidence and with none it changes nothing."""
    plain, leaning = (replace(fitted, doubt=Doubt(("size",), (0.0,), (1.0,), lean)) for lean in (0.0, 2.0))
    d, poor = np.array([0.1, 5.0]), np.full((2, 1), 0.2)
    before, after = (v.probability(d, None, v.evidence(poor, poor)) for v in (plain, leaning))
    assert (after > before).all()
    assert after[1] < 0.5
    for evidence in (1.0, 1e-9):
        np.testing.assert_allclose(*(v.probability(d, None, evidence) for v in (plain, leaning)), atol=1e-6)
    for d in (1.0, 2.0, 3.0):
        verdict = leaning.judge(np.array([d]), quality=(poor[:1] / 4, poor[:1] / 4))[0]
        assert verdict.same == (verdict.probability >= 0.5) == (d <= verdict.threshold)


def test_quality_takes_the_weights_and_the_lean_of_least_loss(fitted: Verifier) -> None:
    """Crops gone wrong are farther from their person; nothing near what was learnt does better."""
    made = crowd(40, seed=7)
    rng = np.random.default_rng(8)
    worse = rng.random((len(made), 1)).repeat(5, axis=1) * [0, 1, 0, 0, 0]
    moved = made.vectors + 3 * worse[:, 1:2] * rng.normal(size=made.vectors.shape).astype(np.float32)
    pairs = labelled([Embeddings(np.concatenate([made.vectors, moved]).astype(np.float32), made.crops * 2, "drawn")])
    quality, natural = np.concatenate([worse * 0, worse]), np.arange(2 * len(made)) < len(made)
    found, losses = fitting.doubt(fitted, pairs, quality, natural)
    assert found.lean > 0
    assert losses["poor crops, quality seen"] < losses["poor crops"]

    def loss(one: Doubt) -> float:
        return sum(fitting._losses(fitted, pairs, quality, natural, one))

    best, (w, lean) = loss(found), (found.weights[1], found.lean)
    for weight, other in ((w * 1.1, lean), (w * 0.9, lean), (w, lean * 1.1), (w, lean * 0.9)):
        assert loss(replace(found, weights=(0.0, weight, 0.0, 0.0, 0.0), lean=other)) > best - 1e-6


def test_matches_get_probabilities(fitted: Verifier) -> None:
    from reid.matcher import search

    made = crowd(10, seed=6)
    (found,) = search(made[:1], made, 5).matches(made.crops)
    filled = fitted.filled("c0", found)
    assert [m.distance for m in filled] == [m.distance for m in found]
    values = [m.probability for m in filled]
    assert all(v is not None for v in values)
    assert fitted.filled("c0", ()) == ()


def test_what_does_not_fit_is_refused(fitted: Verifier) -> None:
    made = crowd(4)
    with pytest.raises(ModelError, match=r"come from model other .* fitted for model drawn; fit one with `reid verify"):
        fitted.verify(replace(made, model="other"), made)
    with pytest.raises(ShapeError, match="3 crops on one side and 2 on the other"):
        fitted.verify(made[:3], made[:2])
    for bad in (np.nan, -1.0):
        with pytest.raises(ShapeError, match="not a number or below 0"):
            fitted.probability(np.array([bad]))
    with pytest.raises(DataError, match="people with two pictures that count: 9"):
        Verifier.fit(labelled([crowd(9)]))
    with pytest.raises(DataError, match="pairs of one person: 0"):
        Verifier.fit(labelled([crowd(20, cameras=1)]))
    with pytest.raises(DataError, match="protocol is 'markt'"):
        labelled([made], "markt")
    with pytest.raises(ShapeError, match="must lie in"):
        Verdict(True, 1.5, 1.0, 1.0)
    with pytest.raises(ShapeError, match="must be numbers"):
        Verdict(True, 0.5, -1.0, 1.0)


# ── the file ──

ODD = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(
    knots=st.dictionaries(st.floats(0, 9), st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=9),
    prior=st.floats(1e-6, 1 - 1e-6),
    about=ODD,
    cameras=st.dictionaries(st.tuples(ODD, ODD).map(lambda p: (min(p), max(p))), st.floats(-3, 3), max_size=3),
)
def test_a_file_is_read_back_without_loss(
    tmp_path_factory: pytest.TempPathFactory,
    fitted: Verifier,
    knots: dict[float, float],
    prior: float,
    about: str,
    cameras: dict[tuple[str, str], float],
) -> None:
    curve = Curve(np.sort(list(knots)), -np.sort(-np.array(list(knots.values()))))
    corrections = {pair: Correction(7, offset, abs(offset)) for pair, offset in cameras.items()}
    doubt = Doubt(("size", "blur"), (0.1, 0.2), (1.0, 2.0), 3.0)
    made = replace(fitted, curve=curve, prior=prior, about=about, cameras=corrections, doubt=doubt)
    path = tmp_path_factory.getbasetemp() / "round.calibration.json"
    made.save(path)
    read = Verifier.load(path)
    for name in ("model", "accepts", "people", "same", "different", "kind", "about", "cameras", "doubt", "prior"):
        assert getattr(read, name) == getattr(made, name), name
    np.testing.assert_array_equal(read.curve.distances, curve.distances)
    np.testing.assert_array_equal(read.curve.probabilities, curve.probabilities)
    assert dict(read.losses) == dict(made.losses)


def test_a_file_can_be_read_and_edited(fitted: Verifier, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    fitted.save(path)
    text = path.read_text()
    first = fitted.curve.distances[0]
    assert f"[{first}, {fitted.curve.probabilities[0]}]" in text
    path.write_text(text.replace('"prior": 0.5', '"prior": 0.25'))
    assert Verifier.load(path).prior == 0.25


Edit = Callable[[dict], object]  # type: ignore[type-arg]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda d: d.pop("curve"), "no 'curve'"),
        (lambda d: d.update(format="x"), "does not say 'reid calibration', version 1"),
        (lambda d: d.update(version=2), "version 1"),
        (lambda d: d.update(curve=[[1, 0.5], [0.5, 0.4]]), "rise from knot to knot"),
        (lambda d: d.update(curve=[[1, 0.5], [2]]), "not a readable calibration"),
        (lambda d: d.update(curve="high"), "not a readable calibration"),
        (lambda d: d.update(colour="red"), "says colour, which no calibration has"),
        (lambda d: d.update(prior=2.0), "the prior is 2.0"),
        (lambda d: d.update(prior="even"), "prior a number"),
        (lambda d: d.update(people=-1), "whole numbers"),
        (lambda d: d.update(model=""), "fingerprint of its model"),
        (lambda d: d["accepts"].reverse(), "must fall"),
        (lambda d: d["accepts"][0].update(low=99), "is no threshold"),
        (lambda d: d["accepts"][0].update(rate_high=2), "no interval"),
        (lambda d: d["accepts"][0].update(why="so"), "not a readable calibration"),
        (lambda d: d.update(cameras=[{"between": ["b", "a"], "people": 1, "offset": 0, "scale": 1}]), "sorted order"),
        (lambda d: d.update(cameras=[{"between": ["a", "b"], "people": 1, "offset": 0, "scale": -1}]), "at least 0"),
        (lambda d: d.update(doubt={"measures": ["size"], "typical": [], "weights": [1.0]}), "needs what is typical"),
        (lambda d: d.update(doubt={"measures": ["size"], "typical": [0.0], "weights": [-1.0]}), "at least 0"),
        (lambda d: d.update(doubt={"measures": [], "typical": [], "weights": [], "lean": -1}), "the lean of quality"),
    ],
)
def test_a_bad_file_is_told_in_a_sentence(fitted: Verifier, tmp_path: Path, edit: Edit, said: str) -> None:
    path = tmp_path / "c.json"
    fitted.save(path)
    read = json.loads(path.read_text())
    edit(read)
    path.write_text(json.dumps(read))
    with pytest.raises(ReidError, match=said) as told:
        Verifier.load(path)
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)


def test_a_file_that_is_none_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with pytest.raises(DataError, match="does not exist; give a calibration that `reid verify --fit` wrote"):
        Verifier.load(path)
    for content in (b"", b"[1, 2", b"[]", b"\xff\xfe", b"null"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a readable calibration"):
            Verifier.load(path)


def test_a_calibration_lies_beside_its_model() -> None:
    assert beside("models/mine.onnx") == Path("models/mine.calibration.json")


def test_distances_are_the_same_both_ways_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 16)).astype(np.float32)
    np.testing.assert_array_equal(distances(a, b), distances(b, a))
    np.testing.assert_allclose(distances(a, b), np.linalg.norm(a - b, axis=1), rtol=1e-6)
    assert (distances(a, a) == 0).all()


def test_accepts_and_corrections_check_themselves() -> None:
    with pytest.raises(ShapeError):
        Accepts(0.0, 1, 1, 1, 0, 1)
    with pytest.raises(ShapeError):
        Correction(1, float("nan"), 1.0)


# ── pairs that somebody judged ──


def test_judged_pairs_are_those_that_words_are_about() -> None:
    made = crowd(5, cameras=2)
    path = {crop.path: i for i, crop in enumerate(made.crops)}
    of = [[c.path for c in made.crops if c.pid == f"p{p}"] for p in range(5)]
    words = {(of[0][0], of[0][1]): True, (of[0][2], of[0][1]): True, (of[1][0], of[1][1]): True}
    words |= {(of[1][1], of[0][0]): False, (of[2][0], of[0][0]): False, (of[3][0], "elsewhere.jpg"): True}
    words |= {(of[4][0], of[4][1]): True, (of[4][1], of[4][0]): False}  # which is no person to learn from
    found = judged([made], words)
    told = {frozenset(pair) for pair in found.rows[found.same].tolist()}
    zero = [path[p] for p in of[0][:3]]
    assert told == {frozenset(p) for p in [(zero[0], zero[1]), (zero[1], zero[2]), (zero[0], zero[2])]} | {
        frozenset((path[of[1][0]], path[of[1][1]]))
    }
    others = {frozenset(pair) for pair in found.rows[~found.same].tolist()}
    assert others == {frozenset((path[of[1][1]], zero[0])), frozenset((path[of[2][0]], zero[0]))}


def test_judged_pairs_of_everybody_are_the_labelled_ones() -> None:
    made = crowd(12, cameras=2)
    every = [(a, b) for i, a in enumerate(made.crops) for b in made.crops[i + 1 :]]
    words = {(a.path, b.path): a.pid == b.pid for a, b in every}
    mine, theirs = judged([made], words), labelled([made], "diagonal")
    assert len(mine) == len(theirs)
    assert sorted(mine.distances[mine.same].tolist()) == sorted(theirs.distances[theirs.same].tolist())
    assert Verifier.fit(mine).curve.log_odds(np.array([1.0])) == Verifier.fit(theirs).curve.log_odds(np.array([1.0]))


def test_a_table_of_judged_pairs_is_read(tmp_path: Path) -> None:
    from reid.data import pairs

    table = tmp_path / "p.csv"
    table.write_text("a;b;same;note\nx.jpg;y.jpg;Yes;\nx.jpg;z.jpg;no;late\n")
    assert pairs.is_judged(table)
    assert [(a.name, b.name, same) for a, b, same in pairs.read_judged(table)] == [
        ("x.jpg", "y.jpg", True),
        ("x.jpg", "z.jpg", False),
    ]
    table.write_text("a,b,same\nx.jpg,y.jpg,perhaps\n")
    with pytest.raises(DataError, match=r"line 2 .* 'perhaps' .* yes or no"):
        pairs.read_judged(table)
    table.write_text("a,b\nx.jpg,y.jpg\n")
    assert not pairs.is_judged(table)
    assert not pairs.is_judged(tmp_path)
