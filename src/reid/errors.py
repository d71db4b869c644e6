"""The errors a user can cause, as one small tree.

Each message is one sentence: what was given, what is allowed, what to do.
"""

from __future__ import annotations


class ReidError(Exception):
    """Anything that went wrong because of what was given, not because of a bug here."""


class ImageError(ReidError):
    """One image that cannot be read: missing, empty, broken, too large or of no known format."""


class DataError(ReidError):
    """A data set, list or table that cannot be understood."""


class StoreError(DataError):
    """A gallery whose disk or server fails: full, damaged, gone or busy. What was asked of it may be right."""


class NotFound(DataError):
    """A name or an id of which a gallery has no crop."""


class ModelError(ReidError):
    """A model file that cannot be read, or that does not fit what it was given."""


class ShapeError(ReidError, ValueError):
    """Arrays whose shape, type or content does not fit; also a ValueError."""


class Stopped(ReidError):
    """Long work that was asked to stop and did so in good order; what was done is saved."""


EXTRAS = {
    "torch": "train",
    "lightning_fabric": "train",
    "safetensors": "train",
    "onnx": "train",
    "onnxscript": "train",
    "pyarrow": "parquet",
    "h5py": "hdf5",
    "openvino": "openvino",
    "timm": "timm",
    "tensorboard": "tensorboard",
    "sklearn": "identify",
    "umap": "umap",
    "psycopg": "postgresql",
    "pymilvus": "milvus",
    "grpc": "milvus",
    "fastapi": "serve",
    "starlette": "serve",
    "pydantic": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "prometheus_client": "serve",
}
"""Packages that reid can do without, and the extra that brings each."""


class MissingExtra(ReidError, ImportError):
    """A part of the toolkit whose optional dependency is not installed; also an ImportError."""

    def __init__(self, what: str, extra: str):
        super().__init__(f"{what} needs an optional dependency that is not installed: pip install 'reid[{extra}]'")
