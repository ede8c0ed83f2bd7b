"""The merge train: which candidates to merge, which trees to probe, what lands, who is the culprit.

A pure state machine. Recorded events go in through `apply`; `next_steps` says what to do now. It
does no I/O, keeps no clock, and is rebuilt from the ledger.

*Stack*: candidates merged one on another on top of `green`. A probe verifies one exact prefix of
it. A green prefix lands at once. A red one is searched by probing shorter prefixes until the first
culprit is known (the last red needs no run: the prefix before it is green, the one with it is red).
The culprit is set aside, the rest is stacked again, refilled from the queue. *Search first, confirm
last*: the culprit's own red tree is probed once more when the search has nothing to do; red twice
ejects it, green means that the verification flaked and it goes back into the queue.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from flows.ledger.events import (
    CandidateConflicted,
    CandidateEjected,
    CandidateEmpty,
    CandidateStacked,
    CulpritSetAside,
    Event,
    FlakeSeen,
    Landed,
    LandingIntended,
    ProbeEnded,
    ProbeKind,
    ProbeStarted,
)

PRIOR_CULPRITS = 1.0
PRIOR_RESOLVED = 20.0
"""Before anything is known, one candidate in twenty is taken for a culprit."""

BATCH_CONSTANT = 0.7
"""Batch length times culprit rate: about the optimum of first-culprit search with refill."""

MAX_FLAKES = 3
"""A candidate whose own tree flakes more often than this is ejected."""

PASSED, RED = "passed", "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A collected attempt that wants to land; `head` is its commit."""

    unit: str
    attempt: int
    head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacked:
    """A candidate as merged on top of what stands before it."""

    candidate: Candidate
    commit: str
    tree: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A verification under way."""

    number: int
    kind: str
    commit: str


@dataclass(slots=True, kw_only=True)
class Aside:
    """A culprit that waits for the second verdict on its own red tree."""

    stacked: Stacked
    red_probe: int
    second: ProbeEnded | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """Merge the candidate on top of `onto`."""

    candidate: Candidate
    onto: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTree:
    """Verify a commit's tree; `units` are what it holds above green."""

    kind: ProbeKind
    commit: str
    tree: str
    units: tuple[str, ...] = ()


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


class Train:
    """The train's state: `green`, the queue, the stack, what is set aside, the probes under way."""

    def __init__(self, green: str = "") -> None:
        self.green = green
        self.queue: list[Candidate] = []
        self.stack: list[Stacked] = []
        self.aside: dict[str, Aside] = {}
        self.probes: dict[int, Probe] = {}
        self.n_landed = 0
        self.n_culprits = 0
        self._ended: dict[int, ProbeEnded] = {}
        self._red: tuple[int, int] | None = None  # length of the shortest red prefix, its probe
        self._passed: tuple[int, int] | None = None  # length of the longest green prefix, its probe
        self._intent: LandingIntended | None = None
        self._put_off: set[str] = set()  # clash with the stack, not with green: wait for green
        self._flakes: dict[str, int] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on its way to `green`."""
        return not (self.queue or self.stack or self.aside or self._intent)

    @property
    def culprit_rate(self) -> float:
        """The estimated chance that a candidate is a culprit, with a prior."""
        resolved = self.n_landed + self.n_culprits
        return (self.n_culprits + PRIOR_CULPRITS) / (resolved + PRIOR_RESOLVED)

    @property
    def batch(self) -> int:
        """How many candidates are stacked and not yet known, at the most."""
        return max(1, round(BATCH_CONSTANT / self.culprit_rate))

    def enqueue(self, candidate: Candidate) -> None:
        """Put a collected candidate at the end of the queue."""
        self.queue.append(candidate)

    # -- what happened ------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take in a recorded event; those that do not concern the train are passed over."""
        match event:
            case CandidateStacked():
                self._stacked(event)
            case CandidateConflicted() | CandidateEmpty():
                self._unstackable(event)
            case ProbeStarted():
                self.probes[event.probe] = Probe(
                    number=event.probe, kind=event.kind, commit=event.commit
                )
            case ProbeEnded():
                self._probed(event)
            case LandingIntended():
                self._intent = event
            case Landed():
                self._landed(event)
            case CulpritSetAside():
                self._set_aside(event)
            case CandidateEjected():
                self.aside.pop(event.unit, None)
                self.n_culprits += 1
            case FlakeSeen():
                self._flaked(event)
            case _:
                pass

    def _stacked(self, event: CandidateStacked) -> None:
        candidate = self._take(event.unit)
        self.stack.append(Stacked(candidate=candidate, commit=event.commit, tree=event.tree))

    def _unstackable(self, event: CandidateConflicted | CandidateEmpty) -> None:
        if event.onto == self.green:
            self._take(event.unit)
        else:
            self._put_off.add(event.unit)

    def _take(self, unit: str) -> Candidate:
        index = next(i for i, c in enumerate(self.queue) if c.unit == unit)
        return self.queue.pop(index)

    def _probed(self, event: ProbeEnded) -> None:
        probe = self.probes.pop(event.probe, None)
        if probe is None:
            return
        if probe.kind == ProbeKind.CONFIRM:
            for aside in self.aside.values():
                if aside.stacked.commit == probe.commit and event.verdict in {PASSED, RED}:
                    aside.second = event
        elif probe.kind == ProbeKind.STACK and (length := self._length_at(probe.commit)):
            if event.verdict == PASSED and length > (self._passed or (0, 0))[0]:
                self._passed = (length, event.probe)
            elif event.verdict == RED and (self._red is None or length < self._red[0]):
                self._red = (length, event.probe)
                self._ended[event.probe] = event

    def _length_at(self, commit: str) -> int:
        """The length of the stack's prefix that ends with `commit`; 0 when it is not on it."""
        return next((i for i, s in enumerate(self.stack, start=1) if s.commit == commit), 0)

    def _landed(self, event: Landed) -> None:
        length = self._length_at(event.new)
        self.stack = self.stack[length:]
        self._passed = None
        if self._red is not None:  # a longer prefix passed: what was red flaked, or was mended
            red, probe = self._red
            self._red = (red - length, probe) if red > length else None
        self.n_landed += length
        self.green = event.new
        self._intent = None
        self._put_off.clear()

    def _set_aside(self, event: CulpritSetAside) -> None:
        culprit, rest = self.stack[0], self.stack[1:]
        self.aside[event.unit] = Aside(stacked=culprit, red_probe=event.probe)
        self.queue[:0] = [s.candidate for s in rest]
        self.stack, self._red, self._passed = [], None, None
        self._put_off.clear()

    def _flaked(self, event: FlakeSeen) -> None:
        aside = self.aside.pop(event.unit)
        self._flakes[event.unit] = self._flakes.get(event.unit, 0) + 1
        self.queue.insert(0, aside.stacked.candidate)

    # -- what to do ---------------------------------------------------------------------------

    def next_steps(self, *, free_probes: int) -> Sequence[Step]:
        """Say what to do now; perform and record all of it, then ask again until nothing is left.

        `free_probes` is how many more verifications may be started.
        """
        if landing := self._landing():
            return [landing]
        if decisions := [*self._decisions()]:
            return decisions
        if merge := self._merge():
            return [merge]
        return [*self._cancellations(), *self._probes(free_probes)]

    def _landing(self) -> Land | None:
        if self._intent is not None:
            i = self._intent
            units = tuple(i.units)
            return Land(old=i.old or "", new=i.new, tree=i.tree, probe=i.probe, units=units)
        if self._passed is None:
            return None
        length, probe = self._passed
        top = self.stack[length - 1]
        units = _units(self.stack[:length])
        return Land(old=self.green, new=top.commit, tree=top.tree, probe=probe, units=units)

    def _decisions(self) -> Iterator[Decide]:
        if self._red is not None and self._red[0] == 1:
            culprit = self.stack[0]
            yield Decide(
                event=CulpritSetAside(
                    unit=culprit.candidate.unit,
                    attempt=culprit.candidate.attempt,
                    commit=culprit.commit,
                    tree=culprit.tree,
                    probe=self._red[1],
                )
            )
        for aside in self.aside.values():
            if aside.second is not None:
                yield Decide(event=self._second_verdict(aside, aside.second))

    def _second_verdict(self, aside: Aside, second: ProbeEnded) -> Event:
        candidate = aside.stacked.candidate
        first = self._ended.get(aside.red_probe)
        flaked = tuple(first.failing) if first else ()
        if second.verdict == PASSED and self._flakes.get(candidate.unit, 0) < MAX_FLAKES:
            return FlakeSeen(
                unit=candidate.unit,
                attempt=candidate.attempt,
                tree=aside.stacked.tree,
                red_probe=aside.red_probe,
                green_probe=second.probe,
                failing=flaked,
            )
        too_flaky = f"its own tree was red, then green, {MAX_FLAKES + 1} times"
        return CandidateEjected(
            unit=candidate.unit,
            attempt=candidate.attempt,
            probe=second.probe,
            reason=too_flaky if second.verdict == PASSED else _why(second),
            failing=flaked if second.verdict == PASSED else tuple(second.failing),
        )

    def _merge(self) -> Merge | None:
        """Stack one more while the stack is not known red and the unknown part is short enough."""
        if self._red is not None or len(self.stack) - self._longest_probed() >= self.batch:
            return None
        onto = self.stack[-1].commit if self.stack else self.green
        for candidate in self.queue:
            if not self.stack or candidate.unit not in self._put_off:
                return Merge(candidate=candidate, onto=onto)
        return None

    def _in_flight(self) -> dict[int, Probe]:
        """The probes of prefixes under way, by prefix length."""
        probes = (p for p in self.probes.values() if p.kind == ProbeKind.STACK)
        lengths = ((self._length_at(p.commit), p) for p in probes)
        return {length: probe for length, probe in lengths if length}

    def _longest_probed(self) -> int:
        return max(self._in_flight(), default=0)

    def _cancellations(self) -> list[CancelProbe]:
        useful = {
            p.number
            for length, p in self._in_flight().items()
            if self._red is None or length < self._red[0]
        }
        stack_probes = (p for p in self.probes.values() if p.kind == ProbeKind.STACK)
        return [CancelProbe(number=p.number) for p in stack_probes if p.number not in useful]

    def _probes(self, free: int) -> list[ProbeTree]:
        lengths = [] if free < 1 else self._lengths_to_probe(free)
        probes = [self._probe_of(length) for length in lengths]
        confirming = {p.commit for p in self.probes.values() if p.kind == ProbeKind.CONFIRM}
        waiting = (a.stacked for a in self.aside.values() if a.stacked.commit not in confirming)
        return probes + [
            ProbeTree(
                kind=ProbeKind.CONFIRM,
                commit=stacked.commit,
                tree=stacked.tree,
                units=(stacked.candidate.unit,),
            )
            for stacked, _ in zip(waiting, range(free - len(probes)), strict=False)
        ]

    def _lengths_to_probe(self, free: int) -> Sequence[int]:
        in_flight = self._in_flight()
        if self._red is None:
            return [len(self.stack)] if len(self.stack) > max(in_flight, default=0) else []
        shorter = [length for length in in_flight if length < self._red[0]]
        return [] if shorter else split_points(self._red[0], free, self.culprit_rate)

    def _probe_of(self, length: int) -> ProbeTree:
        top, units = self.stack[length - 1], _units(self.stack[:length])
        return ProbeTree(kind=ProbeKind.STACK, commit=top.commit, tree=top.tree, units=units)


def split_points(red: int, n_probes: int, culprit_rate: float) -> list[int]:
    """Prefix lengths that split the first culprit's position in a red prefix into equal chances.

    The position is geometric with `culprit_rate`, given that it is at most `red`.
    Returns at most `n_probes` distinct lengths in 1..red-1, ascending.
    """
    keep = 1.0 - min(max(culprit_rate, 1e-6), 1 - 1e-6)
    mass = 1.0 - keep**red
    chances = (i / (n_probes + 1) for i in range(1, n_probes + 1))
    lengths = (round(math.log(1.0 - c * mass) / math.log(keep)) for c in chances)
    return sorted({min(max(length, 1), red - 1) for length in lengths})


def _why(red: ProbeEnded) -> str:
    return f"{red.reason}\n{red.output}".strip()


def _units(stack: Collection[Stacked]) -> tuple[str, ...]:
    return tuple(s.candidate.unit for s in stack)
