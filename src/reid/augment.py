"""Random changes to training batches, vectorised over the batch, on whatever device holds it.

All take and return (B, H, W, 3) uint8, RGB, and leave what they are given as it is. Every choice is made by a torch
generator, on its device: with one on the host choices are the same for every device, and nobody waits for one. `apply`
puts them one after the other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from reid.settings import Augment

ERASED = (124, 116, 104)
"""What erasing leaves behind: the mean colour of ImageNet (RE-M of Zhong et al. 2020), about 0 for a network."""
LUMA = (0.299, 0.587, 0.114)
RESOLUTIONS = 4  # different ones in a batch


def apply(batch: Tensor, rng: Generator, settings: Augment) -> Tensor:
    """All changes with the strengths in `settings`; 0 leaves one out, and with all at 0 the batch comes back untouched.

    The order follows how a picture comes about: `flip`, `shift` and `patch` arrange the scene, `low_resolution`,
    `jitter` and `grey` are the camera's, `erase` comes last so that its colour is always the same.

    Raises:
        ValueError: the batch is not (B, H, W, 3) uint8, or a strength is out of range.
    """
    if batch.ndim != 4 or batch.shape[3] != 3 or batch.dtype != torch.uint8:
        raise ValueError(f"a batch must be (B, H, W, 3) uint8; this one is {tuple(batch.shape)} {batch.dtype}")
    if settings.flip:
        batch = flip(batch, rng, settings.flip)
    if settings.shift:
        batch = shift(batch, rng, settings.shift)
    if settings.patch:
        batch = patch(batch, rng, settings.patch)
    if settings.low_resolution:
        batch = low_resolution(batch, rng, settings.low_resolution)
    if settings.jitter:
        batch = jitter(batch, rng, settings.jitter, settings.jitter, settings.jitter / 2)
    if settings.grey:
        batch = grey(batch, rng, settings.grey)
    if settings.erase:
        batch = erase(batch, rng, settings.erase)
    return batch


def flip(batch: Tensor, rng: Generator, probability: float = 0.5) -> Tensor:
    """Mirror some images left to right."""
    rows = _on(batch, _chosen(batch, rng, probability))
    return batch.index_copy(0, rows, batch.index_select(0, rows).flip(2))


def shift(batch: Tensor, rng: Generator, share: float = 0.04) -> Tensor:
    """Shift each image by up to `share` of its height either way, at least a pixel; what comes in is black."""
    _check("share", share, 1)
    b, h, w, _ = batch.shape
    pad = max(1, round(share * h))
    padded = F.pad(batch, (0, 0, pad, pad, pad, pad))
    top, left = _on(batch, _below(torch.full((2, b), 2 * pad + 1, device=rng.device), rng))
    first = torch.arange(b, device=batch.device) * (h + 2 * pad) + top
    rows = first[:, None] + torch.arange(h, device=batch.device)
    return _runs(padded, rows * (w + 2 * pad) + left[:, None], w).view(batch.shape)


def patch(batch: Tensor, rng: Generator, probability: float = 0.5, area: tuple[float, float] = (0.01, 0.5)) -> Tensor:
    """Cover part of some images with a patch of another image of the batch (random patch, Zhou et al. 2019).

    A patch takes the stated share of the area, its longer side is up to ten times the shorter one, and it lands
    anywhere. The authors' code keeps a pool of earlier patches and turns half of them by up to 10 degrees; this does
    neither. A batch of one image stays as it is.
    """
    rows = _chosen(batch, rng, probability)
    b, h, w, _ = batch.shape
    if b < 2:
        return batch
    box = _boxes(len(rows), h, w, area, 10.0, rng)
    top, left, height, width = box
    down, right = _below(h - height + 1, rng) - top, _below(w - width + 1, rng) - left
    donors = (rows + 1 + _below(torch.full_like(rows, b - 1), rng)) % b
    rows, box, down, right, donors = (_on(batch, x) for x in (rows, box, down, right, donors))
    lines = donors[:, None] * h + down[:, None] + torch.arange(h, device=batch.device)
    starts = (w + lines * w + right[:, None]).clamp(0, (b * h + 1) * w)  # outside the patch anything will do
    moved = _runs(F.pad(batch.flatten(), (3 * w, 3 * w)), starts, w)
    kept = batch.index_select(0, rows).flatten(2)
    return batch.index_copy(0, rows, torch.where(_inside(box, h, w), moved.view_as(kept), kept).unflatten(2, (w, 3)))


def low_resolution(batch: Tensor, rng: Generator, probability: float = 0.5, factor: float = 4.0) -> Tensor:
    """Shrink some images by up to `factor`, evenly drawn from 1 on, and enlarge them again, as a far camera would.

    Both with bilinear filters, the first with antialiasing. The images of a batch share four sizes.
    """
    if not factor >= 1:
        raise ValueError(f"factor is {factor}; images can only be shrunk, by at least 1")
    rows = _chosen(batch, rng, probability)
    h, w = batch.shape[1:3]
    out = batch.clone()
    for i, by in enumerate((1 + (factor - 1) * _random(RESOLUTIONS, rng)).tolist()):
        part = _on(batch, rows[i::RESOLUTIONS])
        if len(part):
            images = batch.index_select(0, part).permute(0, 3, 1, 2).float()
            size = max(1, round(h / by)), max(1, round(w / by))
            small = F.interpolate(images, size, mode="bilinear", antialias=True)
            large = F.interpolate(small, (h, w), mode="bilinear")
            out.index_copy_(0, part, _bytes(large).permute(0, 2, 3, 1))
    return out


def jitter(
    batch: Tensor, rng: Generator, brightness: float = 0.2, contrast: float = 0.2, colour: float = 0.1
) -> Tensor:
    """Scale each image's brightness, each of its colour channels, and its contrast about its mean, in this order.

    Each by a factor evenly drawn from 1 ± the strength; together they are one gain and one offset for each channel,
    and values stay in 0 to 255.
    """
    for name, value in (("brightness", brightness), ("contrast", contrast), ("colour", colour)):
        _check(name, value, 1)
    b, _, w, _ = batch.shape
    strengths = torch.tensor([brightness, contrast, colour, colour, colour], device=rng.device)
    factors = _on(batch, 1 + strengths * (2 * _random((b, 5), rng) - 1))
    gain = factors[:, :1] * factors[:, 2:]
    x = batch.flatten(2).float()
    mean = (x.mean(1).view(b, w, 3).mean(1) * gain).mean(1, keepdim=True)
    spread = factors[:, 1:2]
    offset = (mean * (1 - spread)).expand(b, 3)
    gain, offset = (v[:, None].repeat(1, 1, w) for v in (gain * spread, offset))
    return _bytes(x.mul_(gain).add_(offset)).view(batch.shape)


def grey(batch: Tensor, rng: Generator, probability: float = 0.1) -> Tensor:
    """Take the colours out of some images: 0.299 R + 0.587 G + 0.114 B."""
    rows = _on(batch, _chosen(batch, rng, probability))
    light = _bytes(batch.index_select(0, rows).float() @ _on(batch, torch.tensor(LUMA, device=rng.device)))
    return batch.index_copy(0, rows, light[..., None].expand(-1, -1, -1, 3))


def erase(batch: Tensor, rng: Generator, probability: float = 0.5, area: tuple[float, float] = (0.02, 0.3)) -> Tensor:
    """Paint one rectangle of some images with ERASED (random erasing, Zhong et al. 2020).

    It takes the stated share of the area, and its longer side is up to ten thirds of the shorter one.
    """
    rows = _chosen(batch, rng, probability)
    h, w = batch.shape[1:3]
    inside = _inside(_on(batch, _boxes(len(rows), h, w, area, 10 / 3, rng)), h, w)
    rows, colour = _on(batch, rows), _on(batch, torch.tensor(ERASED, dtype=torch.uint8, device=rng.device)).repeat(w)
    painted = torch.where(inside, colour, batch.index_select(0, rows).flatten(2))
    return batch.index_copy(0, rows, painted.unflatten(2, (w, 3)))


def _check(name: str, value: float, most: float) -> None:
    if not 0 <= value <= most:
        raise ValueError(f"{name} is {value}; it must lie in 0 to {most}")


def _on(batch: Tensor, x: Tensor) -> Tensor:
    """A few numbers where the batch is, without waiting for its device."""
    return x.to(batch.device, non_blocking=True)


def _random(shape: int | tuple[int, ...], rng: Generator) -> Tensor:
    return torch.rand(shape, generator=rng, device=rng.device)


def _below(limits: Tensor, rng: Generator) -> Tensor:
    """A whole number from 0 to below each limit."""
    return (_random(tuple(limits.shape), rng) * limits).long().minimum(limits - 1)


def _chosen(batch: Tensor, rng: Generator, probability: float) -> Tensor:
    """The numbers of some images."""
    _check("probability", probability, 1)
    return (_random(len(batch), rng) < probability).nonzero().ravel()


def _boxes(count: int, h: int, w: int, area: tuple[float, float], longest: float, rng: Generator) -> Tensor:
    """(4, count) top, left, height and width of rectangles with a share of the area, each wholly in the image.

    The shape is evenly drawn on a logarithmic scale from all that fit.
    """
    low, high = area
    if not 0 < low <= high <= 1:
        raise ValueError(f"area is {area}; give the least and the largest share, above 0 and up to 1")
    size, shape = _random((2, count), rng)
    size = (low + (high - low) * size) * (h * w)
    narrowest = (size.log() - 2 * math.log(w)).clamp(min=-math.log(longest))
    tallest = (2 * math.log(h) - size.log()).clamp(max=math.log(longest)).maximum(narrowest)
    ratio = (narrowest + (tallest - narrowest) * shape).exp()
    height = (size * ratio).sqrt().round().clamp(1, h).long()
    width = (size / height).round().clamp(1, w).long()
    return torch.stack([_below(h - height + 1, rng), _below(w - width + 1, rng), height, width])


def _inside(boxes: Tensor, h: int, w: int) -> Tensor:
    """(n, h, 3·w) whether each byte lies in its image's rectangle."""
    top, left, height, width = boxes[..., None]
    y, x = torch.arange(h, device=boxes.device), torch.arange(w, device=boxes.device).repeat_interleave(3)
    return ((y >= top) & (y < top + height))[:, :, None] & ((x >= left) & (x < left + width))[:, None]


def _runs(pixels: Tensor, starts: Tensor, length: int) -> Tensor:
    """(number of starts, 3·length) runs of bytes, one from each start on, counted in pixels of three."""
    count = pixels.numel() // 3 - length + 1
    return pixels.as_strided((count, 3 * length), (3, 1)).index_select(0, starts.ravel())


def _bytes(x: Tensor) -> Tensor:
    """The nearest byte to each value; `x` is overwritten."""
    return x.add_(0.5).clamp_(0, 255).to(torch.uint8)
