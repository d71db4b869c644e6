"""Training recipes: `reid train DATA --recipe NAME -o run/`. To add one, write a function and name it in RECIPES.

Each states where it comes from, its command, what it takes and what it is expected to score: rank-1 / mAP in per cent
on Market-1501. Published scores are on the official test. Ours are on the 100 validation people, which are easier;
docs/models.md has the table, with hardware, time and date.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reid.settings import Augment, Loss, Stage, TrainConfig

_SMOOTHED = Loss("cross-entropy", 1.0, {"smoothing": 0.1})
_OURS = TrainConfig(warmup=5, weight_decay=0.05, average=0.998)
_HERMANS = TrainConfig(
    losses=(Loss("triplet-hard", 1.0, {"margin": None}),),
    stages=(Stage(150, 256, 128),),
    people=18,
    optimizer="adam",
    rate=3e-4,
    warmup=0,
    schedule="exponential",
    milestones=(0.6,),
    weight_decay=0.0,
)

# ── ours ──


def base() -> TrainConfig:
    """For crops of your own, and what `reid train` takes by itself: from `general`, fitted to the size of the data.

    reid train crops/ -o run/
    """
    return TrainConfig(init="general", stages=(Stage(20, 192, 96),), rate=5e-4)


def market() -> TrainConfig:
    """The model `market`: OSNet ×1.0 from scratch, batch hard with cross-entropy, the input growing twice.

    reid train Market-1501/bounding_box_train --recipe market -o run/

    Eight minutes on an H200. Expected 95.5 / 88.5.
    """
    return replace(_OURS, stages=(Stage(20, 128, 64), Stage(20, 192, 96), Stage(20, 256, 128)), validate_every=10)


def general() -> TrainConfig:
    """The model `general`: several data sets at once, from `market`, with stronger augmentation.

    reid train market1501/ cuhk03/ cuhk01/ --recipe general -o run/

    A minute and a half on an H200. The card of `general` says how the shipped one was made, and its scores.
    """
    return replace(
        _OURS,
        init="market",
        stages=(Stage(10, 192, 96),),
        augment=Augment(jitter=0.25, grey=0.1, low_resolution=0.2),
        rate=1e-3,
        warmup=1,
        validate_every=2,
    )


def nano() -> TrainConfig:
    """The model `nano`: OSNet ×0.25 from scratch at 128×64, taught by `general`.

    reid train market1501/ cuhk03/ cuhk01/ --recipe nano -o run/

    Forty-two minutes on one core of a shared AMD EPYC (Zen 5), in single precision.
    """
    return replace(
        _OURS,
        net_options={"width": 0.25},
        teacher="general",
        losses=(Loss("distil", 10.0), Loss("triplet-hard", 1.0, {"margin": 0.3}), _SMOOTHED),
        stages=(Stage(36, 128, 64),),
        rate=2e-3,
        warmup=1,
        weight_decay=0.02,
    )


# ── the literature's ──


def trinet() -> TrainConfig:
    """TriNet (Hermans, Beyer and Leibe 2017): ResNet-50 to 128 values, batch hard with a soft margin, 25,000 steps.

    reid train market1501/ --recipe trinet --init resnet50.pth -o run/

    From torchvision's ImageNet weights. Published 84.9 / 69.1.
    """
    return replace(_HERMANS, net="trinet")


def lunet() -> TrainConfig:
    """LuNet (the same paper): 5 M parameters from scratch at 128×64.

    reid train market1501/ --recipe lunet -o run/

    Published 81.4 / 60.7.
    """
    return replace(_HERMANS, net="lunet", stages=(Stage(150, 128, 64),))


def mobilenetv2() -> TrainConfig:
    """MobileNetV2 (Sandler et al. 2018) with any triplet loss and cross-entropy.

    reid train market1501/ --recipe mobilenetv2 --loss triplet-semihard --loss cross-entropy -o run/

    `--loss triplet-random`, `triplet-semihard` or `triplet-hard` alone trains with that one. torchreid publishes
    85.6 / 67.3 for cross-entropy from ImageNet weights.
    """
    return TrainConfig(net="mobilenetv2")


def quadruplet() -> TrainConfig:
    """The quadruplet loss (Chen et al. 2017) on MobileNetV2, with cross-entropy.

    reid train market1501/ --recipe quadruplet -o run/
    """
    return TrainConfig(net="mobilenetv2", losses=(Loss("quadruplet"), _SMOOTHED))


def pcb() -> TrainConfig:
    """PCB (Sun et al. 2018): ResNet-50, six stripes, six classifiers, at 384×128.

    reid train market1501/ --recipe pcb --init resnet50.pth -o run/

    From ImageNet weights. Published 92.3 / 77.4.
    """
    return TrainConfig(
        net="pcb",
        losses=(Loss("cross-entropy"),),
        batches="shuffled",
        stages=(Stage(60, 384, 128),),
        optimizer="sgd",
        rate=0.02,
        schedule="step",
        milestones=(0.66,),
        weight_decay=5e-4,
    )


def resnet50_dense() -> TrainConfig:
    """ResNet-50 with a plain classifier (the IDE baseline of Zheng, Yang and Hauptmann 2016), label smoothing.

    reid train market1501/ --recipe resnet50-dense --init resnet50.pth -o run/

    From ImageNet weights. torchreid publishes 87.9 / 70.4.
    """
    return TrainConfig(net="resnet50", losses=(_SMOOTHED,), batches="shuffled", rate=3e-4)


def bot() -> TrainConfig:
    """Bag of Tricks (Luo et al. 2019): ResNet-50 with last stride 1 and BNNeck; triplet, cross-entropy and centre loss.

    reid train market1501/ --recipe bot --init resnet50.pth -o run/

    From ImageNet weights. Published 94.5 / 85.9.
    """
    return TrainConfig(
        net="bnneck",
        losses=(_SMOOTHED, Loss("triplet-hard", 1.0, {"margin": 0.3}), Loss("centre", 5e-4)),
        stages=(Stage(120, 256, 128),),
        optimizer="adam",
        rate=3.5e-4,
        warmup=10,
        schedule="step",
        milestones=(0.33, 0.58),
        weight_decay=5e-4,
    )


def siamese() -> TrainConfig:
    """DenseNet-121 with a symmetric head that says whether two crops show one person; its pairs learn with it.

    reid train market1501/ --recipe siamese --init densenet121.pth -o run/
    """
    return TrainConfig(net="densenet121", losses=(Loss("pair-cross-entropy"), _SMOOTHED), augment=Augment(jitter=0.3))


def swimmers() -> TrainConfig:
    """The swimmers study (farhantandia): the compact CNN, 166,880 parameters, semi-hard triplets, from scratch.

    reid train swimmers/ --recipe swimmers -o run/

    Eight swimmers from above, at 96×48, where the study has 180×80 and three times the arithmetic. docs/swimmers.md has
    its numbers and what they are worth.
    """
    return TrainConfig(
        net="compact",
        losses=(Loss("triplet-semihard", 1.0, {"margin": 1.0}),),
        stages=(Stage(15, 96, 48),),
        people=8,
        crops=4,
        rarity=0.0,
        rate=1e-3,
        warmup=1,
        average=0.99,
        augment=Augment(erase=0.0),
        hold_out=0,
    )


def osnet() -> TrainConfig:
    """OSNet as its authors train it from scratch (Zhou et al. 2019, section 4): cross-entropy alone, 350 epochs.

    reid train market1501/ --recipe osnet -o run/

    Published 93.6 / 81.0.
    """
    return TrainConfig(
        net_options={"neck": "relu"},
        losses=(_SMOOTHED,),
        batches="shuffled",
        stages=(Stage(350, 256, 128),),
        optimizer="sgd",
        rate=0.065,
        warmup=0,
        schedule="step",
        milestones=(0.43, 0.64, 0.86),
        weight_decay=5e-4,
    )


def osnet_ain() -> TrainConfig:
    """OSNet with adaptive instance normalisation (Zhou et al. 2021), for cameras it never saw.

    reid train market1501/ --recipe osnet-ain -o run/
    """
    return TrainConfig(net="osnet-ain")


_ALL = (base, market, general, nano, trinet, lunet, mobilenetv2, quadruplet, pcb, resnet50_dense, bot, siamese)
RECIPES: dict[str, Callable[[], TrainConfig]] = {
    recipe.__name__.replace("_", "-"): recipe for recipe in (*_ALL, swimmers, osnet, osnet_ain)
}
