"""How many people are there: against plain loops, SciPy and scikit-learn, and on drawn people."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from reid import data, files
from reid.cluster import agreement, average_linkage, cluster, dbscan, points_of, silhouette
from reid.cluster.identities import _by_size
from reid.cluster.page import sheet
from reid.errors import DataError, ModelError
from reid.rerank import KReciprocal, k_reciprocal, similar_pairs
from reid.rerank.encoding import neighbours
from reid.spacetime import TransitionPrior
from reid.street import draw_street
from reid.types import Crop, Embeddings
from tests.conftest import Run
from tests.reference import clustering as reference
from tests.test_report import Page


def drawn(people: int, crops: int = 8, seed: int = 0, scale: float = 0.35, dim: int = 24) -> Embeddings:
    """People around centres of their own, in no order, every crop at a moment of its own."""
    centres = np.random.default_rng(5).normal(size=(200, dim))
    rng = np.random.default_rng(seed)
    who = rng.permutation(np.repeat(np.arange(people), crops))
    vectors = centres[who] + rng.normal(scale=scale, size=(len(who), dim))
    rows = (Crop(f"{i:04}.jpg", f"p{p}", f"c{i % 3}", float(i)) for i, p in enumerate(who))
    return Embeddings(vectors.astype(np.float32), tuple(rows), "drawn")


def scattered(seed: int, n: int, forbidden: float) -> tuple[np.ndarray, sparse.csr_array, np.ndarray, sparse.csr_array]:
    """Distances without ties, half of them 1, and pairs apart; each dense and as the sparse matrix clustering takes."""
    rng = np.random.default_rng(seed)
    upper = np.triu(np.where(rng.random((n, n)) < 0.5, rng.random((n, n)), 1), 1)
    distances = upper + upper.T
    apart = np.triu(rng.random((n, n)) < forbidden, 1)
    apart = apart | apart.T
    alike = 1 - distances
    np.fill_diagonal(alike, 0)
    return distances, sparse.csr_array(alike), apart, sparse.csr_array(apart)


CASES = (
    st.integers(0, 10_000),
    st.integers(1, 14),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.sampled_from([0.2, 0.5, 0.8]),
)


@given(*CASES)
@settings(max_examples=150, deadline=None)
def test_linkage_equals_one_join_at_a_time(seed: int, n: int, forbidden: float, within: float) -> None:
    distances, alike, apart, pairs = scattered(seed, n, forbidden)
    labels = average_linkage(alike, pairs, within)
    assert reference.groups(labels.tolist()) == reference.average_linkage(distances, apart, within)


@pytest.mark.parametrize("within", [0.3, 0.6, 0.9])
def test_linkage_without_constraints_equals_scipy(within: float) -> None:
    made = drawn(12)
    alike = similar_pairs(made.vectors, KReciprocal(8, 2), least=0)
    dense = 1 - alike.toarray().astype(float)
    np.fill_diagonal(dense, 0)
    theirs = fcluster(linkage(squareform(dense, checks=False), "average"), within, "distance")
    ours = average_linkage(alike, sparse.csr_array(alike.shape, dtype=bool), within)
    assert reference.groups(ours.tolist()) == reference.groups(theirs.tolist())


@given(*CASES, st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_dbscan_equals_plain_loops(seed: int, n: int, forbidden: float, within: float, least: int) -> None:
    distances, alike, apart, pairs = scattered(seed, n, forbidden)
    labels = dbscan(alike, pairs, within, least)
    assert reference.groups(labels.tolist()) == reference.dbscan(distances, apart, within, least)[0]


@given(st.integers(0, 10_000), st.integers(1, 30), st.sampled_from([0.1, 0.3, 0.6]), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_dbscan_without_constraints_is_scikit_learns(seed: int, n: int, within: float, least: int) -> None:
    from sklearn.cluster import DBSCAN

    distances, alike, _, pairs = scattered(seed, n, 0)
    theirs = DBSCAN(eps=within, min_samples=least, metric="precomputed").fit(distances)
    labels = dbscan(alike, pairs, within, least)
    core = theirs.core_sample_indices_
    assert reference.groups(labels[core].tolist()) == reference.groups(theirs.labels_[core].tolist())
    np.testing.assert_array_equal(labels < 0, theirs.labels_ < 0)
    for i in np.setdiff1d(np.flatnonzero(labels >= 0), core):  # a border point is with a core within reach
        assert any(labels[j] == labels[i] and distances[i, j] <= within for j in core)


@pytest.mark.parametrize("k1", [5, 9, 20])
def test_similar_pairs_are_the_jaccard_distances_of_re_ranking(k1: int) -> None:
    made = drawn(10)
    whole = k_reciprocal(made.vectors[:1], made.vectors[1:], KReciprocal(k1, 3, weight=0))
    found = similar_pairs(made.vectors, KReciprocal(k1, 3), least=0)
    np.testing.assert_allclose(1 - found.toarray()[0, 1:], whole[0], atol=2e-6)
    np.testing.assert_array_equal(found.toarray(), found.toarray().T)
    assert not found.diagonal().any()
    near = neighbours(made.vectors, 40, None)
    again = similar_pairs(made.vectors, KReciprocal(k1, 3), near=near, least=0)
    np.testing.assert_allclose(again.toarray(), found.toarray(), atol=1e-6)
    some = similar_pairs(made.vectors, KReciprocal(k1, 3), least=0.3).toarray()
    np.testing.assert_array_equal(some, np.where(found.toarray() >= 0.3, found.toarray(), 0))


def test_silhouette_is_scikit_learns_on_squared_distances() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 6)).astype(np.float32)
    labels = rng.integers(0, 5, 40)
    labels[:3] = [7, 8, 8]
    from sklearn.metrics import silhouette_score

    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    squared = ((unit[:, None] - unit) ** 2).sum(axis=2)

    assert silhouette(vectors, labels) == pytest.approx(
        silhouette_score(squared, labels, metric="precomputed"), abs=1e-5
    )
    renamed = np.where(labels == 7, -1, labels)
    assert silhouette(vectors, renamed) == pytest.approx(silhouette(vectors, labels))


def test_silhouette_across_cameras_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(50, 6)).astype(np.float32)
    labels, cameras = rng.integers(-1, 6, 50), rng.integers(-1, 3, 50)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    total = 0.0
    for i in np.flatnonzero(cameras >= 0):
        elsewhere = (cameras >= 0) & (cameras != cameras[i])
        groups = {label: elsewhere & (labels == label) for label in set(labels[elsewhere]) - {-1}}
        groups |= {-2 - j: np.arange(50) == j for j in np.flatnonzero(elsewhere & (labels == -1))}
        apart = {label: float(((unit[i] - unit[here]) ** 2).sum(axis=1).mean()) for label, here in groups.items()}
        if labels[i] in apart:
            own = apart.pop(labels[i])
            other = min(apart.values())
            total += (other - own) / max(other, own)
    across = total / (cameras >= 0).sum()
    assert silhouette(vectors, labels, cameras) == pytest.approx((silhouette(vectors, labels) + across) / 2, abs=1e-5)
    assert silhouette(vectors, labels, np.minimum(cameras, 0)) == silhouette(vectors, labels)  # one camera


def test_what_one_camera_saw_is_not_a_person() -> None:
    """Everybody looks otherwise to either camera: five crops of one stand apart best, and ten of both are a person."""
    rng = np.random.default_rng(2)
    centres, looks = rng.normal(size=(30, 32)), rng.normal(scale=0.6, size=(30, 2, 32))
    seen = [(p, c) for p in range(30) for c in range(2) for _ in range(5)]
    vectors = [centres[p] + looks[p, c] + rng.normal(scale=0.2, size=32) for p, c in seen]
    crops = tuple(Crop(f"{i}.jpg", f"p{p}", f"c{c}") for i, (p, c) in enumerate(seen))
    made = Embeddings(np.array(vectors, np.float32), crops, "drawn")
    blind = Embeddings(made.vectors, tuple(replace(c, camera=None) for c in crops), "drawn")
    assert [agreement(cluster(one).labels, crops).clusters for one in (made, blind)] == [30, 60]


LABELS = st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 4)), min_size=1, max_size=25)


@given(LABELS)
@settings(max_examples=200, deadline=None)
def test_agreement_equals_plain_loops(rows: list[tuple[int, int]]) -> None:
    labels, people = [label for label, _ in rows], [str(p) for _, p in rows]
    crops = [Crop(f"{i}", p) for i, p in enumerate(people)]
    seen = agreement(np.array(labels), crops)
    assert (seen.purity, seen.precision, seen.recall) == pytest.approx(reference.figures(labels, people))
    assert seen.f <= max(seen.precision, seen.recall) + 1e-12
    unknown = [*crops, Crop("x"), Crop("y", role="distractor")]
    assert agreement(np.array([*labels, 0, 1]), unknown) == seen
    sizes = [len(group) for group in reference.groups(labels)]
    assert (seen.clusters, seen.alone) == (sum(s > 1 for s in sizes), sizes.count(1))


@given(st.lists(st.integers(-1, 5), max_size=30))
def test_labels_go_by_size(labels: list[int]) -> None:
    found = _by_size(np.array(labels, dtype=np.int64))
    as_sets = {g for g in reference.groups(labels) if len(g) > 1}
    assert {g for g in reference.groups(found.tolist()) if len(g) > 1} == as_sets
    sizes = np.bincount(found[found >= 0])
    assert (np.diff(sizes) <= 0).all()
    assert all((found == i).sum() == n > 1 for i, n in enumerate(sizes))


@pytest.mark.parametrize("method", ["linkage", "dbscan"])
@pytest.mark.parametrize("crops", [4, 12])
def test_finds_drawn_people(method: Any, crops: int) -> None:
    made = drawn(25, crops)
    found = cluster(made, method)
    seen = agreement(found.labels, made.crops)
    assert seen.f > 0.95
    assert abs(found.count - 25) <= 2
    nameless = Embeddings(made.vectors, tuple(replace(c, pid=None) for c in made.crops), "drawn")
    np.testing.assert_array_equal(cluster(nameless, method).labels, found.labels)


def test_order_of_crops_does_not_matter() -> None:
    made = drawn(12)
    order = np.random.default_rng(1).permutation(len(made))
    one, two = cluster(made).labels, cluster(made[order]).labels
    back = np.empty_like(two)
    back[order] = two
    assert reference.groups(one.tolist()) == reference.groups(back.tolist())


def test_a_tracklet_stays_together_and_is_one_point() -> None:
    made = drawn(20, 12, scale=1.0)
    rows: dict[str, list[int]] = {}
    for i, crop in enumerate(made.crops):
        rows.setdefault(str(crop.pid), []).append(i)
    name = {i: f"{pid}-{k // 4}" for pid, theirs in rows.items() for k, i in enumerate(theirs)}
    crops = tuple(replace(c, camera="a", tracklet=name[i]) for i, c in enumerate(made.crops))
    tracked = Embeddings(made.vectors, crops, "drawn")
    found = cluster(tracked)
    assert found.points == 60
    for tracklet in set(name.values()):
        assert len({int(found.labels[i]) for i, t in name.items() if t == tracklet}) == 1
    points = points_of(tracked)
    for i in range(60):
        np.testing.assert_allclose(points.vectors[i], made.vectors[points.of == i].mean(axis=0), atol=1e-5)
    assert agreement(found.labels, crops).f > agreement(cluster(made).labels, made.crops).f


def test_two_boxes_of_one_moment_are_two_people() -> None:
    made = drawn(1, 8, scale=0.05)
    crops = tuple(replace(c, camera="a", time=float(i // 2)) for i, c in enumerate(made.crops))
    twice = Embeddings(made.vectors, crops, "drawn")
    apart = points_of(twice).apart.toarray()
    assert [(i, j) for i, j in np.argwhere(apart) if i < j] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    for method in ("linkage", "dbscan"):
        strict = cluster(twice, method, cannot_link="strict", k1=6)  # type: ignore[arg-type]
        assert strict.apart == 4
        assert all(-1 < strict.labels[i] != strict.labels[i + 1] for i in range(0, 8, 2))
        for rule in ("off", "unless-alike"):  # so much alike that a detector has found one person twice
            loose = cluster(twice, method, cannot_link=rule, k1=6)  # type: ignore[arg-type]
            assert (loose.count, loose.apart) == (1, 0)


def test_what_is_apart_needs_a_camera_and_a_time_and_two_pictures() -> None:
    def apart(*crops: Crop) -> int:
        made = Embeddings(np.eye(len(crops), dtype=np.float32), crops, "drawn")
        return points_of(made).apart.nnz // 2

    one = Crop("1.jpg", None, "a", 1.0)
    assert apart(one, replace(one, path="2.jpg")) == 1
    assert apart(one, replace(one, path="2.jpg", tracklet="t")) == 1
    assert apart(one, one) == 0
    for other in ({"camera": "b"}, {"camera": None}, {"time": 2.0}, {"time": None}):
        assert apart(one, replace(one, path="2.jpg", **other)) == 0
    assert apart(*(replace(one, path=f"{i}.jpg") for i in range(5))) == 10


def test_a_prior_keeps_apart_who_cannot_have_been_there_in_time() -> None:
    rng = np.random.default_rng(0)
    crops = []
    for p in range(40):
        start = rng.uniform(0, 4000)
        for camera, delay in (("a", 0.0), ("b", 60.0)):
            crops += [
                Crop(f"{p}{camera}{i}", f"p{p}", camera, start + delay + i + rng.uniform(-3, 3)) for i in range(4)
            ]
    prior = replace(TransitionPrior.fit(crops), weight=2.0, model="drawn", metric="squared")
    made = Embeddings(rng.normal(size=(len(crops), 8)).astype(np.float32) / 20, tuple(crops), "drawn")
    with_prior, without = (agreement(cluster(made, prior=p, k1=8).labels, made.crops).f for p in (prior, None))
    assert with_prior > without
    with pytest.raises(ModelError, match="fitted for model"):
        cluster(made, prior=replace(prior, model="other"))
    elsewhere = Embeddings(made.vectors, tuple(replace(c, camera="1") for c in made.crops), "drawn")
    with pytest.raises(DataError, match=r"none of these cameras \(1\), it knows a, b"):
        cluster(elsewhere, prior=prior)


def test_few_crops() -> None:
    made = drawn(1, 3)
    assert cluster(made[:0]).labels.shape == (0,)
    assert cluster(made[:1]).labels.tolist() == [-1]
    for method in ("linkage", "dbscan"):
        assert cluster(made[:2], method).labels.tolist() in ([0, 0], [-1, -1])  # type: ignore[arg-type]
    same = Embeddings(np.ones((6, 4), np.float32), made.crops * 2, "drawn")
    assert cluster(same).count == 1


def test_refusals() -> None:
    made = drawn(3)
    twice = tuple(replace(c, camera="a", time=1.0, tracklet="t") for c in made.crops[:2])
    cases: list[tuple[str, Callable[[], Any]]] = [
        ("it can be linkage, dbscan", lambda: cluster(made, "k-means")),  # type: ignore[arg-type]
        ("within is 1.0; it must be at least 0 and below 1$", lambda: cluster(made, within=1.0)),
        ("at least 0", lambda: cluster(made, within=-0.1)),
        ("k1 is 0; it must be at least 1$", lambda: cluster(made, k1=0)),
        (f"k1 is {len(made)} of {len(made)} crops or tracklets", lambda: cluster(made, k1=len(made))),
        ("unless-alike, strict, off", lambda: cluster(made, cannot_link="maybe")),  # type: ignore[arg-type]
        ("tracklet t has two crops", lambda: cluster(Embeddings(made.vectors[:2], twice, "drawn"))),
        ("nothing to measure", lambda: agreement(np.zeros(1, dtype=int), [Crop("a")])),
    ]
    for said, call in cases:
        with pytest.raises(DataError, match=said):
            call()
    loose = cluster(Embeddings(made.vectors[:2], twice, "drawn"), cannot_link="off")
    assert loose.labels.tolist() == [0, 0]


def test_command_on_a_street(run: Run, tmp_path: Path, model: Path) -> None:
    drawn_crops = draw_street(tmp_path / "street", people=6)
    out, html = tmp_path / "street" / "identities.csv", tmp_path / "sheet.html"
    code, said, err = run("cluster", tmp_path / "street" / "crops.csv", "-o", out, "--html", html, "--model", model)
    assert (code, err) == (0, "")
    assert "6 people are named: purity" in said
    again = data.read(out)
    assert [c.path for c in again] == [c.path for c in drawn_crops]
    assert [(c.camera, c.time, c.tracklet) for c in again] == [(c.camera, c.time, c.tracklet) for c in drawn_crops]
    assert [c.extra["known_as"] for c in again] == [c.pid for c in drawn_crops]
    page = Page(html.read_text())
    assert len(page.all("section")) >= 1
    assert "In truth 6 people" in page.text
    told = json.loads(run("cluster", tmp_path / "street" / "crops.csv", "--json", "--model", model)[1])
    identities = [c["identity"] for c in told["crops"]]
    assert [None if c.pid is None else int(c.pid[1:]) for c in again] == identities
    assert told["points"] < len(drawn_crops)
    code, said, _ = run("identify", tmp_path / "street" / "crops.csv", out, "--model", model)  # a gallery reads it back
    assert code == 0 or told["count"] == 0


def test_command_loses_no_name(run: Run, tmp_path: Path, model: Path) -> None:
    named, out = draw_street(tmp_path, people=4), tmp_path / "identities.csv"
    before = (tmp_path / "crops.csv").read_bytes()
    for source in (tmp_path / "crops.csv", tmp_path):
        code, _, err = run("cluster", source, "-o", tmp_path / "crops.csv", "--model", model)
        assert (code, "is what is read" in err) == (2, True)
    assert (tmp_path / "crops.csv").read_bytes() == before
    assert run("cluster", tmp_path / "crops.csv", "-o", out, "--model", model)[0] == 0
    assert run("cluster", out, "-o", tmp_path / "again.csv", "--model", model)[0] == 0
    assert run("cluster", out, "-o", tmp_path / "again.csv", "--model", model)[0] == 0  # over its own
    assert [c.extra["known_as"] for c in data.read(tmp_path / "again.csv")] == [c.pid for c in named]


def test_command_counts_one_crop(run: Run, tmp_path: Path) -> None:
    files.save(drawn(1)[:1], tmp_path / "e.npz")
    code, said, _ = run("cluster", tmp_path / "e.npz")
    assert (code, said.split(";")[0]) == (0, "0 identities among 1 crop")
    assert "1 person is named" in said


def test_command_refuses(run: Run, tmp_path: Path) -> None:
    files.save(drawn(3), tmp_path / "e.npz")
    for options, said in {
        ("--method", "k-means"): "it can be linkage, dbscan",
        ("--cannot-link", "maybe"): "unless-alike, strict, off",
        ("--within", "2"): "below 1",
        ("-o", str(tmp_path / "e.npz")): "does not end in .csv",
        ("--html", str(tmp_path / "e.npz")): "does not end in .html",
        ("--prior", str(tmp_path / "p.json")): "does not exist",
    }.items():
        code, _, err = run("cluster", tmp_path / "e.npz", *options)
        assert (code, said in err) == (2, True), err


def test_page_is_whole_bounded_and_escaped() -> None:
    made = drawn(4, 40)
    crops = tuple(replace(c, path=f"<{c.path}>", camera="<script>") for c in made.crops)
    made = Embeddings(made.vectors, crops, "drawn")
    found = cluster(made)
    labels = found.labels.copy()
    labels[:3] = -1
    found = replace(found, labels=labels)
    with warnings.catch_warnings():
        text = sheet(made, found, "<b>", seen=agreement(labels, made.crops))
    page = Page(text)
    assert not page.all("script")
    assert len(page.all("section")) == found.count + 1
    assert len(page.all("li", kind="right")) <= 24 * found.count
    assert "40 crops, 24 shown" in page.text or "39 crops, 24 shown" in page.text
    assert "Alone 3 crops" in page.text
    assert "In truth 4 people" in page.text
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    unnamed = Embeddings(made.vectors, tuple(replace(c, pid=None) for c in crops), "drawn")
    plain = Page(sheet(unnamed, found, "title"))
    assert "In truth" not in plain.text
    assert not plain.all("li", kind="right")
