"""Weights on disk: safetensors, with a JSON header that says what they are. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from reid.disk import replacing
from reid.errors import ModelError
from reid.nets import build

HEADER = "reid"
CLASSIFIER = "classifier."
LARGEST = 1 << 28
"""Values that a model may have in all; ResNet-50 has a tenth of it."""


def save(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors by name and a header that JSON can hold. Replaces the file in one step, safe on disk."""
    with replacing(path) as partial:
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        partial.write_bytes(to_bytes(kept, {HEADER: json.dumps(header)}))  # save_file lets nobody else read the file


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote: (tensors, header).

    Raises:
        ModelError: the file is missing, damaged, or was not written by reid.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is not a readable weights file ({error}); give one that `reid train` wrote") from None
    if HEADER not in metadata:
        raise ModelError(
            f"{path} has no reid header, so its network and preprocessing are unknown; give one that `reid train` wrote"
        )
    try:
        header = json.loads(metadata[HEADER])
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise ModelError(f"the reid header of {path} is damaged; copy the file again")
    return tensors, header


def load_net(path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a weights file, ready to embed: (module in eval mode without classifier, header).

    Raises:
        ModelError: as `load`, or the network is unknown or does not fit; the message names layers that differ.
    """
    tensors, header = load(path)
    return assemble(path, str(header.get("net", "of no name")), header.get("net_options", {}), tensors), header


def assemble(
    path: str | os.PathLike[str], name: str, options: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> nn.Module:
    """A network with a file's tensors, in eval mode and without classifier.

    Names and shapes are compared before anything is allocated, so that a file cannot ask for more memory than it has.

    Args:
        path: for messages.
        name, options: as `nets.build` takes them.
        tensors: by the network's names; those of a classifier are left out, counters of batches may be missing.

    Raises:
        ModelError: the network is unknown or does not fit; the message names layers that differ.
    """
    given = {n: t for n, t in tensors.items() if not n.startswith(CLASSIFIER)}
    net = _built(name, options, "cpu" if name.startswith("timm:") else "meta")  # timm looks at values while it builds
    given |= {n: torch.tensor(0) for n in net.state_dict() if n.endswith("num_batches_tracked") and n not in given}
    fit = Fit.of(net, given)
    wrong = [
        *(f"{name} is missing" for name in fit.fresh),
        *(f"{name} is unknown" for name in fit.unused),
        *fit.differing,
    ]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelError(f"{path} does not fit {name}: {', '.join(wrong[:3])}{more}")
    if odd := [n for n, t in given.items() if not t.isfinite().all()]:
        raise ModelError(f"{path} holds values that are not finite, in {_some(tuple(odd))}; copy or train it again")
    types = {n: t.dtype for n, t in net.state_dict().items()}
    net.load_state_dict({n: t.to(types[n], copy=True) for n, t in given.items()}, assign=True)
    return net.eval()


def _built(name: str, options: Mapping[str, Any], device: str) -> nn.Module:
    try:
        with torch.device(device), _Undrawn():
            return build(name, **options)
    except (TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError) as error:
        raise ModelError(f"{name} cannot be built with the options {dict(options)}: {error}") from None


class _Undrawn(TorchFunctionMode):
    """Leaves random values undrawn, which takes longer than the rest; those of a file take their place anyway."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in (Tensor.normal_, Tensor.uniform_) else func(*args, **kwargs or {})


@dataclass(frozen=True, slots=True)
class Fit:
    """What of a file went into a network and what did not.

    Attributes:
        matched: names found in both with the same shape.
        fresh: names of the network that the file does not have.
        unused: names of the file that the network does not have.
        differing: a sentence for each name found in both with different shapes.
    """

    matched: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    differing: tuple[str, ...]

    @classmethod
    def of(cls, net: nn.Module, given: Mapping[str, Tensor]) -> Fit:
        """Compare the names and shapes of a network and of tensors."""
        wanted = net.state_dict()
        both = [name for name in wanted if name in given]
        return cls(
            tuple(n for n in both if given[n].shape == wanted[n].shape),
            tuple(n for n in wanted if n not in given),
            tuple(n for n in given if n not in wanted),
            tuple(
                f"{n} is {tuple(given[n].shape)}, not {tuple(wanted[n].shape)}"
                for n in both
                if given[n].shape != wanted[n].shape
            ),
        )

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} tensors taken over"]
        parts += [f"{len(self.fresh)} start anew ({_some(self.fresh)})"] if self.fresh else []
        parts += [f"{len(self.unused)} of the file have no place ({_some(self.unused)})"] if self.unused else []
        parts += [f"{len(self.differing)} do not fit ({_some(self.differing)})"] if self.differing else []
        return "; ".join(parts)


def initialise(net: nn.Module, path: str | os.PathLike[str]) -> Fit:
    """Start a network from a file's weights, as far as names and shapes agree; classifiers are left out.

    Args:
        net: changed in place. Where it has a `rename`, foreign names are translated by it.
        path: weights that `reid train` wrote, the name of a model that comes with reid, any safetensors file, or a
            PyTorch file that holds tensors and plain containers only, such as torchvision's and timm's.

    Raises:
        ModelError: the file cannot be read safely, or nothing in it fits.
    """
    given = tensors_of(find(path))
    if rename := getattr(net, "rename", None):
        given = rename(given)
    # a classifier tells the old people apart; the new ones have nothing to do with them
    given = {n: t for n, t in given.items() if not n.startswith(CLASSIFIER) and not n.endswith("num_batches_tracked")}
    fit = Fit.of(net, given)
    if not fit.matched:
        raise ModelError(
            f"nothing in {path} fits {type(net).__name__}: it has {_some(tuple(given))}, the network "
            f"{_some(tuple(net.state_dict()))}; give weights of the same architecture"
        )
    net.load_state_dict({n: given[n] for n in fit.matched}, strict=False)
    counts = tuple(n for n in fit.fresh if n.endswith("num_batches_tracked"))
    return Fit(fit.matched, tuple(n for n in fit.fresh if n not in counts), fit.unused, fit.differing)


def find(model: str | os.PathLike[str]) -> Path:
    """The weights file that a path or the name of a model that comes with reid means."""
    path = Path(model)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in Path(str(resources.files("reid") / "weights")).glob("*.safetensors")}
    if os.fspath(model) not in shipped:
        raise ModelError(
            f"there is no weights file {os.fspath(model)}; give a file, or one of {', '.join(sorted(shipped))}"
        )
    return shipped[os.fspath(model)]


class LeftOut:
    """Stands in for NumPy's numbers in a pickle, such as the rank-1 that torchreid stores; nothing becomes of them."""

    def __init__(self, *given: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


NUMBERS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "_codecs.encode")


def tensors_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, without prefixes that wrappers add.

    PyTorch's pickles are read by its reader that admits tensors and plain containers, and numbers of NumPy are dropped.

    Raises:
        ModelError: the file is damaged, holds anything else, or claims more values than a model has.
    """
    tensors = _strip(_tensors(path))
    if any(t.layout != torch.strided or t.device.type != "cpu" or t.is_quantized for t in tensors.values()):
        raise ModelError(f"{path} holds sparse, quantised or missing tensors; plain ones are needed")
    if (values := sum(t.numel() for t in tensors.values())) > LARGEST:
        raise ModelError(f"{path} claims to hold {values:,} values; a model may have {LARGEST:,}")
    return tensors


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} is not a readable weights file ({error})") from None
    _check_unpacked(path)
    try:
        with torch.serialization.safe_globals([(LeftOut, name) for name in NUMBERS]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError) as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error})") from None
    except Exception as error:  # the reader fails in many ways on damaged and on forbidden content
        if named := re.search(r"(?:GLOBAL|[Ii]nstruction) ([\w.]+)", str(error)):
            raise ModelError(
                f"{path} holds more than tensors and plain containers: it asks for {named[1]}, which is not run; save "
                "its state_dict alone"
            ) from None
        raise ModelError(f"{path} holds no tensors and plain containers, or is damaged") from None
    for key in ("state_dict", "model"):
        content = content.get(key, content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__}; a mapping of names to tensors is needed")
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def _check_unpacked(path: Path) -> None:
    """Refuse an archive whose parts unpack to more than the file itself; PyTorch never compresses them."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return  # PyTorch's older format is no archive; its tensors are as large as what lies in the file
    if unpacked > path.stat().st_size:
        raise ModelError(f"{path} unpacks to more than its own size; PyTorch writes no such files")


def _strip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes that wrappers put before every one of them."""
    for prefix in ("module.", "average.", "net."):
        inner = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        tensors = inner or tensors
    return dict(tensors)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as tensors by name."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{i}.{k}": torch.as_tensor(v) for i, values in state.items() for k, v in values.items()}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `pack_optimizer` took out."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
