"""Requests that come at the same time share one inference, or one search."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Busy(Exception):
    """More waits than may; come again soon."""


class Batcher(Generic[Item, Result]):
    """Collects items of concurrent callers and works on them together, in one thread, in the order they came.

    A batch starts at once, and items that come while it is under way form the next one. Where the last batch was
    shared, so that others may be expected, the next waits `wait` seconds for more, or until `most` are there. What was
    asked for by a caller who has given up is left out.

    Args:
        work: from items to as many results; called in a thread of the batcher's own, never twice at once. What it
            raises goes to every caller of that batch.
        most: items in a batch.
        wait: seconds, at least 0.
        queue: items that may wait.
        name: of the thread.
        on_batch: told how many items a batch has.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Sequence[Result]],
        most: int,
        wait: float,
        queue: int,
        name: str,
        on_batch: Callable[[int], None] = lambda items: None,
    ):
        self._work, self._most, self._wait, self._queue, self._on_batch = work, most, wait, queue, on_batch
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._changed = asyncio.Event()
        self._closing, self._last = False, 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; within a running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def waiting(self) -> int:
        """How many items wait for a batch."""
        return len(self._waiting)

    async def __call__(self, items: Sequence[Item]) -> list[Result]:
        """The results of items, once their batches are done.

        Raises:
            Busy: too many wait already, or the batcher is closing.
        """
        if self._closing or (self._waiting and len(self._waiting) + len(items) > self._queue):
            raise Busy
        loop = asyncio.get_running_loop()
        entries = [(item, loop.create_future()) for item in items]
        self._waiting.extend(entries)
        self._changed.set()
        return list(await asyncio.gather(*(future for _, future in entries)))

    async def close(self) -> None:
        """Work off what waits, and end."""
        self._closing = True
        self._changed.set()
        if self._task:
            await self._task
        self._thread.shutdown(wait=True)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            if not self._waiting:
                if self._closing:
                    return
                await self._changed.wait()
                continue
            if self._wait and self._last > 1 and len(self._waiting) < self._most and not self._closing:
                await self._gather_more()
            await self._one_batch()

    async def _gather_more(self) -> None:
        """Give others `wait` seconds to come along."""
        try:
            async with asyncio.timeout(self._wait):
                while len(self._waiting) < self._most and not self._closing:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass

    async def _one_batch(self) -> None:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._most:
            item, future = self._waiting.popleft()
            if not future.done():
                batch.append((item, future))
        if not batch:
            return
        self._last = len(batch)
        self._on_batch(len(batch))
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, self._work, [item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
