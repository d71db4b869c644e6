from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from reid import metrics
from reid.distance import in_threads, pairwise
from reid.errors import DataError, ModelError, ShapeError
from reid.evaluation import (
    PROTOCOLS,
    evaluate,
    evaluate_distances,
    evaluate_halves,
    halves,
    hold_out,
    outcomes,
    pool_tracklets,
    query_and_gallery,
)
from reid.types import Crop, Embeddings
from tests.reference import ranking as slow
from tests.reference.published import case

PUBLISHED = json.loads((Path(__file__).parent / "reference" / "published.json").read_text())

queries = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), min_size=1, max_size=25)


@settings(max_examples=400, deadline=None)
@given(queries)
def test_hits_and_precisions_equal_a_plain_loop(rows: list[tuple[int, bool, bool]]) -> None:
    """With many ties, junk, and queries without match."""
    distances, correct, counted = (np.array(column) for column in zip(*rows, strict=True))
    found = metrics.hits(distances.astype(float), np.flatnonzero(correct & counted), np.flatnonzero(~counted))
    wanted = slow.hits(distances, correct, counted)
    assert found.tolist() == wanted
    if wanted:
        assert metrics.average_precision(found) == pytest.approx(slow.average_precision(wanted), abs=1e-12)
        trapezoid = slow.average_precision_trapezoid(wanted)
        assert metrics.average_precision_trapezoid(found) == pytest.approx(trapezoid, abs=1e-12)
        assert metrics.inverse_negative_penalty(found) == len(wanted) / (wanted[-1] + 1)


def test_plain_average_precision_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        distances, correct = rng.random(40), rng.random(40) < 0.2
        correct[0] = True
        found = metrics.hits(distances, np.flatnonzero(correct), np.empty(0, int))
        assert metrics.average_precision(found) == pytest.approx(
            average_precision_score(correct, -distances), abs=1e-12
        )


def made(rows: list[tuple[float, Crop]], model: str = "m") -> Embeddings:
    return Embeddings(np.array([[x] for x, _ in rows], np.float32), tuple(c for _, c in rows), model)


def test_market_protocol_by_hand() -> None:
    """Same camera and junk are removed, distractors stay; worked out on paper."""
    query = made([(0, Crop("q1", "1", "a")), (0, Crop("q2", "9", "a"))])
    gallery = made(
        [
            (0.1, Crop("g1", "1", "a")),  # same person, same camera: removed
            (0.2, Crop("g2", None, "b", role="junk")),  # removed
            (0.3, Crop("g3", None, "b", role="distractor")),  # wrong
            (0.4, Crop("g4", "1", "b")),  # right, rank 2
            (0.5, Crop("g5", "2", "a")),  # wrong
            (0.6, Crop("g6", "1", "c")),  # right, rank 4
        ]
    )
    report = evaluate(query, gallery)
    assert (report.queries, report.skipped, report.gallery) == (1, 1, 5)
    assert report.metrics["rank-1"] == 0
    assert report.metrics["rank-5"] == 1
    assert report.metrics["mAP"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert report.metrics["mINP"] == pytest.approx(2 / 4)
    other = evaluate(query, gallery, "cross-camera")
    assert other.metrics["mAP"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_evaluation_refuses_what_makes_no_sense(people: Embeddings) -> None:
    with pytest.raises(ModelError, match="different models"):
        evaluate(people, Embeddings(people.vectors, people.crops, "other"))
    with pytest.raises(DataError, match="market1501, cuhk03, cross-camera, diagonal"):
        evaluate(people, people, "markt")
    strangers = Embeddings(people.vectors, tuple(Crop(c.path, "nobody") for c in people.crops), people.model)
    with pytest.raises(DataError, match=r"such as nobody\) and in the gallery \(such as 0\)"):
        evaluate(strangers, people)


def test_a_crop_is_not_searched_for_itself(people: Embeddings) -> None:
    assert evaluate(people, people, "market1501").metrics["rank-1"] < 1


def test_hold_out_keeps_people_apart(people: Embeddings) -> None:
    train, query, gallery = hold_out(people.crops, 4)
    held = {c.pid for c in query}
    assert held == {c.pid for c in gallery} == set(sorted({c.pid for c in people.crops if c.pid})[-4:])
    assert not held & {c.pid for c in train}
    assert len(query) == 4 * 3
    assert all(c.name == "0.jpg" for c in query)
    assert len(train) + len(query) + len(gallery) == len(people)


def random_case(seed: int) -> tuple[np.ndarray, list[Crop], list[Crop]]:
    """Few people, cameras and distances, so that ties, junk, distractors and queries without match all occur."""
    rng = np.random.default_rng(seed)
    roles = ["person"] * 8 + ["distractor", "junk"]

    def crops(count: int, name: str) -> list[Crop]:
        made = []
        for i in range(count):
            role = str(rng.choice(roles)) if name == "g" else "person"
            pid = str(rng.integers(4)) if role == "person" and rng.random() < 0.9 else None
            camera = str(rng.integers(3)) if rng.random() < 0.9 else None
            same = name == "g" and rng.random() < 0.05
            made.append(Crop("q0" if same else f"{name}{i}", pid, camera, role=role))  # type: ignore[arg-type]
        return made

    query, gallery = crops(int(rng.integers(1, 8)), "q"), crops(int(rng.integers(1, 30)), "g")
    return rng.integers(0, 6, (len(query), len(gallery))).astype(np.float32), query, gallery


def kept(protocol: str, q: Crop, g: Crop) -> bool:
    """The rules, in words: does this gallery row count for this query?"""
    if g.role == "junk" or g.path == q.path:
        return False
    same_camera = q.camera is not None and q.camera == g.camera
    same_person = q.pid is not None and q.pid == g.pid
    market = not (same_person and same_camera)
    return {"market1501": market, "cuhk03": market, "cross-camera": not same_camera, "diagonal": True}[protocol]


UNMATCHED = "nobody is|everybody is|all crops are|own picture is all"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_equals_a_plain_loop(protocol: str) -> None:
    compared = 0
    for seed in range(300):
        distances, query, gallery = random_case(seed)
        rows = []
        for i, q in enumerate(query):
            counted = np.array([kept(protocol, q, g) for g in gallery])
            correct = np.array([q.pid is not None and q.pid == g.pid for g in gallery])
            rows.append(slow.hits(distances[i], correct, counted))
        valid = [r for r in rows if r]
        blind = protocol == "cross-camera" and not any(q.camera for q in query)
        if not valid or blind:
            with pytest.raises(DataError, match="no query names its camera" if blind else UNMATCHED):
                evaluate_distances(distances, query, gallery, protocol)
            continue
        report = evaluate_distances(distances, query, gallery, protocol)
        assert (report.queries, report.skipped) == (len(valid), len(rows) - len(valid))
        wanted = {f"rank-{r}": np.mean([h[0] < r for h in valid]) for r in (1, 5, 10)}
        wanted["mAP"] = np.mean([slow.average_precision(h) for h in valid])
        wanted["mAP-trapezoid"] = np.mean([slow.average_precision_trapezoid(h) for h in valid])
        wanted["mINP"] = np.mean([len(h) / (h[-1] + 1) for h in valid])
        if PROTOCOLS[protocol].single_shot:  # its CMC has a test of its own
            wanted |= {name: value for name, value in report.metrics.items() if name.startswith("rank")}
        assert report.metrics == pytest.approx(wanted, abs=1e-9)
        compared += 1
    assert compared > 200


def test_blocks_and_matrix_agree(people: Embeddings) -> None:
    whole = pairwise(people.vectors, people.vectors)
    from_matrix = evaluate_distances(whole, people.crops, people.crops)
    assert from_matrix == evaluate(people, people)
    parts = ((slice(i, i + 7), whole[i : i + 7]) for i in range(0, len(whole), 7))
    assert evaluate_distances(parts, people.crops, people.crops) == from_matrix


def test_distances_that_do_not_fit_are_refused(people: Embeddings) -> None:
    with pytest.raises(ShapeError, match=r"\(3, 4\), for 108 queries"):
        evaluate_distances(np.zeros((3, 4)), people.crops, people.crops)
    broken = pairwise(people.vectors, people.vectors)
    broken[5, 7] = np.nan
    with pytest.raises(ShapeError, match=r"query 5 \(p0/c1/2\.jpg\)"):
        evaluate_distances(broken, people.crops, people.crops)


def test_intervals_hold_the_figure_and_narrow_with_more_people(people: Embeddings) -> None:
    report = evaluate(people, people, intervals=True)
    for name, (low, high) in report.intervals.items():
        assert low <= report.metrics[name] <= high
    values = np.random.default_rng(0).random((400, 1))
    wide, narrow = (metrics.bootstrap(values, np.arange(400) % n)[0] for n in (10, 400))
    assert np.ptp(narrow) < 0.1
    assert np.ptp(wide) > 0


def test_the_interval_is_as_wide_as_theory_says() -> None:
    """Independent values, one a person: a mean of n has standard error s/√n."""
    values = np.random.default_rng(1).normal(size=(500, 1))
    low, high = metrics.bootstrap(values, np.arange(500), draws=4000)[0]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(500), rel=0.1)


def test_a_persons_queries_are_drawn_together() -> None:
    """Ten copies of each person's one query say no more than one does."""
    values = np.random.default_rng(2).normal(size=(60, 1))
    once = metrics.bootstrap(values, np.arange(60), draws=4000)
    copies = metrics.bootstrap(np.repeat(values, 10, axis=0), np.repeat(np.arange(60), 10), draws=4000)
    np.testing.assert_allclose(copies, once, atol=1e-9)


def test_outcomes_name_the_queries() -> None:
    query = [Crop("q1", "1", "a"), Crop("q2", "2", "a"), Crop("q3", "1", "b")]
    found = outcomes(
        np.array([[0.1, 0.2], [0.1, 0.2], [0.2, 0.1]]), query, [Crop("g1", "1", "a"), Crop("g2", "3", "b")]
    )
    assert found.counted.tolist() == [2]
    assert found.skipped.tolist() == [0, 1]
    assert found.first.tolist() == [1]


def test_queries_and_gallery_of_a_data_set(people: Embeddings) -> None:
    def split(**named: str) -> list[Crop]:
        return [Crop(c.path, c.pid, c.camera, extra={"split": named[f"c{c.camera}"]}) for c in people.crops]

    query, gallery = query_and_gallery(split(c0="train", c1="query", c2="gallery"))
    assert {c.camera for c in query} == {"1"}
    assert {c.camera for c in gallery} == {"2"}
    query, gallery = query_and_gallery(split(c0="train", c1="query", c2="train"))
    assert {c.camera for c in gallery} == {"0", "2"}
    query, gallery = query_and_gallery(people.crops)
    assert (len(query), len(gallery)) == (36, 72)
    query, gallery = query_and_gallery(split(c0="train", c1="query", c2="gallery"), 2)
    assert len({c.pid for c in query}) == 2
    query, _ = query_and_gallery(split(c0="train", c1="test", c2="test"))
    assert len(query) == 36


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("query", "galery"), r"'galery', which looks like gallery \(it has galery, query\); write gallery"),
        (("query", "gallery", "galery"), "'galery', which looks like gallery"),
        (("Query", "Gallery"), "'Gallery', which looks like gallery"),
        (("query", "train "), "'train ', which looks like train"),
        (("query", "test"), r"query but no gallery \(it has query, test\)"),
        (("query", "train", "test"), r"query but no gallery \(it has query, test, train\)"),
        (("query",), "query but no gallery"),
        (("train", "gallery"), "gallery but no query"),
    ],
)
def test_splits_that_are_misspelt_or_half_there_are_refused(parts: tuple[str, ...], said: str) -> None:
    crops = [Crop(f"{i}.jpg", str(i % 3), str(i % 2), extra={"split": parts[i % len(parts)]}) for i in range(12)]
    with pytest.raises(DataError, match=said):
        query_and_gallery(crops)
    assert query_and_gallery(crops, 2)[0]


def test_any_rank_can_be_asked_for(people: Embeddings) -> None:
    assert evaluate(people, people, ranks=(1, 500)).metrics["rank-500"] == 1
    seen = outcomes(pairwise(people.vectors, people.vectors), people.crops, people.crops)
    with pytest.raises(ShapeError, match=r"ranks are \[60\], of outcomes up to rank 50"):
        seen.table([60])
    for ranks in ([0], [5, 1], [1, 1]):
        with pytest.raises(ShapeError, match="from 1 on"):
            seen.table(ranks)


def draw_single_shots(distances: np.ndarray, query: Crop, gallery: list[Crop], rng: np.random.Generator) -> int:
    """The rank of the right person when one crop of each person is drawn: CUHK03's protocol, once."""
    rows: dict[str, list[int]] = {}
    for i, g in enumerate(gallery):
        if kept("cuhk03", query, g):
            rows.setdefault(g.pid or f"unknown {i}", []).append(i)
    drawn = {pid: int(rng.choice(found)) for pid, found in rows.items()}
    mine = drawn.pop(query.pid or "")
    return sum((distances[i], i) < (distances[mine], mine) for i in drawn.values())


def test_single_shot_is_the_mean_of_random_draws() -> None:
    rng = np.random.default_rng(0)
    for seed in (1, 4, 6):
        distances, query, gallery = random_case(seed)
        found = outcomes(distances, query, gallery, "cuhk03")
        for row, i in enumerate(found.counted[:3]):
            ranks = np.array([draw_single_shots(distances[i], query[i], gallery, rng) for _ in range(4000)])
            drawn = [(ranks < r).mean() for r in range(1, 11)]
            np.testing.assert_allclose(found.within[row, :10], drawn, atol=0.03)


@pytest.mark.parametrize("seed", range(4))
def test_torchreids_and_triplet_reids_own_figures(seed: int) -> None:
    distances, *labels = case(seed)
    query_pids, gallery_pids, query_cameras, gallery_cameras = (x.tolist() for x in labels)
    roles = {-1: "junk", 0: "distractor"}
    query = [Crop(f"q{i}", str(p), str(c)) for i, (p, c) in enumerate(zip(query_pids, query_cameras, strict=True))]
    gallery = [
        Crop(f"g{i}", str(p) if p > 0 else None, str(c), role=roles.get(p, "person"))  # type: ignore[arg-type]
        for i, (p, c) in enumerate(zip(gallery_pids, gallery_cameras, strict=True))
    ]
    stored = PUBLISHED["results"][str(seed)]
    report = evaluate_distances(distances, query, gallery)
    for name, value in stored["torchreid"].items():
        assert report.metrics[name] == pytest.approx(value, abs=1e-6), name
    triplet = stored["triplet-reid"]
    assert report.queries == triplet["valid queries"]
    assert report.metrics["mAP"] == pytest.approx(triplet["mAP"], abs=1e-6)
    assert report.metrics["mAP-trapezoid"] == pytest.approx(triplet["mAP --use_market_ap"], abs=1e-6)
    assert report.metrics["rank-1"] * report.queries / len(query) == pytest.approx(triplet["rank-1"], abs=1e-6)
    people = [i for i, p in enumerate(gallery_pids) if p > 0]
    single = evaluate_distances(distances[:, people], query, [gallery[i] for i in people], "cuhk03", (1, 5, 10, 20))
    for name, value in stored["torchreid single-gallery-shot, mean of 400 runs"].items():
        assert single.metrics[name] == pytest.approx(value, abs=0.004), name


def test_halves_and_tracklets(people: Embeddings) -> None:
    query, gallery = halves(people.crops, seed=3)
    assert {c.camera for c in query} == {"0"}
    assert {c.camera for c in gallery} == {"1", "2"}
    assert len({c.pid for c in query}) == len({c.pid for c in gallery}) == 6
    with pytest.raises(DataError, match="halves need two"):
        halves(people.crops[:3], 0)
    crops = [Crop(c.path, c.pid, c.camera, tracklet=f"{c.pid}-{c.camera}") for c in people.crops[:-1]]
    pooled = pool_tracklets(Embeddings(people.vectors, (*crops, people.crops[-1]), "m"))
    assert len(pooled) == 12 * 3 + 1
    np.testing.assert_allclose(pooled.vectors[0], people.vectors[:3].mean(axis=0), atol=1e-6)
    assert pooled.crops[0] == crops[0]


def test_wide_galleries_are_measured_in_threads(people: Embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = evaluate(people, people)
    monkeypatch.setattr("reid.evaluation.WIDE", 1)
    assert evaluate(people, people) == alone


def test_threads_share_all_rows_and_pass_on_what_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid.distance._cores", lambda: 3)
    for rows in (list(range(n)) for n in (1, 2, 3, 10)):
        assert [row for share in in_threads(rows.__getitem__, len(rows)) for row in share] == rows
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda part: 1 // 0, 5)


@pytest.mark.parametrize("protocol", ["market1501", "cuhk03"])
def test_cmc_goes_to_any_rank(protocol: str) -> None:
    """The only match comes after 79 other people."""
    gallery = [Crop(f"g{i}", str(i), "b") for i in range(80)]
    ranks = (1, 50, 79, 80, 500)
    report = evaluate_distances(np.arange(80.0)[None], [Crop("q", "79", "a")], gallery, protocol, ranks)
    assert [report.metrics[f"rank-{r}"] for r in ranks] == [0, 0, 0, 1, 1]


def test_halves_are_used_both_ways(people: Embeddings) -> None:
    """The mean over the halves and over the directions, by hand."""
    rows = {c.path: i for i, c in enumerate(people.crops)}
    found = []
    for seed in range(2):
        a, b = ([rows[c.path] for c in side] for side in halves(people.crops, seed))
        matrix = pairwise(people.vectors, people.vectors)
        for q, g in ((a, b), (b, a)):
            crops = [people.crops[i] for i in q], [people.crops[i] for i in g]
            found.append(evaluate_distances(matrix[np.ix_(q, g)], *crops, "cuhk03"))
    report = evaluate_halves(people, 2)
    assert report.metrics == pytest.approx({n: np.mean([r.metrics[n] for r in found]) for n in report.metrics})
    assert report.queries == sum(r.queries for r in found)
    with pytest.raises(DataError, match="draw at least 1"):
        evaluate_halves(people, 0)
