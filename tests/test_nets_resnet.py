"""The ResNet-50 family and LuNet against loops, formulas and published counts; contracts/ has what all networks do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid.checkpoint import Fit
from reid.nets import NETS
from reid.nets.lunet import Block, LuNet
from reid.nets.pcb import PCB
from reid.nets.resnet50 import BNNeck, Bottleneck, ResNet50, TriNet, Trunk

TRUNK = 25_557_032 - 2_049_000
"""torchvision's resnet50 without its classifier of 1,000 classes."""


def images(count: int, height: int = 64, width: int = 32) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def shaken(net: nn.Module) -> nn.Module:
    """In evaluation mode and double precision, with batch norms that do something."""
    generator = torch.Generator().manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.1
    return net.eval().double()


def normed(x: Tensor, norm: nn.Module) -> Tensor:
    """(B, C) through a batch norm in evaluation, by its formula."""
    return (x - norm.running_mean) / torch.sqrt(norm.running_var + 1e-5) * norm.weight + norm.bias


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet50", TRUNK),
        ("bnneck", TRUNK + 2 * 2048),
        ("trinet", TRUNK + 2048 * 1024 + 2 * 1024 + 1024 * 128 + 128),
        ("pcb", 24_032_832),  # torchreid's pcb_p6 without its classifiers
    ],
)
def test_parameters(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in NETS[name]().parameters()) == parameters


def test_lunet_has_the_papers_five_million_parameters() -> None:
    assert round(sum(p.numel() for p in LuNet().parameters()) / 1e6, 2) == 5.00


def test_weights_of_torchvision_and_torchreid_fit_by_name() -> None:
    torchvision = dict(ResNet50().state_dict())
    shapes = {k: tuple(v.shape) for k, v in torchvision.items()}
    assert len(shapes) == 320 - 2  # torchvision's has 320, two of them fc's
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer4.2.conv2.weight"] == (512, 512, 3, 3)
    assert shapes["layer3.5.bn3.running_var"] == (1024,)
    torchvision |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    for name in ("bnneck", "trinet", "pcb"):
        fit = Fit.of(NETS[name](), torchvision)
        assert len(fit.matched) == 318
        assert fit.unused == ("fc.weight", "fc.bias")
        assert not fit.differing
    classified = PCB(classes=7).state_dict()
    assert classified["conv5.layers.0.weight"].shape == (256, 2048, 1, 1)
    assert classified["conv5.layers.1.running_mean"].shape == (256,)
    assert classified["classifier.5.weight"].shape == (7, 256)
    assert ResNet50(classes=7).state_dict()["classifier.bias"].shape == (7,)


@pytest.mark.parametrize(("last_stride", "size"), [(2, (2, 1)), (1, (4, 2))])
def test_the_last_stride_decides_the_size_of_the_map(last_stride: int, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert Trunk(last_stride).eval().double().feature_map(images(1)).shape == (1, 2048, *size)


def test_a_last_stride_of_three_is_refused() -> None:
    with pytest.raises(ValueError, match="last_stride is 3; it can be 1 or 2"):
        BNNeck(last_stride=3)


def test_caffes_blocks_look_at_every_other_pixel_only() -> None:
    """Both strides on 1×1 convolutions: as if the rest of the map had been taken out first."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, 7, 6, dtype=torch.float64)
    caffe, whole, ours = (shaken(Bottleneck(8, 4, s, c)) for s, c in ((2, True), (1, True), (2, False)))
    whole.load_state_dict(caffe.state_dict())
    ours.load_state_dict(caffe.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(caffe(x), whole(x[:, :, ::2, ::2]))
        assert ours(x).shape == caffe(x).shape
        changed = x.clone()
        changed[:, :, 1::2] += 1
        torch.testing.assert_close(caffe(changed), caffe(x))
        assert not torch.allclose(ours(changed), ours(x))


@pytest.mark.parametrize("size", [(128, 64), (9, 8), (10, 7), (4, 3)])
def test_caffes_pooling_takes_every_window_that_starts_inside(size: tuple[int, int]) -> None:
    """Lasagne's Pool2DLayer(3, stride=2, pad=0, ignore_border=False): ceil((n − 3) / 2) + 1 windows, cut at the end."""
    x = torch.randn(1, 2, *size)
    rows, columns = (math.ceil((n - 3) / 2) + 1 for n in size)
    slow = torch.empty(1, 2, rows, columns)
    for i in range(rows):
        for j in range(columns):
            slow[:, :, i, j] = x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].amax((2, 3))
    torch.testing.assert_close(Trunk(caffe=True).maxpool(x), slow)


def test_caffe_changes_no_name() -> None:
    extra = set(TriNet(caffe=True).state_dict()) ^ set(TriNet().state_dict())
    assert extra == {"conv1.bias"}


def test_bnneck_stores_after_the_batch_norm_and_compares_before() -> None:
    net = shaken(BNNeck(classes=5))
    assert not net.bnneck.bias.requires_grad
    assert net.classifier.bias is None
    with torch.no_grad():
        out = net(images(2))
        torch.testing.assert_close(out.metric, net.feature_map(images(2)).mean((2, 3)))
        torch.testing.assert_close(out.embedding, normed(out.metric, net.bnneck))
        torch.testing.assert_close(out.logits[0], out.embedding @ net.classifier.weight.T)


def test_trinet_is_a_small_perceptron_and_not_of_unit_length() -> None:
    net = shaken(TriNet())
    assert not net.unit
    with torch.no_grad():
        out = net(images(2))
        hidden = normed(net.feature_map(images(2)).mean((2, 3)) @ net.fc[0].weight.T, net.fc[1]).clamp(min=0)
        wanted = hidden @ net.embed.weight.T + net.embed.bias
        torch.testing.assert_close(out.embedding, wanted)
    assert out.metric is out.embedding


@pytest.mark.parametrize(("height", "stripes"), [(96, 6), (64, 6), (144, 4), (32, 6)])
def test_pcb_equals_a_loop_over_stripes(height: int, stripes: int) -> None:
    """Also where rows are shared between stripes (9 rows, 4 stripes) or fewer than they (4 or 2 rows, 6 stripes)."""
    net = shaken(PCB(classes=3, stripes=stripes))
    conv, norm = net.conv5.layers[0].weight[:, :, 0, 0], net.conv5.layers[1]
    with torch.no_grad():
        out = net(images(2, height))
        feature_map = net.feature_map(images(2, height))
        rows = feature_map.shape[2]
        assert rows == height // 16
        pieces, means = [], []
        for i in range(stripes):
            first, last = i * rows // stripes, math.ceil((i + 1) * rows / stripes)
            means.append(sum(feature_map[:, :, r].mean(2) for r in range(first, last)) / (last - first))
            part = normed(means[-1] @ conv.T, norm).clamp(min=0)
            torch.testing.assert_close(out.parts[i], part)
            logits = part @ net.classifier[i].weight.T + net.classifier[i].bias
            torch.testing.assert_close(out.logits[i], logits)
            pieces.append(part / part.norm(dim=1, keepdim=True))
        torch.testing.assert_close(out.embedding, torch.cat(pieces, 1))
        net.reduced = False
        wanted = torch.cat([mean / mean.norm(dim=1, keepdim=True) for mean in means], 1)
        torch.testing.assert_close(net(images(2, height)).embedding, wanted)
    assert out.embedding.shape == (2, 256 * stripes)
    assert wanted.shape == (2, 2048 * stripes)


def test_lunets_blocks_are_of_resnet_v2() -> None:
    torch.manual_seed(0)
    wide, same = shaken(Block((8, 4, 4, 16), (1, 3, 1))), shaken(Block((8, 4, 4, 8), (1, 3, 1)))
    x = torch.randn(2, 8, 5, 4, dtype=torch.float64)

    def act(y: Tensor, norm: nn.Module) -> Tensor:
        y = normed(y.permute(0, 2, 3, 1), norm).permute(0, 3, 1, 2)
        return torch.where(y > 0, y, 0.3 * y)

    with torch.no_grad():
        for block in (wide, same):
            y = F.conv2d(act(x, block.norms[0]), block.convs[0].weight, block.convs[0].bias)
            y = F.conv2d(act(y, block.norms[1]), block.convs[1].weight, block.convs[1].bias, padding=1)
            y = F.conv2d(act(y, block.norms[2]), block.convs[2].weight, block.convs[2].bias)
            if block.shortcut is None:
                rest = x
            else:
                rest = F.conv2d(act(x, block.norms[0]), block.shortcut.weight, block.shortcut.bias)
            torch.testing.assert_close(block(x), y + rest)
    assert same.shortcut is None


def test_lunets_last_map_is_flattened_field_by_field() -> None:
    """128 channels of 4×2 are the 1024 that the paper's table gives the first linear layer."""
    net = LuNet().eval().double()
    maps: list[Tensor] = []
    net.last.register_forward_hook(lambda module, given, out: maps.append(out))
    with torch.no_grad():
        for height, width in ((128, 64), (64, 32), (256, 128)):
            embedding = net(images(1, height, width)).embedding
            maps[-1] = maps[-1].repeat_interleave(max(1, 128 // height), 2).repeat_interleave(max(1, 64 // width), 3)
            maps[-1] = F.avg_pool2d(maps[-1], max(1, height // 128))
            assert maps[-1].shape == (1, 128, 4, 2)
            torch.testing.assert_close(embedding, net.embed(net.fc(maps[-1].reshape(1, 1024))))
