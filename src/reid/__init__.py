"""Person re-identification: find, verify and measure people across cameras.

Names are loaded on first use, so that `import reid` costs nothing that is not needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid.data import read
    from reid.embed import Embedder
    from reid.errors import ReidError
    from reid.evaluation import evaluate
    from reid.export import export_onnx
    from reid.gallery.gallery import Gallery
    from reid.identify import Identifier
    from reid.matcher import search
    from reid.reid import ReId
    from reid.settings import TrainConfig
    from reid.training import train
    from reid.types import Crop, Embeddings, Match, Ranking, Report, Verdict
    from reid.verify import Verifier

_HOME = {
    "Crop": "types",
    "Embedder": "embed",
    "Embeddings": "types",
    "Gallery": "gallery.gallery",
    "Identifier": "identify",
    "Match": "types",
    "Ranking": "types",
    "ReId": "reid",
    "ReidError": "errors",
    "Report": "types",
    "TrainConfig": "settings",
    "Verdict": "types",
    "Verifier": "verify",
    "evaluate": "evaluation",
    "export_onnx": "export",
    "read": "data",
    "search": "matcher",
    "train": "training",
}

__version__ = "0.1.0"
__all__ = [
    "Crop",
    "Embedder",
    "Embeddings",
    "Gallery",
    "Identifier",
    "Match",
    "Ranking",
    "ReId",
    "ReidError",
    "Report",
    "TrainConfig",
    "Verdict",
    "Verifier",
    "evaluate",
    "export_onnx",
    "read",
    "search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'reid' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"reid.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        from reid.errors import EXTRAS, MissingExtra

        if error.name not in EXTRAS:
            raise
        raise MissingExtra(f"reid.{name}", EXTRAS[error.name]) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
