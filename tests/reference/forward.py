"""Old models' forward passes in plain NumPy, from their formats' definitions. Weights are read as the old files have
them, by their own names or order; nothing of reid and no PyTorch takes part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.float32]]


def conv(x: Array, w: Array, bias: Array | None = None, stride: int = 1, pad: int = 0) -> Array:
    """(N, C, H, W) with (O, C, k, k): a correlation, as all these toolkits compute it."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    y = np.tensordot(windows, w.astype(np.float64), axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
    return y if bias is None else y + bias[:, None, None]


def each(x: Array, w: Array, stride: int = 1, pad: int = 1) -> Array:
    """Every channel with its own kernel, (C, 1, k, k)."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,cij->nchw", windows, w[:, 0].astype(np.float64))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def max_pool(x: Array, size: int, stride: int, pad: int = 0, up: bool = False) -> Array:
    """Windows that lie inside, or with `up` all that start inside, cut off at the end."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
    if up:
        more = [(-(n - size)) % stride for n in x.shape[2:]]
        x = np.pad(x, ((0, 0), (0, 0), (0, more[0]), (0, more[1])), constant_values=-np.inf)
    return sliding_window_view(x, (size, size), axis=(2, 3))[:, :, ::stride, ::stride].max((4, 5))


def keras_compact(x: Array, w: Weights, layers: Mapping[str, Sequence[str]]) -> Array:
    """(N, H, W, 3) to (N, 128) by Keras' names; `layers` names those of each kind in their order."""
    x = np.asarray(x, np.float64).transpose(0, 3, 1, 2)
    for i, name in enumerate(layers["conv2d"]):
        kernel = w[f"{name}/kernel:0"].transpose(3, 2, 0, 1)
        x = relu(conv(x, kernel, w[f"{name}/bias:0"], pad=kernel.shape[2] // 2))
        if i % 2:
            norm = layers["batch_normalization"][i // 2]
            g, b, m, v = (
                w[f"{norm}/{part}:0"].astype(np.float64)[:, None, None]
                for part in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            x = g * (x - m) / np.sqrt(v + 1e-3) + b
        x = max_pool(x, 2, 2)
    first, second = layers["dense"]
    y = x.mean((2, 3)) @ w[f"{first}/kernel:0"].astype(np.float64) + w[f"{first}/bias:0"]
    y = 1.0507009873554805 * np.where(y > 0, y, 1.6732632423543772 * np.expm1(np.minimum(y, 0)))
    return y @ w[f"{second}/kernel:0"].astype(np.float64) + w[f"{second}/bias:0"]


def trinet(x: Array, values: Sequence[NDArray[np.float32]]) -> Array:
    """(N, 3, H, W) BGR less the mean to (N, 128), from Lasagne's list of parameters in its own order."""
    take: Iterator[Array] = iter([v.astype(np.float64) for v in values])

    def norm(y: Array) -> Array:
        beta, gamma, mean, inv_std = (v.reshape(-1, *[1] * (y.ndim - 2)) for v in (next(take) for _ in range(4)))
        return (y - mean) * (gamma * inv_std) + beta

    w, b = next(take), next(take)
    x = max_pool(relu(norm(conv(x, w, b, 2, 3))), 3, 2, up=True)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            left = norm(conv(x, next(take), stride=stride)) if not block else x  # Lasagne lists this branch first
            y = relu(norm(conv(x, next(take), stride=stride)))
            y = relu(norm(conv(y, next(take), pad=1)))
            x = relu(left + norm(conv(y, next(take))))
    x = relu(norm(x.mean((2, 3)) @ next(take)))
    out = x @ next(take) + next(take)
    assert next(take, None) is None
    return out


def _norm(w: Weights, name: str) -> Callable[[Array], Array]:
    """PyTorch's batch norm in evaluation, of maps or of vectors; ε is 1e-5."""

    def run(y: Array) -> Array:
        shape = (-1, *[1] * (y.ndim - 2))
        g, b, m, v = (
            w[f"{name}.{part}"].astype(np.float64).reshape(shape)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (y - m) / np.sqrt(v + 1e-5) * g + b

    return run


def _instance(x: Array, w: Weights, name: str) -> Array:
    mean, var = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]


def _unit(x: Array, w: Weights, name: str, stride: int = 1, pad: int = 0) -> Array:
    """torchreid's layer of convolution and norm; the norm is of instances where it has no statistics."""
    y = conv(x, w[f"{name}.conv.weight"], stride=stride, pad=pad)
    if f"{name}.bn.running_mean" in w:
        return _norm(w, f"{name}.bn")(y)
    return _instance(y, w, f"{name}.bn") if f"{name}.bn.weight" in w else y


def _light(x: Array, w: Weights, name: str) -> Array:
    y = each(conv(x, w[f"{name}.conv1.weight"]), w[f"{name}.conv2.weight"])
    return relu(_norm(w, f"{name}.bn")(y))


def _gate(x: Array, w: Weights, name: str) -> Array:
    y = relu(conv(x.mean((2, 3), keepdims=True), w[f"{name}.fc1.weight"], w[f"{name}.fc1.bias"]))
    return x / (1 + np.exp(-conv(y, w[f"{name}.fc2.weight"], w[f"{name}.fc2.bias"])))


def _omni(x: Array, w: Weights, name: str) -> Array:
    """A block of OSNet, of OSNet-IBN where IN comes last, or of OSNet-AIN, which has IN inside its branch."""
    y = relu(_unit(x, w, f"{name}.conv1"))
    ain = f"{name}.conv2.0.layers.0.conv1.weight" in w
    mixed = np.zeros(1)
    for depth in range(4):
        z = y
        for layer in range(depth + 1):
            plain = f"{name}.conv2{'abcd'[depth]}" + (f".{layer}" if depth else "")
            z = _light(z, w, f"{name}.conv2.{depth}.layers.{layer}" if ain else plain)
        mixed = mixed + _gate(z, w, f"{name}.gate")
    z = _unit(mixed, w, f"{name}.conv3")
    if ain and f"{name}.IN.weight" in w:
        z = _instance(z, w, f"{name}.IN")
    z = z + (_unit(x, w, f"{name}.downsample") if f"{name}.downsample.conv.weight" in w else x)
    if not ain and f"{name}.IN.weight" in w:
        z = _instance(z, w, f"{name}.IN")
    return relu(z)


def osnet(x: Array, w: Weights) -> Array:
    """torchreid's OSNet, OSNet-IBN and OSNet-AIN of any width: (N, 3, H, W) to (N, 512)."""
    x = max_pool(relu(_unit(x, w, "conv1", 2, 3)), 3, 2, 1)
    for stage in (2, 3, 4):
        for block in (0, 1):
            x = _omni(x, w, f"conv{stage}.{block}")
        halve = next((n for n in (f"conv{stage}.2.0", f"pool{stage}.0") if f"{n}.conv.weight" in w), None)
        if halve:
            x = relu(_unit(x, w, halve))
            x = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
            x = (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
    y = relu(_unit(x, w, "conv5")).mean((2, 3)) @ w["fc.0.weight"].astype(np.float64).T + w["fc.0.bias"]
    return relu(_norm(w, "fc.1")(y))


def resnet50(x: Array, w: Weights, last_stride: int = 2) -> Array:
    """torchvision's ResNet-50, to its last map."""
    x = max_pool(relu(_norm(w, "bn1")(conv(x, w["conv1.weight"], stride=2, pad=3))), 3, 2, 1)
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", {1: 1, 4: last_stride}.get(stage, 2) if not block else 1
            y = relu(_norm(w, f"{name}.bn1")(conv(x, w[f"{name}.conv1.weight"])))
            y = relu(_norm(w, f"{name}.bn2")(conv(y, w[f"{name}.conv2.weight"], stride=stride, pad=1)))
            y = _norm(w, f"{name}.bn3")(conv(y, w[f"{name}.conv3.weight"]))
            if not block:
                x = _norm(w, f"{name}.downsample.1")(conv(x, w[f"{name}.downsample.0.weight"], stride=stride))
            x = relu(x + y)
    return x


def pcb(x: Array, w: Weights, stripes: int) -> Array:
    """torchreid's PCB in evaluation, part after part: (N, stripes, 2048), each part at unit length."""
    maps = resnet50(x, w, last_stride=1)
    rows = maps.shape[2]
    cuts = [(i * rows // stripes, -(-(i + 1) * rows // stripes)) for i in range(stripes)]
    parts = np.stack([maps[:, :, a:b].mean((2, 3)) for a, b in cuts], 1)
    return parts / np.linalg.norm(parts, axis=2, keepdims=True)


def mobilenetv2(x: Array, w: Weights) -> Array:
    """torchreid's MobileNetV2 of any width."""

    def six(y: Array) -> Array:
        return np.clip(y, 0, 6)

    x = six(_unit(x, w, "conv1", 2, 1))
    for stage, (blocks, first) in enumerate(((1, 1), (2, 2), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1)), start=2):
        for block in range(blocks):
            name, stride = f"conv{stage}.{block}", first if not block else 1
            y = six(_unit(x, w, f"{name}.conv1"))
            y = six(_norm(w, f"{name}.dwconv2.bn")(each(y, w[f"{name}.dwconv2.conv.weight"], stride)))
            y = _norm(w, f"{name}.conv3.1")(conv(y, w[f"{name}.conv3.0.weight"]))
            x = x + y if stride == 1 and x.shape[1] == y.shape[1] else y
    return six(_unit(x, w, "conv9")).mean((2, 3))


def resnet50_fc512(x: Array, w: Weights) -> Array:
    """torchreid's variant with one stride less and a linear layer."""
    means = resnet50(x, w, last_stride=1).mean((2, 3))
    return relu(_norm(w, "fc.1")(means @ w["fc.0.weight"].astype(np.float64).T + w["fc.0.bias"]))
