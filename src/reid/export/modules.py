"""Networks as they lie in a file: with their preprocessing, with test-time views, and traced to ONNX."""

from __future__ import annotations

import logging
import warnings

import onnx
import torch
from torch import Tensor, nn

from reid.images import Preprocess


class WithPreprocessing(nn.Module):
    """(N, H, W, 3) bytes, or (N, 3, H, W) floats that are prepared already, to (N, D) embeddings.

    Embeddings are of unit length where the network's are compared so.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, net: nn.Module, preprocess: Preprocess, unit: bool):
        super().__init__()
        self.net, self.unit, self.reverse = net, unit, preprocess.channels == "BGR"
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(3, 1, 1) / preprocess.scale)
        self.register_buffer("deviation", torch.tensor(preprocess.deviation).view(3, 1, 1) / preprocess.scale)

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            images = images.permute(0, 3, 1, 2)  # first: engines are slow at three values that change in every pixel
            images = images.flip(1) if self.reverse else images
            images = (images.float() - self.mean) / self.deviation
        embedding = self.net(images).embedding
        return nn.functional.normalize(embedding) if self.unit else embedding


class WithViews(nn.Module):
    """Pictures to the mean of their views' embeddings, the views of `images.VIEWS`.

    Takes (N, H, W, 3) bytes; for ten views they are 9/8 of the network's size.
    """

    def __init__(self, module: WithPreprocessing, preprocess: Preprocess):
        super().__init__()
        self.module, self.views = module, preprocess.views
        self.height, self.width = preprocess.height, preprocess.width

    def forward(self, images: Tensor) -> Tensor:
        height, width = self.height, self.width
        down, right = images.shape[1] - height, images.shape[2] - width
        corners = [(down // 2, right // 2)]
        if self.views == "ten":
            corners += [(0, 0), (0, right), (down, 0), (down, right)]
        cuts = [images[:, y : y + height, x : x + width] for y, x in corners]
        looks = cuts if self.views == "plain" else cuts + [cut.flip(2) for cut in cuts]
        mean = torch.stack([self.module(look) for look in looks]).mean(dim=0)
        return nn.functional.normalize(mean) if self.module.unit else mean

    @staticmethod
    def taken(preprocess: Preprocess) -> Preprocess:
        """What a file with the views inside wants of who feeds it."""
        height, width = preprocess.height, preprocess.width
        if preprocess.views == "ten":
            height, width = height * 9 // 8, width * 9 // 8
        return Preprocess(height, width, inside=True)


class PairHead(nn.Module):
    """Two (N, D) embeddings to the (N,) logits of a network's head for pairs."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        logits: Tensor = self.net.pair(first, second)  # type: ignore[operator]
        return logits


def traced(module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], output: str) -> onnx.ModelProto:
    """A module as ONNX for any batch size, without a word of the source code."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of a torchvision that is not needed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            verbose=False,
            input_names=names,
            output_names=[output],
            dynamic_shapes=({0: torch.export.Dim("batch")},) * len(inputs),
        )
    assert program is not None
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info):
        del part.metadata_props[:]  # where on this machine each line of code lies
    return model
