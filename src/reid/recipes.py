"""Training recipes: frozen settings, each with the command, hardware, time and score that belong to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, slots=True)
class Loss:
    """One term of the training loss: a name from LOSSES, its weight and its options."""

    name: str
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """Some epochs at one input size."""

    epochs: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides a training run, saved as JSON with it.

    Attributes:
        net: a name from NETS.
        net_options: what the network is built with.
        losses: weighted terms, added up.
        stages: epochs by input size; small first is cheap, the last size is the one the model is used at.
        people, crops: P and K of a batch.
        rate: peak learning rate of AdamW, reached after `warmup` epochs, then lowered along a cosine to a hundredth.
        weight_decay: decoupled; norms and biases are left out.
        average: decay of the exponential moving average of the weights, which is what is evaluated and saved.
        erase, jitter: probability of random erasing; strength of colour jitter.
        hold_out: people kept for validation, the last in sorted order.
        validate_every: epochs between validations.
        precision: Lightning Fabric's name, "32-true", "bf16-mixed" or "16-mixed".
        seed: of every random choice.
    """

    net: str = "osnet"
    net_options: dict[str, Any] = field(default_factory=lambda: {"width": 0.5})
    losses: tuple[Loss, ...] = (
        Loss("batch-hard", 1.0, {"margin": 0.3}),
        Loss("cross-entropy", 1.0, {"smoothing": 0.1}),
    )
    stages: tuple[Stage, ...] = (Stage(30, 128, 64),)
    people: int = 16
    crops: int = 4
    rate: float = 1.5e-3
    weight_decay: float = 0.02
    warmup: float = 3
    average: float = 0.999
    erase: float = 0.5
    jitter: float = 0.15
    hold_out: int = 100
    validate_every: int = 5
    precision: Precision = "bf16-mixed"
    seed: int = 0

    @property
    def epochs(self) -> int:
        return sum(stage.epochs for stage in self.stages)

    def stage(self, epoch: int) -> Stage:
        """The stage that an epoch, counted from 0, belongs to."""
        for stage in self.stages:
            if epoch < stage.epochs:
                return stage
            epoch -= stage.epochs
        return self.stages[-1]


RECIPES: dict[str, TrainConfig] = {"osnet": TrainConfig()}
