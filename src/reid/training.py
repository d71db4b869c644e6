"""The training loop, read top to bottom."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from torch import Tensor, nn

from reid import augment, checkpoint, images
from reid.errors import DataError
from reid.evaluation import evaluate, hold_out
from reid.losses import LOSSES
from reid.nets import NETS
from reid.recipes import Stage, TrainConfig
from reid.sampler import PKSampler
from reid.types import Crop, Embeddings, Report

MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
LAST, BEST = "last.safetensors", "best.safetensors"


def train(crops: Sequence[Crop], config: TrainConfig, run: Path, resume: bool = False) -> Report:
    """Train a network on labelled crops, choosing the best weights on people held out.

    Args:
        crops: with people and, for validation, cameras.
        config: every setting.
        run: a folder that is made; it receives run.json, metrics.jsonl, last.safetensors and best.safetensors.
        resume: continue a run that was interrupted, from the last finished epoch.

    Returns:
        The validation report of the best weights.

    Raises:
        DataError: the folder is in use, or the data are too few for the settings.
    """
    if run.exists() and any(run.iterdir()) and not resume:
        raise DataError(f"{run} is not empty; give a new folder, or resume the run that is in it")
    run.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    fabric = lightning_fabric.Fabric(accelerator="auto", devices=1, precision=config.precision)
    torch.manual_seed(config.seed)

    people, query, gallery = hold_out(crops, config.hold_out)
    names = sorted({c.pid for c in people if c.pid})
    labels = np.array([names.index(c.pid) for c in people if c.pid])
    sampler = PKSampler(labels, config.people, config.crops, config.seed)
    targets = torch.from_numpy(labels).to(fabric.device)
    (run / "run.json").write_text(
        json.dumps(
            {"config": asdict(config), "people": len(names), "crops": len(people), "torch": torch.__version__}, indent=2
        )
    )

    net = NETS[config.net](classes=len(names), **config.net_options).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = NETS[config.net](classes=len(names), **config.net_options)
    average.load_state_dict(net.state_dict())
    average.to(fabric.device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    decayed = [p for p in net.parameters() if p.ndim > 1 and p.requires_grad]
    spared = [p for p in net.parameters() if p.ndim <= 1 and p.requires_grad]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    model, optimizer = fabric.setup(net, torch.optim.AdamW(groups, lr=config.rate))

    first, best = 0, -1.0
    if resume and (run / LAST).exists():
        tensors, state = checkpoint.load(run / LAST)
        net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
        average.load_state_dict({k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")})
        checkpoint.unpack_optimizer(optimizer.optimizer, tensors)
        first, best = state["epoch"] + 1, state["best"]

    total, warm = config.epochs * len(sampler), config.warmup * len(sampler)
    stage: Stage | None = None
    report: Report | None = None
    for epoch in range(first, config.epochs):
        if stage != (stage := config.stage(epoch)):
            pixels = load_pixels(people, stage).to(fabric.device)
        started, sums = time.perf_counter(), torch.zeros(len(config.losses), device=fabric.device)
        for i, rows in enumerate(sampler.epoch(epoch)):
            step = epoch * len(sampler) + i
            rate = config.rate * learning_rate(step, total, warm)
            for group in optimizer.param_groups:
                group["lr"] = rate
            rng = torch.Generator(fabric.device).manual_seed(config.seed << 32 | step)
            index = torch.from_numpy(rows).to(fabric.device)
            batch = augment.flip(pixels[index], rng)
            batch = augment.pad_crop(batch, rng)
            batch = augment.jitter(batch, rng, config.jitter, config.jitter, config.jitter / 2)
            batch = augment.erase(batch, rng, config.erase)

            features = model(normalise(batch))
            terms = [
                loss.weight * LOSSES[loss.name](features, targets[index], **loss.options).mean()
                for loss in config.losses
            ]
            value = torch.stack(terms).sum()
            if not torch.isfinite(value):
                raise DataError(
                    f"the loss is {value.item()} at step {step} (learning rate {rate:.2e}, crops {rows.tolist()})"
                )
            fabric.backward(value)
            optimizer.step()
            optimizer.zero_grad()
            follow(average, net, min(config.average, (step + 1) / (step + 10)))
            sums += torch.stack(terms).detach()

        line: dict[str, Any] = {"epoch": epoch, "rate": rate, "seconds": round(time.perf_counter() - started, 2)}
        line |= {t.name: round(v, 4) for t, v in zip(config.losses, (sums / len(sampler)).tolist(), strict=True)}
        if (query and (epoch + 1) % config.validate_every == 0) or epoch + 1 == config.epochs:
            report = evaluate(embed(average, query, stage), embed(average, gallery, stage))
            line |= report.metrics
            if report.metrics["mAP"] > best:
                best = report.metrics["mAP"]
                checkpoint.save(run / BEST, average.state_dict(), header(config, stage, report))
        checkpoint.save(run / LAST, pack(net, average, optimizer), {"epoch": epoch, "best": best})
        with open(run / "metrics.jsonl", "a") as log:
            log.write(json.dumps(line) + "\n")
        fabric.print(json.dumps(line))
    return Report(**checkpoint.load(run / BEST)[1]["validation"])


def learning_rate(step: int, total: int, warm: float) -> float:
    """Share of the peak rate: up a line, then down a cosine to a hundredth."""
    if step < warm:
        return (step + 1) / warm
    progress = (step - warm) / max(1.0, total - warm)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move the averaged weights, and copy the counts of batches, towards the network's."""
    floats = [
        (a, b)
        for a, b in zip(average.state_dict().values(), net.state_dict().values(), strict=True)
        if a.is_floating_point()
    ]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - decay)


def normalise(batch: Tensor) -> Tensor:
    """(B, H, W, 3) of 0–255 RGB to (B, 3, H, W), ImageNet mean and deviation, channels last in memory."""
    mean = torch.tensor(MEAN, device=batch.device)
    deviation = torch.tensor(DEVIATION, device=batch.device)
    return ((batch.float() - mean) / deviation).permute(0, 3, 1, 2)


def load_pixels(crops: Sequence[Crop], stage: Stage) -> Tensor:
    """Every crop, decoded and resized once: (N, H, W, 3) uint8."""
    with ThreadPoolExecutor() as pool:
        pixels = list(pool.map(lambda c: images.resize(images.read(c.path), stage.height, stage.width), crops))
    return torch.from_numpy(np.stack(pixels))


@torch.no_grad()
def embed(net: nn.Module, crops: Sequence[Crop], stage: Stage) -> Embeddings:
    """Unit-length embeddings of the network as it stands."""
    pixels, device = load_pixels(crops, stage), next(net.parameters()).device
    parts = [net(normalise(part.to(device))).embedding.float().cpu() for part in pixels.split(64)]
    return Embeddings(nn.functional.normalize(torch.cat(parts)).numpy(), tuple(crops), "in training")


def header(config: TrainConfig, stage: Stage, report: Report) -> dict[str, Any]:
    """What a weights file says of itself."""
    preprocess = {"height": stage.height, "width": stage.width, "mean": MEAN, "deviation": DEVIATION}
    return {
        "net": config.net,
        "net_options": config.net_options,
        "preprocess": preprocess,
        "config": asdict(config),
        "validation": asdict(report),
    }


def pack(net: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All that a resumed run needs."""
    tensors = {f"net.{k}": v for k, v in net.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    return tensors | checkpoint.pack_optimizer(optimizer)


def keep_freed_memory() -> None:
    """Have glibc keep large freed blocks; handing them back costs eager training two to four times in page faults."""
    import ctypes
    import sys

    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            libc.mallopt(-4, 0)  # M_MMAP_MAX
            libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
            libc.mallopt(-2, 256 << 20)  # M_TOP_PAD
