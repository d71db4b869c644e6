from __future__ import annotations

import os
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import io

from reid.distance import pairwise, top_k
from reid.errors import DataError, MissingExtra
from reid.evaluation import evaluate, evaluate_distances
from reid.foreign import (
    MAX_VALUES,
    coverage,
    ranking_blocks,
    read_matrix,
    read_ranking,
    triplet_reid_embeddings,
)
from reid.types import Crop, Embeddings, Ranking

MATRIX = np.random.default_rng(0).random((3, 5)).astype(np.float32)
Save = Callable[[Path, np.ndarray], None]


def save_h5(path: Path, values: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["emb"] = values
        file["augmentation_types"] = np.asarray(["original_resize"], dtype="|S")


def save_mat73(path: Path, values: np.ndarray) -> None:
    """As MATLAB 7.3 does: HDF5 behind a block of text that says so, columns first."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["dist"] = np.ascontiguousarray(values.T)
        file.create_group("#refs#")
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def save_big_endian_mat(path: Path, values: np.ndarray) -> None:
    """As MATLAB 5 did on other processors, parts of up to 4 bytes within their header."""

    def part(kind: int, content: bytes) -> bytes:
        if len(content) <= 4:
            return len(content).to_bytes(2) + kind.to_bytes(2) + content.ljust(4, b"\0")
        return kind.to_bytes(4) + len(content).to_bytes(4) + content + bytes(-len(content) % 8)

    shape, swapped = np.array(values.shape, ">i4"), values.astype(values.dtype.newbyteorder(">"))
    classes = {"float64": (6, 9), "float32": (7, 7), "int32": (12, 5), "uint8": (9, 2)}
    kind, stored = classes[values.dtype.name]
    parts = [
        (6, bytes([0, 0, 0, kind, 0, 0, 0, 0])),
        (5, shape.tobytes()),
        (1, b"dist"),
        (stored, swapped.tobytes("F")),
    ]
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + part(14, b"".join(part(*p) for p in parts)))


FORMATS: dict[str, tuple[str, Save]] = {
    "npy": (".npy", np.save),
    "npy by columns": (".npy", lambda path, values: np.save(path, np.asfortranarray(values))),
    "npy big-endian": (".npy", lambda path, values: np.save(path, values.astype(values.dtype.newbyteorder(">")))),
    "npz": (".npz", lambda path, values: np.savez(path, dist=values)),
    "npz packed": (".npz", lambda path, values: np.savez_compressed(path, values)),
    "hdf5": (".h5", save_h5),
    "matlab 5": (".mat", lambda path, values: io.savemat(path, {"dist": values})),
    "matlab 5 packed": (".mat", lambda path, values: io.savemat(path, {"dist": values}, do_compression=True)),
    "matlab 5 big-endian": (".mat", save_big_endian_mat),
    "matlab 7.3": (".mat", save_mat73),
}


@pytest.fixture(params=FORMATS)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[np.ndarray], Path]:
    suffix, save = FORMATS[request.param]

    def one(values: np.ndarray) -> Path:
        save(tmp_path / f"m{suffix}", values)
        return tmp_path / f"m{suffix}"

    return one


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.uint8])
def test_every_format_gives_back_the_matrix(saved: Callable[[np.ndarray], Path], kind: type) -> None:
    values = (MATRIX * 200).astype(kind)
    found = read_matrix(saved(values))
    assert found.dtype == (np.float32 if kind is np.float32 else np.float64)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(read_matrix(saved(values), similarity=True), -values.astype(float))


def test_what_is_no_number_or_no_matrix_is_refused(saved: Callable[[np.ndarray], Path]) -> None:
    holed = MATRIX.copy()
    holed[1, 2] = np.nan
    with pytest.raises(DataError, match=r"row 1 of .* not a number; compute"):
        read_matrix(saved(holed))
    for shape in [(3, 0), (2, 3, 4)]:
        with pytest.raises(DataError, match="a matrix has rows and columns"):
            read_matrix(saved(np.ones(shape)))


def test_a_cut_file_is_refused(saved: Callable[[np.ndarray], Path]) -> None:
    path = saved(MATRIX)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 150)):
        path.write_bytes(whole[:length])
        with suppress(DataError):
            np.testing.assert_array_equal(read_matrix(path), MATRIX)  # a last byte may be mere padding


def test_an_array_is_chosen_by_name_never_guessed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=MATRIX, two=2 * MATRIX)
    with pytest.raises(DataError, match=r"holds 2 arrays \(one, two\); name the one"):
        read_matrix(tmp_path / "a.npz")
    np.testing.assert_array_equal(read_matrix(tmp_path / "a.npz", "two"), 2 * MATRIX)
    io.savemat(tmp_path / "a.mat", {"one": MATRIX, "two": 2 * MATRIX, "text": "x", "cells": [[1, "a"]]})
    np.testing.assert_array_equal(read_matrix(tmp_path / "a.mat", "two"), 2 * MATRIX)
    for name in ("text", "cells"):
        with pytest.raises(DataError, match="not real numbers"):
            read_matrix(tmp_path / "a.mat", name)
    save_h5(tmp_path / "a.h5", MATRIX)
    with pytest.raises(DataError, match="holds no array 'dist'; it holds augmentation_types, emb"):
        read_matrix(tmp_path / "a.h5", "dist")
    np.save(tmp_path / "a.npy", MATRIX)
    with pytest.raises(DataError, match="leave the name"):
        read_matrix(tmp_path / "a.npy", "dist")


class Trap:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    planted = np.array([[Trap(sprung)]], dtype=object)
    np.save(tmp_path / "a.npy", planted, allow_pickle=True)
    np.savez(tmp_path / "a.npz", planted)
    (tmp_path / "b.npy").write_bytes(planted.dumps())
    (tmp_path / "b.mat").write_bytes(planted.dumps())
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("dist.npy", planted.dumps())
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match="never unpickled"):
            read_matrix(tmp_path / name)
        with pytest.raises(DataError, match="never unpickled"):
            read_ranking(tmp_path / name, 1, 1)
    for name in ("b.npy", "b.mat", "b.npz"):
        with pytest.raises(DataError):
            read_matrix(tmp_path / name)
    assert not sprung.exists()
    np.load(tmp_path / "a.npy", allow_pickle=True)  # the trap works
    assert sprung.exists()


def npy_header(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def claim_npy(path: Path, shape: tuple[int, int]) -> None:
    path.write_bytes(npy_header(shape) + bytes(64))


def claim_npz(path: Path, shape: tuple[int, int]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dist.npy", npy_header(shape) + bytes(64))


def claim_h5(path: Path, shape: tuple[int, int]) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("emb", shape, "f8")


def claim_chunked(path: Path, shape: tuple[int, int]) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("emb", shape, "f8", chunks=(1000, 1000), compression="gzip")[0, 0] = 1


def claim_mat(path: Path, shape: tuple[int, int]) -> None:
    io.savemat(path, {"dist": np.ones((33, 55))})
    wrong = np.array(shape, dtype="<i4").tobytes()
    path.write_bytes(path.read_bytes().replace(np.array((33, 55), dtype="<i4").tobytes(), wrong))


@pytest.mark.parametrize("shape", [(10**6, 10**6), (20_000, 20_000)])
@pytest.mark.parametrize(
    ("suffix", "claim"),
    [(".npy", claim_npy), (".npz", claim_npz), (".h5", claim_h5), (".hdf5", claim_chunked), (".mat", claim_mat)],
)
def test_claims_are_judged_before_room_is_made(
    suffix: str, claim: Callable[[Path, tuple[int, int]], None], shape: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / f"m{suffix}"
    claim(path, shape)
    tracemalloc.start()
    with pytest.raises(DataError, match="claims to hold"):
        read_matrix(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_more_than_the_limit_is_refused_even_where_it_is_there(tmp_path: Path) -> None:
    rows = MAX_VALUES // 1000 + 1
    with open(tmp_path / "m.npy", "wb") as file:
        file.write(npy_header((rows, 1000)))
        file.truncate(file.tell() + rows * 8000)  # a file with a hole takes no room
    with pytest.raises(DataError, match=f"at most {MAX_VALUES:,} are read"):
        read_matrix(tmp_path / "m.npy")


def test_values_in_other_files_are_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["emb"] = MATRIX
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("emb", (4, 4), "f4", external=[(str(tmp_path / "secret"), 0, 64)])
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["emb"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "emb")
    layout = h5py.VirtualLayout((3, 5), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "emb", (3, 5))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("emb", layout)
    for name, message in {"raw": "another file", "link": "0 arrays", "virtual": "another file"}.items():
        with pytest.raises(DataError, match=message):
            read_matrix(tmp_path / f"{name}.h5")


def test_other_mistakes_get_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"ends in '\.txt'; matrices are read from \.npy, \.npz, \.h5"):
        read_matrix(tmp_path / "m.txt")
    with pytest.raises(DataError, match="does not exist"):
        read_matrix(tmp_path / "m.npy")
    np.save(tmp_path / "c.npy", MATRIX + 1j)
    with pytest.raises(DataError, match="not real numbers"):
        read_matrix(tmp_path / "c.npy")
    io.savemat(tmp_path / "c.mat", {"dist": MATRIX + 1j})
    with pytest.raises(DataError, match="not real numbers"):
        read_matrix(tmp_path / "c.mat")
    io.savemat(tmp_path / "old.mat", {"dist": MATRIX}, format="4")
    with pytest.raises(DataError, match=r"no MATLAB file of version 5 to 7\.3; save it again"):
        read_matrix(tmp_path / "old.mat")
    save_h5(tmp_path / "m.h5", MATRIX)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"reid\[hdf5\]"):
        read_matrix(tmp_path / "m.h5")


def halves(people: Embeddings) -> tuple[Embeddings, Embeddings]:
    first = [i for i, c in enumerate(people.crops) if c.name == "0.jpg"]
    return people[first], people[[i for i in range(len(people)) if i not in first]]


@pytest.mark.parametrize("kind", [np.int64, np.int16, np.float64])
def test_complete_lists_are_worth_the_distances_they_come_from(tmp_path: Path, people: Embeddings, kind: type) -> None:
    query, gallery = halves(people)
    ids = top_k(query.vectors, gallery.vectors, len(gallery)).ids
    np.save(tmp_path / "r.npy", ids.astype(kind))
    ranking = read_ranking(tmp_path / "r.npy", len(query), len(gallery))
    np.testing.assert_array_equal(ranking.ids, ids)
    found = evaluate_distances(ranking_blocks(ranking, len(gallery)), query.crops, gallery.crops, intervals=True)
    assert found == evaluate(query, gallery, intervals=True)
    seen = coverage(ranking, query.crops, gallery.crops)
    assert (seen.missing, seen.queries) == (0, 0)
    assert str(seen) == "all 144 matches are listed"  # 36 queries, of each two other cameras with two crops
    io.savemat(tmp_path / "r.mat", {"ids": ids + 1.0})
    np.testing.assert_array_equal(read_ranking(tmp_path / "r.mat", len(query), len(gallery), "ids", 1).ids, ids)


def test_blocks_are_rows_of_the_whole(people: Embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery = halves(people)
    ranking = top_k(query.vectors, gallery.vectors, len(gallery))
    monkeypatch.setattr("reid.foreign.BLOCK_VALUES", 7 * len(gallery))
    parts = list(ranking_blocks(ranking, len(gallery)))
    assert [rows.stop - rows.start for rows, _ in parts] == [7, 7, 7, 7, 7, 1]
    whole = np.concatenate([block for _, block in parts])
    np.testing.assert_allclose(whole, pairwise(query.vectors, gallery.vectors), rtol=1e-6)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_missing_matches_are_counted(people: Embeddings, k: int) -> None:
    query, gallery = halves(people)
    ranking = top_k(query.vectors, gallery.vectors, k)
    for protocol, other in {"market1501": True, "diagonal": False}.items():
        missing = [
            sum(
                c.pid == q.pid and (c.camera != q.camera or not other) and i not in ids
                for i, c in enumerate(gallery.crops)
            )
            for q, ids in zip(query.crops, ranking.ids, strict=True)
        ]
        seen = coverage(ranking, query.crops, gallery.crops, protocol)
        assert (seen.missing, seen.queries) == (sum(missing), np.count_nonzero(missing))
        assert seen.missing == 0 or "not comparable" in str(seen)
    whole = evaluate(query, gallery, ranks=(1,))
    found = evaluate_distances(ranking_blocks(ranking, len(gallery)), query.crops, gallery.crops, ranks=(1,))
    if k > 3:  # at most two rows of the query's person and camera are taken out
        assert found.metrics["rank-1"] == whole.metrics["rank-1"]


def test_short_lists_are_filled_up(tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", np.array([[2, 0, -1], [-1, -1, -1], [1, 2, 0]]))
    ranking = read_ranking(tmp_path / "r.npy", 3, 3)
    np.testing.assert_array_equal(ranking.distances, [[0, 1, np.inf], [np.inf] * 3, [0, 1, 2]])
    ((_, block),) = ranking_blocks(ranking, 3)
    np.testing.assert_array_equal(block, [[1, np.inf, 0], [np.inf] * 3, [2, 0, 1]])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 1]], r"ranked lists in .*: 1, queries: 2"),
        ([[0, 1], [2, 3]], r"list 1 of .* names gallery row 3; rows of this gallery are numbered 0 to 2"),
        ([[0, 1], [-2, 1]], r"names gallery row -2"),
        ([[0, -1, 1], [0, 1, 2]], r"list 0 of .* has −1 between its rows"),
        ([[0, 1], [2, 2]], r"list 1 of .* names a gallery row twice"),
        ([[0, 1.5], [2, 1]], r"not whole numbers"),
        ([[0, np.nan], [2, 1]], r"not whole numbers"),
        ([[0, np.inf], [2, 1]], r"names gallery row inf"),
    ],
)
def test_lists_that_cannot_be_are_refused(tmp_path: Path, rows: list[list[float]], message: str) -> None:
    np.save(tmp_path / "r.npy", np.array(rows))
    with pytest.raises(DataError, match=message):
        read_ranking(tmp_path / "r.npy", 2, 3)


def test_no_number_wraps_round_to_padding(tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", np.array([[0, 2**64 - 1]], dtype=np.uint64))
    with pytest.raises(DataError, match="names gallery row 1844674407370955161"):
        read_ranking(tmp_path / "r.npy", 1, 3)


def test_triplet_reid_files_meet_by_row_number(tmp_path: Path) -> None:
    save_h5(tmp_path / "market1501_query_embeddings.h5", MATRIX)
    names = ["0002_c1s1_000451_03.jpg", "0007_c3s2_000551_01.jpg", "0000_c6s1_000776_01.jpg"]
    listing = tmp_path / "csv" / "market1501_query.csv"
    listing.parent.mkdir()
    listing.write_text("".join(f"{name[:4]},query/{name}\n" for name in names))
    made = triplet_reid_embeddings(tmp_path / "market1501_query_embeddings.h5", listing, tmp_path / "Market")
    np.testing.assert_array_equal(made.vectors, MATRIX)
    assert [(c.pid, c.camera, c.role) for c in made.crops[:2]] == [("0002", "1", "person"), ("0007", "3", "person")]
    assert made.crops[2].role == "distractor"
    assert [c.path for c in made.crops] == [str(tmp_path / "Market" / "query" / name) for name in names]
    beside = triplet_reid_embeddings(tmp_path / "market1501_query_embeddings.h5", listing)
    assert beside.crops[0].path == str(listing.parent / "query" / names[0])
    assert beside.model == made.model
    assert len(made.model) == 16
    named = triplet_reid_embeddings(tmp_path / "market1501_query_embeddings.h5", listing, model="trinet")
    assert named.model == "trinet"
    listing.write_text(f"0002,query/{names[0]}\n")
    with pytest.raises(DataError, match=r"3 embeddings and .* 1 crops; give the CSV that was embedded"):
        triplet_reid_embeddings(tmp_path / "market1501_query_embeddings.h5", listing)


def test_embeddings_must_be_finite(tmp_path: Path) -> None:
    save_h5(tmp_path / "e.h5", np.full((1, 2), np.inf, dtype=np.float32))
    (tmp_path / "e.csv").write_text("1,a.jpg\n")
    with pytest.raises(DataError, match="not finite"):
        triplet_reid_embeddings(tmp_path / "e.h5", tmp_path / "e.csv")


def test_queries_of_strangers_count_nothing() -> None:
    ranking = Ranking(np.array([[0]]), np.zeros((1, 1), dtype=np.float32))
    seen = coverage(ranking, [Crop("q")], [Crop("g")])
    assert (seen.matches, seen.missing, seen.queries) == (0, 0, 0)
