"""Galleries on servers: what is lost and found when the server dies, and what is left of erased rows."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from reid.errors import DataError
from reid.gallery import STORES
from reid.gallery.address import Address
from reid.gallery.gallery import Gallery
from reid.gallery.rows import Rows, Where, row_ids
from reid.gallery.store import Store
from reid.types import Crop
from tests import servers

DIM = 16
