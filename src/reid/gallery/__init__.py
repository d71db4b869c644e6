"""Galleries: crops with their vectors and the people they show, in one file or on a server, behind the same calls.

A store is a module with a class of six methods (see `store.Store`) and a function that opens it; to add one, write
`gallery/x.py` and name its opener here by the scheme of its addresses.
"""

from __future__ import annotations

import importlib

from reid.errors import EXTRAS, MissingExtra
from reid.gallery import sqlite
from reid.gallery.address import Address
from reid.gallery.store import Opener, Store


def _on_demand(name: str) -> Opener:
    """The opener of a module whose packages not everybody has."""

    def open_store(address: Address, model: str | None, dim: int | None) -> Store:
        try:
            module = importlib.import_module(f"reid.gallery.{name}")
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS:
                raise
            raise MissingExtra(f"a gallery at {address.shown}", EXTRAS[error.name]) from None
        opened: Store = module.open_store(address, model, dim)
        return opened

    return open_store


STORES: dict[str, Opener] = {
    "sqlite": sqlite.open_store,
    "postgresql": _on_demand("postgresql"),
    "milvus": _on_demand("milvus"),
}
"""How to open the store of an address, by its scheme. Packages that a store needs are loaded when it opens."""
