"""What becomes of every kind of picture, good and bad."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid import images
from reid.errors import ImageError, ModelError, ShapeError
from reid.images import Preprocess

HALVES = np.zeros((64, 32, 3), dtype=np.uint8)
HALVES[:32] = (200, 30, 40)
HALVES[32:] = (20, 60, 180)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def close(a: np.ndarray, b: np.ndarray, within: float) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(float) - b).mean()) < within


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM"])
def test_formats_are_known_by_content(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "name.that.says.nothing"
    path.write_bytes(encoded(Image.fromarray(HALVES), kind))
    assert close(images.read(path), HALVES, 4)


def test_jpeg_pixels_equal_pillows() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 24, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG", quality=90)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.abs(images.decode(data).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    upright = Image.fromarray(HALVES)
    turn = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert close(images.decode(encoded(stored, "JPEG", exif=exif, quality=95)), HALVES, 4)


def test_greyscale_and_palette_become_rgb() -> None:
    grey = images.decode(encoded(Image.fromarray(HALVES).convert("L"), "JPEG"))
    assert grey.shape == (64, 32, 3)
    assert (grey[..., 0] == grey[..., 2]).all()
    assert close(images.decode(encoded(Image.fromarray(HALVES).convert("P"), "PNG")), HALVES, 20)


def test_cmyk_becomes_rgb() -> None:
    assert close(images.decode(encoded(Image.fromarray(HALVES).convert("CMYK"), "JPEG", quality=95)), HALVES, 6)


def test_sixteen_bits_are_scaled_to_eight() -> None:
    ramp = np.linspace(0, 65535, 64 * 32).reshape(64, 32).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        wide = images.decode(encoded(Image.fromarray(ramp), kind))
        assert close(wide[..., 0], ramp / 257, 1), kind
    dark = images.decode(encoded(Image.fromarray((ramp // 512).astype(np.uint16)), "PNG"))
    assert dark.max() <= 1, "a dark 16-bit picture must stay dark"


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.fromarray(HALVES), Image.fromarray(HALVES[::-1].copy())]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert close(images.decode(data), HALVES, 12), kind


def test_transparency_lies_on_white() -> None:
    clear = Image.fromarray(HALVES).convert("RGBA")
    clear.putalpha(0)
    assert (images.decode(encoded(clear, "PNG")) == 255).all()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


JPEG = encoded(Image.fromarray(HALVES), "JPEG")
PNG = encoded(Image.fromarray(HALVES), "PNG")
BAD = {
    "empty": (b"", "empty"),
    "text": (b"this is no picture at all", "no picture that reid knows"),
    "truncated jpeg": (JPEG[: len(JPEG) // 2], "damaged"),
    "truncated png": (PNG[: len(PNG) // 2], "damaged"),
    "jpeg header only": (JPEG[:4], "damaged|no picture"),
    "bomb": (bomb(30_000, 30_000), "pixels"),
    "vast bomb": (bomb(2_000_000_000, 2_000_000_000), "pixels|damaged"),
    "html": (b"<html><body>404</body></html>", "no picture that reid knows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_get_one_sentence(name: str, tmp_path: Path) -> None:
    data, message = BAD[name]
    path = tmp_path / "bad.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=message) as caught:
        images.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_jpeg_bomb_is_refused_before_it_is_unpacked() -> None:
    large = bytearray(JPEG)
    at = large.index(b"\xff\xc0") + 5
    large[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(ImageError, match="60000×60000"):
        images.decode(bytes(large))


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        images.read(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="cannot be opened"):
        images.read(tmp_path)


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    (tmp_path / "a.jpg").write_bytes(JPEG)
    with pytest.raises(ImageError, match="MiB"):
        images.read(tmp_path / "a.jpg")


def test_walk_is_sorted_and_leaves_hidden_files_out(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/1.PNG", "a.webp", ".hidden.jpg", ".git/x.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(p.relative_to(tmp_path)) for p in images.walk(tmp_path)] == ["a.webp", "b/1.PNG", "b/2.jpg"]


def test_walk_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").touch()
    (tmp_path / "crops" / "1").mkdir(parents=True)
    (tmp_path / "crops" / "2").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "crops" / "1" / "up").symlink_to(tmp_path / "crops")
    (tmp_path / "crops" / "3").symlink_to(tmp_path / "elsewhere")
    assert [str(p.relative_to(tmp_path)) for p in images.walk(tmp_path / "crops")] == ["crops/2/a.jpg"]


@pytest.mark.parametrize("shape", [(128, 64), (16, 8), (100, 10), (64, 32)])
def test_resize_keeps_flat_colour_and_order(shape: tuple[int, int]) -> None:
    out = images.resize(HALVES, *shape)
    assert out.shape == (*shape, 3)
    assert close(out[: shape[0] // 4], np.broadcast_to(HALVES[0, 0], (shape[0] // 4, shape[1], 3)), 1)


def test_views() -> None:
    ramp = np.arange(288 * 144 * 3, dtype=np.uint32).reshape(288, 144, 3).astype(np.uint8)
    plain, mirror, ten = (Preprocess(256, 128, views=v).look(ramp) for v in ("plain", "mirror", "ten"))
    assert [len(plain), len(mirror), len(ten)] == [1, 2, 10]
    assert (mirror[1] == mirror[0][:, ::-1]).all()
    assert (ten[0] == ramp[16:272, 8:136]).all()
    assert (ten[1] == ramp[:256, :128]).all()
    assert (ten[4] == ramp[32:, 16:]).all()
    assert all((ten[i + 5] == ten[i][:, ::-1]).all() for i in range(5))


def test_preprocess_outside_the_network() -> None:
    want = Preprocess(2, 1, "BGR", scale=1 / 255, mean=(0.1, 0.2, 0.3), deviation=(0.5, 1.0, 2.0))
    pixel = np.array([[[[255, 51, 0]], [[0, 0, 255]]]], dtype=np.uint8)
    out = want.prepare(pixel)
    assert out.shape == (1, 3, 2, 1)
    np.testing.assert_allclose(out[0, :, 0, 0], [(0 - 0.1) / 0.5, (0.2 - 0.2) / 1.0, (1 - 0.3) / 2.0], atol=1e-6)


@pytest.mark.parametrize("bad", [{"channels": "GBR"}, {"height": 0}, {"views": "many"}, {"deviation": (1.0, 0.0, 1.0)}])
def test_preprocess_is_checked(bad: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        Preprocess(**{"height": 4, "width": 2, **bad})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad", [None, np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_arrays_from_callers_are_checked(bad: object) -> None:
    with pytest.raises(ShapeError):
        images.check_rgb(bad)
