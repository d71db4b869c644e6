"""Pictures: what is drawn, that it is safe, and what a mistake says."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid import charts
from reid.cli import main
from reid.errors import DataError
from reid.plot import curves, separation
from reid.plot.sheet import Sheet, picture
from reid.types import Crop, Embeddings
from tests.test_report import Page

Plot = Callable[..., tuple[int, str, str]]
EVIL = '<b>&"\udce9'


@pytest.fixture
def plot(capsys: pytest.CaptureFixture[str]) -> Plot:
    """Run `reid plot`: (exit code, standard output, standard error)."""

    def one(*arguments: object) -> tuple[int, str, str]:
        try:
            main(["plot", *map(str, arguments)])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return one


def trained(folder: Path, epochs: int = 6, every: int = 2, mean_ap: float = 0.5, **config: Any) -> Path:
    """A run folder as `reid train` leaves it."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"config": {"net": "osnet", **config}, "data": {"sets": [""]}}))
    rows = []
    for epoch in range(epochs):
        row = {"epoch": epoch, "step": 10 * (epoch + 1), "rate": 0.001 / (epoch + 1), "seconds": 20.0, "images/s": 99.5}
        row |= {"batch-hard": 1 / (epoch + 2), "active/batch-hard": 0.9 - epoch / 10}
        row |= {"distance/positive": 1.0, "distance/negative": 1.5 + epoch / 10, "norm": 12.0}
        if (epoch + 1) % every == 0:
            row |= {"mAP": mean_ap + epoch / 100, "rank-1": 0.8, "rank-5": 0.9, "mINP": 0.2}
        rows.append(row)
    (folder / curves.LOG).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def well_formed(svg: str) -> ET.Element:
    assert "var(" not in svg  # other programs than browsers have no variables
    assert "@media (prefers-color-scheme: dark)" in svg
    return ET.fromstring(svg)


def standalone(page: str) -> Page:
    """A page that runs and fetches nothing."""
    read = Page(page)
    assert not read.all("script")
    assert not [a for _, a in read.tags for name in ("src", "href") if (a.get(name) or "#")[:1] not in "#d"]
    return read


def test_file_names_of_a_run_are_those_that_training_writes() -> None:
    from reid import runs

    assert (curves.ABOUT, curves.LOG) == (runs.ABOUT, runs.LOG)


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    (run,) = curves.read_runs([trained(tmp_path / "run")])
    assert run.name == "run"
    np.testing.assert_array_equal(run.epochs, [1, 2, 3, 4, 5, 6])
    np.testing.assert_allclose(run.values["batch-hard"], 1 / np.arange(2, 8))
    np.testing.assert_allclose(run.values["mAP"], [np.nan, 0.51, np.nan, 0.53, np.nan, 0.55])
    assert run.best() == 5
    assert run.settings["net"] == "osnet"


def test_a_run_at_work_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    log = trained(tmp_path / "run") / curves.LOG
    whole = log.read_text()
    log.write_text(whole + '{"epoch": 6, "st')
    assert len(curves.read_run(log.parent).epochs) == 6
    log.write_text(whole.replace('{"epoch": 2', '{"epo', 1))
    with pytest.raises(DataError, match=r"line 3 of .* is not one epoch"):
        curves.read_run(log.parent)


def test_epochs_done_twice_count_once_and_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    log = trained(tmp_path / "run", epochs=2) / curves.LOG
    log.write_text(log.read_text() + '{"epoch": 1, "batch-hard": 7, "norm": NaN, "odd": null, "set": "a"}\n')
    run = curves.read_run(log.parent)
    assert run.values["batch-hard"].tolist() == [0.5, 7]
    assert run.values["norm"].tolist()[0] == 12
    assert np.isnan(run.values["norm"][1])
    assert not {"odd", "set", "mAP"} & run.values.keys()  # the repeated epoch has no mAP
    assert "nothing validated yet" in Page(curves.sheet([run]).html()).text


def test_one_run_has_a_chart_for_each_figure(tmp_path: Path) -> None:
    sheet = curves.sheet(curves.read_runs([trained(tmp_path / "run")]))
    headings = [figure.heading for _, _, figures in sheet.sections for figure in figures]
    assert headings == [
        *("mAP", "rank-1", "batch-hard", "batch-hard: active"),
        *("Distances", "Length of embeddings", "Learning rate", "Speed"),
    ]
    assert "after epoch 6" in sheet.summary
    page = standalone(sheet.html())
    assert len(page.all("svg", kind="chart")) == len(headings)
    assert "2.0 min" in page.text
    assert "one person" in page.text
    root = well_formed(sheet.svg())
    assert len(root.findall("{*}svg")) == len(headings)


def test_runs_side_by_side_have_a_line_each_and_say_what_differs(tmp_path: Path) -> None:
    a = trained(tmp_path / "a", rate=0.1, losses=[{"name": "batch-hard", "weight": 1.0, "options": {"margin": 0.3}}])
    b = trained(tmp_path / "b", epochs=4, mean_ap=0.7, rate=0.2, augment={"flip": 0.5})
    runs = curves.read_runs([a, b])
    sheet = curves.sheet(runs)
    assert list(sheet.key) == ["a", "b"]
    assert "73.0 %, by b" in sheet.summary
    (validation, _) = sheet.sections[0][2]
    assert validation.drawn.count('class="line"') == 2
    assert "epoch 2\na: 51.00 %\nb: 71.00 %" in validation.drawn
    assert validation.rows[-1] == ["6", "55.00 %", "–"]
    differ = set(re.findall(r'<tr><th scope="row">([\w.-]+)</th><td>', sheet.html()))
    assert {"rate", "losses", "losses.batch-hard.options.margin", "augment.flip"} <= differ
    assert "net" not in differ


def test_what_a_run_is_called_is_shown_as_text(tmp_path: Path) -> None:
    runs = curves.read_runs([trained(tmp_path / "x" / "<b>&"), trained(tmp_path / "y")])
    page = standalone(curves.sheet(runs).html())
    assert not page.all("b")
    assert "x/<b>&" in page.text
    assert "x/<b>&" in "".join(well_formed(curves.sheet(runs).svg()).itertext())


def test_mistakes_about_runs(tmp_path: Path, plot: Plot) -> None:
    run = trained(tmp_path / "run")
    out = ("-o", tmp_path / "c.html")
    assert plot("curves", tmp_path, *out)[::2] == (
        2,
        f"reid plot: {tmp_path} has no metrics.jsonl; give a folder that `reid train` wrote\n",
    )
    assert "more than once" in plot("curves", run, tmp_path / "run" / "..", run, *out)[2]
    nine = [trained(tmp_path / f"r{i}") for i in range(9)]
    assert "9 runs were given; 1 to 8" in plot("curves", *nine, *out)[2]
    (run / curves.LOG).write_text("")
    assert "holds no epoch" in plot("curves", run, *out)[2]
    assert "ends in none of .html, .svg" in plot("curves", run, "-o", tmp_path / "c.jpg")[2]
    assert "does not exist" in plot("curves", run, "-o", tmp_path / "no" / "c.svg")[2]
    assert not (tmp_path / "c.html").exists()


def test_curves_from_the_command_line(tmp_path: Path, plot: Plot) -> None:
    run = trained(tmp_path / "run")
    code, out, _ = plot("curves", run, "-o", tmp_path / "c.svg")
    assert (code, out.splitlines()[1]) == (0, f"Drew {(tmp_path / 'c.svg').resolve()}")
    well_formed((tmp_path / "c.svg").read_text())
    code, out, _ = plot("curves", run, "-o", tmp_path / "c.html", "--json")
    assert json.loads(out)["runs"] == [{"run": "run", "epochs": 6, "best_epoch": 6, "mAP": 0.55}]
    standalone((tmp_path / "c.html").read_text())


def measured(people: Embeddings, name: str = "drawn", at: float | None = None) -> separation.Separation:
    first = [i for i, crop in enumerate(people.crops) if crop.path.endswith("0.jpg")]
    rest = [i for i in range(len(people)) if i not in first]
    return separation.separation(name, people[first], people[rest], at=at)


def test_scores_show_both_histograms_and_the_threshold(people: Embeddings) -> None:
    part = measured(people, at=0.1)
    assert part.at
    assert part.at.fpr <= 0.1
    sheet = separation.scores([part])
    ((_, _, (figure,)),) = sheet.sections
    assert figure.drawn.count('class="area"') == 2
    assert f">{part.at.threshold:.3g}<" in figure.drawn
    assert f"A distance up to {part.at.threshold:.4g} accepts" in figure.about
    standalone(sheet.html())
    well_formed(sheet.svg())
    assert "both errors" in separation.scores([measured(people)]).html()


def test_each_model_has_a_curve_of_its_own(people: Embeddings) -> None:
    noise = np.random.default_rng(1).normal(size=people.vectors.shape)
    worse = Embeddings(people.vectors + noise.astype(np.float32), people.crops, "worse")
    parts = [measured(people, EVIL), measured(worse, "worse")]
    for draw in (separation.receiver, separation.tradeoff):
        sheet = draw(parts)
        ((_, _, (figure,)),) = sheet.sections
        assert figure.drawn.count('class="line"') == 2
        page = standalone(sheet.html())
        assert not page.all("b")
        assert '<b>&"\\udce9' in page.text
        well_formed(sheet.svg())
        ((_, _, (alone,)),) = draw(parts[:1]).sections
        assert alone.drawn.count('class="line"') == 1
    (hover, *_) = re.findall(r"<title>([^<]*)</title>", separation.receiver(parts[1:]).html().partition("<main>")[2])
    assert re.fullmatch(r"[\d.]+ % false matches: [\d.]+ % true ones", hover)


def test_the_curve_is_the_one_that_was_measured(people: Embeddings) -> None:
    part = measured(people)
    ((_, _, (figure,)),) = separation.receiver([part]).sections
    assert figure.rows[0][1:] == ["0 %", "0 %", "100 %"]
    assert figure.rows[-1][1:] == ["100 %", "100 %", "0 %"]
    assert len(figure.head) == len(figure.rows[0])


def test_mistakes_about_pairs(people: Embeddings, tmp_path: Path, plot: Plot) -> None:
    with pytest.raises(DataError, match="too few to show a false-positive rate of 1e-07"):
        measured(people, at=1e-7)
    with pytest.raises(DataError, match="at most 8 can be told apart"):
        separation.receiver([measured(people)] * 9)
    apart = Embeddings(np.repeat(100 * np.eye(12, dtype=np.float32), 9, axis=0), people.crops, "apart")
    with pytest.raises(DataError, match="tells every pair apart"):
        separation.tradeoff([measured(apart)])
    people.save(tmp_path / "e.npz")
    out = ("-o", tmp_path / "s.svg")
    code, _, error = plot("roc", tmp_path / "e.npz", tmp_path / "e.npz", "--gallery", tmp_path / "e.npz", *out)
    assert code == 2
    assert "goes with one source" in error
    nobody = Embeddings(people.vectors, tuple(Crop(c.path) for c in people.crops), "m")
    nobody.save(tmp_path / "n.npz")
    code, _, error = plot("scores", tmp_path / "n.npz", *out)
    assert code == 2
    assert error.count("\n") == 1


@pytest.mark.parametrize("kind", ["scores", "roc", "det"])
def test_pairs_from_the_command_line(kind: str, people: Embeddings, tmp_path: Path, plot: Plot) -> None:
    people.save(tmp_path / "e.npz")
    code, out, error = plot(kind, tmp_path / "e.npz", "-o", tmp_path / "s.html", "--json")
    assert (code, error) == (0, "")
    assert json.loads(out)["sources"][0]["EER"] > 0
    assert "Equal error rate" in standalone((tmp_path / "s.html").read_text()).text
    again = plot(kind, tmp_path / "e.npz", "-o", tmp_path / "s.svg")
    assert again[0] == 0
    first = (tmp_path / "s.svg").read_bytes()
    plot(kind, tmp_path / "e.npz", "-o", tmp_path / "s.svg")
    assert (tmp_path / "s.svg").read_bytes() == first


def test_a_picture_of_its_own_has_classes_for_colours() -> None:
    line = charts.Line(np.array([0.0, 1]), np.array([0.0, 1]), "--line-3", dashed=True)
    axis = charts.linear("x", 0, 1)
    figure = charts.Figure("A & B", "", charts.line_chart([line], axis, axis, 'a "chart"'), ["x"], [])
    root = well_formed(Sheet("T < U", "Some words.", [("", "", [figure])]).svg())
    kinds = [path.get("class") or "" for path in root.findall(".//{*}path")]
    assert [kind for kind in kinds if "line" in kind] == ["line dashed line-3"]
    assert root.get("aria-label") == "T < U"
    assert ET.fromstring(picture(10, 10, "x", "")).get("viewBox") == "0 0 10 10"
