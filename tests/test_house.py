"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import reid

SOURCE = Path(reid.__file__).parent

# Each room may import from the rooms before it, and from those named with it.
ROOMS: list[set[str]] = [
    {"errors", "disk", "wording"},
    {"types", "settings"},
    {"images"},
    {"data", "distance", "metrics", "files", "street", "protocols", "pages", "quality"},
    {"doctor", "evaluation", "rerank", "spacetime", "roc", "foreign", "charts", "breakdown", "report", "cache"}
    | {"verify", "losses", "sampler", "augment", "nets"},
    {"cluster", "identify", "checkpoint"},
    {"old"},
    {"engines"},
    {"embed", "gallery", "evaluation_charts", "evaluation_page", "feed", "graph", "machine", "runs"},
    {"validation", "drift", "bench", "export", "job", "matcher", "indexing", "plot", "reid", "calibrate"},
    {"training", "convert", "imprint", "recipes", "processes", "serve"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names}
INDEPENDENT = {"nets": {"losses", "sampler", "augment"}, "sampler": {"losses", "nets", "augment"}}


def imports(path: Path) -> set[str]:
    """Rooms of reid that a file imports when it runs; those for type checking only do not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "reid":
            parts = node.module.split(".")
            found.update([parts[1]] if len(parts) > 1 else [alias.name for alias in node.names])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found & set(LEVEL)


def room(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


FILES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    assert here in LEVEL, f"{here} has no place in ROOMS"
    for other in imports(path) - {here}:
        assert LEVEL[other] <= LEVEL[here], f"{here} imports {other}, which stands above it"
        assert other not in INDEPENDENT.get(here, set()), f"{here} and {other} should not know each other"


def test_nothing_runs_in_a_circle() -> None:
    graph = {here: set().union(*(imports(p) for p in FILES if room(p) == here)) - {here} for here in LEVEL}
    while graph:
        leaves = {name for name, needs in graph.items() if not needs & graph.keys()}
        assert leaves, f"a circle of imports among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in leaves}


@pytest.mark.parametrize("name", reid.__all__)
def test_public_names_exist_and_are_documented(name: str) -> None:
    assert getattr(reid, name).__doc__
    assert name in dir(reid)


def test_a_public_function_stays_one_after_its_module_is_imported() -> None:
    import reid.evaluation
    import reid.training

    assert callable(reid.evaluate)
    assert callable(reid.train)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = reid.nothing_here


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_silent_and_light() -> None:
    heavy = ["torch", "numpy", "onnxruntime", "cv2", "PIL"]
    out = run(f"import reid, sys; print([m for m in {heavy} if m in sys.modules])")
    assert out == "[]\n"


def test_the_core_needs_no_torch() -> None:
    core = sorted({room(path) for path in FILES} - TORCH - {"__main__"})
    code = "import sys\n" + "\n".join(f"import reid.{name}" for name in core) + "\nprint('torch' in sys.modules)"
    assert run(code) == "False\n"


TORCH = {
    "nets",
    "losses",
    "augment",
    "feed",
    "graph",
    "imprint",
    "processes",
    "machine",
    "runs",
    "validation",
    "checkpoint",
    "training",
    "export",
    "old",
    "convert",
}


def test_no_room_is_called_utils() -> None:
    assert not [p for p in FILES if "util" in p.stem or "helper" in p.stem]


def test_nothing_is_unpickled() -> None:
    for path in FILES:
        text = path.read_text()
        for word in ("import pickle", "torch.load(", "allow_pickle=True", "eval(", "exec("):
            assert word not in _allowed(text), f"{path.name} uses {word}"


def _allowed(text: str) -> str:
    """What may stay: switching a net's mode, and PyTorch's reader that admits tensors and plain containers only."""
    return text.replace(".eval()", "").replace('torch.load(path, map_location="cpu", weights_only=True)', "")
