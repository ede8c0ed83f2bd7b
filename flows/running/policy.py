"""What our checks after the fact refuse in a collected commit, whatever its agent says of it.

By path: repositories inside the repository, protected paths, what is outside the write set. By
content, for which one git process looks at the integration repository (objects only, nobody's
attributes): large files, binary files, credentials. All of it is told at once, so that the next
attempt can mend all of it; of a credential only where it is and of what kind.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blocks.credentials import Credential, find_credentials
from blocks.patches import NO_BLOB, FilePatch, Hunk
from blocks.places.workspaces import GITLINK, Changed, Collected
from blocks.repository import IntegrationRepository
from flows.planning.plan import Unit, matches
from flows.settings import MissionSettings

BINARY_WITHIN_BYTES = 8_000
"""A file with a zero this early is binary, as git has it."""

MAX_TOLD = 20
"""How many credentials a refusal names."""

_COMMIT = re.compile(r"[0-9a-f]{7,40}", re.IGNORECASE)
_DELETED = "000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A credential in a line that was added."""

    path: str
    line: int
    credential: Credential

    def __str__(self) -> str:
        return f"{self.path}:{self.line} ({self.credential.kind})"


def refuse(
    collected: Collected,
    base: str,
    unit: Unit,
    settings: MissionSettings,
    repository: IntegrationRepository,
    *,
    within: Sequence[str] | None = None,
    secrets: Collection[str] = (),
) -> str:
    """Why a collected commit is not acceptable, with the paths named; empty when it is.

    `within` are globs outside of which nothing is taken in this phase, whatever the write set;
    `secrets` are those of the mission's agents, which no file may hold.
    Where work lands with its history, the content of each of its commits is looked at.

    Raises:
        CommandFailed: git cannot compare the two.
    """
    reasons = _by_path(collected.changed, unit.writes, settings.review.protected, within)
    if any(change.mode not in {_DELETED, GITLINK} for change in collected.changed):
        look = _Look(
            repository=repository,
            settings=settings,
            base=base,
            head=collected.head,
            unit=unit,
            secrets=tuple(secret.encode() for secret in secrets),
        )
        reasons += look.reasons()
    return "; ".join(f"{why}: {', '.join(what)}" for what, why in reasons if what)


_Reasons = list[tuple[Sequence[str], str]]


def _by_path(
    changed: Iterable[Changed],
    writes: Sequence[str] | None,
    protected: Collection[str],
    within: Sequence[str] | None,
) -> _Reasons:
    changed = tuple(changed)
    paths = [change.path for change in changed]
    beyond = [] if within is None else [path for path in paths if not matches(path, within)]
    return [
        (
            [change.path for change in changed if change.mode == GITLINK],
            "repositories inside the repository are not taken",
        ),
        (
            [f"{change.path} -> {change.target}" for change in changed if change.leads_out],
            "links that lead out of the repository are not taken",
        ),
        ([path for path in paths if matches(path, protected)], "protected paths were changed"),
        (
            [] if writes is None else [path for path in paths if not matches(path, writes)],
            f"outside its write set ({', '.join(writes or ())})",
        ),
        (beyond, f"outside of what this phase may write ({', '.join(within or ())})"),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A look at what a collected commit holds."""

    repository: IntegrationRepository
    settings: MissionSettings
    base: str
    head: str
    unit: Unit
    secrets: tuple[bytes, ...] = ()

    def reasons(self) -> _Reasons:
        """Name what is too large, binary, or a credential."""
        opaque: list[FilePatch] = []
        found: list[_Found] = []
        leaks: dict[str, None] = {}
        keeps_history = self.settings.landing.commit == "merge"
        for file in self._patch(every_commit=keeps_history):
            if any(secret in hunk.after for hunk in file.hunks for secret in self.secrets):
                leaks[file.path] = None
            if file.is_opaque:
                opaque += [] if file.new == NO_BLOB else [file]
            elif self._may_not_hold_any(file.path):
                found += found_in(file)
        large, binary = self._opaque(opaque, found)
        told = [*dict.fromkeys(map(str, self._new(found)))]
        most = self.settings.review.max_file_bytes
        more = [f"and {len(told) - MAX_TOLD} more"] if len(told) > MAX_TOLD else []
        return [
            (large, f"larger than the {most} bytes of `review.max_file_bytes`"),
            (binary, "binary files that the write set does not name"),
            ([*told[:MAX_TOLD], *more], "credentials were added"),
            ([*leaks], "a secret of this mission's agents is in"),
        ]

    def _patch(self, *, every_commit: bool = False) -> Iterator[FilePatch]:
        most = self.settings.review.max_file_bytes
        return self.repository.patch(
            self.base, self.head, max_bytes=most, every_commit=every_commit
        )

    def _may_not_hold_any(self, path: str) -> bool:
        return not matches(path, self.settings.review.allow_secrets)

    def _opaque(
        self, files: Sequence[FilePatch], found: list[_Found]
    ) -> tuple[list[str], list[str]]:
        """Tell large files from binary ones; what was large and is not is looked at like others."""
        if not files:
            return [], []
        most = self.settings.review.max_file_bytes
        sizes = self.repository.sizes({file.new for file in files})
        large = {f"{f.path} ({sizes[f.new]} bytes)": None for f in files if sizes[f.new] > most}
        small = [file for file in files if sizes[file.new] <= most]
        binary: dict[str, None] = {}
        contents = self.repository.contents(file.new for file in small) if small else {}
        for file in small:
            text = contents[file.new]
            if b"\0" in text[:BINARY_WITHIN_BYTES]:
                binary |= {} if self._may_be_binary(file.path) else {file.path: None}
            elif self._may_not_hold_any(file.path):
                found += found_in(_all_new(file, text))
        return [*large], [*binary]

    def _may_be_binary(self, path: str) -> bool:
        return self.settings.review.allow_binary or path in (self.unit.writes or ())

    def _new(self, found: Sequence[_Found]) -> list[_Found]:
        """Leave out what is in the base: moved from a changed file, or in the same file."""
        if not found:
            return []
        known: set[bytes] = set()
        paths, values = {each.path for each in found}, {each.credential.value for each in found}
        old: set[str] = set()
        for file in self._patch():
            if file.path in paths and file.old != NO_BLOB:
                old.add(file.old)
            for hunk in file.hunks:
                known |= {value for value in values if value in hunk.removed}
        for text in self.repository.contents(old).values() if old else ():
            known |= {value for value in values if value in text}
        return [each for each in found if each.credential.value not in known]


def _all_new(file: FilePatch, text: bytes) -> FilePatch:
    lines = {*range(1, text.count(b"\n") + 2)}
    hunk = Hunk(first_line=1, after=text, added=lines)
    return FilePatch(path=file.path, old=file.old, new=file.new, hunks=[hunk])


def found_in(file: FilePatch) -> Iterator[_Found]:
    """The credentials that touch an added line of a file, each told at the first such line."""
    for hunk in file.hunks:
        if not hunk.added:
            continue
        ends: list[int] | None = None
        for credential in find_credentials(hunk.after):
            if ends is None:
                ends = [found.start() for found in re.finditer(rb"\n", hunk.after)]
            first = hunk.first_line + bisect_left(ends, credential.start)
            last = hunk.first_line + bisect_left(ends, credential.end - 1)
            added = [line for line in range(first, last + 1) if line in hunk.added]
            if added:
                yield _Found(path=file.path, line=added[0], credential=credential)


# What an agent claims


def unfounded_claims(report: Mapping[str, Any], commits: Collection[str]) -> tuple[str, ...]:
    """Commits that an agent's report claims and that are not among the real ones.

    Full or abbreviated hexadecimal ids of at least seven digits; anything else is no claim.
    """
    return tuple(
        claim
        for claim in _claims(report)
        if not any(commit.startswith(claim.lower()) for commit in commits)
    )


def check_claims(
    report: Mapping[str, Any], collected: Collected, base: str, repository: IntegrationRepository
) -> tuple[str, ...]:
    """Like `unfounded_claims`, of the commits of an attempt; git is asked when some are claimed.

    Raises:
        CommandFailed: git cannot list them.
    """
    if not _claims(report):
        return ()
    head = collected.head
    return unfounded_claims(report, repository.commits_between(base, head) if head != base else ())


def describe_unfounded(claims: Sequence[str]) -> str:
    """Say of an attempt without changes what its agent made up; empty when nothing."""
    return f"it claims commits that are not there: {', '.join(claims)}" if claims else ""


def _claims(report: Mapping[str, Any]) -> tuple[str, ...]:
    claimed = report.get("commits")
    if not isinstance(claimed, Sequence) or isinstance(claimed, str):
        return ()
    texts = (each.strip() for each in claimed if isinstance(each, str))
    return tuple(dict.fromkeys(text for text in texts if _COMMIT.fullmatch(text)))
