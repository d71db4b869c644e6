"""`reid train` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reid import checkpoint, data
from reid.data import table
from reid.recipes import RECIPES
from reid.street import draw_street
from tests.conftest import Run

SMALL = ["--epochs", "1", "--size", "64x32", "--people", "4", "--crops", "2", "--precision", "32-true", "--quiet"]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("street")
    draw_street(root, people=10)
    return root


def test_without_a_recipe_it_starts_from_the_shipped_model_and_says_what_it_will_do(
    street: Path, tmp_path: Path, run: Run
) -> None:
    code, out, err = run("train", street, "-o", tmp_path / "run", *SMALL)
    assert code == 0, err
    plan = err.splitlines()[:4]
    assert "of 10 people, cameras: 3; held out for validation: 2 people" in plan[0]
    assert plan[1].startswith(f"recipe base: osnet, starting from {RECIPES['base']().init}, ")
    assert plan[2].startswith("1 epochs (1 at 64×32), batches of 4 people × 2 crops, adamw at ")
    assert "tensors taken over; 1 start anew (classifier.weight)" in plan[3]
    assert "rank-1" in out
    assert f"reid export {tmp_path / 'run' / 'best.safetensors'}" in out
    assert checkpoint.load_net(tmp_path / "run" / "best.safetensors")[1]["net"] == RECIPES["base"]().net


def test_several_data_sets_and_another_network(street: Path, tmp_path: Path, run: Run) -> None:
    other = tmp_path / "other"
    draw_street(other, people=8, seed=5)
    arguments = ["--net", "compact", "--hold-out", "2", "--json", *SMALL]
    code, out, err = run("train", street, other, "-o", tmp_path / "run", *arguments)
    assert code == 0, err
    assert "compact, from scratch" in err
    document = json.loads(out)
    assert document["weights"] == str(tmp_path / "run" / "best.safetensors")
    assert document.keys() - {"weights"} == {street.name, "other"}


def test_losses_are_an_option(street: Path, tmp_path: Path, run: Run) -> None:
    arguments = [
        "--recipe",
        "mobilenetv2",
        "--loss",
        "triplet-semihard",
        "--loss",
        "cross-entropy=0.5",
        "--hold-out",
        "2",
    ]
    code, _, err = run("train", street, "-o", tmp_path / "run", *arguments, *SMALL)
    assert code == 0, err
    assert "mobilenetv2, from scratch, triplet-semihard + cross-entropy" in err
    stored = json.loads((tmp_path / "run" / "run.json").read_text())["config"]["losses"]
    assert [(loss["name"], loss["weight"], loss["options"]) for loss in stored] == [
        ("triplet-semihard", 1.0, {}),
        ("cross-entropy", 0.5, {"smoothing": 0.1}),
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--loss", "circle=much"], "--loss is 'circle=much'; give a name, or a name and a weight, such as circle=0.5"),
        (["--loss", "best"], "there is no loss 'best'; choose from "),
        (["--recipe", "best"], "recipe is 'best'; it can be base, "),
        (["--size", "big"], "the size is 'big'; give height x width in pixels, such as 256x128"),
        (["--net", "resnet51"], "network is 'resnet51'; it can be osnet, "),
        (["--init", "nowhere.pth"], "there is no weights file nowhere.pth; give a file, or one of "),
        (["--hold-out", "10"], "nobody is left to train on"),
        (["--people", "9"], "a batch of 9 people cannot be drawn from 8; ask for fewer"),
    ],
)
def test_mistakes_get_one_sentence(street: Path, tmp_path: Path, run: Run, arguments: list[str], sentence: str) -> None:
    code, _, err = run("train", street, "-o", tmp_path / "run", *SMALL, *arguments)
    assert code == 2
    assert sentence in err.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--net", "resnet51"], ["--loss", "best"]])
def test_what_is_unknown_is_refused_before_the_plan(
    street: Path, tmp_path: Path, run: Run, arguments: list[str]
) -> None:
    code, _, err = run("train", street, "-o", tmp_path / "run", *SMALL, *arguments)
    assert (code, len(err.splitlines())) == (2, 1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").touch()
    code, _, err = run("train", street, "-o", tmp_path / "run", *SMALL)
    assert (code, len(err.splitlines()), "is not empty" in err) == (2, 1, True)


def test_one_person_is_not_enough(street: Path, tmp_path: Path, run: Run) -> None:
    crops = data.read(street)
    table.write(tmp_path / "one.csv", [crop for crop in crops if crop.pid == crops[0].pid])
    code, _, err = run("train", tmp_path / "one.csv", "-o", tmp_path / "run", "--quiet")
    assert (code, "needs crops of two people or more, and there is one" in err.splitlines()[-1]) == (2, True), err
    code, _, err = run("train", street, "-o", tmp_path / "run", *SMALL, "--hold-out", "9")
    assert (code, "beside those held out; hold out fewer" in err.splitlines()[-1]) == (2, True), err


def test_a_misspelt_split_is_not_trained_on(street: Path, tmp_path: Path, run: Run) -> None:
    crops = data.read(street)
    table.write(
        tmp_path / "s.csv", crops, {crop.path: "Train" if crop.pid != crops[0].pid else "test" for crop in crops}
    )
    code, _, err = run("train", tmp_path / "s.csv", "-o", tmp_path / "run", *SMALL)
    assert (code, "'Train', which looks like train" in err) == (2, True), err
