"""The command line as a user meets it."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid import distance, files, roc
from reid.cli import VERBS, main, parser
from reid.data import read
from reid.distance import blocks as pairwise_blocks
from reid.distance import pairwise
from reid.embed import Embedder
from reid.evaluation import PROTOCOLS, evaluate, evaluate_halves, pool_tracklets, query_and_gallery
from reid.street import draw_street
from reid.types import Crop, Embeddings
from tests.conftest import Run


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    draw_street(folder, people=6)
    return folder


def verbs() -> dict[str, argparse.ArgumentParser]:
    (found,) = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(found.choices)


def pictures(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jpg"))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_that_parses(verb: str, run: Run) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    examples = [line.strip() for line in out[out.index("example:") :].splitlines() if line.strip().startswith("reid ")]
    assert examples
    for example in examples:
        parser().parse_args(example.split(" > ")[0].split()[1:])


def test_the_command_itself() -> None:
    done = subprocess.run([sys.executable, "-m", "reid", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("reid ")


def test_embed_prints_the_classic_lines(run: Run, street: Path, model: Path, tmp_path: Path) -> None:
    some = pictures(street)[:20]
    listing = tmp_path / "files.txt"
    listing.write_text("".join(f"{p}\n" for p in some))
    code, out, _ = run("embed", listing, "--model", model)
    assert code == 0
    lines = [line.split(",") for line in out.splitlines()]
    assert [line[0] for line in lines] == [str(p) for p in some]
    values = np.array([line[1:] for line in lines], dtype=np.float32)
    np.testing.assert_array_equal(values, Embedder(model)(some).vectors)


def test_embed_writes_a_file_and_names_what_it_left_out(run: Run, street: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    for i, path in enumerate(pictures(street)[:15]):
        (folder / f"{i:02}.jpg").write_bytes(path.read_bytes() if i != 4 else b"")
    code, out, err = run("embed", folder, "-o", tmp_path / "e.npz", "--model", model)
    assert code == 0
    assert "14 embeddings of 24 values" in out
    assert "04.jpg is empty" in err
    assert "1 picture could not be read" in err
    assert len(files.load(tmp_path / "e.npz")) == 14


def test_search_ranks_the_right_person_first(run: Run, street: Path, model: Path, tmp_path: Path) -> None:
    query = pictures(street)[0]
    sheet = tmp_path / "sheet.html"
    code, out, _ = run("search", query, street, "--model", model, "-k", 4, "--html", sheet)
    assert code == 0
    assert out.splitlines()[0].startswith(str(query))
    assert "rank  distance" in out
    assert str(sheet) in out
    assert "<html" in sheet.read_text()
    code, out, _ = run("search", query, street, "--model", model, "-k", 4, "--json")
    matches = json.loads(out)["answers"][0]["matches"]
    assert [m["rank"] for m in matches] == [1, 2, 3, 4]
    assert matches[0]["crop"]["path"] != str(query)


def test_search_says_which_filters_were_applied(run: Run, street: Path, model: Path, tmp_path: Path) -> None:
    run("embed", street, "-o", tmp_path / "e.npz", "--model", model)
    files.save(files.load(tmp_path / "e.npz")[:1], tmp_path / "q.npz")
    asked = ("--camera", "c2", "--camera", "c3", "--after", 5)
    _, out, _ = run("search", tmp_path / "q.npz", tmp_path / "e.npz", "--json", *asked)
    found = json.loads(out)
    assert found["filters"] == {"other_cameras": False, "cameras": ["c2", "c3"], "after": 5, "before": None}
    assert found["facts"]["Only"] == "camera c2 or c3; from 5 s"


def test_embed_does_not_ignore_json(run: Run, street: Path, model: Path) -> None:
    code, out, err = run("embed", street, "--model", model, "--json")
    assert (code, out) == (2, "")
    assert "give --output as well" in err


def test_pictures_that_a_table_leaves_out_are_told(
    run: Run, street: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(street, tmp_path / "copy")
    table = tmp_path / "copy" / "crops.csv"
    run("show", tmp_path / "copy")
    assert not caplog.messages
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-2]))
    run("show", tmp_path / "copy")
    assert "leaves out 2 pictures there, such as crops/" in caplog.messages[0]


def test_help_names_every_protocol() -> None:
    (action,) = [a for a in verbs()["evaluate"]._actions if a.dest == "protocol"]
    assert action.help is not None
    assert all(name in action.help for name in PROTOCOLS)


def test_evaluate_in_halves_and_by_tracklet(run: Run, people: Embeddings, tmp_path: Path) -> None:
    crops = tuple(Crop(c.path, c.pid, c.camera, tracklet=f"{c.pid}-{c.camera}") for c in people.crops)
    tracked = Embeddings(people.vectors, crops, people.model)
    files.save(tracked, tmp_path / "e.npz")
    code, out, _ = run("evaluate", tmp_path / "e.npz", "--halves", 3, "--protocol", "cuhk03", "--json")
    report = json.loads(out)
    assert (code, report["halves"], report["protocol"]) == (0, 3, "cuhk03")
    assert report["metrics"] == pytest.approx(evaluate_halves(tracked, 3).metrics)
    files.save(tracked[:54], tmp_path / "q.npz")
    _, out, _ = run("evaluate", tmp_path / "q.npz", tmp_path / "e.npz", "--tracklets", "--json")
    report = json.loads(out)
    wanted = evaluate(pool_tracklets(tracked[:54]), pool_tracklets(tracked)).metrics
    assert (report["queries"], report["gallery"]) == (18, 36)
    assert report["metrics"] == pytest.approx(wanted)
    for options, said in (
        (("--halves", 3, "--rerank"), "leave out --rerank"),
        (("--halves", 0), "draw at least 1"),
        (("--tracklets", "--ranking", "x.npy"), "means of embeddings"),
    ):
        code, _, err = run("evaluate", tmp_path / "e.npz", *options)
        assert code == 2
        assert said in err


def test_options_without_effect_are_refused(run: Run, people: Embeddings, tmp_path: Path) -> None:
    files.save(people, tmp_path / "e.npz")
    for options, said in (
        (("--similarity",), "give --distances as well"),
        (("--similarity", "--ranking", "r.npy"), "give --distances as well"),
        (("--array", "a"), "give --distances or --ranking as well"),
        (("--alone",), "give --rerank as well"),
        (("--tracklets",), "no crop is in one"),
    ):
        code, out, err = run("evaluate", tmp_path / "e.npz", *options)
        assert (code, out, said in err) == (2, "", True), err


def test_figures_are_set_beside_papers_only_where_they_can_be(run: Run, people: Embeddings, tmp_path: Path) -> None:
    def compared(made: Embeddings, *options: object, **changed: object) -> str:
        crops = [replace(crop, **changed) for crop in made.crops]  # type: ignore[arg-type]
        files.save(Embeddings(made.vectors, tuple(crops), made.model), tmp_path / "q.npz")
        code, out, err = run("evaluate", tmp_path / "q.npz", *options, "--html", tmp_path / "r.html")
        assert code == 0, err
        said = out.splitlines()[-1]
        assert said in (tmp_path / "r.html").read_text()
        return said

    gallery, first = tmp_path / "g.npz", np.array([crop.name == "0.jpg" for crop in people.crops])
    files.save(people[~first], gallery)
    query = people[first]
    assert "nearly every paper" in compared(query, gallery)
    split = [replace(c, extra={"split": "query" if first[i] else "gallery"}) for i, c in enumerate(people.crops)]
    assert "nearly every paper" in compared(Embeddings(people.vectors, tuple(split), people.model))
    assert "itself only: reid chose the queries" in compared(people)
    assert "figures of the same people" in compared(people, "--hold-out", 3)
    assert "itself only: cameras are unknown" in compared(query, gallery, camera=None)
    assert "itself only: vectors are means of tracklets" in compared(query, gallery, "--tracklets", tracklet="t")
    assert "itself only: one person alone" in compared(query[:3], gallery)
    assert "itself only: queries are in the gallery too" in compared(people, gallery)
    assert "it is easier than market1501" in compared(people, "--protocol", "cross-camera")


def test_search_filters(run: Run, street: Path, model: Path, tmp_path: Path) -> None:
    run("embed", street, "-o", tmp_path / "street.npz", "--model", model)
    made = files.load(tmp_path / "street.npz")
    files.save(made[:3], tmp_path / "query.npz")

    def answers(*options: object) -> list[list[Crop]]:
        code, out, _ = run("search", tmp_path / "query.npz", tmp_path / "street.npz", "--json", "-k", 500, *options)
        assert code == 0
        return [[Crop(**m["crop"]) for m in a["matches"]] for a in json.loads(out)["answers"]]

    assert [len(a) for a in answers()] == [len(made) - 1] * 3
    assert all(c.camera != q.camera for q, a in zip(made.crops, answers("--other-cameras"), strict=False) for c in a)
    cameras = sorted({c.camera for c in made.crops if c.camera})
    assert {c.camera for a in answers("--camera", cameras[0], "--camera", cameras[1]) for c in a} == set(cameras[:2])
    middle = float(np.median([c.time for c in made.crops if c.time is not None]))
    assert all(c.time is not None and c.time >= middle for a in answers("--after", middle) for c in a)
    assert all(c.time is not None and c.time <= middle for a in answers("--before", middle) for c in a)


def test_evaluate_and_show(run: Run, street: Path, model: Path) -> None:
    code, out, _ = run("evaluate", street, "--model", model, "--protocol", "cross-camera", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["metrics"]["rank-1"] > 0.2
    worst, cells = report["worst_people"], report["camera_pairs"]
    assert [p["mAP"] for p in worst] == sorted(p["mAP"] for p in worst)
    assert sum(p["queries"] * p["mAP"] for p in worst) == pytest.approx(report["queries"] * report["metrics"]["mAP"])
    assert all(0 <= cell["mAP"] <= 1 and cell["query"] != cell["gallery"] for cell in cells)
    assert sum(cell["queries"] for cell in cells) >= report["queries"]
    code, out, _ = run("show", street)
    assert code == 0
    assert "6 people" in out


def test_evaluate_from_a_file_of_embeddings(run: Run, street: Path, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "street.npz"
    run("embed", street, "-o", file, "--model", model)
    _, out, _ = run("evaluate", street, "--model", model, "--protocol", "cross-camera", "--json")
    from_pictures = json.loads(out)
    _, out, _ = run("evaluate", file, "--protocol", "cross-camera", "--json")
    from_file = json.loads(out)
    assert (from_pictures.pop("source"), from_pictures.pop("model")) == (str(street), "tiny")
    assert (from_file.pop("source"), from_file.pop("model")) == (str(file), files.load(file).model)
    assert from_pictures == from_file
    _, out, _ = run("evaluate", file, "--pairs")
    assert all(name in out for name in ("EER", "TPR@FPR=0.01", "FNIR@FPIR=0.1"))
    _, out, _ = run("evaluate", file, "--rerank")
    assert "re-ranked with k-reciprocal encoding (k1 = 20, k2 = 6, λ = 0.3; queries see each other)" in out
    _, out, _ = run("evaluate", file, "--rerank", "--alone")
    assert "λ = 0.3; each query alone)" in out
    code, _, err = run("evaluate", file, "--alone")
    assert (code, "give --rerank as well" in err) == (2, True)


def test_intervals_say_how_many_people_they_rest_on(run: Run, people: Embeddings, tmp_path: Path) -> None:
    files.save(people, tmp_path / "e.npz")
    code, out, err = run("evaluate", tmp_path / "e.npz", "--intervals")
    assert (code, err) == (0, "")
    assert "mAP (plain)" in out
    assert "95 % within" in out
    assert "intervals by bootstrap over 12 people" in out
    for option, who in ((2, "2 people"), (1, "1 person")):
        code, out, err = run("evaluate", tmp_path / "e.npz", "--intervals", "--hold-out", option)
        assert "95 % within" not in out
        assert f"no intervals: the queries show {who}, and fewer than 10" in err
    _, out, _ = run("evaluate", tmp_path / "e.npz", "--intervals", "--pairs", "--hold-out", 3, "--json")
    report = json.loads(out)
    assert (report["intervals"], report["people"], report["hold_out"]) == ({}, 3, 3)


def walkers(people: int, seed: int = 0) -> Embeddings:
    """People who take a minute from one camera to the next, and are hard to tell apart by their vectors."""
    rng = np.random.default_rng(seed)
    crops, vectors = [], []
    for p in range(people):
        start, centre = rng.uniform(0, 3000), rng.normal(size=6)
        for camera in range(3):
            crops += [Crop(f"{p}/{camera}/{i}", f"{p:03}", str(camera), start + 60 * camera + i) for i in range(2)]
            vectors += [centre + rng.normal(scale=1.2, size=6) for _ in range(2)]
    return Embeddings(np.array(vectors, dtype=np.float32), tuple(crops), "drawn")


def test_a_prior_is_learnt_and_used(run: Run, tmp_path: Path) -> None:
    file, prior, plot = tmp_path / "e.npz", tmp_path / "prior.json", tmp_path / "prior.svg"
    files.save(walkers(90), file)
    code, out, err = run("prior", file, "-o", prior, "--hold-out", 30, "--plot", plot)
    assert (code, err) == (0, "")
    assert f"Wrote {prior}: 60 people, 3 cameras, 3 pairs" in out
    assert "fitted on 15 people that the prior had not seen" in out
    assert plot.read_text().startswith("<svg")
    held = ("evaluate", file, "--hold-out", 30)

    def measured(*options: object) -> dict[str, Any]:
        code, out, err = run(*held, "--json", *options)
        assert (code, err) == (0, "")
        report = json.loads(out)
        return {"mAP": report["metrics"]["mAP"], "said": report["reranking"]}

    visual, timed = measured(), measured("--prior", prior)
    reranked, both = measured("--rerank"), measured("--rerank", "--prior", prior)
    assert timed["mAP"] > visual["mAP"] + 0.1
    assert both["mAP"] > reranked["mAP"] + 0.1
    assert visual["said"] == ""
    assert timed["said"].startswith("a space-time prior of 60 people (weight ")
    assert both["said"].startswith("k-reciprocal encoding (k1 = 20")
    assert " on distances with a space-time prior of 60 people (weight" in both["said"]
    page = tmp_path / "page.html"
    code, out, _ = run(*held, "--prior", prior, "--rerank", "--html", page)
    assert f"re-ranked with {both['said']}" in out
    assert both["said"] in page.read_text()


def test_a_prior_that_knows_those_searched_for_is_no_measure(run: Run, tmp_path: Path) -> None:
    file, prior = tmp_path / "e.npz", tmp_path / "prior.json"
    files.save(walkers(40), file)
    run("prior", file, "-o", prior, "--hold-out", 10, "--fit-on", 8)
    _, out, err = run("evaluate", file, "--hold-out", 15, "--prior", prior)
    assert "learnt from 5 of the people searched for, so that figures are too good" in out
    assert "learn it without them: --hold-out" in err


def test_prior_learns_from_training_people_only(run: Run, tmp_path: Path) -> None:
    made = walkers(30)
    split = [replace(c, extra={"split": "train" if int(str(c.pid)) < 20 else "query"}) for c in made.crops]
    files.save(Embeddings(made.vectors, tuple(split), made.model), tmp_path / "e.npz")
    code, out, _ = run("prior", tmp_path / "e.npz", "-o", tmp_path / "p.json", "--json")
    assert (code, json.loads(out)["people"]) == (0, 20)
    files.save(Embeddings(made.vectors[-12:], tuple(split[-12:]), made.model), tmp_path / "e.npz")
    code, _, err = run("prior", tmp_path / "e.npz", "-o", tmp_path / "q.json")
    assert (code, "holds query and nothing to train on" in err) == (2, True)
    untimed = tuple(replace(crop, time=None) for crop in made.crops)
    files.save(Embeddings(made.vectors, untimed, made.model), tmp_path / "e.npz")
    code, _, err = run("prior", tmp_path / "e.npz", "-o", tmp_path / "q.json")
    assert (code, "needs crops that name person, camera and time" in err) == (2, True)


def test_prior_from_pictures(run: Run, street: Path, model: Path, tmp_path: Path) -> None:
    code, out, err = run("prior", street, "-o", tmp_path / "p.json", "--model", model, "--fit-on", 2)
    assert (code, err) == (0, "")
    code, out, _ = run("evaluate", street, "--model", model, "--prior", tmp_path / "p.json", "--json")
    assert "learnt from 6 of the people" in json.loads(out)["reranking"]
    code, _, err = run("evaluate", street, "--prior", tmp_path / "p.json")
    assert (code, "fitted for model" in err) == (2, True)


def test_pairs_and_page_verify_once(
    run: Run, people: Embeddings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.save(people, tmp_path / "e.npz")
    calls = []
    once = roc.verification
    monkeypatch.setattr(roc, "verification", lambda *a, **k: (calls.append(1), once(*a, **k))[1])
    monkeypatch.setattr(distance, "blocks", lambda *a, **k: (calls.append(2), pairwise_blocks(*a, **k))[1])
    monkeypatch.setattr("reid.evaluation.blocks", distance.blocks)
    code, out, _ = run("evaluate", tmp_path / "e.npz", "--pairs", "--html", tmp_path / "r.html")
    assert (code, "EER" in out, sorted(calls)) == (0, True, [1, 2])


def test_evaluate_writes_a_page(run: Run, street: Path, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    code, out, _ = run("evaluate", street, "--model", model, "--protocol", "cross-camera", "--html", page)
    assert code == 0
    rank_1 = next(line for line in out.splitlines() if "rank-1 " in line).split()[1]
    assert rank_1[:-1] in page.read_text()


def test_evaluate_somebodys_distances_and_rankings(run: Run, street: Path, model: Path, tmp_path: Path) -> None:
    query, gallery = (Embedder(model)(part) for part in query_and_gallery(read(street)))
    matrix = pairwise(query.vectors, gallery.vectors)
    np.save(tmp_path / "d.npy", matrix)
    np.savez(tmp_path / "s.npz", similarity=-matrix, other=np.zeros((2, 2)))
    np.save(tmp_path / "r.npy", matrix.argsort(axis=1, kind="stable"))
    _, wanted, _ = run("evaluate", street, "--model", model, "--json")
    from_similarity = ("--distances", tmp_path / "s.npz", "--array", "similarity", "--similarity")
    for options in (("--distances", tmp_path / "d.npy"), from_similarity, ("--ranking", tmp_path / "r.npy")):
        code, found, err = run("evaluate", street, *options, "--json")
        assert code == 0, err
        assert json.loads(found)["metrics"] == pytest.approx(json.loads(wanted)["metrics"])
    code, _, err = run("evaluate", street, "--distances", tmp_path / "d.npy", "--rerank")
    assert (code, "only embeddings can be re-ranked" in err) == (2, True)
    code, _, err = run("evaluate", street, "--hold-out", 2, "--distances", tmp_path / "d.npy")
    assert (code, "they must be (queries, gallery)" in err) == (2, True)


def test_show_writes_a_split_that_evaluate_can_use(run: Run, street: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "splits.csv"
    assert run("show", street, "--write-split", "people", "-o", out)[0] == 0
    assert {c.extra["split"] for c in read(out)} == {"train", "query", "gallery"}
    code, printed, _ = run("evaluate", out, "--model", model, "--json")
    assert code == 0
    assert json.loads(printed)["queries"] >= 2


def test_demo(run: Run, model: Path, tmp_path: Path) -> None:
    code, out, _ = run("demo", "-o", tmp_path / "demo", "--people", 5, "--model", model)
    assert code == 0
    assert "rank-1" in out
    assert str(tmp_path / "demo" / "sheet.html") in out
    assert (tmp_path / "demo" / "sheet.html").stat().st_size > 10_000


MISTAKES = {
    "no such folder": (["show", "nowhere"], "nowhere"),
    "no such model": (["search", "STREET", "STREET", "--model", "resnet"], "neither a file nor a model"),
    "no such camera": (["search", "PICTURE", "STREET", "--camera", "99", "--model", "MODEL"], "no camera 99"),
    "no cameras": (["search", "PICTURE", "PICTURE", "--other-cameras", "--model", "MODEL"], "no camera is known"),
    "no answers wanted": (["search", "PICTURE", "STREET", "-k", "0", "--model", "MODEL"], "k is 0"),
    "no such protocol": (["evaluate", "STREET", "--protocol", "x", "--model", "MODEL"], "market1501"),
    "prior of nobody left": (["prior", "STREET", "-o", "p.json", "--hold-out", "6"], "fitted on 0 of 0 people"),
    "prior of too many": (["prior", "STREET", "-o", "p.json", "--hold-out", "7"], "hold out 1 to 6"),
    "prior fitted on all": (["prior", "STREET", "-o", "p.json", "--fit-on", "6"], "fitted on 6 of 6 people"),
    "no such prior": (["evaluate", "STREET", "--prior", "p.json", "--model", "MODEL"], "p.json does not exist"),
    "somebody's distances with a prior": (
        ["evaluate", "STREET", "--prior", "p.json", "--distances", "d.npy"],
        "only embeddings can be re-ranked or take a prior",
    ),
    "one thing too many": (["verify", "PICTURE", "PICTURE", "third.jpg"], "third.jpg is nothing that it takes"),
    "one thing too many of a kind": (["index", "keep", "g.db", "-1d"], "reid index keep: -1d is nothing"),
    "unknown ending": (["embed", "STREET", "-o", "e.doc", "--model", "MODEL"], ".npz"),
    "folder that cannot be written to": (
        ["embed", "STREET", "-o", "/proc/none/e.npz", "--model", "MODEL"],
        "the folder /proc/none does not exist",
    ),
    "no such recipe": (["train", "STREET", "-o", "run", "--recipe", "best"], "osnet"),
    "weights that are not": (["export", "PICTURE", "-o", "m.onnx"], "is of no format that can be read"),
    "query that is no picture": (["search", "MODEL", "STREET", "--model", "MODEL"], ""),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_sentence_and_exit_code_2(
    name: str, run: Run, street: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = MISTAKES[name]
    stand_in = {"STREET": str(street), "MODEL": str(model), "PICTURE": str(pictures(street)[0])}
    code, out, err = run(*(stand_in.get(a, a) for a in arguments))
    assert code == 2, err
    assert message in err
    assert err.startswith((f"reid {arguments[0]}: ", "reid index keep: ")) or err.startswith("skipped: ")
    assert "Traceback" not in err
    assert out == ""


def test_a_query_that_cannot_be_read_is_named(run: Run, street: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "q.jpg").write_bytes(b"")
    code, _, err = run("search", tmp_path / "q.jpg", street, "--model", model)
    assert code == 2
    assert "q.jpg is empty" in err
    assert err.splitlines()[-1].startswith("reid search: none of the pictures of the query")


def test_nothing_is_written_but_the_cache_and_nobody_is_told(street: Path, model: Path, tmp_path: Path) -> None:
    """ONNX Runtime would leave an identity in the cache folder and report to its makers."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PATH": ""}
    command = [sys.executable, "-m", "reid", "search", str(pictures(street)[0]), str(street), "--model", str(model)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert {p.relative_to(home).parts[:2] for p in home.rglob("*") if p.is_file()} == {("cache", "reid")}


def test_a_missing_extra_names_its_pip_command(run: Run, street: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from reid.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "train", str(street), "-o", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "reid train: reid train needs an optional dependency that is not installed: pip install 'reid[train]'\n"
    )


def test_what_would_be_lost_is_kept(run: Run, street: Path, model: Path, tmp_path: Path) -> None:
    out, photo = tmp_path / "e.npz", tmp_path / "photo.jpg"
    photo.write_bytes(pictures(street)[0].read_bytes())
    run("embed", street, "-o", out, "--model", model)
    code, _, err = run("embed", photo, "-o", out, "--model", model)
    assert (code, "not asked for now" in err) == (2, True)
    before = photo.read_bytes()
    for command in (
        ("search", photo, street, "--html", photo),
        ("show", street, "--write-split", "people", "-o", photo),
        ("prior", street, "-o", photo),
        ("prior", street, "-o", tmp_path / "p.json", "--plot", photo),
    ):
        assert run(*command)[0] == 2
    bill = tmp_path / "bill.csv"
    bill.write_text("invoice,amount\n17,3\n")
    run("index", "add", tmp_path / "g.db", photo, "--model", model)
    for command in (
        ("embed", photo, "-o", bill, "--model", model),
        ("cluster", street, "-o", bill, "--model", model),
        ("show", street, "--write-split", "people", "-o", bill),
        ("index", "export", tmp_path / "g.db", "--crops", bill),
        ("index", "export", tmp_path / "g.db", "--pairs", bill),
    ):
        code, _, err = run(*command)
        assert (code, "bill.csv" in err, bill.read_text()) == (2, True, "invoice,amount\n17,3\n")
    for source in (street, street / "crops.csv"):
        code, _, err = run("show", source, "--write-split", "people", "-o", street / "crops.csv")
        assert (code, "is what is read" in err) == (2, True)
    code, _, err = run("demo", "-o", tmp_path)
    assert (code, "holds other files" in err) == (2, True)
    assert photo.read_bytes() == before


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A model with a calibration beside it, fitted by the command on drawn people."""
    folder = tmp_path_factory.mktemp("calibrated")
    copy = folder / "mine.onnx"
    copy.write_bytes(model.read_bytes())
    draw_street(folder / "crops", people=12)
    output = folder / "mine.calibration.json"
    main(["verify", "--fit", str(folder / "crops"), "--model", str(copy), "-o", str(output), "--quiet"])
    return copy


def test_verify_says_whether_and_how_likely(run: Run, calibrated: Path) -> None:
    a, b = pictures(calibrated.parent / "crops")[:2]
    code, out, _ = run("verify", a, a, "--model", calibrated)
    assert code == 0
    assert out.startswith("same ")
    assert "as likely as not beforehand" in out
    assert "11 people, crops" in out
    code, out, _ = run("verify", a, b, "--model", calibrated, "--far", "0.05", "--json")
    assert code == 0
    said = json.loads(out)
    assert said["false_accepts"]["rate"] == 0.05
    assert said["pairs"][0]["threshold"] == said["false_accepts"]["distance"]
    code, out, _ = run("verify", b, a, "--model", calibrated, "--far", "0.05", "--json")
    assert json.loads(out)["pairs"][0]["probability"] == pytest.approx(said["pairs"][0]["probability"], abs=1e-6)
    code, out, _ = run("verify", a, b, "--model", calibrated, "--prior", "0.01", "--json")
    assert json.loads(out)["pairs"][0]["probability"] < said["pairs"][0]["probability"]


def test_verify_takes_lists_and_tables_and_names_what_is_broken(run: Run, calibrated: Path, tmp_path: Path) -> None:
    some = [str(p) for p in pictures(calibrated.parent / "crops")[:6]]
    (tmp_path / "left.txt").write_text("\n".join(some[:3]))
    (tmp_path / "right.txt").write_text("\n".join(some[3:]))
    code, out, _ = run("verify", tmp_path / "left.txt", tmp_path / "right.txt", "--model", calibrated, "--json")
    assert code == 0
    lists = json.loads(out)["pairs"]
    assert [(p["a"], p["b"]) for p in lists] == list(zip(some[:3], some[3:], strict=True))
    (tmp_path / "broken.jpg").write_bytes(b"")
    rows = [f"{a};{b};c1;" for a, b in zip(some[:3], some[3:], strict=True)]
    (tmp_path / "pairs.csv").write_text("\n".join(["a;b;camera_a;camera_b", *rows, f"broken.jpg;{some[0]};;"]))
    code, out, err = run("verify", tmp_path / "pairs.csv", "--model", calibrated)
    assert code == 0
    assert "broken.jpg is empty" in err
    assert "1 of 4 pairs were left out" in out
    code, out, _ = run("verify", tmp_path / "pairs.csv", "--model", calibrated, "--json")
    table = json.loads(out)
    assert [p.get("probability") for p in table["pairs"][:3]] == pytest.approx([p["probability"] for p in lists])
    assert table["pairs"][3] == {"a": str(tmp_path / "broken.jpg"), "b": some[0], "skipped": True}
    assert len(table["skipped"]) == 1


def test_mistakes_in_verify_are_told_in_a_sentence(run: Run, calibrated: Path, model: Path, tmp_path: Path) -> None:
    a, b = pictures(calibrated.parent / "crops")[:2]
    (tmp_path / "broken.jpg").write_bytes(b"")
    (tmp_path / "left.txt").write_text(f"{a}\n{b}\n")
    (tmp_path / "t.csv").write_text("x,y\n1,2\n")
    (tmp_path / "none.csv").write_text("a,b\n")
    (tmp_path / "half.csv").write_text("a,b\nq.jpg,\n")
    (tmp_path / "gone.csv").write_text("a,b\nq.jpg,r.jpg\n")
    (tmp_path / "bad.json").write_text("{}")
    known = ["--model", calibrated]
    for arguments, said in (
        ([*known], "nothing to compare was given"),
        ([a, *known], "is one source; give two pictures"),
        ([a, tmp_path / "no.jpg", *known], "does not exist"),
        ([a, tmp_path / "broken.jpg", *known], "broken.jpg is empty"),
        ([a, tmp_path / "left.txt", *known], "1 picture and .*left.txt 2; they go in pairs"),
        ([tmp_path / "t.csv", *known], "starts with 'x,y'; a table of pairs"),
        ([tmp_path / "none.csv", *known], "names no pair"),
        ([tmp_path / "half.csv", *known], "line 2 of .* does not name two pictures"),
        ([tmp_path / "gone.csv", *known], "no pair is left"),
        ([a, b, "--model", model], "has no calibration beside it"),
        ([a, b, "--model", model, "--calibration", tmp_path / "bad.json"], "is not a readable calibration"),
        ([a, b, *known, "--views", "mirror"], "the same --model, --views and --precision"),
        ([a, b, *known, "--far", "1e-9"], "a false-accept rate of 1e-09 was asked for"),
        ([a, b, *known, "--far", "2"], "not a number between 0 and 1"),
        (["--fit", calibrated.parent / "crops", *known], "--fit takes the crops after it and -o FILE"),
        (["--fit", calibrated.parent / "crops", *known, "-o", "x.txt"], "does not end in .json"),
        (
            ["--fit", calibrated.parent / "crops", *known, "-o", tmp_path / "o.json", "--protocol", "x"],
            "protocol is 'x'",
        ),
        (["--fit", calibrated.parent / "crops", *known, "-o", tmp_path / "o.json", "--hold-out", "4"], "at least 10"),
        (["--fit", calibrated.parent / "crops", *known, "-o", "o.json", "--far", "0.1"], "--far is for judging pairs"),
        ([a, b, *known, "-o", "o.json"], "-o goes with --fit CROPS only"),
        ([a, b, *known, "--no-cameras"], "--no-cameras goes with --fit CROPS only"),
        ([a, b, *known, "--like", "torchreid"], "scales them itself; leave --like torchreid out"),
    ):
        code, _, err = run("verify", *arguments)
        assert code == 2, arguments
        assert re.search(said, err), (arguments, err)
        assert "Traceback" not in err


def test_search_shows_probabilities_where_there_is_a_calibration(
    run: Run, calibrated: Path, model: Path, tmp_path: Path
) -> None:
    crops = calibrated.parent / "crops"
    query = pictures(crops)[0]
    code, out, _ = run("search", query, crops, "--model", calibrated, "-k", 3, "--html", tmp_path / "s.html")
    assert code == 0
    assert "distance    same" in out
    assert " %" in out
    assert "same: of each pair by its distance alone" in out
    code, out, _ = run("search", query, crops, "--model", calibrated, "-k", 3, "--json")
    found = json.loads(out)["answers"][0]["matches"]
    assert all(0 <= m["probability"] <= 1 for m in found)
    code, out, _ = run("search", query, crops, "--model", calibrated.parent / "mine.onnx", "--views", "mirror")
    assert code == 0
    assert "same" not in out.splitlines()[1]
    assert "same:" not in out
    code, _, err = run(
        "search", query, crops, "--views", "mirror", "--model", calibrated, "--calibration",
        calibrated.with_suffix(".calibration.json"),
    )  # fmt: skip
    assert code == 2
    assert "the calibration was fitted for model" in err
