"""What missions on one machine share about agents' accounts: who rests, and what a day has cost.

Plain files below `MISSION_HOME/accounts/`, used by any number of threads and processes at once:

- `resting.json` says until when each account is out of quota. It is small: a change reads it,
  writes it whole beside and renames it, and writers take turns by a lock on another file.
- `spending-YYYY-MM-DD.jsonl` has a line for what was spent, appended by one write. A line begins
  with a line end as well, so that one that was torn off before it spoils nothing but itself.

Days are local ones. Whoever is killed at any point leaves what was there before, or after.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any

from blocks.errors import StorageFailed
from flows.locking import held

KEPT_DAYS = 40

WHY_CHARACTERS = 500

_DAY_FILE = re.compile(r"spending-(\d{4}-\d{2}-\d{2})\.jsonl")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")
_ID_CHARACTERS = 12
_LARGEST = 1e15  # of a time or an amount

_Stamp = tuple[int, int, int]


def account_key(profile: str, base_url: str, keys: Collection[str]) -> str:
    """Name the account that agents of one profile, address and key references share.

    `keys` are references such as `env/API_KEY`, in any order; not even those are in the name.
    """
    described = json.dumps([profile, base_url.rstrip("/"), sorted({*keys})])
    digest = hashlib.sha256(described.encode(errors="replace")).hexdigest()[:_ID_CHARACTERS]
    return f"{_NOT_IN_NAMES.sub('-', profile)}-{digest}"


@dataclass(slots=True, kw_only=True)
class _Day:
    """What has been read of a day's file."""

    name: str = ""
    inode: int = 0
    offset: int = 0
    costs: dict[tuple[str, int], float] = field(default_factory=dict)
    total: float = 0.0


class Accounts:
    """The accounts that are known to one `MISSION_HOME`; one object serves a whole process."""

    def __init__(self, folder: Path) -> None:
        """Use the folder; it is made when something is to be kept."""
        self.folder = folder
        self._lock = Lock()
        self._stamp: _Stamp | None = None
        self._rests: Mapping[str, float] = {}
        self._day = _Day()

    # -- quota --------------------------------------------------------------------------------

    def rest(self, account: str, until: float, *, mission: str, why: str) -> None:
        """Tell all missions that an account is out of quota until then, in unix time.

        A later end wins over an earlier one, whoever comes first.

        Raises:
            ValueError: `until` is no time.
            StorageFailed: the disk does not take it; the others do not know.
        """
        if not _is_figure(until):
            raise ValueError(f"not a time: {until}")
        entry = {"until": until, "mission": mission, "why": why[:WHY_CHARACTERS]}
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with held(self.folder / "lock"):
                known = _read_rests(self._resting_file)
                if account not in known or known[account]["until"] < until:
                    self._write_rests({**known, account: entry})
        except OSError as error:
            raise StorageFailed(f"{self._resting_file}: {error.strerror}") from error

    def resting(self, now: float) -> Mapping[str, float]:
        """Give the accounts that are out of quota, with its end; a `stat` when nothing is new.

        What cannot be read is nothing: an account that is out of quota says so again.
        """
        with self._lock:
            try:
                stamp = _stamp(self._resting_file)
                if stamp != self._stamp:
                    known = _read_rests(self._resting_file)
                    self._rests = {account: entry["until"] for account, entry in known.items()}
                    self._stamp = stamp
            except OSError:
                self._rests, self._stamp = {}, None
            left = {account: until for account, until in self._rests.items() if until > now}
        return MappingProxyType(left)

    @property
    def _resting_file(self) -> Path:
        return self.folder / "resting.json"

    def _write_rests(self, rests: Mapping[str, Any]) -> None:
        """Put a new file in the place of the old one; its time always differs from the old one's.

        (The clock of a file system may stand still for longer than two changes take.)
        """
        draft, before = self.folder / "resting.draft", _stamp(self._resting_file)
        with draft.open("wb") as file:
            file.write(json.dumps(rests, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        changed = draft.stat().st_mtime_ns
        if before and changed <= before[1]:
            os.utime(draft, ns=(before[1] + 1, before[1] + 1))
        draft.replace(self._resting_file)

    # -- money --------------------------------------------------------------------------------

    def spend(self, mission: str, seq: int, usd: float, at: float) -> None:
        """Add what a mission spent, in USD, to the local day of `at`, in unix time.

        The same `mission` and `seq` on the same day count once, as they came first: `seq` and `at`
        are those of the ledger's record.

        Raises:
            ValueError: `usd` is no amount.
            StorageFailed: the disk does not take it.
        """
        if not (_is_figure(usd) and usd >= 0):
            raise ValueError(f"not an amount: {usd}")
        path = self._file_of(at)
        line = json.dumps({"mission": mission, "seq": seq, "usd": usd, "at": at})
        try:
            with self._lock:
                self._read_day(path)
                if (mission, seq) in self._day.costs:
                    return
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            is_new = not path.exists()
            _append(path, f"\n{line}\n".encode())
            if is_new:
                self._drop_before(_day_of(at) - timedelta(days=KEPT_DAYS))
        except OSError as error:
            raise StorageFailed(f"{path}: {error.strerror}") from error

    def spent_on_day_of(self, now: float) -> float:
        """Sum up what all missions spent on the local day of `now`; only what is new is read."""
        with self._lock:
            try:
                self._read_day(self._file_of(now))
            except OSError:
                self._day = _Day()
            return self._day.total

    def _file_of(self, at: float) -> Path:
        return self.folder / f"spending-{_day_of(at).isoformat()}.jsonl"

    def _read_day(self, path: Path) -> None:
        """Read on in a day's file; from its beginning when it is another one or was cut."""
        day = self._day
        try:
            found = path.stat()
        except FileNotFoundError:
            self._day = _Day(name=path.name)
            return
        if (day.name, day.inode) != (path.name, found.st_ino) or found.st_size < day.offset:
            day = self._day = _Day(name=path.name, inode=found.st_ino)
        if found.st_size == day.offset:
            return
        with path.open("rb") as file:
            file.seek(day.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        day.offset += len(whole)
        for line in whole.splitlines():
            key, usd = _read_spending(line)
            if key is not None and key not in day.costs:
                day.costs[key] = usd
        day.total = math.fsum(day.costs.values())

    def _drop_before(self, first: date) -> None:
        for path in self.folder.glob("spending-*.jsonl"):
            found = _DAY_FILE.fullmatch(path.name)
            if found and found[1] < first.isoformat():
                path.unlink(missing_ok=True)


def _day_of(at: float) -> date:
    local = time.localtime(at)
    return date(local.tm_year, local.tm_mon, local.tm_mday)


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_rests(path: Path) -> dict[str, dict[str, Any]]:
    """Read what is whole; what somebody mistyped is passed over."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        account: entry
        for account, entry in found.items()
        if isinstance(entry, dict) and _is_figure(entry.get("until"))
    }


def _read_spending(line: bytes) -> tuple[tuple[str, int] | None, float]:
    try:
        found = json.loads(line)
        key, usd = (found["mission"], found["seq"]), found["usd"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None, 0.0
    is_whole = isinstance(key[0], str) and isinstance(key[1], int) and _is_figure(usd) and usd >= 0
    return (key, float(usd)) if is_whole else (None, 0.0)


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < _LARGEST


def _append(path: Path, line: bytes) -> None:
    """Append by one write, which no other write gets into.

    Raises:
        OSError: not all of it is there.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(0, "the disk took a part of a line")
    finally:
        os.close(descriptor)
