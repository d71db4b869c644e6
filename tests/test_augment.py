from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor

from reid import augment
from reid.settings import Augment

H, W = 24, 12
NONE = Augment(**{f.name: 0.0 for f in fields(Augment)})
FULL = Augment(flip=0.5, shift=0.1, erase=0.5, jitter=0.3, patch=0.5, low_resolution=0.5, grey=0.5)
SOME: dict[str, Callable[..., Tensor]] = {
    "flip": augment.flip,
    "patch": augment.patch,
    "low_resolution": augment.low_resolution,
    "grey": augment.grey,
    "erase": augment.erase,
}


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def noise(low: int = 1, high: int = 256, count: int = 64) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(low, high, (count, H, W, 3), dtype=np.uint8))


IMAGES = noise()


def rectangle(changed: Tensor) -> tuple[int, int, int, int]:
    """Top, left, height and width around what is true in (H, W)."""
    rows, columns = changed.any(1).nonzero().ravel(), changed.any(0).nonzero().ravel()
    top, left = int(rows[0]), int(columns[0])
    return top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1


# ── what all do ──


@pytest.mark.parametrize("name", SOME)
def test_about_the_stated_share_of_images_changes_and_no_other(name: str) -> None:
    images = noise(count=1000)
    for probability, least, most in ((0.0, 0, 0), (0.3, 250, 350), (1.0, 1000, 1000)):
        out = SOME[name](images, generator(), probability)
        assert least <= int((out != images).any(3).any(2).any(1).sum()) <= most


@pytest.mark.parametrize("name", [f.name for f in fields(Augment)])
def test_apply_does_one_change_alone(name: str) -> None:
    images = IMAGES.clone()
    strength = getattr(FULL, name)
    arguments = (strength, strength, strength / 2) if name == "jitter" else (strength,)
    out = augment.apply(images, generator(), Augment(**{f.name: 0.0 for f in fields(Augment)} | {name: strength}))
    assert torch.equal(out, getattr(augment, name)(IMAGES, generator(), *arguments))
    assert not torch.equal(out, IMAGES)
    assert out.dtype == torch.uint8
    assert out.shape == IMAGES.shape
    assert torch.equal(images, IMAGES), "what was given is changed"


def test_apply_goes_from_the_scene_to_the_camera() -> None:
    out, rng = IMAGES, generator()
    for name in ("flip", "shift", "patch", "low_resolution"):
        out = getattr(augment, name)(out, rng, getattr(FULL, name))
    out = augment.erase(augment.grey(augment.jitter(out, rng, 0.3, 0.3, 0.15), rng, 0.5), rng, 0.5)
    assert torch.equal(augment.apply(IMAGES, generator(), FULL), out)


def test_with_all_at_nothing_the_batch_stays_and_nothing_is_drawn() -> None:
    rng = generator()
    before = rng.get_state()
    assert torch.equal(augment.apply(IMAGES, rng, NONE), IMAGES)
    assert torch.equal(rng.get_state(), before)


def test_the_generator_alone_decides_and_the_device_is_the_batchs() -> None:
    """On the meta device a tensor made without saying where would not go together with the batch."""
    first, state = augment.apply(IMAGES, generator(), FULL), torch.get_rng_state()
    with torch.device("meta"):
        again = augment.apply(IMAGES, generator(), FULL)
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    assert not torch.equal(first, augment.apply(IMAGES, generator(1), FULL))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_does_the_same() -> None:
    out = augment.apply(IMAGES.cuda(), generator(), FULL)
    assert out.is_cuda
    difference = out.cpu().int() - augment.apply(IMAGES, generator(), FULL).int()
    assert difference.abs().max() <= 1, "a rounding apart at most"


@pytest.mark.parametrize("size", [(1, 24, 12), (2, 1, 1), (3, 4, 40)])
def test_odd_batches_are_no_trouble(size: tuple[int, int, int]) -> None:
    images = torch.full((*size, 3), 77, dtype=torch.uint8)
    everything = Augment(1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert augment.apply(images, generator(), everything).shape == images.shape


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("probability is 1.5; it must lie in 0 to 1", lambda: augment.flip(IMAGES, generator(), 1.5)),
        ("probability is nan", lambda: augment.erase(IMAGES, generator(), float("nan"))),
        ("share is -0.1", lambda: augment.shift(IMAGES, generator(), -0.1)),
        ("contrast is 2", lambda: augment.jitter(IMAGES, generator(), contrast=2)),
        ("factor is 0.5", lambda: augment.low_resolution(IMAGES, generator(), factor=0.5)),
        (r"area is \(0.5, 0.2\)", lambda: augment.patch(IMAGES, generator(), area=(0.5, 0.2))),
        (r"this one is \(64, 24, 12, 3\) torch.float32", lambda: augment.apply(IMAGES.float(), generator(), NONE)),
        ("must be .B, H, W, 3. uint8", lambda: augment.apply(IMAGES.permute(0, 3, 1, 2), generator(), NONE)),
    ],
)
def test_settings_out_of_range_are_refused(message: str, call: Callable[[], Tensor]) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ── each one ──


def test_flip_mirrors() -> None:
    out = augment.flip(IMAGES, generator())
    mirrored = [bool((a == b.flip(1)).all()) for a, b in zip(out, IMAGES, strict=True)]
    same = [bool((a == b).all()) for a, b in zip(out, IMAGES, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48


def test_shift_moves_and_lets_black_in() -> None:
    """Two pixels are what a tenth of 24 rows comes to."""
    black = torch.nn.functional.pad(IMAGES, (0, 0, 2, 2, 2, 2))
    moves = [(y, x) for y in range(5) for x in range(5)]
    found = []
    for shifted, image in zip(augment.shift(IMAGES, generator(), 0.1), black, strict=True):
        fits = [(y, x) for y, x in moves if torch.equal(shifted, image[y : y + H, x : x + W])]
        assert len(fits) == 1
        found += fits
    assert {y for y, _ in found} == {x for _, x in found} == set(range(5))
    assert len(set(found)) > 15


def test_erase_paints_one_rectangle_of_the_stated_size() -> None:
    images = noise(count=400)
    shapes = []
    for out, image in zip(augment.erase(images, generator(), 1.0, (0.1, 0.2)), images, strict=True):
        top, left, height, width = rectangle((out != image).any(2))
        slow = image.clone()
        slow[top : top + height, left : left + width] = torch.tensor(augment.ERASED, dtype=torch.uint8)
        assert torch.equal(out, slow)
        shapes.append((top, left, height, width))
    top, left, height, width = np.array(shapes).T
    share = height * width / (H * W)
    assert 0.08 < share.min() < 0.11
    assert 0.19 < share.max() < 0.23
    assert share.mean() == pytest.approx(0.15, abs=0.01)
    assert top.min() == left.min() == 0
    assert (top + height).max() == H
    assert (left + width).max() == W


def test_erased_rectangles_are_neither_too_long_nor_all_alike() -> None:
    images = torch.full((400, 60, 60, 3), 9, dtype=torch.uint8)
    found = [rectangle((out != 9).any(2)) for out in augment.erase(images, generator(), 1.0, (0.1, 0.1))]
    longer = np.log([height / width for _, _, height, width in found]) / np.log(10 / 3)
    assert abs(longer).max() < 1.1
    assert np.histogram(longer, 4, (-1.1, 1.1))[0].min() > 60


def test_patch_comes_from_another_image_of_the_batch() -> None:
    images = noise(count=40)
    donors, moved, shares = [], [], []
    for i, out in enumerate(augment.patch(images, generator(), 1.0)):
        top, left, height, width = rectangle((out != images[i]).any(2))
        piece = out[top : top + height, left : left + width]
        places = images.unfold(1, height, 1).unfold(2, width, 1)  # (B, y, x, 3, height, width)
        fits = (places == piece.permute(2, 0, 1)).all(5).all(4).all(3).nonzero().tolist()
        assert len(fits) == 1
        (donor, y, x) = fits[0]
        assert donor != i
        slow = images[i].clone()
        slow[top : top + height, left : left + width] = images[donor, y : y + height, x : x + width]
        assert torch.equal(out, slow)
        donors.append((donor - i) % 40)
        moved.append((y - top, x - left))
        shares.append(height * width / (H * W))
    assert len(set(donors)) > 20
    assert len(set(moved)) > 20
    assert 0 < min(shares) < 0.1
    assert 0.4 < max(shares) <= 0.53
    two = torch.tensor([50, 200], dtype=torch.uint8)[:, None, None, None].repeat(1, H, W, 3)
    assert all(len(out.unique()) == 2 for s in range(9) for out in augment.patch(two, generator(s), 1.0))


def test_low_resolution_is_a_smaller_picture_enlarged() -> None:
    """Within 2 levels of what Pillow makes of it, whose bilinear filter also averages where it shrinks."""
    images = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (40, 48, 24, 3), dtype=np.uint8))
    sizes = []
    for out, image in zip(augment.low_resolution(images, generator(), 1.0), images, strict=True):
        picture, off = Image.fromarray(image.numpy()), {}
        for height in range(12, 49):
            for width in range(6, 25):
                if abs(height / 2 - width) <= 0.5:
                    small = picture.resize((width, height), Image.Resampling.BILINEAR)
                    large = np.asarray(small.resize((24, 48), Image.Resampling.BILINEAR), int)
                    off[height] = min(off.get(height, 255), abs(large - out.numpy()).max())
        best = min(off, key=lambda h: off[h])
        assert off[best] <= 2
        sizes.append(best)
    assert len(set(sizes)) == augment.RESOLUTIONS
    sharpness = {round(float(augment.low_resolution(images[:1], generator(s), 1.0).float().std())) for s in range(20)}
    assert len(sharpness) > 8, "the sizes do not change"


def test_jitter_scales_brightness_colours_and_contrast() -> None:
    """The factors are found again from input and output; a plain loop with them makes the same picture."""
    images = noise(1, 216, count=200) + torch.tensor([0, 40, 10], dtype=torch.uint8)
    found = []
    for image, out in zip(images, augment.jitter(images, generator(), 0.3, 0.2, 0.1), strict=True):
        x, y = image.double().reshape(-1, 3), out.double().reshape(-1, 3)
        free = (y > 2) & (y < 253)
        fits = [np.polyfit(x[free[:, c], c].numpy(), y[free[:, c], c].numpy(), 1) for c in range(3)]
        gain, offset = np.array([f[0] for f in fits]), np.array([f[1] for f in fits])
        assert np.ptp(offset) < 1.5, "contrast moves channels apart"
        light = (gain * x.mean(0).numpy()).mean()
        contrast = light / (offset.mean() + light)
        slow = x.numpy() * gain / contrast
        slow = slow.mean() + (slow - slow.mean()) * contrast
        assert abs(slow.clip(0, 255) - y.numpy()).max() < 1
        found.append((*(gain / contrast), contrast))
    factors = np.array(found)
    assert 0.78 < factors[:, 3].min() < 0.83
    assert 1.17 < factors[:, 3].max() < 1.22
    assert (factors[:, :3] > 0.7 * 0.9 - 0.01).all()
    assert (factors[:, :3] < 1.3 * 1.1 + 0.01).all()
    apart = factors[:, 0] / factors[:, 1]
    assert 0.9 / 1.1 - 0.01 < apart.min() < 0.9
    assert 1.1 < apart.max() < 1.1 / 0.9 + 0.01
    assert factors[:, :3].mean(1).min() < 0.75
    assert factors[:, :3].mean(1).max() > 1.25


def test_brightness_contrast_and_colour_can_be_had_alone() -> None:
    images = noise(80, 160)
    alone = ((0.2, 0, 0), (0, 0.2, 0), (0, 0, 0.2))
    bright, sharp, tinted = (augment.jitter(images, generator(), *strengths).double() for strengths in alone)
    means = images.double().mean((1, 2))
    factor = bright.mean((1, 2)) / means
    assert (factor.amax(1) - factor.amin(1)).max() < 0.01
    assert 0.79 < factor.min() < 0.85
    assert sharp.mean((1, 2, 3)).sub(means.mean(1)).abs().max() < 0.2
    assert 0.78 < (sharp.std((1, 2, 3)) / images.double().std((1, 2, 3))).min() < 0.85
    factor = tinted.mean((1, 2)) / means
    assert (factor.amax(1) - factor.amin(1)).max() > 0.3
    assert torch.equal(augment.jitter(IMAGES, generator(), 0, 0, 0), IMAGES)


def test_jitter_stops_at_black_and_white() -> None:
    """Were values to run over, a brighter pixel would come out darker."""
    for image, out in zip(IMAGES, augment.jitter(IMAGES, generator(), 1, 1, 1), strict=True):
        for c in range(3):
            order = image[..., c].ravel().argsort()
            assert (out[..., c].ravel()[order].int().diff() >= 0).all()
    assert set(augment.jitter(IMAGES, generator(), 1, 1, 1).unique().tolist()) >= {0, 255}


def test_grey_is_the_light_of_the_colours() -> None:
    for out, image in zip(augment.grey(IMAGES, generator(), 0.5), IMAGES, strict=True):
        light = image.double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.double)
        assert torch.equal(out, image) or (out - light[..., None]).abs().max() <= 0.501
