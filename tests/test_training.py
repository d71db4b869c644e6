from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reid import checkpoint, images
from reid.errors import DataError, ModelError, ReidError, Stopped
from reid.feed import Feed, readable
from reid.machine import suited
from reid.nets import NETS, Features, build
from reid.recipes import RECIPES
from reid.runs import ABOUT, BEST, LAST, LOG
from reid.settings import Augment, Loss, Stage, TrainConfig
from reid.street import draw_street
from reid.training import schedule, train
from reid.types import Crop
from reid.validation import normalise

STILL = Augment(flip=0, shift=0, erase=0, jitter=0)
TINY = TrainConfig(
    net_options={"width": 0.25},
    stages=(Stage(2, 64, 32), Stage(1, 96, 48)),
    people=4,
    crops=3,
    warmup=1,
    hold_out=3,
    validate_every=1,
    precision="32-true",
)


class Plain(nn.Module):
    """A network without batch norm, so that a batch in two halves gives what the whole gives."""

    size = (64, 32)

    def __init__(self, classes: int = 0):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU())
        self.classifier = nn.Linear(16, classes) if classes else None

    def forward(self, x: torch.Tensor) -> Features:
        embedding = self.body(x).mean((2, 3))
        return Features(embedding, embedding, () if self.classifier is None else (self.classifier(embedding),))


NETS["plain"] = Plain
PLAIN = replace(TINY, net="plain", net_options={}, stages=(Stage(2, 64, 32),), augment=STILL, rate=1e-2)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> list[Crop]:
    return draw_street(tmp_path_factory.mktemp("street"), people=10)


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / LOG).read_text().splitlines()]


def root(crops: list[Crop]) -> Path:
    folder = Path(crops[0].path)
    while not (folder / "crops.csv").exists():
        folder = folder.parent
    return folder


def start(config: str, crops: list[Crop], run: Path, *launcher: str, threads: int = 1) -> subprocess.Popen[str]:
    """Train in a process of its own, resuming where there is something to resume."""
    code = f"""
import sys
from dataclasses import replace
from pathlib import Path
from reid.data import read
from reid.errors import Stopped
from reid.settings import Loss
from reid.training import train
from tests.test_training import PLAIN, TINY
if __name__ == "__main__":
    try:
        train(read(sys.argv[1]), {config}, Path(sys.argv[2]), resume=True)
    except Stopped as stopped:
        print(stopped)
        sys.exit(130)
"""
    script = run.parent / f"{run.name}.py"
    script.write_text(code)
    command = [sys.executable, *(launcher or ()), str(script), str(root(crops)), str(run)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def assert_same_state(a: Path, b: Path) -> None:
    one, other = checkpoint.load(a / LAST)[0], checkpoint.load(b / LAST)[0]
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# ── a run ──


def test_a_run_from_drawn_people_to_a_model_file(crops: list[Crop], tmp_path: Path) -> None:
    told: list[str] = []
    steps: list[tuple[int, int]] = []
    run = tmp_path / "run"
    trained = train(crops, TINY, run, tell=told.append, progress=lambda done, total: steps.append((done, total)))
    assert trained.weights == run / BEST
    assert trained.reports[""].queries >= 3
    logged = lines(run)
    assert [line["epoch"] for line in logged] == [0, 1, 2]
    assert all(np.isfinite(line["cross-entropy"]) for line in logged)
    assert {"rate", "images/s", "waiting", "mAP", "mINP", "triplet-hard"} <= logged[-1].keys()
    assert len(told) == 3
    assert told[0].startswith("epoch 1/3: ")
    assert steps[-1][0] == steps[-1][1] == len(steps)
    about = json.loads((run / ABOUT).read_text())
    assert TrainConfig.from_json(about["config"]) == TINY
    assert about["data"]["people"] == 7
    assert about["versions"]["torch"] == torch.__version__
    assert {"commit", "changed"} == about["git"].keys()
    net, header = checkpoint.load_net(run / BEST)
    assert header["validation"][""]["queries"] == trained.reports[""].queries
    assert header["preprocess"]["height"] in (64, 96)
    assert not net.training


def test_training_lowers_the_loss(crops: list[Crop], tmp_path: Path) -> None:
    train(crops, replace(TINY, stages=(Stage(14, 64, 32),), augment=STILL, validate_every=99), tmp_path / "run")
    logged = lines(tmp_path / "run")
    assert logged[-1]["cross-entropy"] < 0.9 * logged[0]["cross-entropy"]


def test_several_data_sets_are_kept_apart(crops: list[Crop], tmp_path: Path) -> None:
    trained = train({"a": crops, "b": crops}, replace(TINY, stages=(Stage(1, 64, 32),)), tmp_path / "run")
    about = json.loads((tmp_path / "run" / ABOUT).read_text())
    assert about["data"]["people"] == 14
    assert trained.reports.keys() == {"a", "b"}
    assert trained.reports["a"] == trained.reports["b"]
    assert lines(tmp_path / "run")[0]["a/mAP"] == pytest.approx(trained.reports["a"].metrics["mAP"])


def test_a_broken_picture_is_left_out_and_named(crops: list[Crop], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    told: list[str] = []
    spoilt = [*crops, replace(crops[0], path=str(broken))]
    train(spoilt, replace(PLAIN, stages=(Stage(1, 64, 32),)), tmp_path / "run", tell=told.append)
    assert "left out" in told[0]
    assert "broken.png" in told[0]
    assert json.loads((tmp_path / "run" / ABOUT).read_text())["data"]["crops"] < len(crops)


def test_without_people_held_out_the_last_weights_are_kept(crops: list[Crop], tmp_path: Path) -> None:
    trained = train(crops, replace(PLAIN, hold_out=0), tmp_path / "run")
    assert trained.reports == {}
    state, best = (checkpoint.load(tmp_path / "run" / name)[0] for name in (LAST, BEST))
    assert all(torch.equal(value, state[f"average.{name}"]) for name, value in best.items())


def test_patience_ends_a_run_that_no_longer_gets_better(crops: list[Crop], tmp_path: Path) -> None:
    told: list[str] = []
    config = replace(PLAIN, stages=(Stage(40, 64, 32),), rate=1e-9, average=0.0, patience=2)
    train(crops, config, tmp_path / "run", tell=told.append)
    assert len(lines(tmp_path / "run")) < 40
    assert "no better mAP in 2 validations" in told[-1]


def test_a_run_that_patience_ended_stays_ended(crops: list[Crop], tmp_path: Path) -> None:
    config = replace(PLAIN, stages=(Stage(9, 64, 32),), rate=1e-9, average=0.0, validate_every=1, patience=1)
    for resume in (False, True):
        trained = train(crops, config, tmp_path / "run", resume=resume)
        assert trained.reports
        assert len(lines(tmp_path / "run")) == 2


def test_resuming_where_nothing_is_starts_anew_and_says_so(crops: list[Crop], tmp_path: Path) -> None:
    config, told = replace(PLAIN, stages=(Stage(1, 64, 32),)), list[str]()
    for _ in range(2):
        train(crops, config, tmp_path / "run", resume=True, tell=told.append)
        assert told.count(f"{tmp_path / 'run'} holds nothing to go on with; this run starts anew") == 1
    assert any(line.startswith("going on after step") for line in told)


def test_people_held_out_are_validated_by_what_is_known_of_them(crops: list[Crop], tmp_path: Path) -> None:
    config = replace(PLAIN, stages=(Stage(1, 64, 32),))
    one = [replace(crop, camera="one") for crop in crops]
    assert train(one, config, tmp_path / "one").reports[""].protocol == "diagonal"
    first = {(crop.pid, crop.camera): crop for crop in reversed(crops)}
    each = list(first.values())  # as VIPeR has it: one crop by each camera
    small = replace(config, crops=1, losses=(Loss("cross-entropy"),))
    assert train(each, small, tmp_path / "each").reports[""].protocol == "market1501"
    single = list({crop.pid: crop for crop in crops}.values())
    with pytest.raises(DataError, match="none of whom has two crops"):
        train(single, small, tmp_path / "single")
    assert not (tmp_path / "single").exists()


# ── interruption ──


def test_a_stop_at_the_end_of_an_epoch_loses_nothing_of_it(crops: list[Crop], tmp_path: Path) -> None:
    train(crops, PLAIN, tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        if 2 * done in (total, 2 * total):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped):
        train(crops, PLAIN, tmp_path / "broken", progress=stop)
    trained = train(crops, PLAIN, tmp_path / "broken", resume=True, progress=stop)  # stopped at the very end: done
    assert trained.reports
    runs = [lines(tmp_path / name) for name in ("whole", "broken")]
    timed = ("seconds", "images/s", "waiting")
    one, other = ([{k: v for k, v in line.items() if k not in timed} for line in run] for run in runs)
    assert one == other


def test_killed_and_resumed_equals_unbroken(crops: list[Crop], tmp_path: Path) -> None:
    """Bit for bit, in one process more than the unbroken run."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start("TINY", crops, whole))
    process = start("TINY", crops, broken)
    while process.poll() is None and not (broken / LAST).exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(lines(broken)) < 3
    finish(start("TINY", crops, broken))
    assert_same_state(whole, broken)
    assert [line["epoch"] for line in lines(broken)] == [0, 1, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_finishes_the_step_and_saves(
    crops: list[Crop], tmp_path: Path, number: signal.Signals
) -> None:
    """In the middle of an epoch, with a loss that draws at random; resumed, it ends as the unbroken run does."""
    config = replace(PLAIN, losses=(Loss("batch-sample"), Loss("cross-entropy")), accumulate=2)

    def stop(done: int, total: int) -> None:
        if done == 2:
            signal.raise_signal(number)

    train(crops, config, tmp_path / "whole")
    with pytest.raises(Stopped, match="stopped after step 2 of"):
        train(crops, config, tmp_path / "broken", progress=stop)
    train(crops, config, tmp_path / "broken", resume=True)
    assert_same_state(tmp_path / "whole", tmp_path / "broken")
    for one, other in zip(lines(tmp_path / "whole"), lines(tmp_path / "broken"), strict=True):
        assert one["cross-entropy"] == pytest.approx(other["cross-entropy"], abs=1e-4)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("config", ["PLAIN", "replace(PLAIN, losses=(Loss('triplet-hard'),), rate=1e-3)"])
def test_two_processes_give_what_one_gives(crops: list[Crop], tmp_path: Path, config: str) -> None:
    """With losses over the batch of both: triplet-hard mining finds the same triplets, with a classifier or without."""
    finish(start(config, crops, tmp_path / "one"))
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29417")
    finish(start(config, crops, tmp_path / "two", *launcher))
    one, two = (checkpoint.load(tmp_path / run / LAST)[0] for run in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-6, rtol=1e-4)
    first = lines(tmp_path / "one")
    assert len(first) == len(lines(tmp_path / "two"))
    assert first[-1]["triplet-hard"] == pytest.approx(lines(tmp_path / "two")[-1]["triplet-hard"], abs=1e-4)


def test_accumulated_gradients_are_those_of_the_mean(crops: list[Crop], tmp_path: Path) -> None:
    """Two batches a step with a loss that is a mean over rows: half as many steps, each over twice the crops."""
    config = replace(PLAIN, stages=(Stage(1, 64, 32),), losses=(Loss("cross-entropy"),))
    train(crops, replace(config, accumulate=2), tmp_path / "run")
    train(crops, config, tmp_path / "plain")
    assert lines(tmp_path / "run")[0]["step"] == lines(tmp_path / "plain")[0]["step"] // 2


# ── refusals ──


def test_a_folder_in_use_is_refused(crops: list[Crop], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="not empty"):
        train(crops, PLAIN, tmp_path)
    with pytest.raises(DataError, match="no run to resume"):
        train(crops, PLAIN, tmp_path, resume=True)


def test_a_run_is_resumed_with_its_own_settings_and_data_only(crops: list[Crop], tmp_path: Path) -> None:
    config = replace(PLAIN, stages=(Stage(1, 64, 32),))
    train(crops, config, tmp_path / "run")
    with pytest.raises(DataError, match=r"rate was 0.01 and is 0.5; resume it with the same"):
        train(crops, replace(config, rate=0.5), tmp_path / "run", resume=True)
    with pytest.raises(DataError, match="fingerprints was"):
        train(crops[1:], config, tmp_path / "run", resume=True)


def test_a_loss_that_is_not_finite_stops_with_the_step_named(crops: list[Crop], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at step \d+ \(learning rate .*, crops .*rows \["):
        train(crops, replace(PLAIN, losses=(Loss("cross-entropy", 3e38),)), tmp_path / "run")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"people": 1}, "people is 1; it must be at least 2"),
        ({"rate": 0.0}, "must be a number above 0"),
        ({"rarity": -1.0}, "rarity is -1.0; it must be at least 0"),
        ({"batches": "pairs", "people": 3, "crops": 3}, "even number of pairs"),
        ({"stages": ()}, "no stage with an epoch"),
        ({"schedule": "step"}, "needs milestones"),
        ({"losses": (Loss("triplet-hard"), Loss("triplet-hard", 2.0))}, "each named once"),
        ({"rate": float("inf")}, "must be a number above 0"),
        ({"patience": -1}, "patience is -1; it must be at least 0"),
        ({"patience": 1, "hold_out": 0}, "patience needs validations"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"freeze": 1}, "no weights were given to start from"),
        ({"batches": "shuffle"}, "batches is 'shuffle'; it can be people, shuffled, pairs"),
        ({"optimizer": "lamb"}, "it can be adamw, adam, sgd"),
        ({"schedule": "poly", "milestones": (0.5,)}, "it can be cosine, step, exponential"),
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        replace(TINY, **setting)  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_impossible_weights_and_stages_are_refused(weight: float) -> None:
    with pytest.raises(DataError, match="must be a number of 0 or more"):
        Loss("triplet-hard", weight)
    with pytest.raises(DataError, match="each must be at least 1"):
        Stage(1, 0, 32)


def test_what_cannot_begin_leaves_no_folder(crops: list[Crop], tmp_path: Path) -> None:
    for changed, said in (
        ({"losses": (Loss("tripplet"),)}, "tripplet"),
        ({"init": str(tmp_path / "none.pth")}, "none.pth"),
        ({"accumulate": 99}, "accumulate fewer"),
        ({"net": "osnet", "net_options": {"width": 0.25}, "stages": (Stage(1, 8, 8),)}, "cannot take pictures of 8×8"),
    ):
        with pytest.raises(ReidError, match=said):
            train(crops, replace(PLAIN, **changed), tmp_path / "run")  # type: ignore[arg-type]
        assert not (tmp_path / "run").exists()


def test_impossible_augmentation_is_refused() -> None:
    with pytest.raises(DataError, match=r"augment erase is 2.0; it lies between 0 and 1"):
        Augment(erase=2.0)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(DataError, match="no training setting learning_rate"):
        TrainConfig.from_json(TINY.to_json() | {"learning_rate": 1})


# ── settings ──


def test_every_schedule_rises_then_falls() -> None:
    for name, milestones in (("cosine", ()), ("step", (0.5, 0.8)), ("exponential", (0.6,))):
        config = replace(TINY, schedule=name, milestones=milestones, stages=(Stage(10, 8, 4),), warmup=2)
        rates = [schedule(config, step / 100, step / 10) for step in range(100)]
        assert rates[10] == pytest.approx(0.5)
        assert rates[20] == max(rates) == pytest.approx(1)
        assert all(a >= b for a, b in pairwise(rates[20:]))
        assert rates[-1] < 0.02


def test_the_papers_decay() -> None:
    """Hermans et al. 2017: up to t0 = 15,000 as it is, then times 0.001^((t − t0)/(t1 − t0)) to 25,000."""
    config = replace(RECIPES["trinet"](), stages=(Stage(10, 8, 4),))
    for step in (0, 14_999, 15_000, 20_000, 24_999):
        wanted = 1.0 if step < 15_000 else 0.001 ** ((step - 15_000) / 10_000)
        assert schedule(config, step / 25_000, step / 2_500) == pytest.approx(wanted)


def test_a_recipe_knows_its_stage() -> None:
    config = TrainConfig(stages=(Stage(2, 8, 4), Stage(3, 16, 8)))
    assert config.epochs == 5
    assert [config.stage(e).height for e in range(5)] == [8, 8, 16, 16, 16]


def test_stages_scale_in_proportion() -> None:
    config = TrainConfig(stages=(Stage(60, 8, 4), Stage(40, 12, 6), Stage(60, 16, 8)))
    assert [s.epochs for s in config.lasting(16).stages] == [6, 4, 6]
    assert [s.height for s in config.lasting(1).stages] == [16]
    assert config.lasting(1).warmup < 1


def test_a_small_data_set_gets_smaller_batches_and_more_epochs() -> None:
    config = RECIPES["market"]().fitted(people=12, crops=300)
    assert (config.hold_out, config.people) == (2, 10)
    assert config.epochs == 5 * RECIPES["market"]().epochs
    assert RECIPES["market"]().fitted(751, 12_936) == RECIPES["market"]()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_stored_and_read_back_and_can_be_built(name: str) -> None:
    config = RECIPES[name]()
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with torch.device("meta"):
        assert sum(p.numel() for p in build(config.net, classes=5, **config.net_options).parameters())


# ── starting weights ──


def test_a_net_starts_from_weights_and_says_what_did_not_fit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, target = Plain(classes=4), Plain(classes=7)
    state = {f"module.{k}": v for k, v in source.state_dict().items()} | {"module.extra": torch.zeros(2)}
    state["module.body.2.bias"] = torch.zeros(3)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "old.pth.tar")
    fit = checkpoint.initialise(target, tmp_path / "old.pth.tar")
    assert torch.equal(target.body[0].weight, source.body[0].weight)
    assert fit.matched == ("body.0.weight", "body.0.bias", "body.2.weight")
    assert fit.fresh == ("classifier.weight", "classifier.bias")
    assert fit.unused == ("extra",)
    assert fit.differing == ("body.2.bias is (3,), not (16,)",)
    assert str(fit).startswith("3 tensors taken over; 2 start anew (classifier.weight, classifier.bias); 1 of the file")


def test_weights_may_be_read_by_whom_other_files_may(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    checkpoint.save(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, {})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_weights_that_fit_nowhere_or_would_run_code_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelError, match=r"nothing in .* fits Plain"):
        checkpoint.initialise(Plain(), tmp_path / "foreign.safetensors")
    torch.save(Plain(), tmp_path / "whole.pth")
    with pytest.raises(ModelError, match="more than tensors and plain containers"):
        checkpoint.initialise(Plain(), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match="damaged"):
        checkpoint.initialise(Plain(), tmp_path / "cut.pth")
    with pytest.raises(ModelError, match="there is no weights file nowhere"):
        checkpoint.initialise(Plain(), "nowhere")


def test_frozen_weights_stay_and_then_learn(crops: list[Crop], tmp_path: Path) -> None:
    torch.manual_seed(5)
    trunk = {k: v for k, v in Plain().state_dict().items() if k.startswith("body.0.")}
    save_file(trunk, tmp_path / "trunk.safetensors")
    config = replace(
        PLAIN, init=str(tmp_path / "trunk.safetensors"), freeze=1, stages=(Stage(1, 64, 32),), weight_decay=0.5
    )
    train(crops, config, tmp_path / "frozen")
    after = checkpoint.load(tmp_path / "frozen" / LAST)[0]
    assert torch.equal(after["net.body.0.weight"], trunk["body.0.weight"])
    train(crops, replace(config, stages=(Stage(2, 64, 32),)), tmp_path / "thawed")
    after = checkpoint.load(tmp_path / "thawed" / LAST)[0]
    assert not torch.equal(after["net.body.0.weight"], trunk["body.0.weight"])


def test_a_classifier_on_known_features_starts_at_the_means_of_the_people(crops: list[Crop], tmp_path: Path) -> None:
    before = train(crops, replace(PLAIN, stages=(Stage(1, 64, 32),)), tmp_path / "first").weights
    said: list[str] = []
    config = replace(PLAIN, init=str(before), rate=1e-12, warmup=0, weight_decay=0, stages=(Stage(1, 64, 32),))
    train(crops, config, tmp_path / "second", tell=said.append)
    assert "the classifier starts at the mean of each person" in said
    after = checkpoint.load(tmp_path / "second" / LAST)[0]
    people = sorted({c.pid for c in crops if c.pid})[: -config.hold_out]
    net = Plain(classes=len(people)).eval()
    net.load_state_dict({k.removeprefix("net."): v for k, v in after.items() if k.startswith("net.")})
    theirs = [[c for c in crops if c.pid == pid] for pid in people]
    with torch.no_grad():
        x = [net(normalise(torch.stack([pixels_of(c) for c in mine]))).embedding for mine in theirs]
    means = torch.stack([nn.functional.normalize(nn.functional.normalize(v).mean(0), dim=0) for v in x])
    scale = 16 / torch.cat(x).norm(dim=1).mean()
    torch.testing.assert_close(net.classifier.weight, means * scale, atol=1e-4, rtol=1e-4)
    said.clear()
    trunk = {k: v for k, v in Plain().state_dict().items() if k.startswith("body.0.")}
    save_file(trunk, tmp_path / "trunk.safetensors")
    train(crops, replace(config, init=str(tmp_path / "trunk.safetensors")), tmp_path / "third", tell=said.append)
    assert not [text for text in said if "classifier starts" in text]


def pixels_of(crop: Crop) -> torch.Tensor:
    return torch.from_numpy(images.resize(images.read(crop.path), 64, 32))


def test_a_network_learns_from_a_teacher(crops: list[Crop], tmp_path: Path) -> None:
    config = replace(TINY, stages=(Stage(4, 64, 32),), teacher="general", losses=(Loss("distil", 5.0),), augment=STILL)
    train(crops, config, tmp_path / "run")
    found = [line["distil"] for line in lines(tmp_path / "run")]
    assert all(0 < b < a < 1.2 for a, b in pairwise(found))
    with pytest.raises(DataError, match=r"the teacher's embeddings have 512 values and the network's 16"):
        train(crops, replace(config, net="plain", net_options={}), tmp_path / "short")
    with pytest.raises(DataError, match="a teacher and the loss distil need each other"):
        replace(config, teacher="")


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelError, match="no reid header"):
        checkpoint.load(tmp_path / "foreign.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ModelError, match="not a readable"):
        checkpoint.load(tmp_path / "bad.safetensors")
    checkpoint.save(tmp_path / "short.safetensors", {"conv1.bn.weight": torch.zeros(16)}, {"net": "osnet"})
    with pytest.raises(ModelError, match=r"does not fit osnet: .* is missing, .* and \d+ more"):
        checkpoint.load_net(tmp_path / "short.safetensors")


# ── pictures ──


def test_pictures_are_the_same_held_or_decoded_ahead(crops: list[Crop]) -> None:
    rows = [np.array([3, 1]), np.array([0, 0]), np.array([2, 4]), np.array([5, 6]), np.array([7, 7])]
    held = Feed(crops, 32, 16, torch.device("cpu"))
    ahead = Feed(crops, 32, 16, torch.device("cpu"), memory=0)
    assert (held.held, ahead.held) == (True, False)
    for (a, first), (b, second) in zip(held.batches(rows), ahead.batches(rows), strict=True):
        assert (a == b).all()
        assert torch.equal(first, second)
        assert first.shape == (2, 32, 16, 3)
    assert ahead.waited > 0


def test_the_fingerprint_is_of_contents_people_and_cameras(crops: list[Crop], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.png"
    moved.write_bytes(Path(crops[0].path).read_bytes())
    same = readable([replace(crops[0], path=str(moved))])[2]
    assert same == readable(crops[:1])[2]
    assert len({same, readable(crops[1:2])[2], readable([replace(crops[0], pid="other")])[2], readable([])[2]}) == 4


def test_normalise_is_channels_last_and_centred() -> None:
    out = normalise(torch.full((2, 4, 3, 3), 128, dtype=torch.uint8))
    assert out.shape == (2, 3, 4, 3)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        out[0, :, 0, 0], (128 - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    )


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_bfloat16_is_left_alone_where_it_would_only_be_emulated(
    native: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    assert suited(TrainConfig()).precision == precision
    assert suited(TrainConfig(precision="32-true")).precision == "32-true"
