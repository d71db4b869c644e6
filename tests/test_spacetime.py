from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from reid import distance, evaluation
from reid.errors import DataError, ModelError, ShapeError
from reid.evaluation import evaluate, evaluate_distances
from reid.rerank import KReciprocal, k_reciprocal
from reid.spacetime import Axis, PaperPrior, TransitionPrior, align_recordings, estimate_offsets, fit_weight, plot
from reid.spacetime.sightings import sightings
from reid.spacetime.transitions import _same, _strangers
from reid.types import Crop, Embeddings
from tests.reference import spacetime as slow

HOP = 60.0  # seconds from one camera to the next


def walkers(people: int, seed: int, cameras: int = 3, back: float = 0.5, first: int = 0) -> list[Crop]:
    """People who walk past cameras in a row once, `back` of them from the last to the first, three crops in each."""
    rng = np.random.default_rng(seed)
    crops = []
    for person in range(first, first + people):
        time = rng.uniform(0, 3000)
        for camera in range(cameras)[:: -1 if rng.random() < back else 1]:
            crops += [Crop(f"{person}/{camera}/{i}", f"{person:04}", f"c{camera}", time + i) for i in range(3)]
            time += HOP + rng.normal(0, 4)
    return crops


def wanderers(seed: int, people: int = 14) -> list[Crop]:
    """People in some of four cameras at random times on the grid of frames, with one to four crops in each."""
    rng = np.random.default_rng(seed)
    crops = []
    for person in range(people):
        for camera in rng.permutation(4)[: rng.integers(1, 5)]:
            times = rng.integers(0, 30000, rng.integers(1, 5)) / 25
            crops += [Crop(f"{person}/{camera}/{i}", str(person), str(camera), float(t)) for i, t in enumerate(times)]
    return crops


def embedded(crops: list[Crop], spread: float, seed: int = 0) -> Embeddings:
    """Vectors around a centre for each person; people are hard to tell apart where the spread is large."""
    rng = np.random.default_rng(seed)
    centres = {pid: rng.normal(size=6) for pid in sorted({str(c.pid) for c in crops})}
    vectors = np.array([centres[str(c.pid)] + rng.normal(scale=spread, size=6) for c in crops])
    return Embeddings(distance.normalise(vectors), tuple(crops), "drawn")


def halves(embeddings: Embeddings) -> tuple[Embeddings, Embeddings]:
    """The first crop of each person in each camera is a query, the others the gallery."""
    is_query = np.array([c.path.endswith("/0") for c in embeddings.crops])
    return embeddings[is_query], embeddings[~is_query]


@pytest.fixture(scope="module")
def prior() -> TransitionPrior:
    return TransitionPrior.fit(walkers(80, 0))


@pytest.mark.parametrize("seed", range(3))
def test_the_papers_prior_equals_its_authors_loops(seed: int) -> None:
    crops, bins = wanderers(seed), 250  # fewer than 1,200 seconds need, so that some lie beyond the last
    prior = PaperPrior.fit(crops, bins)
    shares = slow.paper_shares(crops, bins, 25)
    for (a, b), row in shares.items():
        np.testing.assert_allclose(prior.shares[prior.cameras.index(a), prior.cameras.index(b)], row, atol=1e-12)
    extra = [Crop("no time", camera="1"), Crop("no camera", time=3.0), Crop("elsewhere", camera="9", time=3.0)]
    both = embedded([*crops[:20], *extra], 1.0)
    found = np.concatenate([block for _, block in prior.blocks(both, both)])
    cosine = both.vectors.astype(float) @ both.vectors.T.astype(float)
    for i, a in enumerate(both.crops):
        for j, b in enumerate(both.crops):
            assert found[i, j] == pytest.approx(slow.paper_distance(shares, a, b, cosine[i, j], 25), abs=1e-6)


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 0.0159), (5000.0, 0.0080)])
def test_the_papers_second_factor_hardly_moves(seconds: float, most: float) -> None:
    """Even if everybody were equally far apart; the more so away from 0, where the Gaussian is not cut in half."""
    share = PaperPrior.fit([Crop(c, "1", c, t) for c, t in (("a", 0.0), ("b", seconds))]).shares.max()
    assert share == pytest.approx(most, abs=1e-4)
    assert 1 / (1 + 2 * np.exp(-5 * share)) < 0.352


@pytest.mark.parametrize("seed", range(3))
def test_log_ratios_equal_a_loop_over_pairs_of_crops(seed: int) -> None:
    crops = wanderers(seed)
    prior = TransitionPrior.fit(crops)
    rng = np.random.default_rng(seed)
    for _ in range(40):
        a, b = rng.choice(prior.cameras, 2, replace=False)
        seconds = float(rng.normal(0, 300))
        found = prior.log_ratio([Crop("q", camera=a, time=1e9)], [Crop("g", camera=b, time=1e9 + seconds)])
        assert found[0, 0] == pytest.approx(slow.log_ratio(crops, a, b, seconds, prior.bandwidth), abs=2e-4)


def test_planted_transitions_are_found(prior: TransitionPrior) -> None:
    """Half of 80 people need a minute from c0 to c1, the others as long back."""
    seconds, ratio = prior.curve("c0", "c1")
    for hop in (HOP, -HOP):
        near = np.abs(seconds - hop) < 40
        assert abs(seconds[near][ratio[near].argmax()] - hop) < 6
        assert ratio[near].max() > 5
    assert ratio[np.abs(seconds - 2 * HOP) < 10].max() < 1
    assert prior.curve("c0", "c2")[1][np.abs(seconds - 2 * HOP) < 5].min() > 5
    assert prior.people[0, 1] == 80


def test_the_ranking_of_other_people_improves(prior: TransitionPrior) -> None:
    weighted = prior.weighted(*halves(embedded(walkers(40, 1, first=200), 0.9, 1)))
    query, gallery = halves(embedded(walkers(40, 2, first=300), 0.9, 2))
    before = evaluate(query, gallery).metrics["mAP"]
    after = evaluate_distances(weighted.blocks(query, gallery), query.crops, gallery.crops).metrics["mAP"]
    assert before < 0.5
    assert after > before + 0.2


def test_times_that_say_nothing_are_given_no_weight() -> None:
    """Learnt from people who come by anew in each camera, whenever they like."""
    rng = np.random.default_rng(0)
    prior = TransitionPrior.fit([replace(c, time=float(rng.uniform(0, 3000))) for c in walkers(80, 0)])
    assert np.abs(prior.log_ratios).mean() < 0.2
    query, gallery = halves(embedded(walkers(40, 1), 0.05))
    assert evaluate(query, gallery).metrics["mAP"] == 1
    assert prior.weighted(query, gallery).weight == 0


def test_the_weight_is_the_best_of_its_grid_with_people_counting_alike() -> None:
    crops = walkers(12, 3)
    crops += [
        replace(c, path=f"{i}/{c.path}", time=(c.time or 0) + i) for i in range(4) for c in crops if c.pid == "0003"
    ]
    query, gallery = halves(embedded(crops, 0.8))
    visual = distance.pairwise(query.vectors, gallery.vectors)
    ratios = TransitionPrior.fit(walkers(80, 0)).log_ratio(query.crops, gallery.crops)
    weight = fit_weight(visual, ratios, query.crops, gallery.crops)

    def score(weight: float) -> float:
        combined = visual - np.float32(weight) * ratios
        people = sorted({c.pid for c in query.crops})
        rows = [[i for i, c in enumerate(query.crops) if c.pid == p] for p in people]
        each = [evaluate_distances(combined[r], [query.crops[i] for i in r], gallery.crops) for r in rows]
        return float(np.mean([r.metrics["mAP"] for r in each]))

    assert score(weight) >= max(score(w) for w in (0, weight / 4, weight / 2, weight * 2, weight * 4)) > score(0)


@pytest.mark.parametrize(
    "row",
    [
        Crop("time unknown", camera="c1"),
        Crop("camera unknown", time=60.0),
        Crop("camera never seen", camera="c9", time=60.0),
        Crop("camera that shares nobody", camera="alone", time=60.0),
        Crop("the same camera", camera="c0", time=60.0),
        Crop("longer than anybody took", camera="c1", time=1e7),
    ],
)
def test_what_was_not_learnt_speaks_neither_way(row: Crop) -> None:
    prior = TransitionPrior.fit([*walkers(30, 0), Crop("x", "x", "alone", 30.0)])
    query = Crop("q", camera="c0", time=0.0)
    assert prior.log_ratio([query], [row])[0, 0] == 0
    assert prior.log_ratio([row], [query])[0, 0] == 0


def test_little_is_learnt_from_few() -> None:
    """Times are as clear here as there; a ratio from two people is at most what two could show."""
    few, many = (TransitionPrior.fit(walkers(n, 0)).log_ratios.max() for n in (2, 300))
    assert 0 < few <= np.log(3)
    assert many > 2


def test_one_person_alone_teaches_nothing() -> None:
    prior = TransitionPrior.fit(walkers(1, 0))
    assert not prior.log_ratios.any()


@pytest.mark.parametrize("limit", [0.5, 2.00006])
def test_log_ratios_are_bounded(limit: float) -> None:
    ratios = TransitionPrior.fit(walkers(300, 0), limit).log_ratios
    assert limit - 1e-4 < ratios.max() <= limit
    assert ratios.min() >= -limit


def test_one_way_is_the_other_way_back(prior: TransitionPrior) -> None:
    crops = walkers(5, 1)
    ratios = prior.log_ratio(crops, crops)
    np.testing.assert_array_equal(ratios, ratios.T)


def test_shares_add_up() -> None:
    crops = wanderers(5)
    _, people = sightings(crops)
    pairs, axis = [(0, 1), (1, 3)], Axis.reaching(1200)
    pairs = sorted({(a, b) for person in people for a in person for b in person if a < b})
    same = _same(people, pairs, axis)
    both = [sum(a in p and b in p for p in people) for a, b in pairs]
    np.testing.assert_allclose(same.sum(axis=(0, 2)), both)
    np.testing.assert_allclose(_strangers(people, pairs, axis, same.sum(axis=0)).sum(axis=1), 1)


@pytest.mark.parametrize(("copies", "tolerance"), [(5, 1e-4), (50, 2e-3)])
def test_people_count_alike_however_often_they_were_cropped(
    prior: TransitionPrior, copies: int, tolerance: float
) -> None:
    """Up to 20 crops in a camera to the last digit; beyond, 20 of them stand for all."""
    crops = walkers(80, 0)
    again = [replace(c, path=f"{i}/{c.path}") for i in range(copies) for c in crops if c.pid in ("0007", "0008")]
    ratios = TransitionPrior.fit([*crops, *again]).log_ratios
    np.testing.assert_allclose(ratios, prior.log_ratios, rtol=0, atol=1.01 * tolerance)


def test_the_order_of_crops_does_not_matter(prior: TransitionPrior) -> None:
    crops = walkers(80, 0)
    shuffled = [crops[i] for i in np.random.default_rng(1).permutation(len(crops))]
    np.testing.assert_array_equal(TransitionPrior.fit(shuffled).log_ratios, prior.log_ratios)


def test_blocks_and_chosen_pairs_are_parts_of_the_whole(
    prior: TransitionPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, gallery = halves(embedded(walkers(9, 1), 0.5))
    weighted = replace(prior, weight=0.1, model="drawn", metric="squared")
    ratios = prior.log_ratio(query.crops, gallery.crops)
    wanted = distance.pairwise(query.vectors, gallery.vectors, "squared") + 0.1 * (prior.limit - ratios)
    monkeypatch.setattr(distance, "BLOCK_VALUES", 200)
    monkeypatch.setattr(distance, "BLOCK_ROWS", 4)
    monkeypatch.setattr("reid.spacetime.axis._CHUNK", 100)
    parts = list(weighted.blocks(query, gallery))
    assert len(parts) > 3
    found = np.concatenate([block for _, block in parts])
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert found.min() >= 0
    rows, columns = np.array([3, 0, 3, 26]), np.array([1, 1, 40, 2])
    np.testing.assert_array_equal(prior.between(query.crops, gallery.crops).at(rows, columns), ratios[rows, columns])


@pytest.mark.parametrize("alone", [False, True])
def test_evaluation_puts_the_prior_where_neighbours_are_looked_for(prior: TransitionPrior, alone: bool) -> None:
    query, gallery = halves(embedded(walkers(30, 1, first=200), 0.9, 1))
    weighted = replace(prior, weight=0.05, model="drawn", metric="squared")
    every = (*query.crops, *gallery.crops)
    penalty = 0.05 * (prior.limit - prior.log_ratio(every, every))

    class Whole:
        def block(self, rows: slice) -> np.ndarray:
            return penalty[rows].astype(np.float32)

        def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
            return penalty[rows, columns].astype(np.float32)

    settings = KReciprocal(6, 3, alone=alone)
    wanted = k_reciprocal(query.vectors, gallery.vectors, settings, Whole())
    found = np.concatenate([block for _, block in evaluation.distances(query, gallery, settings, prior=weighted)()])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    report = evaluate(query, gallery, reranking=settings, prior=weighted)
    assert report.metrics == evaluate_distances(found, query.crops, gallery.crops).metrics
    assert report.reranking == f"{settings} on distances with a {weighted}"
    only = evaluate(query, gallery, prior=weighted)
    blocks = weighted.blocks(query, gallery)
    assert only.metrics == evaluate_distances(blocks, query.crops, gallery.crops).metrics
    assert only.reranking == "a space-time prior of 80 people (weight 0.05, squared distances)"


def test_a_report_says_when_the_prior_knows_those_searched_for(prior: TransitionPrior) -> None:
    query, gallery = halves(embedded(walkers(30, 1, first=60), 0.9, 1))
    report = evaluate(query, gallery, prior=replace(prior, weight=0.05, model="drawn"))
    assert report.reranking.endswith("learnt from 20 of the people searched for, so that figures are too good")


def test_the_plot_shows_each_pair_of_cameras_once_each_way(prior: TransitionPrior) -> None:
    crops = [*walkers(60, 0), Crop("x", "x", "<alone & far>", 30.0)]
    drawn = ElementTree.fromstring(plot.svg(TransitionPrior.fit(crops)))
    titles = [t.text or "" for t in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 4 * 3
    assert titles.count("nobody was seen by both") == 6
    (there,) = [t for t in titles if t.startswith("c0 → c1: 60 people")]
    assert re.search(r"after (5[5-9] s|1\.[01] min) one person is [\d.]+ times as likely as two", there)
    assert any(
        "<alone & far>".startswith((t.text or "-").rstrip("…")) for t in drawn.iter("{http://www.w3.org/2000/svg}text")
    )


def test_axis_is_even_near_zero_and_long_far_out() -> None:
    axis = Axis.reaching(86400)
    seconds = axis.seconds(np.arange(len(axis)))
    np.testing.assert_array_equal(axis.bins(seconds), np.arange(len(axis)))
    np.testing.assert_allclose(seconds, -seconds[::-1])
    assert 0 < axis.bins(np.array([-86400.0]))[0] < axis.bins(np.array([86400.0]))[0] < len(axis) - 1
    assert np.diff(seconds).min() < 0.8
    assert np.diff(seconds)[-1] == pytest.approx(0.025 * 86400, rel=0.1)


def test_a_prior_survives_a_file(prior: TransitionPrior, tmp_path: Path) -> None:
    weighted = replace(prior, weight=0.07, model="m", metric="squared")
    weighted.save(tmp_path / "prior.json")
    back = TransitionPrior.load(tmp_path / "prior.json")
    np.testing.assert_array_equal(back.log_ratios, prior.log_ratios)
    np.testing.assert_array_equal(back.people, prior.people)
    assert len(back.learnt_from) == 80
    for name in ("cameras", "axis", "bandwidth", "limit", "weight", "model", "metric", "learnt_from"):
        assert getattr(back, name) == getattr(weighted, name)


BAD: dict[str, Callable[[dict], object]] = {
    "something else": lambda row: row.clear(),
    "another version": lambda row: row.update(version=2),
    "a value that is not a number": lambda row: row["pairs"][0]["log_ratio"].__setitem__(3, float("nan")),
    "a value beyond the limit": lambda row: row["pairs"][0]["log_ratio"].__setitem__(3, 50),
    "a value that is text": lambda row: row["pairs"][0]["log_ratio"].__setitem__(3, "much"),
    "too few values": lambda row: row["pairs"][0]["log_ratio"].pop(),
    "a camera unheard of": lambda row: row["pairs"][0].update({"to": "c7"}),
    "a camera twice": lambda row: row["cameras"].append("c0"),
    "a camera that is a number": lambda row: row["cameras"].append(7),
    "no bins": lambda row: row["axis"].update(half=0),
    "a huge axis": lambda row: row["axis"].update(half=10**12),
    "an axis with more to it": lambda row: row["axis"].update(other=1),
    "no limit": lambda row: row.update(limit=None),
    "a negative weight": lambda row: row.update(weight=-1),
    "an endless weight": lambda row: row.update(weight=float("inf")),
    "a weight that is not a number": lambda row: row.update(weight=float("nan")),
    "an unknown metric": lambda row: row.update(metric="manhattan"),
    "people that are numbers": lambda row: row.update(learnt_from=[1, 2]),
    "people that are no list": lambda row: row.update(learnt_from="0002"),
    "no people": lambda row: row.pop("learnt_from"),
    "no bandwidth": lambda row: row.pop("bandwidth"),
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_a_broken_file_is_refused(prior: TransitionPrior, tmp_path: Path, change: Callable[[dict], object]) -> None:
    path = tmp_path / "prior.json"
    prior.save(path)
    row = json.loads(path.read_text())
    change(row)
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match=r"prior\.json is not a readable prior .*; learn it again") as error:
        TransitionPrior.load(path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_json_or_is_not_there(tmp_path: Path) -> None:
    for content in (b"\xff\x00{", b"[1, 2]", b""):
        (tmp_path / "prior.json").write_bytes(content)
        with pytest.raises(DataError, match="not a readable prior"):
            TransitionPrior.load(tmp_path / "prior.json")
    with pytest.raises(DataError, match="does not exist"):
        TransitionPrior.load(tmp_path / "none.json")


def test_mistakes_are_explained(prior: TransitionPrior) -> None:
    query, gallery = halves(embedded(walkers(4, 0), 0.5))
    with pytest.raises(DataError, match="people seen by two cameras at known times: none of 1;"):
        TransitionPrior.fit([Crop("a", "1", "c0", 3.0), Crop("b", "1", "c1")])
    with pytest.raises(DataError, match="has no weight yet"):
        next(prior.blocks(query, gallery))
    with pytest.raises(ModelError, match="fitted for model other"):
        next(replace(prior, weight=0.1, model="other").blocks(query, gallery))
    weighted = replace(prior, weight=0.1, model="drawn")
    with pytest.raises(DataError, match="fitted for euclidean distances and re-ranking takes squared ones"):
        evaluate(query, gallery, reranking=KReciprocal(), prior=weighted)
    with pytest.raises(ModelError, match="fitted for model other"):
        evaluate(query, gallery, reranking=KReciprocal(), prior=replace(weighted, model="other", metric="squared"))
    with pytest.raises(DataError, match="no camera 'c9'; it knows c0, c1, c2"):
        prior.curve("c0", "c9")
    with pytest.raises(DataError, match="give at least one of each"):
        PaperPrior.fit([Crop("a")])
    with pytest.raises(ShapeError, match="limit"):
        TransitionPrior.fit(walkers(4, 0), limit=0)


@pytest.mark.parametrize("reranking", [None, KReciprocal()])
@pytest.mark.parametrize("side", [0, 1])
def test_a_prior_that_can_say_nothing_is_refused(
    prior: TransitionPrior, reranking: KReciprocal | None, side: int
) -> None:
    weighted = replace(prior, weight=0.1, model="drawn", metric="squared")
    for changed, said in (
        ({"camera": "1"}, r"knows none of these cameras \(1\), it knows c0, c1, c2"),
        ({"time": None}, "none of 8 crops has both"),
        ({"camera": None}, "none of 8 crops has both"),
    ):
        sets = list(halves(embedded(walkers(4, 0), 0.5)))[::-1]
        sets = [sets[0][:8], sets[1][:8]]
        crops = tuple(replace(c, **changed) for c in sets[side].crops)
        sets[side] = Embeddings(sets[side].vectors, crops, "drawn")
        with pytest.raises(DataError, match=said):
            evaluate(sets[0], sets[1], reranking=reranking, prior=weighted)


@pytest.mark.parametrize("back", [0.5, 0.35])
def test_clocks_are_found(back: float) -> None:
    """Four clocks, 250 people, a twentieth of whom come back much later."""
    planted = {"c0": 0.0, "c1": 3600.0, "c2": -1234.5, "c3": 17.0}
    rng = np.random.default_rng(3)
    crops = []
    for crop in walkers(250, 4, 4, back):
        late = float(rng.uniform(0, 9000)) if int(str(crop.pid)) % 20 == 0 else 0.0
        crops.append(replace(crop, time=(crop.time or 0) + planted[str(crop.camera)] + late))
    found = estimate_offsets(crops)
    assert found.keys() == planted.keys()
    assert found["c0"] == 0
    for camera, seconds in planted.items():
        assert found[camera] == pytest.approx(seconds, abs=15)  # people need 60 seconds to the next camera


def test_clocks_that_nobody_joins() -> None:
    crops = [Crop("a", "1", "c0", 1.0), Crop("b", "1", "c1", 2.0), Crop("c", "2", "c2", 1.0), Crop("d", "2", "c3", 1.0)]
    with pytest.raises(DataError, match="no chain of people joins camera c2, camera c3 to camera c0"):
        estimate_offsets(crops)
    with pytest.raises(DataError, match="clocks cannot be compared"):
        estimate_offsets([Crop("a", "1", "c0")])
    assert estimate_offsets(crops[:1]) == {"c0": 0.0}
    assert estimate_offsets(crops[:2]) == {"c0": 0.0, "c1": 1.0}


def test_pauses_between_recordings_are_found() -> None:
    """Three cameras, each stopped once, one of them for long; a tenth of the people comes back much later.

    What is found is off by no more than people take, 15 seconds from each camera to the next.
    """
    rng = np.random.default_rng(5)
    stops = {"c0": (375.0, 0.0, 40.0), "c1": (300.0, 20.0, 90.0), "c2": (475.0, -30.0, 2500.0)}
    crops, names = [], []
    for crop in walkers(400, 6):
        late = float(rng.uniform(0, 700)) if int(str(crop.pid)) % 10 == 0 else 0.0
        at, started, pause = stops[str(crop.camera)]
        real = (crop.time or 0) / 4 + late  # a quarter of a minute from one camera to the next
        second = real > at
        crops.append(replace(crop, time=real - started - (pause if second else 0)))
        names.append(f"{crop.camera} {1 + second}")
    found = align_recordings(crops, names)
    assert list(found) == sorted(set(names))
    assert found["c0 1"] == 0
    for camera, (_, started, pause) in stops.items():
        assert found[f"{camera} 1"] == pytest.approx(started, abs=30)
        assert found[f"{camera} 2"] == pytest.approx(started + pause, abs=30)


def test_the_shifts_are_a_minimum() -> None:
    crops = wanderers(2, 40)
    names = [str(c.camera) for c in crops]
    found = align_recordings(crops, names)

    def cost(shifts: dict[str, float]) -> float:
        total = 0.0
        for pid in {c.pid for c in crops}:
            own = {
                n: np.median([c.time for c in crops if c.pid == pid and c.camera == n])
                for n in shifts
                if any(c.pid == pid and c.camera == n for c in crops)
            }
            for a in own:
                for b in own:
                    if a < b:
                        total += np.log1p(((own[b] + shifts[b] - own[a] - shifts[a]) / 30) ** 2)
        return total

    best = cost(found)
    for name in list(found)[1:]:
        assert cost(found | {name: found[name] + 2}) > best < cost(found | {name: found[name] - 2})


def test_recordings_that_cannot_be_aligned() -> None:
    crops = [Crop("a", "1", "c0", 1.0), Crop("b", "1", "c1", 2.0), Crop("c", "2", "c1", 5.0)]
    with pytest.raises(DataError, match="no chain of people joins recording z to recording x"):
        align_recordings(crops, ["x", "y", "z"])
    with pytest.raises(DataError, match="2 names of recordings for 3 crops"):
        align_recordings(crops, ["x", "y"])
    with pytest.raises(DataError, match="recordings cannot be compared"):
        align_recordings([Crop("a", "1", "c0")], ["x"])
    assert align_recordings(crops[:1], ["x"]) == {"x": 0.0}
    assert align_recordings(crops[:2], ["x", "y"]) == pytest.approx({"x": 0.0, "y": -1.0})
