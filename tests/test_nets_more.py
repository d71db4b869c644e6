"""What the networks beside OSNet promise on top of the contract: counts, foreign names, pairs, and timm's by name."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reid.errors import MissingExtra, ModelError
from reid.nets import NETS, build
from reid.nets.compact import Compact
from reid.nets.densenet import DenseNet
from reid.nets.mobilenetv2 import MobileNetV2
from reid.nets.timm import Timm

MORE = ("osnet-ain", "mobilenetv2", "densenet121", "compact")


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def shake(net: nn.Module) -> None:
    """Move every weight and statistic off its start, so that no two layers are alike."""
    rng = torch.Generator().manual_seed(5)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=rng)
            value.copy_(0.5 + noise if name.endswith("var") else value * (0.8 + 0.4 * noise) + 0.1 * noise)


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("mobilenetv2", {"neck": "none"}, 2_224_960),  # torchreid's mobilenetv2_x1_0 without classifier
        ("mobilenetv2", {"neck": "none", "width": 1.4}, 4_291_604),  # its mobilenetv2_x1_4
        ("osnet-ain", {"neck": "relu"}, 2_169_508),  # its osnet_ain_x1_0
        ("osnet-ain", {"neck": "relu", "width": 0.25}, 201_864),  # its osnet_ain_x0_25
    ],
)
def test_as_many_parameters_as_torchreids(name: str, options: dict[str, Any], parameters: int) -> None:
    assert count(NETS[name](**options)) == parameters


def test_torchreids_names() -> None:
    names = NETS["mobilenetv2"](neck="none").state_dict().keys()
    assert {
        "conv1.conv.weight",
        "conv2.0.conv1.bn.bias",
        "conv5.3.dwconv2.conv.weight",
        "conv8.0.conv3.1.bias",
    } <= names
    assert not [n for n in names if not n.startswith("conv")]
    names = NETS["osnet-ain"](neck="relu").state_dict().keys()
    assert {"conv2.0.conv2.3.layers.2.conv1.weight", "conv4.0.IN.weight", "pool3.0.bn.bias", "fc.1.weight"} <= names
    assert not {"conv3.0.IN.weight", "conv3.1.conv3.bn.weight", "conv4.1.IN.weight", "conv1.bn.running_mean"} & names


def test_densenet_is_torchvisions_without_its_classifier() -> None:
    assert count(NETS["densenet121"]().features) == 7_978_856 - 1_025_000


def test_compact_has_the_count_keras_gives_it() -> None:
    """Keras counts moving means and variances; the trained parameters alone are 166,624."""
    state = NETS["compact"]().state_dict()
    assert sum(t.numel() for n, t in state.items() if not n.endswith("num_batches_tracked")) == 166_880
    assert count(NETS["compact"]()) == 166_624


@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize("size", [(33, 47), (70, 32)])
def test_input_size_is_free(name: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert build(name).eval()(torch.zeros(1, 3, *size)).embedding.isfinite().all()


def test_compact_takes_images_smaller_than_its_poolings() -> None:
    assert build("compact").eval()(torch.zeros(1, 3, 20, 1)).embedding.shape == (1, 128)


@pytest.mark.parametrize(("name", "neck"), [("mobilenetv2", "none"), ("osnet-ain", "relu")])
def test_torchreids_head_uses_one_vector(name: str, neck: str) -> None:
    out = build(name, width=0.25, neck=neck, classes=3)(torch.randn(2, 3, 64, 32))
    torch.testing.assert_close(out.embedding, out.metric, rtol=0, atol=0)
    with pytest.raises(ValueError, match=f"neck is 'x'; it can be 'bn' or '{neck}'"):
        build(name, neck="x")


# Foreign names


class VisionBlock(nn.Module):
    """An inverted residual as the paper and torchvision have it: none of the 1×1 convolution where t is 1."""

    def __init__(self, cin: int, cout: int, t: int, stride: int):
        super().__init__()
        mid = cin * t
        widen = [vision_conv(cin, mid, 1)] if t > 1 else []
        narrow = [nn.Conv2d(mid, cout, 1, bias=False), nn.BatchNorm2d(cout)]
        self.conv = nn.Sequential(*widen, vision_conv(mid, mid, 3, stride, mid), *narrow)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


def vision_conv(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU6())


def vision_mobilenet() -> nn.Module:
    layers, cin = [vision_conv(3, 32, 3, 2)], 32
    for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)):
        for i in range(n):
            layers.append(VisionBlock(cin, c, t, s if i == 0 else 1))
            cin = c
    layers += [VisionBlock(160, 320, 6, 1), vision_conv(320, 1280, 1)]
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers)))


def timm_names() -> Iterator[str]:
    """timm's modules of mobilenetv2_100 with weights, in the order in which they are used."""
    yield from ("conv_stem", "bn1", "blocks.0.0.conv_dw", "blocks.0.0.bn1", "blocks.0.0.conv_pw", "blocks.0.0.bn2")
    for stage, blocks in enumerate((2, 3, 4, 3, 3, 1), start=1):
        for i in range(blocks):
            for part in ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"):
                yield f"blocks.{stage}.{i}.{part}"
    yield from ("conv_head", "bn2")


@pytest.mark.parametrize("names", ["torchvision", "timm"])
def test_mobilenets_of_others_compute_the_same_here(names: str) -> None:
    torch.manual_seed(0)
    theirs = vision_mobilenet().double().eval()
    shake(theirs)
    state = theirs.state_dict()
    if names == "timm":
        new = dict(zip(dict.fromkeys(n.rpartition(".")[0] for n in state), timm_names(), strict=True))
        state = OrderedDict((f"{new[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}", t) for n, t in state.items())
    state["classifier.weight"] = torch.zeros(1000, 1280)
    ours = build("mobilenetv2", neck="none").double().eval()
    renamed = MobileNetV2.rename(state)
    assert renamed.pop("classifier.weight").shape == (1000, 1280)
    ours.load_state_dict(renamed)
    images = torch.randn(3, 3, 64, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images).embedding, theirs(images).mean((2, 3)), rtol=1e-9, atol=1e-9)


def test_the_block_that_changes_nothing_changes_little_in_training() -> None:
    """Where the stem's batch norm hands on a normal distribution, the inserted layers' batch statistics agree."""
    torch.manual_seed(0)
    theirs, ours = vision_mobilenet(), build("mobilenetv2", neck="none").train()
    shake(theirs)
    ours.load_state_dict(MobileNetV2.rename(theirs.state_dict()))
    norm = theirs.features[0][1]
    weight, bias = norm.weight.detach()[:, None, None], norm.bias.detach()[:, None, None]
    stem = nn.functional.relu6(bias + weight * torch.randn(64, 32, 16, 16))
    torch.testing.assert_close(ours.conv2[0].conv1(stem), stem, atol=0.05, rtol=0.05)


def test_names_of_ours_stay() -> None:
    state = build("mobilenetv2", classes=2).state_dict()
    assert MobileNetV2.rename(state).keys() == state.keys()
    state = build("densenet121", classes=2).state_dict()
    assert DenseNet.rename(state).keys() == state.keys()


def test_densenets_older_names() -> None:
    trunk = {f"features.{n}": t for n, t in build("densenet121").features.state_dict().items()}
    old = dict(trunk)
    for name in list(old):
        head, _, tail = name.partition(".denselayer")
        layer, _, rest = tail.partition(".")
        if tail:  # features.denseblock1.denselayer1.norm1.weight was features.denseblock1.denselayer1.norm.1.weight
            old[f"{head}.denselayer{layer}.{rest[:4]}.{rest[4:]}"] = old.pop(name)
    assert len(old.keys() - trunk.keys()) == 58 * (2 + 2 * 5)
    renamed = DenseNet.rename(old)
    assert renamed.keys() == trunk.keys()
    assert all(renamed[n] is trunk[n] for n in trunk)


# Pairs


@pytest.fixture(scope="module")
def siamese() -> nn.Module:
    torch.manual_seed(0)
    return build("densenet121").eval()


def test_a_pair_is_symmetric_to_the_bit(siamese: nn.Module) -> None:
    a, b = torch.randn(2, 37, 256)
    assert torch.equal(siamese.pair(a, b), siamese.pair(b, a))
    assert siamese.pair(a, b).shape == (37,)
    assert siamese.pair(a, b).std() > 0


def test_all_pairs_equal_a_loop(siamese: nn.Module) -> None:
    with torch.no_grad():
        out = siamese(torch.randn(5, 3, 64, 32))
        loop = torch.tensor([[siamese.pair(a[None], b[None]).item() for b in out.embedding] for a in out.embedding])
    torch.testing.assert_close(out.pairs, loop)
    assert torch.equal(out.pairs, out.pairs.T)


def test_pairs_are_judged_by_direction(siamese: nn.Module) -> None:
    """Stored embeddings have unit length; they give the logits that the network's own give."""
    a, b = torch.randn(2, 9, 256)
    unit = nn.functional.normalize
    torch.testing.assert_close(siamese.pair(unit(a), 3 * b), siamese.pair(a, unit(b)))


# Keras


def keras_arrays() -> dict[str, NDArray[np.float32]]:
    """Random weights under names as Keras writes them, their numbers not in order of the alphabet."""
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.float32]] = {}
    channels, kernels = (3, 32, 32, 32, 32, 64, 64), (3, 3, 5, 5, 3, 3)
    for i, kernel in enumerate(kernels):
        cin, cout = channels[i : i + 2]
        scale = (kernel * kernel * cin) ** -0.5
        arrays[f"conv2d_{i + 7}/kernel:0"] = rng.normal(0, scale, (kernel, kernel, cin, cout)).astype(np.float32)
        arrays[f"conv2d_{i + 7}/bias:0"] = rng.normal(0, 0.1, cout).astype(np.float32)
        if i % 2:
            for part in ("gamma", "beta", "moving_mean", "moving_variance"):
                name = f"batch_normalization_{9 + i // 2}/{part}:0"
                arrays[name] = rng.uniform(0.5, 1.5, cout).astype(np.float32)
    for name, shape in {"dense": (64, 256), "dense_1": (256, 128)}.items():
        arrays[f"{name}/kernel:0"] = rng.normal(0, 0.1, shape).astype(np.float32)
        arrays[f"{name}/bias:0"] = rng.normal(0, 0.1, shape[1]).astype(np.float32)
    return arrays


def keras_forward(x: NDArray[np.float64], w: dict[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    """The Keras model by hand: (N, H, W, 3) to (N, 128)."""
    for i in range(6):
        kernel, pad = w[f"conv2d_{i + 7}/kernel:0"], w[f"conv2d_{i + 7}/kernel:0"].shape[0] // 2
        (_, height, width, _), padded = x.shape, np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        y = np.zeros((*x.shape[:3], kernel.shape[3])) + w[f"conv2d_{i + 7}/bias:0"]
        for r, c in np.ndindex(*kernel.shape[:2]):
            y += padded[:, r : r + height, c : c + width] @ kernel[r, c]
        x = np.maximum(y, 0)
        if i % 2:
            gamma, beta, mean, variance = (
                w[f"batch_normalization_{9 + i // 2}/{part}:0"]
                for part in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            x = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        x = x[:, : height // 2 * 2, : width // 2 * 2]
        x = np.maximum(np.maximum(x[:, ::2, ::2], x[:, 1::2, ::2]), np.maximum(x[:, ::2, 1::2], x[:, 1::2, 1::2]))
    x = x.mean((1, 2)) @ w["dense/kernel:0"] + w["dense/bias:0"]
    x = 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))
    return x @ w["dense_1/kernel:0"] + w["dense_1/bias:0"]


@pytest.mark.parametrize("prefix", ["", "model_weights/conv2d_7/"])
def test_keras_weights_give_keras_embeddings(prefix: str) -> None:
    arrays = keras_arrays()
    net = build("compact").eval()
    net.load_state_dict(Compact.from_keras({prefix + n: a for n, a in arrays.items()} | {"Adam/iter:0": np.zeros(1)}))
    images = np.random.default_rng(1).normal(size=(2, 90, 70, 3))
    with torch.no_grad():
        found = net(torch.tensor(images, dtype=torch.float32).permute(0, 3, 1, 2)).embedding
    np.testing.assert_allclose(found, keras_forward(images, arrays), atol=1e-4, rtol=1e-4)


# By name


class Body(nn.Module):
    """A network as timm makes them: pooled features where there are no classes, and their number on the side."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x).mean((2, 3))


class Wide(Body):
    """One whose head makes more of its features, such as MobileNetV3."""

    head_hidden_size = 10

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).repeat(1, 2)[:, :10]


class Fixed(Body):
    def __init__(self, img_size: tuple[int, int]) -> None:
        super().__init__()
        self.img_size = img_size


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Stands in for timm, which brings torchvision and is not installed for tests: `create_model` is called alike."""
    module = ModuleType("timm")

    def create_model(
        model_name: str,
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        checkpoint_path: Any = None,
        **kwargs: Any,
    ) -> nn.Module:
        assert (pretrained, checkpoint_path, kwargs.pop("num_classes")) == (False, None, 0)
        models = {"narrow": Body, "wide": Wide, "fixed": Fixed}
        if model_name not in models:
            raise RuntimeError(f"Unknown model ({model_name})")
        return models[model_name](**kwargs)

    module.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


@pytest.mark.usefixtures("timm")
def test_networks_of_timm_by_name() -> None:
    for name, dim in {"narrow": 6, "wide": 10}.items():
        net = build(f"timm:{name}", classes=4)
        out = net.train()(torch.randn(5, 3, 16, 8))
        assert out.embedding.shape == out.metric.shape == (5, dim)
        assert [x.shape for x in out.logits] == [(5, 4)]
        torch.testing.assert_close(out.embedding.mean(0), torch.zeros(dim), atol=1e-5, rtol=0)
        assert build(f"timm:{name}").eval()(torch.randn(1, 3, 16, 8)).logits == ()
    assert build("timm:fixed", image=[64, 32]).size == (64, 32)


@pytest.mark.usefixtures("timm")
def test_timms_names_become_ours() -> None:
    net = build("timm:narrow", classes=4)
    renamed = Timm.rename(Body().state_dict())
    assert renamed.keys() == {n for n in net.state_dict() if not n.startswith(("bnneck.", "classifier."))}
    assert Timm.rename(net.state_dict()).keys() == net.state_dict().keys()


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet5", {}, r"network is 'resnet5'; it can be osnet, .*compact.*, or timm:NAME"),
        ("osnet", {"widht": 0.5}, r"osnet got an unexpected keyword argument 'widht'; its options are width, classes,"),
        ("timm:x", {}, r"timm:x cannot be built \(Unknown model \(x\)\); timm.list_models\(\) lists what can"),
        ("timm:hf-hub:a/b", {}, r"timm:hf-hub:a/b is no plain name of a network"),
        (
            "timm:narrow",
            {"image": (64, 32)},
            r"timm:narrow is not built for one input size; leave .* image out",
        ),
        ("timm:narrow", {"checkpoint_path": "x.pth"}, r"unexpected keyword argument 'checkpoint_path'"),
    ],
)
def test_what_cannot_be_built_gets_a_sentence(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(name, **options)


def test_timm_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"timm:resnet18 needs .* pip install 'reid\[timm\]'"):
        build("timm:resnet18")
