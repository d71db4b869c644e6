"""Galleries: crops with their vectors and the people they show, in one file or on a server, behind the same calls.

A store is a module with a class of six methods (see `store.Store`) and a function that opens it; to add one, write
`gallery/x.py` and name its opener here by the scheme of its addresses.
"""

from __future__ import annotations

from reid.gallery import sqlite
from reid.gallery.store import Opener

STORES: dict[str, Opener] = {
    "sqlite": sqlite.open_store,
}
"""How to open the store of an address, by its scheme. Packages that a store needs are loaded when it opens."""
