"""The training loop, read top to bottom."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reid import augment, checkpoint, losses, nets
from reid.embed import Embedder
from reid.errors import DataError, Stopped
from reid.feed import Data, Feed
from reid.graph import Graphed
from reid.imprint import imprint
from reid.machine import keep_freed_memory
from reid.processes import agreed, gather, interruptible, unused
from reid.runs import BEST, LAST, Run, in_use
from reid.sampler import Groups, PairSampler, PKSampler, ShuffledSampler, share
from reid.settings import Stage, TrainConfig
from reid.types import Crop, Report
from reid.validation import DEVIATION, MEAN, Validation, figures, normalise

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a run: the weights file, and what validation found with it, by name of the data set."""

    weights: Path
    reports: dict[str, Report]


def train(
    crops: Sequence[Crop] | Mapping[str, Sequence[Crop]],
    config: TrainConfig,
    folder: Path,
    resume: bool = False,
    tensorboard: bool = False,
    tell: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trained:
    """Train a network on labelled crops, choosing the best weights on people held out.

    Started by `torchrun`, it runs in all its processes; losses then see the whole batch of all of them.

    Args:
        crops: with people and, for validation, cameras; or several data sets by name, whose people are kept apart.
        config: every setting.
        folder: is made; it receives run.json, metrics.jsonl, last.safetensors and best.safetensors.
        resume: go on with a run that was interrupted; where none was, start one and say so. On one CPU the weights
            become those of an unbroken run, bit for bit.
        tensorboard: write the figures for TensorBoard too.
        tell: receives a line of text now and then.
        progress: receives the steps done and the steps in all.

    Raises:
        DataError: the folder is in use, the data are too few for the settings, or the loss is no longer finite.
        ModelError: the network is unknown, or the weights to start from do not fit it.
        Stopped: Ctrl-C or SIGTERM came; the step was finished and saved.
    """
    check(config, folder, resume)
    keep_freed_memory()
    world = int(os.environ.get("WORLD_SIZE", 1))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    fabric = lightning_fabric.Fabric(
        devices=here, num_nodes=world // here, strategy="ddp" if world > 1 else "auto", precision=config.precision
    )
    fabric.launch()
    cuda = fabric.device.type == "cuda"
    tell = tell if fabric.is_global_zero else lambda text: None

    # ── data ──
    data = Data.of(crops if isinstance(crops, Mapping) else {"": crops}, config.hold_out, tell)
    sampler, whole = draw(config, data, world)
    steps = len(sampler) // config.accumulate
    total = steps * config.epochs
    taught = teach(config.teacher, data.crops, tell) if config.teacher else None

    # ── network, losses, optimizer ──
    torch.manual_seed(config.seed)
    net = nets.build(config.net, classes=data.people, **config.net_options)
    known: set[str] = set()
    able = False
    if config.init:
        fit = checkpoint.initialise(net, config.init)
        known = set(fit.matched)
        able = not fit.differing and all(name.startswith(checkpoint.CLASSIFIER) for name in fit.fresh)
        tell(f"starting from {config.init}: {fit}")
    average = nets.build(config.net, classes=data.people, **config.net_options)
    average.load_state_dict(net.state_dict())
    for module in (net, average):
        module.to(fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average.eval()
    first = config.stages[0]
    try:
        with torch.no_grad():
            dim = average(torch.zeros(1, 3, first.height, first.width, device=fabric.device)).metric.shape[1]
    except RuntimeError as error:
        raise DataError(
            f"{config.net} cannot take pictures of {first.height}×{first.width} ({str(error).splitlines()[0]}); give "
            "another --size"
        ) from None
    terms = [losses.build(t.name, data.people, dim, **t.options) for t in config.losses]
    memories = nn.ModuleList(t for t in terms if isinstance(t, nn.Module)).to(fabric.device)
    if world > 1 and cuda:
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    learns = {name for name, p in net.named_parameters() if p.requires_grad}
    parameters = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adapted = OPTIMIZERS[config.optimizer](groups, lr=config.rate)
    optimizer: Any = fabric.setup_optimizers(adapted)

    run = Run(folder, config, data.facts, resume, tensorboard) if fabric.is_global_zero else None
    fabric.barrier()
    step, best = 0, Best()
    sums: dict[str, Tensor | float] = {}
    if resume and (folder / LAST).exists():
        tensors, state = checkpoint.load(folder / LAST)
        for prefix, module in (("net.", net), ("average.", average), ("memory.", memories)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        checkpoint.unpack_optimizer(adapted, tensors)
        fabric.strategy.precision.load_state_dict(state["precision"])
        step, best, sums = state["step"], Best(**state["best"]), state["sums"]
        tell(f"going on after step {step:,} of {total:,}")
    elif resume:
        tell(f"{folder} holds nothing to go on with; this run starts anew")
    over = best.over(config.patience)
    if run:
        run.forget(step // steps)

    def save() -> None:
        """All that a resumed run needs."""
        if fabric.is_global_zero:
            tensors = {f"net.{k}": v for k, v in net.state_dict().items()}
            tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
            tensors |= {f"memory.{k}": v for k, v in memories.state_dict().items()}
            tensors |= checkpoint.pack_optimizer(adapted)
            state = {"step": step, "best": asdict(best), "sums": {k: float(v) for k, v in sums.items()}}
            checkpoint.save(folder / LAST, tensors, state | {"precision": fabric.strategy.precision.state_dict()})

    # ── the loop ──
    both = zip(average.state_dict().values(), net.state_dict().values(), strict=True)
    followers, leaders = zip(*((a, b) for a, b in both if a.is_floating_point()), strict=True)
    now: Stage | None = None
    frozen: bool | None = None
    watch = Watch(data.crops)
    with interruptible() as interrupted:
        for epoch in range(step // steps, 0 if over else config.epochs):
            stage = config.stage(epoch)
            resized, thawed = stage != now, frozen != (epoch < config.freeze)
            if resized:
                now = stage
                feed = Feed(data.crops, stage.height, stage.width, fabric.device)
                held_out = Validation(data.validation if fabric.is_global_zero else {}, stage, fabric.device)
            if able and step == 0:
                with fabric.autocast():
                    able = imprint(average, feed, torch.from_numpy(data.labels))
                if able:
                    net.load_state_dict(average.state_dict())
                    tell("the classifier starts at the mean of each person")
            if thawed:
                frozen = epoch < config.freeze
                for name, parameter in net.named_parameters():
                    parameter.requires_grad_(name in learns and not (frozen and name in known))
            net.train()
            for module in net.modules() if frozen else ():
                own = list(module.parameters())
                if own and not any(p.requires_grad for p in own):
                    module.eval()
            if thawed or (resized and cuda):
                model = fabric.setup_module(recorded(net, config, stage, fabric, tell))
            started, waited, begun = time.perf_counter(), feed.waited, step
            batches = list(sampler.epoch(epoch))[: steps * config.accumulate]
            ahead = batches[step % steps * config.accumulate :]
            arriving = feed.batches(share(batch, fabric.global_rank, world, whole) for batch in ahead)
            while step < (epoch + 1) * steps:
                rate = config.rate * schedule(config, step / total, step / steps)
                for group in adapted.param_groups:
                    group["lr"] = rate
                for part in range(config.accumulate):
                    rows, pixels = next(arriving)
                    number = step * config.accumulate + part
                    rng = torch.Generator().manual_seed(seed(config.seed, number, fabric.global_rank))
                    pixels = augment.apply(pixels, rng, config.augment)
                    torch.manual_seed(seed(config.seed, number, fabric.global_rank))  # dropout
                    targets = data.targets(rows).to(fabric.device, non_blocking=True)
                    with fabric.no_backward_sync(model, enabled=part + 1 < config.accumulate):
                        features = model(normalise(pixels))
                        if taught is not None:
                            features = features._replace(taught=taught[rows].to(fabric.device, non_blocking=True))
                        features, pids = gather(fabric, features, targets)
                        torch.manual_seed(seed(config.seed, number))  # random triplets, the same in all processes
                        values = {t.name: term(features, pids) for t, term in zip(config.losses, terms, strict=True)}
                        means = {t.name: values[t.name].mean() for t in config.losses}
                        value = torch.stack([t.weight * means[t.name] for t in config.losses]).sum()
                        fabric.backward((value + unused(features)) / config.accumulate)
                    watch.see(value.detach(), step, rate, rows)
                    for name, figure in (means | losses.statistics(features, pids, values)).items():
                        sums[name] = sums.get(name, 0.0) + figure.detach()
                optimizer.step()
                optimizer.zero_grad()
                torch._foreach_lerp_(followers, leaders, 1 - min(config.average, (step + 1) / (step + 10)))
                step += 1
                progress(step, total)
                if step % steps and agreed(fabric, interrupted):  # at its end an epoch is validated first
                    watch.check()
                    save()
                    raise Stopped(f"stopped after step {step:,} of {total:,}, all is saved; go on with --resume")

            watch.check()
            seconds = time.perf_counter() - started
            line: dict[str, Any] = {"epoch": epoch, "step": step, "rate": rate, "seconds": round(seconds, 2)}
            images = (step - begun) * config.accumulate * len(batches[0])
            line |= {"images/s": round(images / seconds, 1)}
            line |= {"waiting": round((feed.waited - waited) / seconds, 4)}
            line |= {name: round(float(s) / (steps * config.accumulate), 4) for name, s in sums.items()}
            sums = {}
            last = epoch + 1 == config.epochs
            if fabric.is_global_zero and ((epoch + 1) % config.validate_every == 0 or last):
                reports = held_out(average)
                line |= figures(reports)
                if best.offer(line.get("mAP", math.inf), epoch):
                    checkpoint.save(
                        folder / BEST, average.state_dict(), header(config, stage, reports, data.facts, net)
                    )
            enough = agreed(fabric, [best.over(config.patience)])
            if run:
                run.log(line)
                tell(describe(line, config.epochs))
            save()
            if enough:
                tell(f"no better mAP in {config.patience} validations; stopping after epoch {epoch + 1}")
                break
            if not last and agreed(fabric, interrupted):
                raise Stopped(f"stopped after step {step:,} of {total:,}, all is saved; go on with --resume")
    fabric.barrier()
    stored = checkpoint.load(folder / BEST)[1]["validation"]
    return Trained(folder / BEST, {name: Report(**report) for name, report in stored.items()})


@dataclass(slots=True)
class Best:
    """The best validation so far, and how many came since."""

    value: float = -1.0
    epoch: int = -1
    stale: int = 0

    def offer(self, value: float, epoch: int) -> bool:
        """Whether this one is better; it is remembered then."""
        if value > self.value or math.isinf(value):
            self.value, self.epoch, self.stale = value, epoch, 0
            return True
        self.stale += 1
        return False

    def over(self, patience: int) -> bool:
        """Whether so many validations without a better one are enough; 0 never is."""
        return 0 < patience <= self.stale


class Watch:
    """Stops when a loss is not finite. Each is looked at one step late, so that nobody waits for the device."""

    def __init__(self, crops: Sequence[Crop]):
        self._crops = crops
        self._last: tuple[Tensor, torch.cuda.Event | None, int, float, NDArray[np.int64]] | None = None

    def see(self, loss: Tensor, step: int, rate: float, rows: NDArray[np.int64]) -> None:
        """Check the loss before this one, and remember this one."""
        self.check()
        arriving = loss.to("cpu", non_blocking=True)
        arrived = torch.cuda.Event() if loss.is_cuda else None
        if arrived:
            arrived.record()
        self._last = arriving, arrived, step, rate, rows

    def check(self) -> None:
        """Raises DataError: the loss seen last is not finite."""
        if self._last is None:
            return
        loss, arrived, step, rate, rows = self._last
        if arrived:
            arrived.synchronize()
        if not torch.isfinite(loss):
            raise DataError(
                f"the loss is {loss.item()} at step {step} (learning rate {rate:.2e}, "
                f"crops {', '.join(self._crops[i].name for i in rows[:4])}, …; rows {rows.tolist()})"
            )


def check(config: TrainConfig, folder: Path, resume: bool = False) -> None:
    """Tell what can be told before anything that takes long.

    Raises:
        DataError: the folder is in use, or there is no such loss.
        ModelError: there is no such network.
    """
    in_use(folder, resume)
    nets.check(config.net)
    for loss in config.losses:
        losses.check(loss.name)


def recorded(
    net: nn.Module, config: TrainConfig, stage: Stage, fabric: lightning_fabric.Fabric, tell: Callable[[str], None]
) -> nn.Module:
    """The network, as a CUDA graph where one GPU trains alone and gradients are not added up."""
    if fabric.device.type != "cuda" or fabric.world_size > 1 or config.accumulate > 1:
        return net
    size = config.people * config.crops, stage.height, stage.width, 3
    sample = torch.zeros(size, device=fabric.device).permute(0, 3, 1, 2)
    try:
        with fabric.autocast():
            return Graphed(net, sample)
    except RuntimeError as error:
        tell(
            f"{config.net} cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}); training goes on without"
        )
        return net


def draw(config: TrainConfig, data: Data, world: int) -> tuple[PKSampler | ShuffledSampler | PairSampler, int]:
    """What makes the batches, and how many rows of one stay together when so many processes share it.

    Raises:
        DataError: the data are too few for a step, or batches cannot be shared.
    """
    sampler, whole = _sampler(config, data)
    if len(sampler) < config.accumulate:
        raise DataError(f"a step takes {config.accumulate} batches, and an epoch has {len(sampler)}; accumulate fewer")
    if config.people * config.crops % (whole * world):
        raise DataError(
            f"batches of {config.people} people × {config.crops} crops cannot be shared by {world} processes; make the "
            f"number of people a multiple of {world}"
        )
    return sampler, whole


def _sampler(config: TrainConfig, data: Data) -> tuple[PKSampler | ShuffledSampler | PairSampler, int]:
    size = config.people * config.crops
    cameras = data.cameras if config.spread else None
    groups = Groups(data.sets, config.balance, config.apart) if data.sets.any() else None
    if config.batches == "shuffled":
        return ShuffledSampler(data.labels, size, config.seed, config.rarity, groups), 1
    if config.batches == "pairs":
        return PairSampler(data.labels, size // 2, config.seed, cameras, config.rarity), 4
    return PKSampler(
        data.labels, config.people, config.crops, config.seed, cameras, config.rarity, groups
    ), config.crops


def schedule(config: TrainConfig, done: float, epochs: float) -> float:
    """Share of the peak rate.

    Args:
        config: names the schedule.
        done: share of all steps done, in [0, 1).
        epochs: done, with fractions.
    """
    if epochs < config.warmup:
        return max(epochs / config.warmup, 1e-3)
    if config.schedule == "step":
        return 0.1 ** sum(done >= m for m in config.milestones)
    if config.schedule == "exponential":
        start = config.milestones[0]
        return 0.001 ** max(0.0, (done - start) / (1 - start))
    warm = config.warmup / config.epochs
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


def teach(teacher: str, crops: Sequence[Crop], tell: Callable[[str], None]) -> Tensor:
    """(N, D) of unit length, what another model makes of the crops as they are."""
    embedder = Embedder(teacher)
    tell(f"taught by {embedder.name}, model {embedder.fingerprint}")
    return nn.functional.normalize(torch.from_numpy(np.array(embedder(crops).vectors)))


def seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def describe(line: Mapping[str, Any], epochs: int) -> str:
    """A line of the log for people."""
    shown = {k: v for k, v in line.items() if k not in ("epoch", "step", "rate")}
    percent = ("rank-1", "mAP", "mINP")
    parts = [f"{k} {100 * v:.1f} %" if k.endswith(percent) else f"{k} {v:g}" for k, v in shown.items()]
    return f"epoch {line['epoch'] + 1}/{epochs}: " + ", ".join(parts)


def header(
    config: TrainConfig, stage: Stage, reports: Mapping[str, Report], facts: Mapping[str, Any], net: nn.Module
) -> dict[str, Any]:
    """What a weights file says of itself."""
    preprocess = {"height": stage.height, "width": stage.width, "mean": MEAN, "deviation": DEVIATION}
    return {
        "net": config.net,
        "net_options": config.net_options,
        "preprocess": preprocess,
        "unit": getattr(net, "unit", True),
        "config": config.to_json(),
        "data": dict(facts),
        "validation": {name: asdict(report) for name, report in reports.items()},
    }
