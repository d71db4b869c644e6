from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reid import files
from reid.errors import DataError
from reid.types import ROLES, Crop, Embeddings

# a CSV cannot hold half of a surrogate pair, and a carriage return comes back as it was only inside quotes
text = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=12)
crops = st.builds(
    Crop,
    text,
    st.none() | text,
    st.none() | text,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | text,
    st.sampled_from(ROLES),
    st.dictionaries(text, text, max_size=2),
)


@pytest.mark.parametrize("suffix", list(files.FORMATS))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(crops, min_size=1, max_size=5), seed=st.integers(0, 99))
def test_every_format_comes_back_without_loss(suffix: str, rows: list[Crop], seed: int, tmp_path: Path) -> None:
    vectors = np.random.default_rng(seed).normal(size=(len(rows), 3)).astype(np.float32)
    made = Embeddings(vectors, tuple(rows), "0123abcd")
    files.save(made, tmp_path / f"e{suffix}")
    assert files.load(tmp_path / f"e{suffix}") == made
    assert files.is_embeddings(tmp_path / f"e{suffix}")


def test_line_ends_inside_a_cell_survive_a_csv(tmp_path: Path) -> None:
    made = Embeddings(np.zeros((2, 2), np.float32), (Crop("a\rb", "c\nd"), Crop('e\r\n"f"', "g,h")), "m")
    files.save(made, tmp_path / "e.csv")
    assert files.load(tmp_path / "e.csv") == made


def test_the_classic_line_gives_back_the_same_numbers() -> None:
    vector = np.random.default_rng(0).normal(size=128).astype(np.float32)
    name, *values = files.classic_line("a/b.jpg", vector).split(",")
    assert name == "a/b.jpg"
    assert (np.array(values, dtype=np.float32) == vector).all()


@pytest.mark.parametrize("name", ["a b.jpg", "a, b.jpg", 'say "a".jpg', "a\nb.jpg", "é.jpg"])
def test_a_classic_line_is_comma_separated_whatever_the_name(name: str) -> None:
    line = files.classic_line(name, np.float32([1, 0.5]))
    assert list(csv.reader(io.StringIO(line, newline=""))) == [[name, "1", "0.5"]]


def test_what_is_no_file_of_embeddings(tmp_path: Path) -> None:
    (tmp_path / "crops.csv").write_text("path,pid\na.jpg,1\n")
    assert not files.is_embeddings(tmp_path / "crops.csv")
    with pytest.raises(DataError, match="no header"):
        files.load(tmp_path / "crops.csv")
    with pytest.raises(DataError, match=r"\.npz, \.csv, \.parquet"):
        files.load(tmp_path / "e.h5")
    with pytest.raises(DataError, match="does not exist"):
        files.load(tmp_path / "e.npz")
    (tmp_path / "e.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="not a readable"):
        files.load(tmp_path / "e.parquet")


def test_a_bad_row_is_named(tmp_path: Path, people: Embeddings) -> None:
    path = tmp_path / "e.csv"
    files.save(people[:3], path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2].rsplit(",", 1)[0], lines[3]]))
    with pytest.raises(DataError, match="line 3"):
        files.load(path)
    path.write_text("\n".join([*lines[:3], lines[3].replace("drawn", "other")]))
    with pytest.raises(DataError, match="2 models"):
        files.load(path)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, people: Embeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "e.npz"
    files.save(people, path)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        files.save(people[:2], path)
    assert files.load(path) == people
    assert [p.name for p in tmp_path.iterdir()] == ["e.npz"]
