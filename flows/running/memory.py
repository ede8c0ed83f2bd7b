"""What units reported about a repository, kept across missions.

One file a repository, beside the integration repository: a JSON object a line, the oldest first.
It is small (it is bounded), so a change reads it, writes it whole beside, and renames it: readers
need no lock and see one state or the next, never a torn one. Writers take turns by a lock on a file
of its own, since the renamed one is another file each time.

What a person removed stays removed although an agent reports it again: its id is kept. Memory is a
convenience of later prompts: what cannot be read or kept is missing, and no mission fails for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from blocks.errors import StorageFailed
from flows.locking import held
from flows.prompts.quoting import on_one_line

logger = logging.getLogger(__name__)

MEMORY_KINDS = {"decisions": "decision", "gotchas": "gotcha", "learnings": "learning"}
"""What workers are told: the key in a report, and the kind of its entries."""

DISCOVERY_KINDS = {"discoveries": "discovery", "concerns": "concern"}
"""What planners are told besides."""

MAX_ENTRIES = 200
MAX_CHARACTERS = 50_000
MAX_REMOVED = 1_000
ENTRY_CHARACTERS = 500

FROM_ONE_REPORT = 8
"""Entries of a kind that one report may add, so that a talkative agent drives out nobody else's."""

BY_A_PERSON = "a person"

_ID_CHARACTERS = 8
_REMOVED = "removed"
_LATEST_SECONDS = 1e11


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing to remember, on one line; `at` is unix time, `unit` may be `a person`.

    Of what was removed nothing is left but the id, which is its text.
    """

    kind: str
    text: str
    unit: str = ""
    mission: str = ""
    at: float = 0.0
    is_removed: bool = False

    @property
    def id(self) -> str:
        """The same for texts that differ only in case, spaces and the stop at the end."""
        if self.is_removed:
            return self.text
        plain = " ".join(self.text.casefold().split()).rstrip(".!;, ")
        return hashlib.sha256(plain.encode(errors="replace")).hexdigest()[:_ID_CHARACTERS]

    @property
    def line(self) -> str:
        """What a prompt shows of it."""
        return (
            f"{self.kind} ({self.unit}): {self.text}" if self.unit else f"{self.kind}: {self.text}"
        )


def entries_of(report: Mapping[str, Any], *, unit: str, mission: str, at: float) -> list[Entry]:
    """What is to be remembered of an agent's report; what is no list of texts is passed over."""
    return [
        Entry(kind=kind, text=text, unit=unit, mission=mission, at=at)
        for key, kind in (MEMORY_KINDS | DISCOVERY_KINDS).items()
        for text in _texts(report.get(key))[:FROM_ONE_REPORT]
    ]


def _texts(value: object) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return []
    lines = (on_one_line(each, ENTRY_CHARACTERS) for each in value if isinstance(each, str))
    return [line for line in lines if line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory of one repository; used by any number of threads and processes at once."""

    path: Path
    max_entries: int = MAX_ENTRIES
    max_characters: int = MAX_CHARACTERS

    @classmethod
    def beside(cls, repository: Path) -> Memory:
        """Return the memory that belongs to an integration repository, `<key>.git`."""
        return cls(path=repository.with_suffix(".memory.jsonl"))

    def entries(self, kinds: Collection[str] | None = None) -> list[Entry]:
        """List what is remembered, the newest first; `kinds` None means all."""
        known = reversed(self._read())
        return [e for e in known if not e.is_removed and (kinds is None or e.kind in kinds)]

    def newest(
        self, limit_characters: int, kinds: Collection[str] = frozenset(MEMORY_KINDS.values())
    ) -> list[Entry]:
        """List the newest entries whose lines have at most `limit_characters` together."""
        found: list[Entry] = []
        for entry in self.entries(kinds):
            limit_characters -= len(entry.line)
            if limit_characters < 0:
                break
            found.append(entry)
        return found

    def add(self, entries: Iterable[Entry]) -> bool:
        """Remember entries, given the oldest first; returns whether they could be kept.

        What is known moves to the front; what a person removed stays removed.
        """
        new = list(entries)
        if not new:
            return True
        try:
            self._change(lambda known: _with(known, new))
        except StorageFailed as error:
            logger.info("%s", error)
            return False
        return True

    def forget(self, entry_id: str) -> Entry | None:
        """Remove an entry for good; returns it, or None when there is none.

        Raises:
            StorageFailed: it could not be written; the entry is still there.
        """
        return self._replace(entry_id, None)

    def edit(self, entry_id: str, text: str) -> Entry | None:
        """Let an entry say something else; returns the new one, or None when there is none.

        Raises:
            StorageFailed: it could not be written; the entry is as it was.
        """
        return self._replace(entry_id, on_one_line(text, ENTRY_CHARACTERS))

    def _replace(self, entry_id: str, text: str | None) -> Entry | None:
        found: list[Entry] = []

        def change(known: Sequence[Entry]) -> list[Entry]:
            changed: list[Entry] = []
            for entry in known:
                if entry.is_removed or entry.id != entry_id:
                    changed.append(entry)
                    continue
                new = replace(entry, text=text, unit=BY_A_PERSON) if text else entry
                found.append(new)
                if new.id != entry.id or not text:
                    changed.append(Entry(kind=_REMOVED, text=entry.id, is_removed=True))
                if text:
                    changed.append(new)
            return changed

        self._change(change)
        return found[0] if found else None

    def _change(self, change: Callable[[Sequence[Entry]], Sequence[Entry]]) -> None:
        """Replace the file by what `change` makes of its entries, the oldest first.

        Raises:
            StorageFailed: the disk does not take it; the file is as it was.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with held(self.path.with_suffix(".lock")):
                self._write(self._bounded(change(self._read())))
        except OSError as error:
            raise StorageFailed(f"{self.path}: {error.strerror}; nothing was changed") from error

    def _bounded(self, entries: Sequence[Entry]) -> list[Entry]:
        """Let go of the oldest beyond the bounds."""
        kept: list[Entry] = []
        n_entries = n_characters = n_removed = 0
        for entry in reversed(entries):
            if entry.is_removed:
                n_removed += 1
                is_kept = n_removed <= MAX_REMOVED
            else:
                n_entries, n_characters = n_entries + 1, n_characters + len(entry.line)
                is_kept = n_entries <= self.max_entries and n_characters <= self.max_characters
            if is_kept:
                kept.append(entry)
        return kept[::-1]

    def _read(self) -> list[Entry]:
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return []
        return [entry for entry in map(_decoded, lines) if entry is not None]

    def _write(self, entries: Sequence[Entry]) -> None:
        draft = self.path.with_suffix(f".draft-{secrets.token_hex(8)}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(json.dumps(asdict(entry)).encode() + b"\n" for entry in entries)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def _with(known: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """Put new entries behind those that are known, each once."""
    removed = {entry.id for entry in known if entry.is_removed}
    latest = {entry.id: entry for entry in new if entry.id not in removed}
    kept = [entry for entry in known if entry.is_removed or entry.id not in latest]
    return [*kept, *latest.values()]


def _decoded(line: bytes) -> Entry | None:
    """Read a line; None when it is none of ours, such as what a person mistyped."""
    try:
        values = json.loads(line)
        known = {each.name: values[each.name] for each in fields(Entry) if each.name in values}
        entry = Entry(**known)
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (entry.kind, entry.text, entry.unit, entry.mission)
    is_time = isinstance(entry.at, int | float) and 0 <= entry.at < _LATEST_SECONDS
    return entry if is_time and all(isinstance(text, str) for text in texts) else None
