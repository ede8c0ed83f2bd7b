"""Passed verifications of one repository, kept so that the same tree is not verified twice.

What is kept is the fact that one exact tree passed one exact verification in one environment
(`flows.landing.environment` makes the digest of the latter two). Nothing is inferred: no pass of a
part or of a union, and no red, which may be a flake. A pass that leans on the failing tests of a
red base is no fact about its tree alone, so it is not kept either.

One file an entry, in one folder a repository, shared by all missions of this machine: an entry is
there whole or not at all (written apart, then renamed), needs no lock between writers, is found
without reading others, and goes away by being unlinked. A file says what it is of and carries a
checksum, so that a torn or misplaced one is no pass. It is a cache: what cannot be written or read
is missing, never an error, and the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from blocks.readings import Reading
from blocks.readings.reading import FAILING
from blocks.verifier import Judgement
from flows.ledger.events import ProbeEnded

logger = logging.getLogger(__name__)

MAX_AGE_SECONDS = 24 * 3600.0
"""What drifts unseen (a package index, a service, a certificate) is given a day."""

MAX_ENTRIES = 500
MAX_BYTES = 128 * 2**20
MAX_ENTRY_BYTES = 8 * 2**20

_FORMAT = 1
_SUFFIX, _DRAFT = ".pass", ".draft-"
_DRAFT_SECONDS = 3600.0
_SKEW_SECONDS = 3600.0
_HEX = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One tree that passed; `reading` is what later trees are compared with.

    `at` is unix time when the verification had ended, `seconds` what it took; `mission` and `probe`
    name the run that it rests on.
    """

    tree: str
    digest: str
    at: float
    mission: str
    probe: int
    reading: Reading
    reason: str = ""
    tests: Mapping[str, int] = field(default_factory=dict)
    findings: Mapping[str, int] = field(default_factory=dict)
    coverage: float | None = None
    seconds: float = 0.0

    def ended(self, *, probe: int, place: str, reading: str | None) -> ProbeEnded:
        """Say it of another probe; `reading` is where this pass's reading was put for it."""
        return ProbeEnded(
            probe=probe,
            verdict=Judgement.PASSED.value,
            reason=f"{self.reason} (in probe {self.probe} of {self.mission})",
            exit_code=0,
            tests=self.tests,
            findings=self.findings,
            coverage=self.coverage,
            reading=reading,
            cached=True,
            place=place,
        )


def pass_of(
    ended: ProbeEnded, reading: Reading, *, tree: str, digest: str, at: float, mission: str
) -> Pass | None:
    """What may be kept of a probe that ended; None when it is no pass of its tree alone.

    `reading` is the whole one of that probe, not the file of it, which leaves things out.
    """
    is_pass = ended.verdict == Judgement.PASSED.value and ended.exit_code == 0
    if not is_pass or ended.cached or _leans_on_a_red_base(reading):
        return None
    return Pass(
        tree=tree,
        digest=digest,
        at=at,
        mission=mission,
        probe=ended.probe,
        reading=reading,
        reason=ended.reason,
        tests=ended.tests,
        findings=ended.findings,
        coverage=ended.coverage,
        seconds=ended.seconds,
    )


def _leans_on_a_red_base(reading: Reading) -> bool:
    """Whether something failed: then only an allowance made it a pass."""
    return bool(reading.failing) or any((reading.counts or {}).get(kind) for kind in FAILING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """The kept passes of one repository, below `folder`, which is made when it is needed.

    Used by any number of threads and processes at once.
    """

    folder: Path
    max_age_seconds: float = MAX_AGE_SECONDS
    max_entries: int = MAX_ENTRIES
    max_bytes: int = MAX_BYTES

    @classmethod
    def beside(cls, repository: Path) -> Passes:
        """Return those that belong to an integration repository, `<key>.git`."""
        return cls(folder=repository.with_suffix(".passes"))

    def find(self, tree: str, digest: str, now: float) -> Pass | None:
        """Return the pass of exactly this tree under exactly this digest, if it is young enough.

        It says nothing about `green` of today: see `blocks.verifier.regression`.
        """
        if not _is_key(tree, digest):
            return None
        try:
            found = _unpack(self._path(tree, digest).read_bytes())
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        is_it = (found.tree, found.digest) == (tree, digest)
        return found if is_it and 0 <= now - found.at <= self.max_age_seconds else None

    def put(self, passed: Pass) -> bool:
        """Keep a pass, and let go of the oldest beyond the bounds; returns whether it is kept."""
        if not _is_key(passed.tree, passed.digest):
            return False
        data = _pack(passed)
        if len(data) > min(MAX_ENTRY_BYTES, self.max_bytes):
            return False
        draft = self.folder / f"{_DRAFT}{secrets.token_hex(8)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._write(draft, data, passed.at)
            draft.replace(self._path(passed.tree, passed.digest))
        except OSError as error:
            logger.info("%s: a pass is not kept: %s", self.folder, error.strerror)
            return False
        with suppress(OSError):
            self._prune(passed.at)
        return True

    def _path(self, tree: str, digest: str) -> Path:
        return self.folder / f"{tree}-{digest}{_SUFFIX}"

    def _write(self, draft: Path, data: bytes, at: float) -> None:
        """Write a file that bears the time of its pass, by which the oldest are found."""
        try:
            with draft.open("xb") as file:
                file.write(data)
            os.utime(draft, (at, at))
        except OSError:
            draft.unlink(missing_ok=True)  # it takes room where there is none
            raise

    def _prune(self, now: float) -> None:
        """Remove what is too old, what a dead writer left, and the oldest beyond the bounds.

        What is far in the future (the clock was set back) would outlive all that comes now.
        """
        n_entries, n_bytes = 0, 0
        for at, size, path in sorted(self._files(), reverse=True):
            age, is_draft = now - at, not path.endswith(_SUFFIX)
            if is_draft or not -_SKEW_SECONDS <= age <= self.max_age_seconds:
                is_needed = is_draft and age <= _DRAFT_SECONDS
            else:
                n_entries, n_bytes = n_entries + 1, n_bytes + size
                is_needed = n_entries <= self.max_entries and n_bytes <= self.max_bytes
            if not is_needed:
                Path(path).unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """Time, size and path of files of ours; others may unlink them meanwhile."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith(_DRAFT) or entry.name.endswith(_SUFFIX):
                    with suppress(FileNotFoundError):
                        status = entry.stat()
                        yield status.st_mtime, status.st_size, entry.path


def _is_key(tree: str, digest: str) -> bool:
    return all(map(_HEX.fullmatch, (tree, digest)))


def _pack(passed: Pass) -> bytes:
    """Render an entry: the checksum of its text on a line, then the text."""
    values = {each.name: getattr(passed, each.name) for each in fields(Pass)}
    values |= {"tests": dict(passed.tests), "findings": dict(passed.findings)}
    entry = {**values, "format": _FORMAT, "reading": passed.reading.to_json()}
    text = json.dumps(entry, separators=(",", ":")).encode()
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def _unpack(data: bytes) -> Pass:
    """Read an entry.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is none, or not whole.
    """
    checksum, _, text = data.partition(b"\n")
    if checksum != hashlib.sha256(text).hexdigest().encode():
        raise ValueError("torn")
    entry: dict[str, Any] = json.loads(text)
    if entry.pop("format") != _FORMAT:
        raise ValueError("of another version")
    return Pass(**{**entry, "reading": Reading.from_json(entry["reading"])})
