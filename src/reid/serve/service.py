"""What the addresses call: pictures to vectors to answers, in threads and batches; and the life of the service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from fastapi import UploadFile

from reid.embed import Embedder
from reid.errors import DataError, NotFound, ReidError, StoreError
from reid.gallery.gallery import Gallery
from reid.gallery.rows import Where
from reid.images import RGB
from reid.serve.batching import Batcher
from reid.serve.known import Known
from reid.serve.logs import Journal
from reid.serve.meters import Meters
from reid.serve.pictures import Looked, look
from reid.serve.problems import Refused
from reid.serve.settings import Settings
from reid.types import Embeddings, Match, Vectors
from reid.verify import Verifier
from reid.wording import many

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a search asks for beside its query; searches with the same terms share one look at the gallery."""

    k: int
    where: Where
    other_cameras: bool
    per: Literal["crop", "person"]
    by: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One query, (1, D), and its terms."""

    query: Embeddings
    terms: Terms


class Service:
    """A gallery with its model behind asynchronous calls.

    Args:
        verifier: for probabilities; None leaves them out.

    Raises:
        ModelError: the gallery or the verifier is of another model.
    """

    def __init__(
        self,
        gallery: Gallery,
        embedder: Embedder,
        verifier: Verifier | None,
        settings: Settings,
        journal: Journal | None = None,
    ):
        gallery.check(embedder.fingerprint)
        if verifier:
            verifier.check(embedder.fingerprint)
        self.gallery, self.embedder, self.verifier, self.settings = gallery, embedder, verifier, settings
        self.journal, self.meters = journal or Journal(), Meters()
        self.known = Known(gallery)
        self._hands = ThreadPoolExecutor(max(4, os.cpu_count() or 1), thread_name_prefix="gallery")
        self._decoders = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")
        self._inference: Batcher[list[RGB], Vectors] = Batcher(
            self._embed, settings.batch, settings.wait, settings.queue, "inference", self.meters.batch("inference")
        )
        self._searching: Batcher[Asked, tuple[Match, ...] | ReidError] = Batcher(
            self._search, settings.batch, settings.wait, settings.queue, "search", self.meters.batch("search")
        )
        self._sweeper: asyncio.Task[None] | None = None
        self.meters.watch("reid_gallery_rows", "Crops in the gallery.", gallery.count)
        self.meters.watch(
            "reid_waiting_pictures", "Pictures that wait for an inference.", lambda: self._inference.waiting
        )

    async def start(self) -> None:
        """Begin, within the loop that is going to serve."""
        self._inference.start()
        self._searching.start()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def stop(self) -> None:
        """End in good order: what was begun is done, then the gallery is closed."""
        if self._sweeper:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        await self._inference.close()
        await self._searching.close()
        self._decoders.shutdown(wait=True)
        self._hands.shutdown(wait=True)
        self.gallery.close()

    async def run(self, work: Callable[[], T]) -> T:
        """What a call to the gallery returns, made in a thread. A change that was begun is finished in any case."""
        return await asyncio.get_running_loop().run_in_executor(self._hands, work)

    async def change(self, work: Callable[[], T]) -> T:
        """As `run`, for what changes who or what is in the gallery, which may refuse it."""

        def changed() -> T:
            try:
                return work()
            finally:
                self.known.forget()  # also where nobody waits for the end any more

        try:
            return await self.run(changed)
        except (StoreError, NotFound):
            raise
        except DataError as error:
            raise Refused(409, str(error)) from None

    async def look(self, uploads: Sequence[UploadFile], keep: bool = False) -> list[Looked]:
        """Decode pictures that were sent in.

        Raises:
            ImageError: one of them cannot be read; the message names it by its place.
            Refused: there are none, or too many.
        """
        if not 1 <= len(uploads) <= self.settings.max_crops:
            sent = many(len(uploads), "picture was", "pictures were")
            raise Refused(422, f"{sent} sent; send 1 to {self.settings.max_crops} at once")
        loop, looked = asyncio.get_running_loop(), []
        for number, upload in enumerate(uploads, 1):
            data = await upload.read()
            name = "the picture" if len(uploads) == 1 else f"picture {number}"
            most, model = self.settings.max_pixels, self.embedder.preprocess
            looked.append(await loop.run_in_executor(self._decoders, look, data, name, model, most, keep))
        return looked

    async def embed(self, looked: Sequence[Looked]) -> Vectors:
        """(N, D) vectors of N pictures.

        Raises:
            Busy: too many wait already.
        """
        return np.stack(await self._inference([one.views for one in looked]))

    async def search(self, query: Embeddings, terms: Terms) -> list[tuple[Match, ...]]:
        """For each query its matches, with neither probability nor doubt.

        Raises:
            Busy: too many wait already.
            ReidError: as `Gallery.search`.
        """
        asked = [Asked(query[i : i + 1], terms) for i in range(len(query))]
        answers: list[tuple[Match, ...]] = []
        for answer in await self._searching(asked):
            if isinstance(answer, ReidError):
                raise answer
            answers.append(answer)
        return answers

    def _embed(self, views: list[list[RGB]]) -> list[Vectors]:
        return list(self.embedder.views(views))

    def _search(self, asked: list[Asked]) -> list[tuple[Match, ...] | ReidError]:
        """A batch of searches, those with the same terms at once; a mistake in some is no mistake in the others."""
        together: dict[Terms, list[int]] = {}
        for i, one in enumerate(asked):
            together.setdefault(one.terms, []).append(i)
        answers: dict[int, tuple[Match, ...] | ReidError] = {}
        for terms, rows in together.items():
            vectors = np.concatenate([asked[i].query.vectors for i in rows])
            query = Embeddings(vectors, tuple(asked[i].query.crops[0] for i in rows), asked[rows[0]].query.model)
            try:
                found = self.gallery.search(query, terms.k, terms.where, terms.other_cameras, terms.per, terms.by)
                answers |= zip(rows, found, strict=True)
            except ReidError as error:
                answers |= dict.fromkeys(rows, error)
        return [answers[i] for i in range(len(asked))]

    async def _sweep(self) -> None:
        """Erase now and then what is older than the gallery keeps."""
        while True:
            await asyncio.sleep(self.settings.sweep)
            try:
                receipt = await self.change(self.gallery.expire)
            except Exception as error:  # the next round may do better
                self.journal.bug(error, during="expire")
                continue
            if receipt and receipt.rows:
                self.meters.expired(receipt.rows)
                self.journal.say("expired", rows=receipt.rows, entry=receipt.entry)
