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

from reid import augment, checkpoint
from reid.errors import DataError
from reid.recipes import RECIPES, Loss, Stage, TrainConfig
from reid.sampler import PKSampler
from reid.street import draw_street
from reid.training import BEST, LAST, learning_rate, normalise, train
from reid.types import Crop

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


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> list[Crop]:
    return draw_street(tmp_path_factory.mktemp("street"), people=10)


def test_a_run_from_drawn_people_to_a_model_file(crops: list[Crop], tmp_path: Path) -> None:
    report = train(crops, TINY, tmp_path / "run")
    assert report.queries >= 3
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert all(np.isfinite(line["cross-entropy"]) for line in lines)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["net"] == "osnet"
    net, header = checkpoint.load_net(tmp_path / "run" / BEST)
    assert header["validation"]["queries"] == report.queries
    assert header["preprocess"]["height"] in (64, 96)
    assert not net.training
    with pytest.raises(DataError, match="not empty"):
        train(crops, TINY, tmp_path / "run")


def test_training_lowers_the_loss(crops: list[Crop], tmp_path: Path) -> None:
    train(crops, replace(TINY, stages=(Stage(14, 64, 32),), erase=0.0), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["cross-entropy"] < 0.9 * lines[0]["cross-entropy"]


def test_killed_and_resumed_equals_unbroken(crops: list[Crop], tmp_path: Path) -> None:
    """Bit for bit, in one process more than the unbroken run."""
    code = """
import sys
from pathlib import Path
from reid.data import read
from reid.training import train
from tests.test_training import TINY
train(read(sys.argv[1]), TINY, Path(sys.argv[2]), resume=True)
"""
    folder = Path(crops[0].path)
    while not (folder / "crops.csv").exists():
        folder = folder.parent
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}

    def start(run: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", code, str(folder), str(run)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)

    assert start(tmp_path / "whole").wait() == 0
    process = start(tmp_path / "broken")
    log = tmp_path / "broken" / "metrics.jsonl"
    while process.poll() is None and not log.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start(tmp_path / "broken").wait() == 0
    whole, broken = (checkpoint.load(tmp_path / run / LAST)[0] for run in ("whole", "broken"))
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_loss_that_is_not_finite_stops_with_the_step_named(crops: list[Crop], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at step \d+ \(learning rate .*, crops \["):
        train(crops, replace(TINY, losses=(Loss("cross-entropy", float("inf")),)), tmp_path / "run")


def test_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == max(rates) == 1
    assert all(a >= b for a, b in pairwise(rates[9:]))
    assert rates[-1] < 0.02


def test_a_recipe_knows_its_stage() -> None:
    config = TrainConfig(stages=(Stage(2, 8, 4), Stage(3, 16, 8)))
    assert config.epochs == 5
    assert [config.stage(e).height for e in range(5)] == [8, 8, 16, 16, 16]
    assert all(isinstance(c, TrainConfig) for c in RECIPES.values())


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from reid.errors import ModelError

    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelError, match="no reid header"):
        checkpoint.load(tmp_path / "foreign.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ModelError, match="not a readable"):
        checkpoint.load(tmp_path / "bad.safetensors")
    checkpoint.save(tmp_path / "short.safetensors", {"conv1.bn.weight": torch.zeros(16)}, {"net": "osnet"})
    with pytest.raises(ModelError, match=r"does not fit osnet: .* is missing, .* and \d+ more"):
        checkpoint.load_net(tmp_path / "short.safetensors")


# ── sampler ──

LABELS = np.repeat(np.arange(10), [1, 2, 3, 4, 5, 6, 7, 8, 20, 30])


def test_batches_hold_p_people_with_k_crops_each() -> None:
    sampler = PKSampler(LABELS, people=4, crops=4)
    batches = list(sampler.epoch(0))
    assert len(batches) == len(sampler) == len(LABELS) // 16
    for rows in batches:
        people = LABELS[rows].reshape(4, 4)
        assert (people == people[:, :1]).all()
        assert len(set(people[:, 0])) == 4


def test_a_person_with_enough_crops_is_not_repeated_in_a_hand() -> None:
    for rows in PKSampler(LABELS, people=4, crops=4).epoch(3):
        for hand in rows.reshape(4, 4):
            if (LABELS[hand[0]] == LABELS).sum() >= 4:
                assert len(set(hand)) == 4


def test_epochs_differ_and_are_repeatable() -> None:
    first, again, other = (np.concatenate(list(PKSampler(LABELS, 4, 4, seed=1).epoch(e))) for e in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_too_few_people_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be drawn from 10"):
        PKSampler(LABELS, people=11, crops=2)


# ── augmentation ──


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


IMAGES = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (64, 24, 12, 3), dtype=np.uint8))


def test_flip_mirrors_about_half() -> None:
    out = augment.flip(IMAGES, generator())
    mirrored = [bool((a == b.flip(1)).all()) for a, b in zip(out, IMAGES, strict=True)]
    same = [bool((a == b).all()) for a, b in zip(out, IMAGES, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48


def test_pad_crop_only_shifts() -> None:
    out = augment.pad_crop(IMAGES, generator(), share=0.1)
    assert out.shape == IMAGES.shape
    inner = IMAGES[:, 8:16, 4:8]
    for i in range(len(out)):
        shifts = [
            (y, x)
            for y in range(-2, 3)
            for x in range(-2, 3)
            if (out[i, 8 + y : 16 + y, 4 + x : 8 + x] == inner[i]).all()
        ]
        assert len(shifts) == 1


def test_erase_paints_one_rectangle_of_the_stated_size() -> None:
    out = augment.erase(IMAGES, generator(), probability=1.0, area=(0.1, 0.2))
    for changed in (out != IMAGES).any(3):
        rows, columns = changed.any(1).nonzero().ravel(), changed.any(0).nonzero().ravel()
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert 0.02 * 288 < height * width < 0.4 * 288
        assert changed.sum() >= 0.95 * height * width
    assert (augment.erase(IMAGES, generator(), probability=0.0) == IMAGES).all()


def test_jitter_keeps_bytes_and_scales_colours() -> None:
    out = augment.jitter(IMAGES, generator(), 0.3, 0.3, 0.2)
    assert out.dtype == torch.uint8
    assert out.float().mean((1, 2, 3)).std() > IMAGES.float().mean((1, 2, 3)).std()
    assert (augment.jitter(IMAGES, generator(), 0, 0, 0).int() - IMAGES.int()).abs().max() <= 1


def test_normalise_is_channels_last_and_centred() -> None:
    out = normalise(torch.full((2, 4, 3, 3), 128, dtype=torch.uint8))
    assert out.shape == (2, 3, 4, 3)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        out[0, :, 0, 0], (128 - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    )
