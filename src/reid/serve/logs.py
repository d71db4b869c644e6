"""One JSON object a line on standard error. No picture, no name of a file or person, no query string is in it."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import TextIO


class Journal:
    """Where the service tells what it does."""

    def __init__(self, out: TextIO | None = None):
        self._out = out

    def say(self, event: str, **facts: object) -> None:
        """Write a line."""
        now = time.time()
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        out = self._out or sys.stderr
        out.write(json.dumps({"at": at, "event": event} | facts, ensure_ascii=True) + "\n")
        out.flush()

    def bug(self, error: BaseException, **facts: object) -> None:
        """Write what kind of error it was and where, and not what it said, which may name files and people."""
        places = [
            f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
        ]
        self.say("bug", error=type(error).__name__, at_lines=places[-6:], **facts)


class Relay(logging.Handler):
    """Passes what the HTTP server logs on to the journal."""

    def __init__(self, journal: Journal):
        super().__init__(logging.WARNING)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if record.exc_info and record.exc_info[1]:
            self._journal.bug(record.exc_info[1])
        else:
            self._journal.say("server", level=record.levelname.lower(), message=str(record.msg)[:200])
