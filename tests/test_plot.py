"""Pictures: what is drawn, that it is safe, and what a mistake says."""

from __future__ import annotations

import builtins
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reid import charts, images
from reid.cli import main
from reid.embed import Embedder
from reid.errors import DataError, MissingExtra, ModelError, ShapeError
from reid.plot import curves, heat, layout, maps, separation
from reid.plot.colours import distinct
from reid.plot.sheet import Sheet, picture
from reid.street import draw_street
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
        row |= {"triplet-hard": 1 / (epoch + 2), "active/triplet-hard": 0.9 - epoch / 10}
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
    np.testing.assert_allclose(run.values["triplet-hard"], 1 / np.arange(2, 8))
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
    log.write_text(log.read_text() + '{"epoch": 1, "triplet-hard": 7, "norm": NaN, "odd": null, "set": "a"}\n')
    run = curves.read_run(log.parent)
    assert run.values["triplet-hard"].tolist() == [0.5, 7]
    assert run.values["norm"].tolist()[0] == 12
    assert np.isnan(run.values["norm"][1])
    assert not {"odd", "set", "mAP"} & run.values.keys()  # the repeated epoch has no mAP
    assert "nothing validated yet" in Page(curves.sheet([run]).html()).text


def test_one_run_has_a_chart_for_each_figure(tmp_path: Path) -> None:
    sheet = curves.sheet(curves.read_runs([trained(tmp_path / "run")]))
    headings = [figure.heading for _, _, figures in sheet.sections for figure in figures]
    assert headings == [
        *("mAP", "rank-1", "triplet-hard", "triplet-hard: active"),
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
    a = trained(tmp_path / "a", rate=0.1, losses=[{"name": "triplet-hard", "weight": 1.0, "options": {"margin": 0.3}}])
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
    assert {"rate", "losses", "losses.triplet-hard.options.margin", "augment.flip"} <= differ
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
    assert "does not end in .html or .svg" in plot("curves", run, "-o", tmp_path / "c.jpg")[2]
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
    assert sheet.summary in figure.about
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


@pytest.fixture
def walkers(tmp_path: Path, embedder: Embedder) -> Embeddings:
    """Five people of the drawn street, as the tiny model sees them."""
    return embedder(draw_street(tmp_path / "street", people=5))


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_layout_keeps_people_together_and_the_seed_decides(method: str) -> None:
    rng = np.random.default_rng(3)
    who = np.repeat(np.arange(6), 10)
    vectors = (10 * rng.normal(size=(6, 16))[who] + rng.normal(scale=0.1, size=(60, 16))).astype(np.float32)
    points = layout.lay_out(vectors, method, seed=1)
    assert points.shape == (60, 2)
    assert points.min() >= 0
    assert points[:, 0].max() == 1
    between = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(between, np.inf)
    assert (who[between.argmin(axis=1)] == who).all()
    np.testing.assert_array_equal(points, layout.lay_out(vectors, method, seed=1))


def test_pca_is_to_scale_and_does_not_mirror() -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32) * [3, 1]
    points = layout.lay_out(vectors.astype(np.float32), "pca")
    ratio = np.linalg.norm(points[0] - points[1:], axis=1) / np.linalg.norm(vectors[0] - vectors[1:], axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    line = np.arange(10.0, dtype=np.float32)[:, None]
    assert layout.lay_out(line, "pca")[:, 1].tolist() == [layout.FEWEST_HIGH / 2] * 10


def test_mistakes_about_maps(people: Embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    for message, change in {
        "method is 'sne'; it can be tsne, umap, pca": {"method": "sne"},
        "108 neighbours were asked for, of 108 crops; ask for 2 to 107": {"near": 108},
        "at most 2 crops were asked for": {"most": 2},
        "the seed is -1": {"seed": -1},
    }.items():
        with pytest.raises(DataError, match=message):
            maps.make_map(people, **change)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="at least 5 crops; 4 were given"):
        maps.make_map(people[:4])
    same = Embeddings(np.ones((9, 4), np.float32), people.crops[:9], "m")
    for method in ("tsne", "pca"):
        with pytest.raises(DataError, match="nothing to map"):
            maps.make_map(same, method)
    for draw in (maps.html, maps.svg, maps.png):
        with pytest.raises(DataError, match="colour is 'pid'; it can be person or camera"):
            draw(maps.make_map(people, "pca"), "", "pid")
    real = builtins.__import__
    monkeypatch.setattr(
        builtins,
        "__import__",
        lambda name, *more, **named: (
            (_ for _ in ()).throw(ImportError(name))
            if name.startswith(("umap", "sklearn"))
            else real(name, *more, **named)
        ),
    )
    with pytest.raises(MissingExtra, match=r"reid\[plot\]"):
        maps.make_map(people)
    with pytest.raises(MissingExtra, match=r"reid\[umap\]"):
        maps.make_map(people, "umap")


def test_umap_where_it_is_installed(people: Embeddings) -> None:
    pytest.importorskip("umap")
    points = layout.lay_out(people.vectors, "umap", seed=2)
    np.testing.assert_array_equal(points, layout.lay_out(people.vectors, "umap", seed=2))


def test_of_many_crops_whole_people_are_shown(people: Embeddings) -> None:
    shown = maps.make_map(people, "pca", most=30, seed=1)
    assert len(shown.embeddings) == 30
    counts = np.unique([c.pid or "" for c in shown.embeddings.crops], return_counts=True)[1]
    assert sorted(counts) == [3, 9, 9, 9]
    assert shown.summary.startswith("30 crops of 108, 4 people. ")


def test_the_share_of_right_neighbours_is_that_of_a_loop(people: Embeddings) -> None:
    shown = maps.make_map(people, "pca")
    right = 0
    for i, vector in enumerate(people.vectors):
        distances = np.linalg.norm(people.vectors - vector, axis=1)
        distances[i] = np.inf
        right += people.crops[i].pid == people.crops[int(distances.argmin())].pid
    assert f"{100 * right / len(people):.1f} % in the embedding" in shown.summary
    nobody = Embeddings(people.vectors, tuple(Crop(c.path) for c in people.crops), "m")
    assert maps.make_map(nobody, "pca").summary == "108 crops."


def test_a_map_has_a_dot_and_a_picture_for_each_crop(walkers: Embeddings) -> None:
    shown = maps.make_map(walkers)
    page = standalone(maps.html(shown, "A < B"))
    dots = [a for a in page.all("i") if "left:" in (a.get("style") or "")]
    assert len(dots) == len(page.all("span", kind="look")) == len(walkers)
    assert len(page.all("image")) == len(walkers)
    assert len(page.all("div", kind="who")) == 5
    assert {a["id"] for a in page.all("input")} == {"by-person", "by-camera", "looks"}
    assert "t-SNE (van der Maaten and Hinton 2008), seed 0" in page.text
    svg = maps.svg(shown, "A < B", "camera")
    root = well_formed(svg)
    titles = [t.text for t in root.findall(".//{*}circle/{*}title")]
    assert titles == [f"person {c.pid}, camera {c.camera}, {c.name}" for c in walkers.crops]
    assert {"c1", "c2", "c3"} <= set(root.itertext())
    assert svg == maps.svg(maps.make_map(walkers), "A < B", "camera")


def test_pictures_in_a_map_do_not_lie_on_each_other(walkers: Embeddings) -> None:
    points = maps.make_map(walkers).points
    kept = points[maps._apart(points, 0.05, 0.1)]
    apart = np.abs(kept[:, None] - kept)
    np.fill_diagonal(apart[..., 0], 1)
    assert ((apart[..., 0] >= 0.05) | (apart[..., 1] >= 0.1)).all()
    with Image.open(io.BytesIO(maps.png(maps.make_map(walkers), "Title", wide=960))) as image:
        assert (image.format, image.width) == ("PNG", 960)


def test_a_map_without_people_cameras_or_pictures() -> None:
    rng = np.random.default_rng(0)
    rows = tuple(Crop(f"{EVIL}{i}.jpg", role="distractor" if i % 2 else "person") for i in range(9))
    shown = maps.make_map(Embeddings(rng.normal(size=(9, 4)).astype(np.float32), rows, "m"), "pca")
    page = standalone(maps.html(shown, EVIL))
    assert [a["id"] for a in page.all("input")] == ["looks"]
    assert not page.all("b")
    assert "Pictures of people" not in page.text  # there are none
    well_formed(maps.svg(shown, EVIL, "camera"))
    assert maps.png(shown, EVIL, wide=480)


def test_maps_from_the_command_line(walkers: Embeddings, tmp_path: Path, plot: Plot, model: Path) -> None:
    walkers.save(tmp_path / "e.npz")
    code, out, _ = plot("map", tmp_path / "e.npz", "--method", "pca", "-o", tmp_path / "m.png", "--json")
    assert code == 0
    assert len(json.loads(out)["crops"]) == len(walkers)
    assert images.read(tmp_path / "m.png").shape[1] == 2400
    some = [crop.path for crop in walkers.crops[:6]]
    code, out, _ = plot("map", *some, "--model", model, "--near", 3, "-o", tmp_path / "m.html", "--title", "Mine")
    assert (code, out.split("\n")[0]) == (0, "6 crops.")
    assert "<h1>Mine</h1>" in (tmp_path / "m.html").read_text()
    code, _, error = plot("map", tmp_path / "e.npz", "--method", "x", "-o", tmp_path / "m.svg")
    assert (code, error) == (2, "reid plot: method is 'x'; it can be tsne, umap, pca\n")


def test_colours_differ_from_their_neighbours() -> None:
    found = [np.array([int(distinct(i)[j : j + 2], 16) for j in (1, 3, 5)]) for i in range(60)]
    assert len({tuple(colour) for colour in found}) == 60
    assert min(np.abs(a - b).max() for i, a in enumerate(found) for b in found[i + 1 : i + 12]) > 20


def test_what_is_hidden_is_hot_where_it_counts() -> None:
    """An embedding that looks at one corner moves only when that corner is hidden."""

    def corner(pictures: Any) -> np.ndarray:
        return np.array([[p[:32, :16].mean()] for p in pictures], dtype=np.float32)

    picture = np.random.default_rng(0).integers(0, 255, (128, 64, 3), dtype=np.uint8)
    picture[:32, :16] //= 8
    found = heat.occlusion(corner, picture)
    assert found.shape == (heat.ROWS, heat.COLUMNS)
    assert (found.min(), found.max()) == (0, 1)
    assert found[: heat.ROWS // 4, : heat.COLUMNS // 4].min() > 0.3
    assert not found[heat.ROWS // 2 :].any()
    assert not found[:, heat.COLUMNS // 2 + 1 :].any()
    tiny = heat.occlusion(lambda pictures: np.zeros((len(pictures), 2), np.float32), picture[:1, :1])
    assert not tiny.any()


def test_heat_is_bright_where_it_is_high() -> None:
    grey = np.full((120, 60, 3), 100, dtype=np.uint8)
    warm = heat.overlay(grey, heat.level(np.array([[0.0, 5.0], [0.0, 5.0]])))
    assert warm.shape == grey.shape
    assert warm[:, -1].mean() > warm[:, 0].mean() + 80


def test_a_sheet_of_heat_shows_each_picture_twice(walkers: Embeddings) -> None:
    crops = [Crop(f"a/{EVIL}.jpg"), *walkers.crops[:2]]
    pictures = [images.read(walkers.crops[i].path) for i in range(3)]
    heats = [np.eye(4)] * 3
    page = standalone(heat.html(crops, pictures, heats, "occlusion", [("Model", EVIL)]))
    assert len(page.all("image")) == 6
    assert not page.all("b")
    assert "Zeiler and Fergus 2014" in page.text
    with Image.open(io.BytesIO(heat.png(crops, pictures, heats, "activation"))) as image:
        assert image.format == "PNG"
    with pytest.raises(ShapeError, match="3 crops, 2 pictures and 3 maps"):
        heat.html(crops, pictures[:2], heats, "occlusion")


def test_activations_are_those_of_the_last_feature_map(tmp_path: Path) -> None:
    import torch

    from reid import checkpoint
    from reid.nets import build
    from reid.plot.attention import Activations, last_map
    from reid.validation import DEVIATION, MEAN

    net = build("osnet", width=0.25).eval()
    header = {"net": "osnet", "net_options": {"width": 0.25}}
    header |= {"preprocess": {"height": 64, "width": 32, "mean": MEAN, "deviation": DEVIATION}}
    checkpoint.save(tmp_path / "net.safetensors", net.state_dict(), header)
    batch = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        plain = net.conv5(net.conv4(net.conv3(net.conv2(net.maxpool(net.conv1(batch))))))
    torch.testing.assert_close(last_map(net, batch), plain)
    picture = np.random.default_rng(1).integers(0, 255, (64, 32, 3), dtype=np.uint8)
    ready = torch.from_numpy((picture.astype(np.float32) - MEAN) / np.array(DEVIATION)).permute(2, 0, 1)[None].float()
    (found,) = Activations(tmp_path / "net.safetensors")([picture])
    np.testing.assert_allclose(found, heat.level(last_map(net, ready)[0].square().sum(0).numpy()), atol=1e-4)


@pytest.mark.parametrize("name", ["osnet", "resnet50", "pcb", "lunet", "mobilenetv2", "densenet121", "compact"])
def test_every_network_has_a_last_map_that_is_no_row_of_parts(name: str) -> None:
    import torch

    from reid.nets import build
    from reid.plot.attention import last_map

    found = last_map(build(name).eval(), torch.randn(1, 3, 128, 64))
    assert min(found.shape[2:]) > 1
    assert found.shape[1] >= 64


def test_a_network_of_patches_is_refused() -> None:
    import torch
    from torch import nn

    from reid.plot.attention import last_map

    patches = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(2), nn.Linear(32, 4))
    with pytest.raises(ModelError, match="--by occlusion instead"):
        last_map(patches, torch.randn(1, 3, 64, 32))


def test_attention_from_the_command_line(walkers: Embeddings, tmp_path: Path, plot: Plot, model: Path) -> None:
    some = [crop.path for crop in walkers.crops[:5]]
    (tmp_path / "broken.jpg").write_bytes(b"x")
    arguments = ("attention", *some, tmp_path / "broken.jpg", "--model", model)
    code, out, error = plot(*arguments, "--most", 6, "-o", tmp_path / "a.html")
    assert (code, out.splitlines()[0]) == (0, "5 pictures, model tiny, by occlusion")
    assert "1 picture could not be read" in error
    standalone((tmp_path / "a.html").read_text())
    code, out, _ = plot(*arguments, "--most", 2, "-o", tmp_path / "a.png", "--json")
    assert json.loads(out)["crops"] == [some[0], some[3]]
    code, _, error = plot(*arguments, "--by", "activation", "-o", tmp_path / "a.png")
    assert code == 2
    assert "hides its feature maps" in error
    assert "is no number of pictures" in plot(*arguments, "--most", 0, "-o", tmp_path / "a.png")[2]
    assert "none of the pictures could be read" in plot("attention", arguments[6], "-o", tmp_path / "a.png")[2]
