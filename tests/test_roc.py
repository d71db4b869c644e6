from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from reid.distance import blocks, pairwise
from reid.errors import DataError, ShapeError
from reid.evaluation import PROTOCOLS
from reid.roc import Verification, bootstrap, cast, curve, open_set, search, verification
from reid.types import Crop, Embeddings
from tests.reference import roc as slow

Case = tuple[np.ndarray, list[Crop], list[Crop]]
WEIGHTINGS = ("person", "pair")
RATES = (0.5, 0.2, 0.1, 0.01)


def random_case(seed: int, names: int = 4, largest: tuple[int, int] = (9, 30)) -> Case:
    """Few people, cameras and distances: ties, junk, distractors, the unknown and the same picture all occur."""
    rng = np.random.default_rng(seed)

    def crops(count: int, letter: str) -> list[Crop]:
        made = []
        for i in range(count):
            role = str(rng.choice(["person"] * 8 + ["distractor", "junk"]))
            pid = str(rng.integers(names)) if rng.random() < 0.9 else None
            camera = str(rng.integers(3)) if rng.random() < 0.9 else None
            path = "q0" if letter == "g" and rng.random() < 0.05 else f"{letter}{i}"
            made.append(Crop(path, pid, camera, role=role))  # type: ignore[arg-type]
        return made

    query, gallery = crops(int(rng.integers(1, largest[0])), "q"), crops(int(rng.integers(1, largest[1])), "g")
    return rng.integers(1, 7, (len(query), len(gallery))).astype(np.float32), query, gallery


def drawn_people(people: int, seed: int = 0, queries: int = 2, rows: int = 3) -> Case:
    """People who differ in how well they are recognised, two cameras, no ties."""
    rng = np.random.default_rng(seed)
    centres, noise = rng.normal(size=(people, 6)), rng.uniform(0.3, 1.2, people)

    def some(count: int, camera: str) -> tuple[np.ndarray, list[Crop]]:
        who = np.repeat(np.arange(people), count)
        vectors = centres[who] + noise[who, None] * rng.normal(size=(len(who), 6))
        return vectors, [Crop(f"{camera}/{i}", str(p), camera) for i, p in enumerate(who)]

    (q, query), (g, gallery) = some(queries, "a"), some(rows, "b")
    return pairwise(q, g), query, gallery


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_verification_equals_a_loop_over_all_pairs(protocol: str, weighting: cast.Weighting) -> None:
    compared = 0
    for seed in range(60):
        case = random_case(seed)
        found = slow.pairs(*case, protocol, weighting)
        if len({p.same for p in found}) < 2:
            with pytest.raises(DataError, match=r"nobody is|everybody is|all crops are|own picture is all|every pair"):
                verification(*case, protocol, weighting)
            continue
        seen = verification(*case, protocol, weighting, RATES)
        assert (seen.positives, seen.negatives) == (sum(p.same for p in found), sum(not p.same for p in found))
        assert seen.people == len({p.query for p in found if p.same})
        assert seen.skipped == sum(slow.person(q, "") is None for q in case[1])
        steps = slow.curve(found)
        for t, *both in zip(seen.thresholds, seen.fpr, seen.tpr, strict=True):
            assert both == pytest.approx([float(r) for r in slow.at(steps, t)[1:]], abs=1e-12)
        for rate, point in zip(RATES, seen.at, strict=True):
            threshold, fpr, tpr = slow.highest(steps, Fraction(str(rate)))
            assert (point.asked, point.fpr, point.tpr) == pytest.approx((rate, float(fpr), float(tpr)), abs=1e-12)
            assert point.threshold == threshold or (np.isinf(threshold) and point.threshold < case[0].max())
        assert seen.eer == pytest.approx(float(slow.eer(steps)), abs=1e-12)
        assert seen.auc == pytest.approx(slow.auc(found), abs=1e-12)
        compared += 1
    assert compared > 30


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_verification_equals_scikit_learn(weighting: cast.Weighting) -> None:
    """Distances without ties: exact at each threshold, and within a level's width between them."""
    case = drawn_people(25)
    seen = verification(*case, weighting=weighting)
    found = slow.pairs(*case, "market1501", weighting)
    same, distance = [p.same for p in found], np.array([p.distance for p in found])
    weights = [float(p.weight) for p in found]
    fpr, tpr, thresholds = roc_curve(same, -distance, sample_weight=weights, drop_intermediate=False)
    place = np.searchsorted(-thresholds, seen.thresholds, side="right") - 1
    np.testing.assert_allclose(seen.fpr, fpr[place], atol=1e-12)
    np.testing.assert_allclose(seen.tpr, tpr[place], atol=1e-12)
    assert seen.auc == pytest.approx(roc_auc_score(same, -distance, sample_weight=weights), abs=1e-5)
    right, wrong = ([(p.distance, float(p.weight)) for p in found if p.same is s] for s in (True, False))
    means = [np.average(*np.transpose(kind)[:1], weights=np.transpose(kind)[1]) for kind in (right, wrong)]
    spread = [np.cov(*np.transpose(k)[:1], aweights=np.transpose(k)[1], ddof=0) for k in (right, wrong)]
    assert seen.d_prime == pytest.approx((means[1] - means[0]) / np.sqrt(np.mean(spread)), rel=1e-4)
    assert (seen.fpr[0], seen.tpr[0], seen.fpr[-1], seen.tpr[-1]) == (0, 0, 1, 1)
    assert len(seen.thresholds) <= curve.POINTS < len(thresholds)
    false, missed = seen.det
    assert (np.diff(false) >= 0).all()
    assert (np.diff(missed) <= 0).all()


def test_labels_are_the_right_way_round() -> None:
    """The one near negative costs TPR here; fast-reid's way round it would not be seen."""
    query, gallery = [Crop("q", "1", "a")], [Crop(f"g{i}", "1" if i < 4 else "2", "b") for i in range(14)]
    distances = np.array([[1, 2, 4, 5, 3, *range(10, 19)]], dtype=np.float32)
    same = np.array([g.pid == "1" for g in gallery])
    fpr, tpr, _ = roc_curve(~same, distances[0])
    assert tpr[fpr <= 0.01][-1] == 0.9
    seen = verification(distances, query, gallery, weighting="pair", rates=(0.01, 0.1))
    assert [(p.fpr, p.tpr) for p in seen.at] == [(0, 0.5), (0.1, 1)]
    assert seen.table() == {"EER": seen.eer, "TPR@FPR=0.01": 0.5, "TPR@FPR=0.1": 1}


def test_perfect_and_random_distances() -> None:
    distances, query, gallery = drawn_people(40)
    same = np.array([[q.pid == g.pid for g in gallery] for q in query])
    perfect = verification(np.where(same, 1, 2) + distances / 1000, query, gallery)
    assert (perfect.eer, perfect.auc) == (0, 1)
    assert all(p.tpr == 1 for p in perfect.at)
    assert perfect.d_prime > 100
    alarm = open_set(np.where(same, 1, 2) + distances / 1000, query, gallery).at[0]
    assert (alarm.fnir, alarm.fnir_rank1) == (0, 0)
    chance = verification(np.random.default_rng(0).random(distances.shape), query, gallery)
    assert chance.eer == pytest.approx(0.5, abs=0.05)
    assert chance.auc == pytest.approx(0.5, abs=0.05)
    assert chance.d_prime == pytest.approx(0, abs=0.2)
    blind = verification(np.ones_like(distances), query, gallery)
    assert (blind.eer, blind.auc, blind.d_prime) == (0.5, 0.5, 0)
    split = verification(np.where(same, 1, 2), query, gallery)
    assert split.d_prime == np.inf


def copied(crops: Sequence[Crop], pid: str, times: int) -> tuple[list[Crop], list[int]]:
    """All crops, then those of one person several times over, each under a name of its own; and where they are from."""
    rows = [*range(len(crops)), *[i for i, c in enumerate(crops) if c.pid == pid and c.role == "person"] * times]
    return [replace(crops[i], path=f"{id(crops)}/{k}") for k, i in enumerate(rows)], rows


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_person_with_many_crops_counts_once(protocol: str) -> None:
    changed = 0
    for seed in range(60):
        distances, *sets = random_case(seed, largest=(30, 60))
        one, many = ([copied(crops, "1", times) for crops in sets] for times in (0, 3))
        (q, rows), (g, columns) = many
        copies = distances[np.ix_(rows, columns)]
        try:
            before = verification(distances, one[0][0], one[1][0], protocol)
            few = open_set(distances, one[0][0], one[1][0], protocol)
        except DataError:
            continue
        after, lots = verification(copies, q, g, protocol), open_set(copies, q, g, protocol)
        np.testing.assert_array_equal(after.thresholds, before.thresholds)
        for name in ("fpr", "tpr", "eer", "auc", "d_prime"):
            np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-9, err_msg=name)
        for name in ("thresholds", "fpir", "fnir", "fnir_rank1"):
            np.testing.assert_allclose(getattr(lots, name), getattr(few, name), atol=1e-9, err_msg=name)
        by_pair = (
            verification(d, a, b, protocol, "pair").auc
            for d, a, b in [(distances, one[0][0], one[1][0]), (copies, q, g)]
        )
        changed += next(by_pair) != pytest.approx(next(by_pair))
    assert changed > 20


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_open_set_equals_a_loop(protocol: str, weighting: cast.Weighting, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = {0: 0, 4: 0}
    for seed in range(60):
        monkeypatch.setattr(search, "ENOUGH", 1 if seed % 2 else 100)
        case = random_case(seed, names=7)
        try:
            seen = open_set(*case, protocol, weighting, 0.4, 4)
        except DataError:
            continue
        everyone = cast.Cast(*case[1:], protocol, weighting)
        listed, drawn = search.enrolments(everyone, 0.4, 4)
        names = list(dict.fromkeys(c.pid for c in (*case[1], *case[2]) if c.pid and c.role == "person"))
        draws = [
            slow.searches(*case, protocol, weighting, {n for n, there in zip(names, row, strict=False) if not there})
            for row in listed
        ]
        assert seen.draws == drawn
        assert seen.mated == np.mean([sum(s.mated for s in draw) for draw in draws])
        assert seen.strangers == np.mean([sum(not s.mated for s in draw) for draw in draws])
        for t, *rates in zip(seen.thresholds, seen.fpir, seen.fnir, seen.fnir_rank1, strict=True):
            assert rates == pytest.approx([float(r) for r in slow.rates(draws, t)], abs=1e-12)
        for alarm in seen.at:
            nearest = {s.other for draw in draws for s in draw if not s.mated}
            bound = min(t for t in nearest if slow.rates(draws, t)[0] > Fraction(str(alarm.asked)))
            assert alarm.threshold == min(np.nextafter(np.float32(bound), np.float32(-1)), np.finfo(np.float32).max)
            rates = [alarm.fpir, alarm.fnir, alarm.fnir_rank1]
            assert rates == pytest.approx([float(r) for r in slow.rates(draws, alarm.threshold)], abs=1e-12)
            each = [float(slow.rates([draw], alarm.threshold)[1]) for draw in draws]
            assert alarm.spread == pytest.approx(np.std(each), abs=1e-12)
        compared[drawn] += 1
    assert min(compared.values()) > 10


def test_half_of_those_searched_for_are_strangers() -> None:
    distances, query, gallery = drawn_people(21)
    gallery += [Crop(f"more{i}", f"more{i}", "b") for i in range(5)]
    distances = np.concatenate([distances, np.full((len(query), 5), 9, np.float32)], axis=1)
    seen = open_set(distances, query, gallery)
    assert (seen.mated, seen.strangers, seen.enrolled, seen.draws) == (22, 20, 16, 10)
    assert open_set(distances, query, gallery).at == seen.at
    fewest = open_set(distances, query, gallery, unenrolled=0.001, draws=3)
    assert (fewest.strangers, fewest.draws) == (2, 3)
    strangers = [Crop(f"stranger{i}", f"stranger{i}", "a") for i in range(100)]
    enough = open_set(np.concatenate([distances, np.ones((100, len(gallery)), np.float32)]), query + strangers, gallery)
    assert (enough.mated, enough.strangers, enough.enrolled, enough.draws) == (42, 100, 26, 0)
    assert all(alarm.spread == 0 for alarm in enough.at)


def weighted(found: list[slow.Pair], times: dict[object, int]) -> list[slow.Pair]:
    drawn = [replace(p, weight=p.weight * times[p.query] * (1 if p.same else times[p.gallery])) for p in found]
    return [p for p in drawn if p.weight]


def test_intervals_equal_a_slow_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pairs are in the sample: the product of two people's multiplicities, one for a positive pair."""
    monkeypatch.setattr(bootstrap, "DRAWS", 12)
    compared = 0
    for seed in range(12):
        case = random_case(seed, largest=(9, 25))
        found = slow.pairs(*case, "market1501", "person")
        if len({p.same for p in found}) < 2:
            continue
        everyone = cast.Cast(*case[1:], "market1501", "person")
        whose = {slow.person(c, f"query {i}"): everyone.query[i] for i, c in enumerate(case[1])}
        whose |= {slow.person(c, f"row {j}"): everyone.gallery[j] for j, c in enumerate(case[2])}
        table = []
        for times in bootstrap.draws(everyone.people, everyone.distractors):
            drawn = weighted(found, {name: int(times[code]) for name, code in whose.items()})
            if len({p.same for p in drawn}) == 2:
                steps = slow.curve(drawn)
                table.append([slow.eer(steps), *(slow.highest(steps, Fraction(str(r)))[2] for r in RATES)])
        wanted = np.quantile(np.array(table[1:] or table, float), [0.025, 0.975], axis=0).T
        seen = verification(*case, rates=RATES, intervals=True)
        np.testing.assert_allclose(list(seen.intervals.values()), wanted, atol=1e-9)
        assert seen.intervals.keys() == seen.table().keys()
        compared += 1
    assert compared > 5


@pytest.mark.parametrize(("few", "tolerance"), [(256, 0.03), (0, 0.08)])
def test_many_pairs_have_nearly_the_same_intervals(few: int, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the nearest pairs, some positive ones and a table, by two people or by one, instead of all pairs."""
    monkeypatch.setattr(bootstrap, "DRAWS", 200)
    case = drawn_people(60, queries=4, rows=4)  # 56,640 negative pairs
    exact = verification(*case, rates=(0.1, 0.01, 0.001), intervals=True)
    monkeypatch.setattr(bootstrap, "NEAR", 1000)
    monkeypatch.setattr(bootstrap, "FEW", few)
    parts = ((slice(i, i + 9), case[0][i : i + 9]) for i in range(0, 240, 9))
    nearly = verification(parts, *case[1:], rates=(0.1, 0.01, 0.001), intervals=True)
    assert nearly.table() == pytest.approx(exact.table())
    for name, (low, high) in exact.intervals.items():
        assert nearly.intervals[name] == pytest.approx((low, high), abs=tolerance * (high - low)), name
    monkeypatch.setattr(bootstrap, "RIGHT", 120)  # a figure from these alone is far off
    sampled = verification(*case, rates=(0.1, 0.01, 0.001), intervals=True)
    for name, bounds in exact.intervals.items():
        assert np.mean(sampled.intervals[name]) == pytest.approx(np.mean(bounds), abs=0.4 * np.diff(bounds)[0]), name


def test_intervals_cover_the_truth_and_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """As wide as figures of other people vary, and narrower by √4 with four times the people."""
    monkeypatch.setattr(bootstrap, "DRAWS", 100)

    def measured(people: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        seen = verification(*drawn_people(people, seed), rates=(0.1,), intervals=True)
        assert all(low <= seen.table()[name] <= high for name, (low, high) in seen.intervals.items())
        return np.array(list(seen.table().values())), np.array(list(seen.intervals.values()))

    truth = np.array([0.2406, 0.5938])  # of 64,000 such people, 800 at a time
    figures, bounds = (np.array(part) for part in zip(*[measured(40, seed) for seed in range(10, 60)], strict=True))
    assert (((bounds[..., 0] <= truth) & (truth <= bounds[..., 1])).mean(axis=0) > 0.85).all()
    deviation = np.diff(bounds)[..., 0].mean(axis=0) / (2 * 1.96)
    np.testing.assert_allclose(deviation, figures.std(axis=0), rtol=0.3)
    more = np.mean([np.diff(measured(160, seed)[1])[:, 0] for seed in range(60, 65)], axis=0) / (2 * 1.96)
    np.testing.assert_allclose(deviation / more, 2, rtol=0.25)


@given(st.lists(st.floats(min_value=-(2.0**127), width=32, allow_nan=False), min_size=2))
def test_levels_keep_the_order_and_are_close(values: list[float]) -> None:
    numbers = np.sort(np.array(values, np.float32))
    levels = curve.levels(numbers)
    assert (np.diff(levels) >= 0).all()
    assert levels.min() >= 0
    assert levels.max() < curve.LEVELS
    up, down = curve.distances(levels), curve.distances(levels - 1)
    assert (up >= numbers).all()
    assert (down < numbers).all()
    normal = (np.abs(numbers) > 1e-37) & (np.abs(numbers) < 3e38)
    size = np.abs(numbers[normal].astype(float))
    assert (up[normal] - numbers[normal] <= size / 2**15).all()


def test_small_whole_numbers_are_levels_themselves() -> None:
    numbers = np.arange(1000, dtype=np.float32)
    np.testing.assert_array_equal(curve.distances(curve.levels(numbers)), numbers)


def test_blocks_and_matrix_agree(people: Embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pairwise(people.vectors, people.vectors)
    crops = people.crops

    def parts() -> Iterator[tuple[slice, np.ndarray]]:
        for i in reversed(range(0, len(whole), 7)):
            yield slice(i, i + 7), np.asfortranarray(whole[i : i + 7], dtype=np.float64)

    def same(a: Verification, b: Verification) -> None:
        assert (a.at, a.negatives, a.positives) == (b.at, b.negatives, b.positives)
        assert (a.eer, a.auc, a.d_prime) == pytest.approx((b.eer, b.auc, b.d_prime), abs=1e-12)

    seen, alarms = verification(whole, crops, crops), open_set(whole, crops, crops)
    same(verification(blocks(people.vectors, people.vectors), crops, crops), seen)
    monkeypatch.setattr(cast, "VALUES", 300)
    same(verification(parts(), crops, crops), seen)
    same(verification(whole, crops, crops), seen)
    assert open_set(parts(), crops, crops).at == alarms.at


def test_any_finite_or_infinite_number_is_a_distance() -> None:
    distances, query, gallery = drawn_people(12)
    seen = verification(distances, query, gallery)
    moved = verification(distances * 1e-20 - 2e-19, query, gallery)
    assert list(moved.table().values()) == pytest.approx(list(seen.table().values()), abs=0.01)
    far = verification(np.where(distances > np.median(distances), np.inf, distances), query, gallery)
    assert np.isnan(far.d_prime)
    assert far.thresholds[-1] == np.inf
    assert [p.threshold for p in far.at[1:]] == [p.threshold for p in seen.at[1:]]
    never = open_set(np.full_like(distances, np.inf), query, gallery)
    assert [(a.fpir, a.fnir) for a in never.at] == [(0, 1)] * 3


def test_an_equally_near_stranger_is_not_outranked() -> None:
    query = [Crop("q1", "1", "a"), Crop("q2", "2", "a")]
    gallery = [Crop("g1", "1", "b"), Crop("g2", None, "b", role="distractor")]
    found = open_set(np.array([[1, 1], [2, 3]]), query, gallery)
    assert found.draws == 0
    assert [(a.fnir, a.fnir_rank1) for a in found.at] == [(0, 1)] * 3


def test_what_cannot_be_measured_is_refused(people: Embeddings) -> None:
    crops, whole = people.crops, pairwise(people.vectors, people.vectors)
    strangers = [Crop(c.path, f"not {c.pid}", c.camera) for c in crops]
    alone = [replace(c, pid="1") for c in crops]
    for measure in (verification, open_set):
        with pytest.raises(DataError, match="nobody is both"):
            measure(whole, strangers, crops)
        with pytest.raises(DataError, match="'markt'; it can be market1501"):
            measure(whole, crops, crops, "markt")
        with pytest.raises(DataError, match="'crop'; it can be 'person' or 'pair'"):
            measure(whole, crops, crops, weighting="crop")  # type: ignore[arg-type]
        with pytest.raises(ShapeError, match=r"\(3, 4\), for 108 queries"):
            measure(np.zeros((3, 4)), crops, crops)
        with pytest.raises(ShapeError, match="each query come once"):
            measure(iter([(slice(0, 108), whole), (slice(0, 1), whole[:1])]), crops, crops)
        with pytest.raises(ShapeError, match="queries without distances: 8 of 108"):
            measure(iter([(slice(0, 100), whole[:100])]), crops, crops)
        broken = whole.copy()
        broken[5, 7] = np.nan
        with pytest.raises(ShapeError, match=r"query 5 \(p0/c1/2\.jpg\) is not a number; compute"):
            measure(broken, crops, crops)
        broken[5, 7] = -np.inf
        with pytest.raises(ShapeError, match=r"query 5 \(p0/c1/2\.jpg\) is −∞; compute"):
            measure(broken, crops, crops)
    with pytest.raises(DataError, match="every pair that counts shows one person"):
        verification(whole, alone, alone)
    for unenrolled in (0, 0.5):
        with pytest.raises(DataError, match="everyone who is searched for is in the gallery"):
            open_set(whole, alone, alone, unenrolled=unenrolled)
    with pytest.raises(DataError, match=r"the rates are 0\.1, 1"):
        verification(whole, crops, crops, rates=(0.1, 1))
    with pytest.raises(DataError, match=r"un-enrolled is 1\.5 in 10 draws"):
        open_set(whole, crops, crops, unenrolled=1.5)
