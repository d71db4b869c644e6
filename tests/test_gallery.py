"""Galleries: crops go in and come back, and are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid.errors import ModelError
from reid.gallery.gallery import Gallery
from reid.gallery.rows import Where
from reid.types import Embeddings


def test_what_goes_in_is_found(tmp_path: Path, people: Embeddings) -> None:
    with Gallery.open(tmp_path / "people.db", people.model, people.vectors.shape[1]) as gallery:
        ids = gallery.add(people, tags=["street"])
        assert len(set(ids.tolist())) == len(people) == gallery.count()
    with Gallery.open(tmp_path / "people.db") as gallery:
        (answer,) = gallery.search(people[:1], 3)
        assert people.crops[0] not in {m.crop for m in answer}
        assert [m.rank for m in answer] == [1, 2, 3]
        assert gallery.count(Where(cameras={"1"})) == 36
        assert [e.what for e in gallery.audit()] == ["add", "search"]
        assert gallery.verify_audit().broken is None


def test_another_model_is_refused(tmp_path: Path, people: Embeddings) -> None:
    with Gallery.open(tmp_path / "people.db", people.model, people.vectors.shape[1]) as gallery:
        gallery.add(people)
    with pytest.raises(ModelError, match="reid index rebuild"):
        Gallery.open(tmp_path / "people.db", "another", 8)
