"""A service that really listens, over a small gallery, in a thread of the test's own process."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from reid.embed import Embedder
from reid.gallery.gallery import Gallery
from reid.serve.logs import Journal
from reid.serve.running import server
from reid.serve.service import Service
from reid.serve.settings import Settings
from reid.serve.tokens import Tokens
from reid.types import Crop, Embeddings
from reid.verify import Curve, Doubt, Verifier

PLAIN = Settings(rate=0, wait=0.0)


def jpeg(seed: int = 0, size: tuple[int, int] = (32, 64), kind: str = "PNG") -> bytes:
    """A picture of blocky noise as a file's bytes: losslessly, so that what is decoded is what was drawn."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(out, kind)
    return out.getvalue()


def verifier(model: str) -> Verifier:
    """One that is fitted on nothing: even at a distance of 0.5, and in doubt about what is blurred or cut."""
    curve = Curve(np.array([0.0, 0.5, 1.0]), np.array([0.99, 0.5, 0.01]))
    measures = ("size", "blur", "cut", "dark", "bright")
    doubt = Doubt(measures, (0.5, 0.9, 0.1, 0.5, 0.5), (0.0, 4.0, 5.0, 4.0, 3.0))
    return Verifier(model, curve, (), 9, 9, 9, doubt=doubt)


def fill(gallery: Gallery, embedder: Embedder) -> tuple[Crop, ...]:
    """Eight people of three crops by three cameras, the first four of them enrolled; with pictures."""
    crops, pictures, seeds = [], [], []
    for person in range(8):
        for camera in range(3):
            name = f"person {person}" if person < 4 else None
            path, time_ = f"street/{person}-{camera}.png", 100.0 * camera + person
            crops.append(Crop(path, name, f"c{camera}", time_, f"t{person}-{camera}"))
            seeds.append(10 * person + camera)
            pictures.append(jpeg(seeds[-1], kind="JPEG"))
    arrays = [np.asarray(Image.open(io.BytesIO(jpeg(seed)))) for seed in seeds]
    gallery.add(Embeddings(embedder.arrays(arrays), tuple(crops), embedder.fingerprint), pictures=pictures, by="tests")
    return tuple(crops)


@dataclass(frozen=True)
class Served:
    """A running service and what is behind it."""

    url: str
    client: httpx.Client
    service: Service
    gallery: Gallery
    crops: tuple[Crop, ...]
    log: io.StringIO
    path: Path

    def get(self, path: str, **more: object) -> httpx.Response:
        return self.client.get(path, **more)  # type: ignore[arg-type]

    def post(self, path: str, **more: object) -> httpx.Response:
        return self.client.post(path, **more)  # type: ignore[arg-type]


@contextmanager
def serving(
    folder: Path,
    embedder: Embedder,
    settings: Settings = PLAIN,
    tokens: Tokens | None = None,
    clock: object = time.time,
) -> Iterator[Served]:
    """Start, and stop in good order."""
    path = folder / "people.db"
    gallery = Gallery.open(path, embedder.fingerprint, embedder.dim, clock=clock)  # type: ignore[arg-type]
    crops = fill(gallery, embedder)
    log = io.StringIO()
    service = Service(gallery, embedder, verifier(embedder.fingerprint), settings, Journal(log))
    made = server(service, tokens, port=0)
    thread = threading.Thread(target=made.run, name="server")
    thread.start()
    try:
        until = time.monotonic() + 20
        while not made.started:
            assert thread.is_alive(), log.getvalue()
            assert time.monotonic() < until, log.getvalue()
            time.sleep(0.005)
        url = f"http://127.0.0.1:{made.servers[0].sockets[0].getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
            yield Served(url, client, service, gallery, crops, log, path)
    finally:
        made.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def limits(**changed: object) -> Settings:
    """The plain settings with some changed."""
    return replace(PLAIN, **changed)  # type: ignore[arg-type]
