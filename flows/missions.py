"""The missions of a `MISSION_HOME`: finding them, reading their state, talking to their drivers."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.errors import SettingsInvalid
from flows.human_input import did_you_mean
from flows.ledger.log import Record, read_ledger
from flows.ledger.state import MissionState, fold

TAIL_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A mission as its ledger's first and last lines tell it; times are seconds since the epoch."""

    id: str
    name: str
    repository: str
    started_at: float
    last_at: float
    finished: Mapping[str, Any] | None


def folder_of(home: Path, mission: str) -> Path:
    """Where a mission keeps its ledger, inbox and readings."""
    return home / "missions" / mission


def has_begun(home: Path, mission: str) -> bool:
    """Whether a mission's ledger holds a whole first line: before that, nothing has happened."""
    path = folder_of(home, mission) / "ledger.jsonl"
    if not path.exists():
        return False
    with path.open("rb") as file:
        return file.readline().endswith(b"\n")


def state_of(home: Path, mission: str) -> MissionState:
    """A mission's state, read from its ledger.

    Raises:
        SettingsInvalid: there is no such mission; near names are suggested.
        LedgerDamaged: its ledger cannot be read.
    """
    return fold(records_of(home, mission))


def records_of(home: Path, mission: str) -> list[Record]:
    """A mission's ledger, as it is now; no lock is taken.

    Raises:
        SettingsInvalid: there is no such mission; near names are suggested.
        LedgerDamaged: its ledger cannot be read.
    """
    path = folder_of(home, mission) / "ledger.jsonl"
    if not path.exists():
        known = [summary.id for summary in summaries(home)]
        hint = did_you_mean(mission, known)
        raise SettingsInvalid(f"there is no mission {mission!r}{hint}; see `mission history`")
    return read_ledger(path)


def is_driven(home: Path, mission: str) -> bool:
    """Whether a driver, of this process or another, holds the mission's ledger now."""
    try:
        descriptor = os.open(folder_of(home, mission) / "ledger.jsonl", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)  # lets go of the lock as well
    return False


def summaries(home: Path) -> Iterator[Summary]:
    """All missions, the newest first; only the ends of their ledgers are read."""
    folder = home / "missions"
    paths = folder.glob("*/ledger.jsonl") if folder.is_dir() else ()
    found = (s for s in map(_summary, paths) if s is not None)
    return iter(sorted(found, key=lambda s: s.started_at, reverse=True))


def unfinished(home: Path, name: str, repository: str) -> str | None:
    """The newest mission of this name and repository that has not finished."""
    same = (s for s in summaries(home) if (s.name, s.repository) == (name, repository))
    newest = next(same, None)
    return newest.id if newest is not None and newest.finished is None else None


def newest(home: Path) -> str:
    """The mission that began last.

    Raises:
        SettingsInvalid: there is none yet.
    """
    first = next(summaries(home), None)
    if first is None:
        raise SettingsInvalid(f"there is no mission in {home} yet; start one with `mission run`")
    return first.id


def _summary(path: Path) -> Summary | None:
    with path.open("rb") as file:
        first = file.readline()
        file.seek(max(os.fstat(file.fileno()).st_size - TAIL_BYTES, 0))
        tail = [line for line in file.read().split(b"\n") if line]
    try:
        start = json.loads(first)
        last = json.loads(tail[-1] if len(tail) > 1 else first)
    except (ValueError, IndexError):
        return None
    return Summary(
        id=start["mission"],
        name=start["name"],
        repository=start["repository"],
        started_at=start["at"],
        last_at=last["at"],
        finished=last if last["type"] == "mission.finished" else None,
    )


# -- the inbox --------------------------------------------------------------------------------


def send(home: Path, mission: str, message: Mapping[str, str]) -> None:
    """Put a command into a mission's inbox; its driver takes it when it runs."""
    inbox = folder_of(home, mission) / "inbox"
    inbox.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"{time.time():.6f}-{secrets.token_hex(4)}.json"
    draft = inbox / f".{name}"
    draft.write_text(json.dumps(dict(message)))
    draft.replace(inbox / name)


def receive(folder: Path) -> Iterator[dict[str, str]]:
    """Take the commands out of a mission's inbox, in order; what is no command is put aside."""
    for path in sorted((folder / "inbox").glob("[!.]*.json")):
        try:
            message = {**json.loads(path.read_text())}
        except (ValueError, TypeError):
            path.rename(path.with_suffix(".unreadable"))
            continue
        yield message
        path.unlink(missing_ok=True)
