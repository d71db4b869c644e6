from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from reid import images
from reid.cache import Cache
from reid.embed import Embedder, Skipped
from reid.errors import ImageError, ModelError, ShapeError
from reid.images import Preprocess
from reid.matcher import search
from reid.types import Crop, Embeddings
from tests.conftest import tiny_model

Draw = Callable[..., Path]


def grid(path: Path) -> np.ndarray:
    """What the tiny model computes, in NumPy."""
    pixels = images.resize(images.read(path), 64, 32).astype(np.float32)
    means = pixels.reshape(4, 16, 2, 16, 3).mean(axis=(1, 3)).transpose(2, 0, 1).ravel()
    return means / np.linalg.norm(means)


def test_vectors_in_order_whatever_the_batch(model: Path, draw: Draw) -> None:
    paths = [draw(f"{i}.jpg", i, (20 + i, 40 + 2 * i)) for i in range(37)]
    wanted = np.stack([grid(p) for p in paths])
    for batch in (1, 5, 64):
        made = Embedder(model, threads=1, batch=batch)(paths)
        assert [c.path for c in made.crops] == [str(p) for p in paths]
        np.testing.assert_allclose(made.vectors, wanted, atol=1e-5)


def test_arrays_equal_files(embedder: Embedder, draw: Draw) -> None:
    paths = [draw(f"{i}.png", i) for i in range(20)]
    arrays = embedder.arrays([images.read(p) for p in paths])
    np.testing.assert_array_equal(arrays, embedder(paths).vectors)
    assert embedder.arrays([]).shape == (0, 24)
    with pytest.raises(ShapeError, match="picture 0"):
        embedder.arrays([np.zeros((4, 4))])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a.jpg", r"one picture was given, a.jpg; give a list of pictures, such as \['a.jpg'\]"),
        (Path("a.jpg"), "one picture was given, a.jpg"),
        ([np.zeros((4, 4, 3), np.uint8)], "a picture is ndarray; give paths or crops, and pictures that are decoded"),
        (np.zeros((1, 4, 4, 3), np.uint8), "a picture is ndarray"),
    ],
)
def test_what_is_no_list_of_pictures_is_told(embedder: Embedder, given: object, said: str) -> None:
    with pytest.raises(ShapeError, match=said):
        embedder(given)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="it must be Embeddings, which an Embedder makes"):
        search(given, given)  # type: ignore[arg-type]


def test_broken_pictures_are_left_out_and_named(embedder: Embedder, draw: Draw, tmp_path: Path) -> None:
    paths = [draw(f"{i}.png", i) for i in range(40)]
    paths[7].write_bytes(b"")
    paths[23].write_bytes(b"nonsense")
    paths[39] = tmp_path / "none.png"
    skipped: list[Skipped] = []
    made = embedder(paths, on_skip=skipped.append)
    assert [s.crop.path for s in skipped] == [str(paths[i]) for i in (7, 23, 39)]
    assert [c.path for c in made.crops] == [str(p) for i, p in enumerate(paths) if i not in (7, 23, 39)]
    with pytest.raises(ImageError, match=r"7\.png is empty"):
        embedder(paths)


def test_streaming_reads_only_a_little_ahead(embedder: Embedder, draw: Draw) -> None:
    path, taken = draw("a.png"), 0

    def endless() -> Iterator[Crop]:
        nonlocal taken
        while True:
            taken += 1
            yield Crop(str(path))

    batches = embedder.stream(endless())
    for _ in range(3):
        next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert taken < 16 * 16


def test_an_empty_stream(embedder: Embedder) -> None:
    assert embedder([]).vectors.shape == (0, 24)


def test_views_are_averaged_to_unit_length(model: Path, draw: Draw) -> None:
    path = draw("a.png", 3)
    plain, mirrored = Embedder(model), Embedder(model, views="mirror")
    assert plain.fingerprint != mirrored.fingerprint
    picture = images.read(path)
    both = plain.arrays([picture, np.ascontiguousarray(images.resize(picture, 64, 32)[:, ::-1])])
    mean = both.mean(axis=0)
    np.testing.assert_allclose(mirrored([path]).vectors[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_a_batch_baked_into_the_model_is_filled_up(tmp_path: Path, model: Path, draw: Draw) -> None:
    paths = [draw(f"{i}.png", i) for i in range(7)]
    fixed = Embedder(tiny_model(tmp_path / "fixed.onnx", batch=4))
    np.testing.assert_allclose(fixed(paths).vectors, Embedder(model)(paths).vectors, atol=1e-6)


def test_the_cache_gives_back_what_was_computed(model: Path, draw: Draw, tmp_path: Path) -> None:
    paths = [draw(f"{i}.png", i) for i in range(20)]
    paths[4].write_bytes(b"broken")
    embedder = Embedder(model, threads=1)
    embedder.cache = Cache(embedder.fingerprint, tmp_path / "c")
    first = embedder(paths, on_skip=lambda s: None)
    calls: list[int] = []
    embedder.vectors = lambda batch, threads: calls.append(len(batch))  # type: ignore[method-assign,assignment,return-value,func-returns-value]
    paths[2].rename(tmp_path / "moved.png")
    paths[2] = tmp_path / "moved.png"
    again = embedder(paths, on_skip=lambda s: None)
    assert calls == []
    np.testing.assert_array_equal(first.vectors, again.vectors)
    embedder.cache.close()


def test_a_changed_picture_is_computed_again(model: Path, draw: Draw, tmp_path: Path) -> None:
    embedder = Embedder(model, threads=1)
    embedder.cache = Cache(embedder.fingerprint, tmp_path / "c")
    before = embedder([draw("a.png", 1)]).vectors
    assert not np.array_equal(embedder([draw("a.png", 2)]).vectors, before)
    embedder.cache.close()


def test_models_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither a file nor"):
        Embedder("no_such_model")
    (tmp_path / "bad.onnx").write_bytes(b"not onnx")
    with pytest.raises(ModelError, match="not an ONNX model"):
        Embedder(tmp_path / "bad.onnx")
    with pytest.raises(ModelError, match="channel order"):
        Embedder(tiny_model(tmp_path / "odd.onnx", preprocess={"height": 64, "width": 32, "channels": "HSV"}))


def test_a_model_that_does_not_explain_itself_needs_a_preprocess(tmp_path: Path, draw: Draw, model: Path) -> None:
    import onnx

    mute = onnx.load(model)
    del mute.metadata_props[:]
    onnx.save(mute, tmp_path / "mute.onnx")
    with pytest.raises(ModelError, match="does not say how it wants its pictures"):
        Embedder(tmp_path / "mute.onnx")
    told = Embedder(tmp_path / "mute.onnx", Preprocess(64, 32, inside=True))
    path = draw("a.png", 5)
    np.testing.assert_allclose(told([path]).vectors[0], grid(path), atol=1e-5)


def test_bytes_are_not_fed_what_was_scaled(tmp_path: Path, draw: Draw, model: Path) -> None:
    import onnx

    with pytest.raises(ModelError, match="scales them itself; leave --like torchreid out"):
        Embedder(model, like="torchreid")
    mute = onnx.load(model)
    del mute.metadata_props[:]
    onnx.save(mute, tmp_path / "mute.onnx")
    with pytest.raises(ModelError, match="takes bytes and scales them itself"):
        Embedder(tmp_path / "mute.onnx", like="torchreid")
    path = draw("a.png", 5)
    np.testing.assert_allclose(
        Embedder(tmp_path / "mute.onnx", like="rgb255")([path]).vectors[0], grid(path), atol=1e-5
    )


def test_several_files_of_embeddings_are_taken_as_they_are(embedder: Embedder, draw: Draw, tmp_path: Path) -> None:
    from reid import files, matcher

    made = embedder([draw(f"{i}.png", i) for i in range(4)])
    files.save(made[:2], tmp_path / "a.npz")
    files.save(made[2:3], tmp_path / "b.npz")
    sources = tmp_path / "a.npz", tmp_path / "b.npz"
    found = matcher.gather(sources, lambda: pytest.fail("nothing is to be embedded"))
    assert found == made[:3]
    assert matcher.gather([*sources, made.crops[3].path], lambda: embedder) == made
    files.save(Embeddings(made.vectors, made.crops, "another"), tmp_path / "c.npz")
    with pytest.raises(ModelError, match="by different models"):
        matcher.gather([*sources, tmp_path / "c.npz"], lambda: embedder)
