"""How long what did not work rests before it is tried again: the same at every replay."""

from __future__ import annotations

BACKOFF_SECONDS = (0.0, 2.0, 15.0, 60.0, 300.0)
"""How long a unit rests before its next attempt, by how often it was put back in a row."""


def rest_seconds(times: int) -> float:
    """How long to rest after something went wrong so often in a row."""
    return BACKOFF_SECONDS[min(times, len(BACKOFF_SECONDS) - 1)]


def spread(text: str) -> float:
    """A number in [0, 1) for a text: what is spread out by it does not happen all at once."""
    return _hash(text) % 1000 / 1000


def _hash(text: str) -> int:
    """A stable hash: Python's own differs between processes. Source: FNV-1a, 32 bit."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value
