"""What decides a training run: frozen settings, checked when made and stored with the run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from reid.errors import DataError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Schedule = Literal["cosine", "step", "exponential"]
Batches = Literal["people", "shuffled", "pairs"]
Optimizer = Literal["adamw", "adam", "sgd"]
CHOICES = {"precision": Precision, "schedule": Schedule, "batches": Batches, "optimizer": Optimizer}


@dataclass(frozen=True, slots=True)
class Loss:
    """One term of the training loss: a name from LOSSES, its weight and its options."""

    name: str
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise DataError(f"the loss {self.name} has the weight {self.weight}; it must be a number of 0 or more")


@dataclass(frozen=True, slots=True)
class Stage:
    """Some epochs at one input size."""

    epochs: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.epochs, self.height, self.width) < 1:
            raise DataError(f"a stage is {self.epochs} epochs at {self.height}×{self.width}; each must be at least 1")


@dataclass(frozen=True, slots=True)
class Augment:
    """Random changes to training images; 0 leaves one out.

    Attributes:
        flip, erase, patch, low_resolution, grey: probability that an image is mirrored, has a rectangle erased, is
            covered by a patch of another image, is shrunk and enlarged again, loses its colours.
        shift: the farthest shift either way, as a share of the height.
        jitter: strength of changes to brightness and contrast; colours change half as much.
    """

    flip: float = 0.5
    shift: float = 0.04
    erase: float = 0.5
    jitter: float = 0.15
    patch: float = 0.0
    low_resolution: float = 0.0
    grey: float = 0.0

    def __post_init__(self) -> None:
        for setting in fields(self):
            if not 0 <= getattr(self, setting.name) <= 1:
                raise DataError(f"augment {setting.name} is {getattr(self, setting.name)}; it lies between 0 and 1")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides a training run, saved as JSON with it.

    Attributes:
        net: a name from NETS, or "timm:NAME".
        net_options: what the network is built with.
        init: a weights file to start from, or the name of a model that comes with reid; "" starts from nothing.
        teacher: a model file, or the name of a model that comes with reid, whose embeddings of the unchanged pictures
            the loss "distil" holds up to the network; "" is none.
        freeze: epochs in which the weights that came from `init` stay as they are.
        losses: weighted terms, added up.
        stages: epochs by input size; small first is cheap, the last size is the one the model is used at.
        batches: of "people", P with K crops each; "shuffled" crops; or "pairs", half of them of one person.
        people, crops: P and K of a batch, which has P·K crops whatever it is made of.
        spread: choose the K crops of a person from as many cameras as possible.
        rarity: power of the number of crops with which a person is drawn: 1 in proportion, 0 everybody alike.
        balance: power of the number of crops with which one of several data sets is drawn, likewise.
        apart: batches of people come from one data set each.
        accumulate: batches whose gradients are averaged before a step.
        optimizer: "adamw", "adam", or "sgd" with momentum 0.9.
        rate: peak learning rate, reached in a line after `warmup` epochs.
        schedule: how the rate falls from there: "cosine" to a hundredth; "step" to a tenth at each of `milestones`;
            "exponential" from the first milestone on, to a thousandth (Hermans et al. 2017).
        milestones: as shares of all steps.
        weight_decay: decoupled in AdamW; norms and biases are left out.
        average: decay of the exponential moving average of the weights, which is what is evaluated and saved.
        augment: random changes to the images.
        hold_out: people of each data set kept for validation, the last in sorted order.
        validate_every: epochs between validations.
        patience: stop after so many validations without a better mAP; 0 never does.
        precision: Lightning Fabric's name, "32-true", "bf16-mixed" or "16-mixed".
        seed: of every random choice.
    """

    net: str = "osnet"
    net_options: dict[str, Any] = field(default_factory=dict)
    init: str = ""
    teacher: str = ""
    freeze: int = 0
    losses: tuple[Loss, ...] = (
        Loss("triplet-hard", 1.0, {"margin": 0.3}),
        Loss("cross-entropy", 1.0, {"smoothing": 0.1}),
    )
    stages: tuple[Stage, ...] = (Stage(60, 256, 128),)
    batches: Batches = "people"
    people: int = 16
    crops: int = 4
    spread: bool = False
    rarity: float = 1.0
    balance: float = 1.0
    apart: bool = False
    accumulate: int = 1
    optimizer: Optimizer = "adamw"
    rate: float = 1.5e-3
    warmup: float = 3
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = ()
    weight_decay: float = 0.02
    average: float = 0.999
    augment: Augment = Augment()
    hold_out: int = 100
    validate_every: int = 5
    patience: int = 0
    precision: Precision = "bf16-mixed"
    seed: int = 0

    def __post_init__(self) -> None:
        least = {
            "people": 2,
            "crops": 1,
            "accumulate": 1,
            "validate_every": 1,
            "hold_out": 0,
            "freeze": 0,
            "patience": 0,
            "seed": 0,
            "rarity": 0,
            "balance": 0,
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise DataError(f"{name} is {getattr(self, name)}; it must be at least {low}")
        if self.batches == "pairs" and self.people * self.crops % 4:
            raise DataError(
                f"{self.people} × {self.crops} crops do not make an even number of pairs; make it a multiple of 4"
            )
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in get_args(allowed):
                raise DataError(f"{name} is {getattr(self, name)!r}; it can be {', '.join(get_args(allowed))}")
        if not 0 < self.rate < math.inf:
            raise DataError(f"rate is {self.rate}; it must be a number above 0")
        if self.freeze and not self.init:
            raise DataError(f"freeze is {self.freeze} and no weights were given to start from; give --init FILE too")
        if self.patience and not self.hold_out:
            raise DataError("patience needs validations, and nobody is held out; hold out people, or leave it out")
        if not self.stages or self.epochs < 1:
            raise DataError("there is no stage with an epoch; give at least one, as Stage(epochs, height, width)")
        if len({loss.name for loss in self.losses}) < max(1, len(self.losses)):
            raise DataError("the losses must be one or more, each named once")
        if bool(self.teacher) != any(loss.name == "distil" for loss in self.losses):
            raise DataError(
                f"the teacher is {self.teacher!r} and the losses are {', '.join(t.name for t in self.losses)}; "
                "a teacher and the loss distil need each other"
            )
        if self.schedule != "cosine" and not self.milestones:
            raise DataError(f"the schedule {self.schedule!r} needs milestones, as shares of all steps, such as (0.6,)")

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

    def lasting(self, epochs: int) -> TrainConfig:
        """The same with so many epochs in all, every stage in proportion; the last one keeps at least one."""
        sums = [sum(s.epochs for s in self.stages[: i + 1]) for i in range(len(self.stages))]
        ends = [epochs * done // self.epochs for done in sums]
        starts = [0, *ends[:-1]]
        kept = [replace(s, epochs=b - a) for s, a, b in zip(self.stages, starts, ends, strict=True) if b > a]
        return replace(self, stages=tuple(kept), warmup=min(self.warmup, epochs / 4))

    def fitted(self, people: int, crops: int) -> TrainConfig:
        """The same for a data set of another size than Market-1501's 751 people and 12,936 crops.

        A fifth of the people is held out, a hundred at most; batches have no more people than are left; the fewer
        crops, the more epochs, by the square root, five times as many at most.
        """
        held = min(self.hold_out, people // 5)
        config = replace(self, hold_out=held, people=max(2, min(self.people, people - held)))
        return config.lasting(max(1, round(config.epochs * min(5.0, max(0.5, (12_936 / max(1, crops)) ** 0.5)))))

    def to_json(self) -> dict[str, Any]:
        """Plain containers, as they are stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> TrainConfig:
        """The other way round. Unknown settings are refused.

        Raises:
            DataError: a setting has no such name.
        """
        unknown = stored.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise DataError(f"there is no training setting {', '.join(sorted(unknown))}; see reid.TrainConfig")
        values = dict(stored)
        values["losses"] = tuple(Loss(**loss) for loss in stored["losses"])
        values["stages"] = tuple(Stage(**stage) for stage in stored["stages"])
        values["augment"] = Augment(**stored["augment"])
        values["milestones"] = tuple(stored["milestones"])
        return cls(**values)
