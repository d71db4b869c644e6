"""What every store of a gallery does: six methods and two facts; and what one may do besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from reid.gallery.address import Address
from reid.gallery.records import Column, Tally, tallied
from reid.gallery.rows import Rows, Where
from reid.types import Ranking, Vectors

MOST = 16_384
"""The largest k of a query."""


class Store(Protocol):
    """Rows on a disk or a server. All methods may be called from several threads at once.

    A store knows rows, not people, rights or retention: those are the Gallery's. It neither checks the model nor
    changes a row. What another process has written is seen by the next call.

    Attributes:
        model: fingerprint of the model whose vectors it holds.
        dim: length of a vector.
    """

    @property
    def model(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def upsert(self, rows: Rows) -> None:
        """Write rows; those whose id is there already replace it whole, `added` included.

        When this returns, the rows are on the disk and survive `kill -9` and a power cut. When it raises, none of them
        is there, where the store has transactions; where it has none, some may be, each whole.

        Raises:
            StoreError: the disk is full, the server is gone, or whatever else kept it from being written.
        """

    def query(self, vectors: Vectors, k: int, where: Where) -> Ranking:
        """The k nearest rows of each of (Q, D) float32 vectors among those that `where` admits: exactly, and never
        fewer than there are, because the filter comes before the choice.

        Returns:
            Ranking of (Q, K) row ids and Euclidean distances, right to 1e-3 of the vectors' length, K ≤ k; −1 and
            infinity where fewer are admitted. Equal distances come in any order.
        """

    def fetch(self, where: Where, vectors: bool = True, pictures: bool = True) -> Iterator[Rows]:
        """Rows that `where` admits in the order of their ids, in parts of a few thousand; none of them empty.

        Rows written or deleted after the first part was asked for may come or not. Without `vectors` they are (N, 0);
        without `pictures` they are None.
        """

    def delete(self, where: Where) -> int:
        """Remove rows for good, and say how many.

        When this returns, nothing of their vectors, pictures and paths is left in memory, files, logs or free pages
        that are the store's own. `Where(ids=frozenset())` removes no row, and what is left of those before.
        """

    def count(self, where: Where) -> int:
        """How many rows `where` admits."""

    def close(self) -> None:
        """Let go of files and connections. No method may be called afterwards but this one."""


@runtime_checkable
class Telling(Protocol):
    """What a store may do besides, where it can without reading its rows. See the functions of the same names."""

    def state(self) -> object: ...

    def tallies(self, where: Where, column: Column) -> list[Tally]: ...


def state(store: Store) -> object:
    """A value that changes whenever anybody, in any process, changes a row; None where the store cannot tell."""
    return store.state() if isinstance(store, Telling) else None


def tallies(store: Store, where: Where, column: Column) -> list[Tally]:
    """Rows that `where` admits, counted by person, or by tracklet, and camera, in any order."""
    if isinstance(store, Telling):
        return store.tallies(where, column)
    return tallied(store.fetch(where, vectors=False, pictures=False), column)


Opener = Callable[[Address, str | None, int | None], Store]
"""Opens the store at an address. Where there is none yet it is made, if model and dim are given.

Raises:
    DataError: there is none and it should not be made, it is damaged, or it cannot be reached.
    MissingExtra: a package is not installed.
"""
