"""Random changes to training batches, vectorised over the batch, on whatever device holds it.

All take and return (B, H, W, 3); a torch generator makes every choice.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def _uniform(count: int, low: float, high: float, rng: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=rng, device=rng.device)


def flip(batch: Tensor, rng: Generator, probability: float = 0.5) -> Tensor:
    """Mirror some images left to right."""
    chosen = torch.rand(len(batch), generator=rng, device=rng.device) < probability
    return torch.where(chosen[:, None, None, None], batch.flip(2), batch)


def pad_crop(batch: Tensor, rng: Generator, share: float = 0.04) -> Tensor:
    """Shift each image by up to `share` of its height either way; what comes in from outside is black."""
    b, h, w, _ = batch.shape
    pad = max(1, round(share * h))
    padded = torch.nn.functional.pad(batch, (0, 0, pad, pad, pad, pad))
    top = torch.randint(2 * pad + 1, (b, 1, 1), generator=rng, device=rng.device)
    left = torch.randint(2 * pad + 1, (b, 1, 1), generator=rng, device=rng.device)
    device = batch.device
    rows = top + torch.arange(h, device=device)[None, :, None]
    columns = left + torch.arange(w, device=device)[None, None, :]
    return padded[torch.arange(b, device=device)[:, None, None], rows, columns]


def erase(batch: Tensor, rng: Generator, probability: float = 0.5, area: tuple[float, float] = (0.02, 0.3)) -> Tensor:
    """Paint one rectangle of some images with their own mean colour (random erasing, Zhong et al. 2020)."""
    b, h, w, _ = batch.shape
    size = _uniform(b, *area, rng) * h * w
    ratio = torch.exp(_uniform(b, -1.2, 1.2, rng))
    height, width = (size * ratio).sqrt().clamp(max=h), (size / ratio).sqrt().clamp(max=w)
    top, left = _uniform(b, 0, 1, rng) * (h - height), _uniform(b, 0, 1, rng) * (w - width)
    chosen = torch.rand(b, generator=rng, device=rng.device) < probability
    y = torch.arange(h, device=batch.device)[None, :, None]
    x = torch.arange(w, device=batch.device)[None, None, :]
    top, left, height, width = (v[:, None, None] for v in (top, left, height, width))
    inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width) & chosen[:, None, None]
    mean = batch.float().mean((1, 2), keepdim=True).to(batch.dtype)
    return torch.where(inside[..., None], mean, batch)


def jitter(
    batch: Tensor, rng: Generator, brightness: float = 0.2, contrast: float = 0.2, colour: float = 0.1
) -> Tensor:
    """Scale brightness, contrast and each colour channel by random factors; values stay in 0 to 255."""
    b = len(batch)
    x = batch.float()
    x = x * _uniform(b, 1 - brightness, 1 + brightness, rng)[:, None, None, None]
    x = x * (1 + colour * (2 * torch.rand(b, 1, 1, 3, generator=rng, device=rng.device) - 1))
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * _uniform(b, 1 - contrast, 1 + contrast, rng)[:, None, None, None]
    return x.clamp(0, 255).to(batch.dtype)
