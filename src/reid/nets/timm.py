"""Any network of the package timm (PyTorch Image Models), as `timm:NAME`, with an embedding and a classifier for it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping

from torch import Tensor, nn

from reid.errors import MissingExtra, ModelError
from reid.nets.features import Features


class Timm(nn.Module):
    """A network of timm without its classifier, a batch norm (BNNeck: Luo et al. 2019) and our classifier.

    Args:
        name: as `timm.list_models()` gives it, such as "resnet18". Weights are not fetched, and names that point to
            files or other computers ("hf-hub:…") are refused.
        classes: people in the training set; 0 builds no classifier.
        image: height and width of the input, for networks that are built for one size, as most transformers are;
            others take any.

    Raises:
        MissingExtra: timm is not installed.
        ModelError: timm has no network of that name, or none whose input size can be set.
    """

    unit = True

    def __init__(self, name: str, classes: int = 0, image: tuple[int, int] | None = None):
        super().__init__()
        try:
            timm = importlib.import_module("timm")
        except ImportError:
            raise MissingExtra(f"the network timm:{name}", "timm") from None
        if not re.fullmatch(r"[\w.-]+", name):
            raise ModelError(f"timm:{name} is no plain name of a network; timm.list_models() lists them")
        sizes = {} if image is None else {"img_size": tuple(image)}
        try:
            self.body: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **sizes)
        except RuntimeError as error:
            raise ModelError(f"timm:{name} cannot be built ({error}); timm.list_models() lists what can") from None
        except TypeError:
            if image is None:
                raise
            raise ModelError(f"timm:{name} is not built for one input size; leave the option image out") from None
        dim = int(getattr(self.body, "head_hidden_size", None) or self.body.num_features)
        self.size = (256, 128) if image is None else tuple(image)
        self.bnneck = nn.BatchNorm1d(dim)
        self.bnneck.bias.requires_grad_(False)
        self.classifier = nn.Linear(dim, classes, bias=False) if classes else None
        if self.classifier is not None:
            nn.init.normal_(self.classifier.weight, 0, 0.001)

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) normalised RGB to features."""
        pooled = self.body(x)
        embedding = self.bnneck(pooled)
        return Features(embedding, pooled, () if self.classifier is None else (self.classifier(embedding),))

    @staticmethod
    def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """timm's own checkpoints to our names; their classifier keeps a name that no network here has."""
        ours = ("body.", "bnneck.", "classifier.")
        return {name if name.startswith(ours) else f"body.{name}": tensor for name, tensor in state.items()}
