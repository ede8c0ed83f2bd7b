"""Who is told of each record as soon as it is durable: the terminal, the artifacts, the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.ledger.log import Record

Listener = Callable[[Record], None]

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell `listener` of every record of the missions that this process drives meanwhile."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(record: Record) -> None:
    """Tell all listeners of a record."""
    for listener in [*_listeners]:
        listener(record)
