"""The append-only log: one JSON object a line, `seq` without gaps, one writer.

A line is durable when `append` returns. The writer holds a kernel lock (`flock`) on the file, which
the kernel takes back when the process dies, so there is no take-over protocol. A torn last line
(the writer died while writing) is dropped; any other damage is an error that names the line.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from blocks.errors import LedgerDamaged, MissionActive, StorageFailed
from flows.ledger.events import EVENT_TYPES, Event

LOCK_PATIENCE_SECONDS = (0.01, 0.05, 0.2)
"""How long to wait, each time, for a ledger that is held before another driver is named."""


class Record(NamedTuple):
    """An event with its place in the ledger; `at` is seconds since the epoch (UTC)."""

    seq: int
    at: float
    event: Event


class Ledger:
    """The one writer of a mission's ledger; a context manager that holds its lock.

    `on_append` is called with each record after it is durable.

    Raises:
        MissionActive: another process holds the ledger.
        LedgerDamaged: a line other than a torn last one cannot be read.
    """

    def __init__(self, path: Path, *, on_append: Callable[[Record], None] | None = None) -> None:
        self.path = path
        self.records: list[Record] = []
        self._on_append = on_append
        self._descriptor = -1

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock()
            self.records, end = _read(self.path.read_bytes(), self.path)
            self._cut(end)
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def append(self, *events: Event) -> None:
        """Record events in order, durably and together.

        Raises:
            StorageFailed: the disk does not take them; nothing of them is recorded.
        """
        now, start = time.time(), len(self.records) + 1
        records = [Record(start + i, now, event) for i, event in enumerate(events)]
        position = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        try:
            self._write(b"".join(encode(record) for record in records))
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._cut(position)
            why = f"{self.path}: {error.strerror}; free some space and run again"
            raise StorageFailed(why) from error
        self.records += records
        if self._on_append is not None:
            for record in records:
                self._on_append(record)

    def _lock(self) -> None:
        """Take the lock; whoever only asks whether it is held holds it for an instant."""
        for patience in (*LOCK_PATIENCE_SECONDS, None):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as held:
                if patience is None:
                    mission = self.path.parent.name
                    raise MissionActive(f"{mission} is driven by another process") from held
                time.sleep(patience)
            else:
                return

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _cut(self, end: int) -> None:
        os.ftruncate(self._descriptor, end)
        os.lseek(self._descriptor, end, os.SEEK_SET)


def read_ledger(path: Path) -> list[Record]:
    """Read a ledger that another process may be writing; no lock is taken.

    Raises:
        LedgerDamaged: a line other than a torn last one cannot be read.
    """
    return _read(path.read_bytes(), path)[0]


def encode(record: Record) -> bytes:
    """Render a record as its line; the fields are validated here, once.

    Raises:
        pydantic.ValidationError: a field has the wrong type (a mistake in our own code).
    """
    event = record.event
    values = {name: getattr(event, name) for name in _NAMES[type(event)]}
    _validator(type(event))(values)
    line = {"seq": record.seq, "at": record.at, "type": event.type, **values}
    return (
        json.dumps(line, separators=(",", ":"), ensure_ascii=False, default=list).encode() + b"\n"
    )


def _read(data: bytes, path: Path) -> tuple[list[Record], int]:
    """Return the records and the length in bytes of what was whole."""
    end = data.rfind(b"\n") + 1
    return list(_decode_all(data[:end].split(b"\n")[:-1], path)), end


def _decode_all(lines: Sequence[bytes], path: Path) -> Iterator[Record]:
    for number, line in enumerate(lines, start=1):
        try:
            yield _decode(line, number)
        except (ValueError, TypeError, KeyError) as damage:
            raise LedgerDamaged(
                f"{path}:{number}: {damage}; restore the file from a copy"
            ) from damage


def _decode(line: bytes, number: int) -> Record:
    values = json.loads(line)
    seq, at, kind = values.pop("seq"), values.pop("at"), values.pop("type")
    if seq != number:
        raise ValueError(f"seq is {seq}, expected {number}")
    event_type = EVENT_TYPES[kind]
    known = _NAMES[event_type]
    return Record(seq, at, event_type(**{k: v for k, v in values.items() if k in known}))


_NAMES = {kind: tuple(f.name for f in fields(kind)) for kind in EVENT_TYPES.values()}
_VALIDATORS: dict[type[Event], Callable[[object], object]] = {}


def _validator(event_type: type[Event]) -> Callable[[object], object]:
    if event_type not in _VALIDATORS:
        from pydantic import TypeAdapter  # noqa: PLC0415 - readers such as `status` do without

        _VALIDATORS[event_type] = TypeAdapter(event_type).validate_python
    return _VALIDATORS[event_type]
