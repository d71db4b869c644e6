"""What the service allows and how long it waits: one frozen value, told in `reid serve --help`."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from reid.errors import DataError


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of a service.

    Attributes:
        names: that the service may be called by, besides localhost and addresses in figures; what other names a request
            is sent to is refused, because a page of another site could hide behind one (DNS rebinding).
        max_bytes: of one request.
        max_pixels: of one picture.
        max_crops: pictures in one request.
        rate: requests a second of one caller, with bursts of `burst`; 0 for no limit.
        at_once: requests that are being answered; more are told to come again.
        batch: pictures in one inference, and queries in one search.
        wait: seconds that an inference waits for more pictures to come along.
        queue: pictures that may wait for an inference; more are told to come again.
        head_seconds, body_seconds: within which a request's head, and then its body, must have come.
        seconds: within which a request is answered.
        stop_seconds: that requests under way get when the service is told to stop.
        sweep: seconds between looks for rows older than the gallery keeps.
        pictures: whether small pictures of crops that are sent in to stay are kept.
    """

    names: frozenset[str] = frozenset()
    max_bytes: int = 8 << 20
    max_pixels: int = 16_000_000
    max_crops: int = 16
    rate: float = 100.0
    at_once: int = 64
    batch: int = 16
    wait: float = 0.002
    queue: int = 256
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    seconds: float = 30.0
    stop_seconds: float = 20.0
    sweep: float = 600.0
    pictures: bool = True

    def __post_init__(self) -> None:
        counts = ("max_bytes", "max_pixels", "max_crops", "at_once", "batch", "queue")
        times = ("head_seconds", "body_seconds", "seconds", "stop_seconds", "sweep")
        for name in (*counts, *times):
            if not getattr(self, name) > 0:
                raise DataError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("rate", "wait"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} is {getattr(self, name)}; it must be at least 0")

    @property
    def burst(self) -> float:
        """Requests that one caller may send at once."""
        return max(1.0, 2 * self.rate)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    return host == "localhost" or _address(host, lambda address: address.is_loopback)


def is_address(host: str) -> bool:
    """Whether a host is an address in figures, which no name can lead elsewhere."""
    return _address(host, lambda address: True)


def _address(host: str, asks: Callable[[ipaddress.IPv4Address | ipaddress.IPv6Address], bool]) -> bool:
    try:
        return asks(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return False
