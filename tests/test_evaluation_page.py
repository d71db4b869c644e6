from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reid import breakdown, charts
from reid.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Axis,
    Bars,
    Line,
    Mark,
    decades,
    heat_map,
    histogram,
    line_chart,
    linear,
)
from reid.distance import pairwise as distances_between
from reid.errors import ShapeError
from reid.evaluation import PROTOCOLS, Outcomes, evaluate_distances, outcomes
from reid.evaluation_charts import Roc
from reid.evaluation_page import Details, page
from reid.types import Crop, Embeddings, Ranking, Report
from tests.test_report import Page

UNIT = linear("x", 0, 1)


def points(svg: str, kind: str = "line") -> list[tuple[float, float]]:
    """Where the first path of a kind goes."""
    found = re.search(rf'<path class="{kind}" d="M([^"]*)"', svg)
    assert found
    return [(float(a), float(b)) for a, b in (step.split() for step in found[1].split("L"))]


def at(x: float, y: float) -> tuple[float, float]:
    """Where a point given in shares of the axes must land."""
    return pytest.approx(LEFT + (RIGHT - LEFT) * x, abs=0.051), pytest.approx(BOTTOM - (BOTTOM - TOP) * y, abs=0.051)


def test_points_land_where_they_must() -> None:
    svg = line_chart([Line(np.array([0, 0.25, 1]), np.array([0.5, 0.75, 1]))], UNIT, linear("y", 0.5, 1), "chart")
    assert points(svg) == [at(0, 0), at(0.25, 0.5), at(1, 1)]
    ranks = Axis("rank", 1, 100, [1, 10, 100], log=True)
    svg = line_chart([Line(np.array([1.0, 10, 100]), np.array([0, 0.3, 1]))], ranks, UNIT, "chart")
    assert points(svg) == [at(0, 0), at(0.5, 0.3), at(1, 1)]
    svg = line_chart([Line(np.array([1e-9, 1e-2, 1]), np.array([0, 0.3, 1]))], decades("", 1e-4, 1), UNIT, "chart")
    assert points(svg) == [at(0, 0), at(0.5, 0.3), at(1, 1)]  # what lies below the axis is at its end
    assert points(line_chart([], UNIT, UNIT, "chart", diagonal=True), "dashed") == [at(0, 0), at(1, 1)]


def test_marks_and_their_ranges_land_where_they_must() -> None:
    mark = Mark(0.5, 0.5, "half", 0.25, 0.75)
    svg = line_chart([Line(np.array([0, 1]), np.array([0, 1]), marks=[mark])], UNIT, UNIT, "chart")
    dot = re.search(r'<circle class="dot" cx="([\d.]+)" cy="([\d.]+)"', svg)
    spread = re.search(r'<path class="range" d="M([\d.]+) ([\d.]+)V([\d.]+)"', svg)
    assert dot
    assert spread
    assert (float(dot[1]), float(dot[2])) == at(0.5, 0.5)
    assert (float(spread[1]), float(spread[2])) == at(0.5, 0.25)
    assert (float(spread[1]), float(spread[3])) == at(0.5, 0.75)
    assert ">half</text>" in svg


@pytest.mark.parametrize("down", [1, -1])
def test_a_name_keeps_clear_of_every_line(down: int) -> None:
    """A rising or falling line alone leaves room to its lower or upper right; a second line takes that away."""
    steady = Line(np.array([0, 1]), np.array([0, 1])[::down], marks=[Mark(0.5, 0.5, "half")])
    other = Line(np.array([0.5, 0.9]), np.full(2, 0.5 - 0.05 * down))
    alone, both = (line_chart(lines, UNIT, UNIT, "chart") for lines in ([steady], [steady, other]))
    places = [
        re.search(r'<text class="named" x="[\d.]+" y="([\d.]+)" text-anchor="(\w+)"', svg) for svg in (alone, both)
    ]
    assert all(places)
    levels = [(float(place[1]) - (TOP + BOTTOM) / 2) * down > 0 for place in places if place]
    assert [place[2] for place in places if place] == ["start", "end"]
    assert levels == [True, False]


def test_bars_are_as_high_as_their_counts() -> None:
    svg = histogram(
        np.array([0, 0.5, 1]), [Bars("n", np.array([1, 3]), says=["one", "three"])], UNIT, linear("", 0, 4), ""
    )
    boxes = re.findall(r'<rect class="bar" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', svg)
    for (x, y, width, height), (left, value) in zip(boxes, [(0, 1), (0.5, 3)], strict=True):
        assert float(height) == pytest.approx((BOTTOM - TOP) * value / 4, abs=0.051)
        assert float(y) + float(height) == pytest.approx(BOTTOM, abs=0.11)
        assert LEFT + (RIGHT - LEFT) * left < float(x) < float(x) + float(width) < LEFT + (RIGHT - LEFT) * (left + 0.5)
    assert "<title>one</title>" in svg
    both = [Bars("low", np.array([1, 0])), Bars("high", np.array([0, 4]), "--different")]
    svg = histogram(np.array([0, 0.5, 1]), both, UNIT, linear("", 0, 4), "", (0.5, "middle"))
    assert points(svg, "area") == [at(0, 0), at(0, 0.25), at(0.5, 0.25), at(0.5, 0), at(1, 0)]
    assert points(svg, "dashed") == [at(0.5, 1), at(0.5, 0)]
    for word in ("low", "high", "middle"):
        assert f">{word}</text>" in svg


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_leaving_points_out_of_a_line_does_not_change_it(given: list[tuple[float, float]]) -> None:
    rough = [(round(x, 1), round(y, 1)) for x, y in given]  # many on one level
    xs, ys = (np.array(v) for v in zip(*rough, strict=True))
    kept = points(line_chart([Line(xs, ys)], UNIT, UNIT, ""))
    where = [(round(LEFT + (RIGHT - LEFT) * x, 1), round(BOTTOM - (BOTTOM - TOP) * y, 1)) for x, y in rough]

    def length(way: Sequence[tuple[float, float]]) -> float:
        return sum(float(np.hypot(a[0] - b[0], a[1] - b[1])) for a, b in pairwise(way))

    assert kept[0] == pytest.approx(where[0])
    assert kept[-1] == pytest.approx(where[-1])
    assert set(kept) <= set(where)
    assert length(kept) == pytest.approx(length(where))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_inside(low: float, size: float) -> None:
    axis = linear("", low, low + size)
    assert 2 <= len(axis.ticks) <= 6
    assert all(low - 1e-6 * size <= tick <= low + size * (1 + 1e-6) for tick in axis.ticks)
    assert (np.diff(axis.place(np.array(axis.ticks))) > 0).all()


def test_ticks() -> None:
    assert linear("", 0, 1).ticks == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert decades("", 1e-2, 1).ticks == pytest.approx([0.01, 0.1, 1])
    assert decades("", 1e-6, 1).ticks == pytest.approx([1e-6, 1e-4, 1e-2, 1])
    assert [charts.tick(v) for v in (-0.5, 1200, 0.1)] == ["−0.5", "1,200", "0.1"]


def test_every_point_can_be_hovered_and_strips_do_not_overlap() -> None:
    says = [f"point {i}" for i in range(5)]
    svg = line_chart([Line(np.linspace(0, 1, 5), np.linspace(0, 1, 5), says=says)], UNIT, UNIT, "")
    strips = [
        (float(x), float(w))
        for x, w in re.findall(r'<g class="hover"><rect x="([\d.]+)" y="\d+" width="([\d.]+)"', svg)
    ]
    assert re.findall("<title>(.*?)</title>", svg) == says
    for (a, width), (b, _) in pairwise(strips):
        assert a + width == pytest.approx(b, abs=0.11)
    dense = line_chart([Line(np.linspace(0, 1, 5000), np.zeros(5000), says=["x"] * 5000)], UNIT, UNIT, "")
    assert dense.count("<title>") < 120


def test_heat_map_says_what_its_colours_show() -> None:
    values = np.array([[0.5, 1.0], [np.nan, 0.75]])
    text = heat_map(["a", "<b>"], ["c", "d"], values, [["9", "1,000"], ["nothing", "7"]], "from", "mAP")
    read = Page(text)
    assert read.text == "mAP from c d a 50.0 9 100 1,000 <b> – nothing 75.0 7"
    assert [a["style"] for a in read.all("td") if "style" in a] == ["--heat: 0%", "--heat: 100%", "--heat: 50%"]
    assert [a.get("scope") for a in read.all("th")] == ["col"] * 3 + ["row"] * 2
    assert Page(heat_map(["a"], ["b"], np.array([[np.nan]]), [["none"]], "", "")).all("td", kind="none")


# The page


def measured(
    query: Sequence[Crop], gallery: Sequence[Crop], distances: np.ndarray, protocol: str = "market1501"
) -> tuple[Report, Outcomes, Details]:
    sets = (distances, query, gallery, protocol)
    fpr = np.array([0, 0, 0.001, 0.05, 0.4, 1])
    tpr = np.array([0, 0.2, 0.6, 0.95, 1, 1])
    at = [(0.1, 0.96, 1.2), (0.001, 0.6, 0.8)]
    roc = Roc(fpr, tpr, np.linspace(0, 2, 6), 0.05, 1.2, at, "12 pairs")
    found = breakdown.camera_pairs(*sets), roc, breakdown.spread(*sets), breakdown.nearest(*sets, k=4)
    return evaluate_distances(*sets, intervals=True), outcomes(*sets), Details(*found)


Evaluation = tuple[list[Crop], list[Crop], np.ndarray]


@pytest.fixture
def evaluation(people: Embeddings, tmp_path: Path) -> Evaluation:
    """Twelve people, of whom one is not in the gallery, with a distractor, junk, and a query of nobody known."""
    Image.new("RGB", (16, 32), "teal").save(tmp_path / "a.png")
    crops = [
        replace(c, path=str(tmp_path / "a.png") + (f"?{c.path}" if i % 50 else "")) for i, c in enumerate(people.crops)
    ]
    vectors = people.vectors
    asked = [i for i, c in enumerate(people.crops) if c.path.endswith("/0.jpg")]
    there = [i for i, c in enumerate(people.crops) if i not in asked and c.pid != "11"]
    query, gallery = [crops[i] for i in asked], [crops[i] for i in there]
    query[0], gallery[0] = replace(query[0], pid=None), replace(gallery[0], pid=None, role="distractor")
    gallery[1] = replace(gallery[1], pid=None, role="junk")
    return query, gallery, distances_between(vectors[asked], vectors[there])


def drawn(evaluation: Evaluation, title: str = "Title", facts: Sequence[tuple[str, str]] = ()) -> str:
    report, seen, details = measured(*evaluation)
    return page(title, report, seen, *evaluation[:2], facts, details)


def test_page_is_whole(evaluation: Evaluation) -> None:
    text = drawn(evaluation, facts=[("model", "osnet")])
    read = Page(text)
    assert [len(read.all(tag)) for tag in ("main", "h1", "footer", "nav")] == [1, 1, 1, 1]
    assert [a["id"] for a in read.all("div", kind="part")] == [
        "figures",
        "ranking",
        "verification",
        "cameras",
        "people",
        "queries",
    ]
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] or "" for t, a in read.tags if t in ("use", "a")]
    assert {link[1:] for link in links} <= set(ids)
    assert all(a["aria-label"] for a in read.all("svg", role="img"))
    assert len(read.all("svg", kind="chart")) == len(read.all("details")) - 1 == 6  # one names the skipped queries
    assert "--page: #f7f7f5" in text  # the sheet's style
    for words in ("model osnet", "Where to put the threshold", "personal data", "12 pairs", "equal error rate 5.0 %"):
        assert words in read.text


def test_page_asks_nothing_of_the_network(evaluation: Evaluation) -> None:
    text = drawn(evaluation)
    assert not re.search(r"https?:|src=|url\(|@import|<script|<iframe", text)
    assert all((a["href"] or "").startswith(("#", "data:")) for _, a in Page(text).tags if "href" in a)
    assert "default-src 'none'" in text


def test_numbers_are_the_reports(evaluation: Evaluation) -> None:
    report, seen, details = measured(*evaluation)
    read = Page(page("t", report, seen, *evaluation[:2], (), details))
    for name, value in report.metrics.items():
        low, high = report.intervals[name]
        heading = {"mAP-trapezoid": "mAP, trapezoid"}.get(name, name)
        assert f"{heading} {100 * value:.1f} % 95 % within {100 * low:.1f} – {100 * high:.1f}" in read.text
    assert f"{report.queries} queries in a gallery of {report.gallery}, protocol market1501." in read.text
    assert PROTOCOLS["market1501"].about[1:] in read.text
    pairs = details.cameras
    assert pairs is not None
    cells = [
        float(b) for b in re.findall(r"<b>([\d.]+)</b> <span>", page("t", report, seen, *evaluation[:2], (), details))
    ]
    expected = [
        np.column_stack([v, [each[[evaluation[0][i].camera == c for i in seen.counted]].mean() for c in "012"]])
        for v, each in ((pairs.mean_ap, seen.plain), (pairs.rank1, seen.within[:, 0]))
    ]
    np.testing.assert_allclose(cells, [100 * v for m in expected for v in m.ravel() if not np.isnan(v)], atol=0.051)
    curve = [f"{r} {100 * s:.2f} %" for r, s in enumerate(seen.within.mean(axis=0), 1)]
    assert all(row in read.text for row in curve)


def test_skipped_queries_are_counted_and_explained(evaluation: Evaluation) -> None:
    read = Page(drawn(evaluation))
    assert "4 queries were skipped" in read.text
    assert "3: the person is not in the gallery" in read.text
    assert "1: it is not known who the query shows" in read.text
    query, gallery, distances = evaluation
    kept = list(range(3, len(query) - 3))
    whole = Page(drawn(([query[i] for i in kept], gallery, distances[kept])))
    assert "Every query was counted" in whole.text


def test_a_query_seen_by_its_own_camera_alone_is_explained() -> None:
    query = [Crop("q", "1", "A"), Crop("r", "2", "A")]
    gallery = [Crop("a", "1", "B"), Crop("b", "2", "A")]
    read = Page(drawn((query, gallery, np.array([[0.1, 0.2], [0.1, 0.2]]))))
    assert "1 query was skipped" in read.text
    assert "1: the protocol takes out all that the gallery has of the person" in read.text


def test_the_worst_are_shown_worst_first_with_their_first_match() -> None:
    query = [Crop("q0", "0", "A"), Crop("q1", "1", "A"), Crop("q1b", "1", "A")]
    gallery = [Crop(f"d{i}", role="distractor", camera="B") for i in range(6)] + [
        Crop("g0", "0", "B"),
        Crop("g1", "1", "B"),
    ]
    distances = np.tile(np.linspace(0.1, 0.8, 8), (3, 1))
    distances[0, 6] = 0
    report, seen, details = measured(query, gallery, distances)
    assert seen.first.tolist() == [0, 7, 7]
    text = page("t", report, seen, query, gallery, (), details)
    read = Page(text)
    assert re.findall(r"<h3>Person (\d)</h3>", text) == ["1", "0"]  # one query a person
    case = re.search(r'<section id="q1">(.*?)</section>', text, re.S)
    assert case
    assert re.findall(r"rank </span>(\d+)<", case[1]) == ["1", "2", "3", "4", "8"]
    assert [a["class"] for a in Page(case[1]).all("li")] == ["wrong"] * 4 + ["right"]
    assert "first match at rank 8" in read.text
    table = re.search(r'<table class="plain people">.*?<tbody>(.*?)</tbody>', text, re.S)
    assert table
    rows = [Page(row).text for row in re.findall("<tr>.*?</tr>", table[1], re.S)]
    assert rows[0].startswith("1 12.5 % 0 of 2 8 ")
    assert rows[1].startswith("0 100.0 % 1 of 1 1 ")


def test_parts_without_data_are_left_out(evaluation: Evaluation) -> None:
    report, seen, _ = measured(*evaluation)
    read = Page(page("t", replace(report, intervals={}, reranking="k-reciprocal"), seen, *evaluation[:2]))
    assert [a["id"] for a in read.all("div", kind="part")] == ["figures", "ranking", "people"]
    assert [a["href"] for a in read.all("a")] == ["#figures", "#ranking", "#people"]
    assert "Re-ranked with k-reciprocal; compare with re-ranked figures only." in read.text
    assert "confidence interval" not in read.text
    assert "upright lines" not in read.text
    blind = [[replace(c, camera=None) for c in part] for part in evaluation[:2]]
    report, seen, details = measured(*blind, evaluation[2], "diagonal")
    assert "cameras" not in [
        a["id"] for a in Page(page("t", report, seen, *blind, (), details)).all("div", kind="part")
    ]


def test_similarities_can_be_shown(evaluation: Evaluation) -> None:
    query, gallery, distances = evaluation
    text = Page(drawn((query, gallery, distances - 9))).text
    assert "Distances are given above the lowest of them, −" in text


def test_single_shot_curves_are_those_of_the_report(evaluation: Evaluation) -> None:
    report, seen, details = measured(*evaluation, "cuhk03")
    read = Page(page("t", report, seen, *evaluation[:2], (), details))
    assert f"rank-1 {100 * report.metrics['rank-1']:.1f} %" in read.text
    assert f"1 {100 * report.metrics['rank-1']:.2f} %" in read.text
    assert "one gallery crop a person" in read.text


def test_perfect_separation_needs_no_det(evaluation: Evaluation) -> None:
    report, seen, details = measured(*evaluation)
    roc = Roc(np.array([0.0, 0, 1]), np.array([0.0, 1, 1]), np.array([0.0, 1, 2]), 0.0, 1.0)
    read = Page(page("t", report, seen, *evaluation[:2], (), replace(details, roc=roc)))
    assert "ROC" in read.text
    assert "DET" not in read.text


def test_report_outcomes_and_crops_must_belong_together(evaluation: Evaluation) -> None:
    report, seen, details = measured(*evaluation)
    query, gallery, _ = evaluation
    with pytest.raises(ShapeError, match="give those of one evaluation"):
        page("t", replace(report, queries=3), seen, query, gallery)
    with pytest.raises(ShapeError, match="give those of one evaluation"):
        page("t", report, seen, query[1:], gallery)
    assert details.nearest is not None
    few = Ranking(details.nearest.ids[1:], details.nearest.distances[1:])
    with pytest.raises(ShapeError, match="give each query one"):
        page("t", report, seen, query, gallery, (), Details(nearest=few))


def test_same_input_same_page(evaluation: Evaluation) -> None:
    assert drawn(evaluation) == drawn(evaluation)


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", "\" onload='x", "</style>", "$title ${x} $", "caf\udce9"]
)
def test_names_are_escaped(evaluation: Evaluation, evil: str) -> None:
    query, gallery, distances = evaluation

    def named(name: str) -> str:
        def one(crop: Crop) -> Crop:
            pid, camera = crop.pid and f"{name}{crop.pid}", f"{name}{crop.camera}"
            return replace(crop, path=f"nowhere/{name}{Path(crop.path).name}", pid=pid, camera=camera)

        return drawn(([one(c) for c in query], [one(c) for c in gallery], distances), name, [(name, name)])

    text, plain = named(evil), named("plain")
    assert [(t, sorted(a)) for t, a in Page(text).tags] == [(t, sorted(a)) for t, a in Page(plain).tags]
    assert evil.replace("\udce9", "\\udce9") in Page(text).text
    text.encode("utf-8")


def luminance(colour: str) -> float:
    full = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    straight = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(straight, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(scheme: str) -> None:
    """WCAG's 4.5 : 1, at both ends of the heat map's colours too."""
    colours: dict[str, str] = {}
    for name in ("colours.css", "page.css", "chart.css", "evaluation.css"):
        text = (
            resources.files("reid").joinpath("templates", name).read_text(encoding="utf-8").partition("@media print")[0]
        )
        light, _, dark = text.partition("@media (prefers-color-scheme: dark)")
        for part in [light, *([dark] if scheme == "dark" else [])]:
            colours |= dict(
                re.findall(r"(--[\w-]+): (#\w+)", part.partition("*, ::before")[0].partition("h3, table")[0])
            )
    lines = [(f"line-{i}", "page") for i in range(1, charts.COLOURS + 1)]
    words = [("ink", "hot"), ("ink", "card"), ("quiet", "page"), ("same", "page"), ("different", "page")]
    for front, back in words + lines:
        dim, bright = sorted(luminance(colours[f"--{name}"]) for name in (front, back))
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (front, back)
