"""What the train works with and what it asks for: candidates, probes, and the steps to perform."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from flows.ledger.events import Event, ProbeKind

BASE = "@base"
"""The candidate that brings what was pushed to the base branch; no unit can have this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A commit that wants to land; `base` is the value of `green` that it was made from.

    `weight` is how much waits for it; `files` is what it touches. One that is `apart` is judged by
    rules of its own, and so never shares a tree with others.
    """

    unit: str
    attempt: int
    head: str
    base: str = ""
    tree: str | None = None
    files: tuple[str, ...] = ()
    weight: float = 0.0
    apart: bool = False

    @property
    def is_base(self) -> bool:
        """Whether this is the base branch, which cannot be ejected."""
        return self.unit == BASE


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacked:
    """A candidate as merged on top of `onto`."""

    candidate: Candidate
    onto: str
    commit: str
    tree: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A verification under way."""

    number: int
    kind: str
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """Merge the candidate on top of `onto`, for this line of the train."""

    candidate: Candidate
    onto: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTree:
    """Verify a commit's tree; `units` are what it holds above `below`, a value of `green`.

    `place` is where it must run, anywhere when empty.
    """

    kind: ProbeKind
    commit: str
    tree: str
    units: tuple[str, ...] = ()
    below: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelProbe:
    """End a probe that can no longer matter."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Land:
    """Move `green` from `old` to `new`, whose exact tree passed in `probe`."""

    old: str
    new: str
    tree: str
    probe: int
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """Record a decision that has no effect outside the ledger."""

    event: Event


Step = Merge | ProbeTree | CancelProbe | Land | Decide


def units_of(stack: Collection[Stacked]) -> tuple[str, ...]:
    """The units of stacked candidates, in order."""
    return tuple(s.candidate.unit for s in stack)
