"""The merge train's state: what is queued, merged, probed, known to be red, set aside, landed.

A pure state machine. Recorded events go in through `apply`; what to do now is said by `dispatch`.
It does no I/O, keeps no clock, and is rebuilt from the ledger.

- The *landing line* is candidates merged one on another on top of `green`. A green prefix lands at
  once; a red one is searched (`search`) for the first culprit, which is *set aside*; the rest is
  stacked again, refilled from the queue. Culprits are judged when the search has nothing to do
  (`blame`).
- *Screening*: with three probes or more and a backlog, all but one or two of them search lines of
  their own, made of different candidates. What passes there is *cleared*, and only cleared ones are
  taken into the landing line. Their exact union is probed before it lands like any other tree.
- *Control*: whose fault a red is, is asked only after something passed in the same place. When
  nothing did, `green` itself is probed there; red means that the place or the world is broken: all
  verdicts since the last pass are void, and nothing lands until `green` passes again.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterator
from functools import singledispatchmethod
from itertools import takewhile

from flows.landing.blame import (
    LANDING,
    Aside,
    Found,
    History,
    Question,
    Trial,
    inquire,
)
from flows.landing.repair import REPAIR
from flows.landing.search import PASSED, RED, Line, batch_length
from flows.landing.steps import BASE, Candidate, Probe, Stacked
from flows.ledger.events import (
    BaseMoved,
    BaseRefused,
    CandidateClashed,
    CandidateConflicted,
    CandidateEjected,
    CandidateEmpty,
    CandidateStacked,
    CulpritCleared,
    CulpritSetAside,
    Event,
    FlakeSeen,
    GreenAdopted,
    Landed,
    LandingIntended,
    MissionResumed,
    ProbeEnded,
    ProbeKind,
    ProbeStarted,
)

PRIOR_CULPRITS = 1.0
PRIOR_RESOLVED = 20.0
"""Before anything is known, one candidate in twenty is taken for a culprit."""

PRIOR_CLASHES = 0.05
PRIOR_CLEARED = 100.0
"""Before anything is known, one cleared candidate in 2,000 clashes with others."""

TRIAL = -1
"""The line of a culprit that is merged on another commit to find out whose fault it is."""

ANYWHERE = ""
"""The place of what may be verified in any."""

UNLIKELY = 0.01
"""A run of culprits less likely than this is taken for a broken place until `green` passes."""

Key = tuple[bool, float, int]


class Train:
    """The train's state: `green`, the queue, the lines, what is set aside, the probes under way."""

    def __init__(self, green: str = "") -> None:
        self.green = green
        self.history = History()
        self.landing = Line(number=LANDING, base=green, below=green)
        self.screening: dict[int, Line] = {}
        self.aside: dict[str, Aside] = {}
        self.probes: dict[int, Probe] = {}
        self.control_reds = 0  # in a row
        self.is_adopted = False  # whether `green` is another mission's, not yet verified by us
        self.n_good = 0
        self.n_culprits = 0
        self.n_cleared_good = 0  # of those that passed in a screening line before
        self.n_cleared_culprits = 0
        self._queue: list[tuple[Key, Candidate]] = []
        self.n_unknown = 0  # how many of the queue may be screened
        self._arrival: dict[tuple[str, int], int] = {}
        self._cleared: set[tuple[str, int]] = set()
        self.intent: LandingIntended | None = None
        self._flakes: Counter[tuple[str, int]] = Counter()
        self._clashes: dict[str, set[str]] = {}  # unit -> units with which it does not merge
        self._doubted: dict[int, str] = {}  # red probe -> its place, where nothing passed since
        self.culprits_in_a_row = 0
        self.n_lines = 0
        self._newest_base = 0  # its number
        if green:
            self.history.land((), green)

    @property
    def queue(self) -> list[Candidate]:
        """The candidates that are in no line, in the order in which they are taken."""
        return [*self.waiting()]

    def waiting(self) -> Iterator[Candidate]:
        """The queue, one after another."""
        return (candidate for _, candidate in self._queue)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on its way to `green`."""
        return not (
            self._queue or self.landing.stack or self.screening or self.aside or self.intent
        )

    @property
    def culprit_rate(self) -> float:
        """The estimated chance that a candidate is a culprit, with a prior."""
        resolved = self.n_good + self.n_culprits
        return (self.n_culprits + PRIOR_CULPRITS) / (resolved + PRIOR_RESOLVED)

    @property
    def clash_rate(self) -> float:
        """The estimated chance that a candidate which was cleared is a culprit in other company."""
        resolved = self.n_cleared_good + self.n_cleared_culprits
        return (self.n_cleared_culprits + PRIOR_CLASHES) / (resolved + PRIOR_CLEARED)

    @property
    def batch(self) -> int:
        """How many candidates of which nothing is known are asked about at once, at the most."""
        return batch_length(self.culprit_rate)

    def enqueue(self, candidate: Candidate) -> None:
        """Put a collected candidate into the queue: what most waits for comes first."""
        if self._is_outdated(candidate):
            return
        name = (candidate.unit, candidate.attempt)
        if name not in self._arrival:  # new work clashes with nobody yet
            for other in self._clashes.pop(candidate.unit, ()):
                self._clashes[other].discard(candidate.unit)
        arrival = self._arrival.setdefault(name, len(self._arrival))
        key = (name not in self._cleared, -candidate.weight, arrival)
        insort(self._queue, (key, candidate), key=lambda entry: entry[0])
        self.n_unknown += self.is_unknown(candidate)

    # -- what happened ------------------------------------------------------------------------

    @singledispatchmethod
    def apply(self, event: Event) -> None:
        """Take in a recorded event; those that do not concern the train are passed over."""

    @apply.register
    def _(self, event: CandidateStacked) -> None:
        if event.line == REPAIR:
            return
        if event.line == TRIAL:
            aside = self.aside[event.unit]
            trial = Stacked(
                candidate=aside.candidate, onto=event.onto, commit=event.commit, tree=event.tree
            )
            aside.trials[event.onto] = Trial(stacked=trial)
            return
        if event.line != LANDING and event.line not in self.screening:
            self.screening[event.line] = Line(number=event.line, base=event.onto, below=event.onto)
            self.n_lines = max(self.n_lines, event.line)
        line = self.landing if event.line == LANDING else self.screening[event.line]
        line.add(self._take(event.unit), event.onto, event.commit, event.tree)

    @apply.register(CandidateConflicted)
    @apply.register(CandidateEmpty)
    def _(self, event: CandidateConflicted | CandidateEmpty) -> None:
        if event.line == REPAIR:
            return
        if event.line == TRIAL:
            self.aside[event.unit].trials[event.onto] = Trial(stacked=None)
        elif event.onto == self.green:
            self._take(event.unit)
        elif event.line == LANDING:
            self._put_off(event, self.landing)
        elif event.line in self.screening:
            self._put_off(event, self.screening[event.line])

    @apply.register
    def _(self, event: ProbeStarted) -> None:
        self.probes[event.probe] = Probe(number=event.probe, kind=event.kind, commit=event.commit)

    @apply.register
    def _(self, event: ProbeEnded) -> None:
        probe = self.probes.pop(event.probe, None)
        if probe is None or event.verdict not in {PASSED, RED}:
            return
        passed = event.verdict == PASSED
        if passed and not event.cached:
            self._trust(event)
        elif not passed:
            self._doubted[event.probe] = event.place
        if probe.kind == ProbeKind.CONTROL:
            self._controlled(passed=passed)
        elif passed or not self.control_reds:
            self._judged(probe, event)

    @apply.register
    def _(self, event: LandingIntended) -> None:
        self.intent = event

    @apply.register
    def _(self, event: Landed) -> None:
        gone = self.landing.drop(self.landing.length_at(event.new))
        self.history.land(gone, event.new)
        names = ((s.candidate.unit, s.candidate.attempt) for s in gone)
        n_cleared = sum(name in self._cleared for name in names)
        self.n_cleared_good += n_cleared
        self.n_good += len(gone) - n_cleared
        self.green = self.landing.base = self.landing.below = event.new
        self.landing.put_off.clear()
        self.intent = None

    @apply.register
    def _(self, event: GreenAdopted) -> None:
        """All that is merged stands on what `green` was: it is merged anew."""
        for line in self.lines:
            for stacked in line.stack:
                self.enqueue(stacked.candidate)
        for aside in [*self.aside.values()]:
            self._release(aside)
        self.screening.clear()
        self.green, self.is_adopted = event.new, True
        self.landing = Line(number=LANDING, base=event.new, below=event.new)
        self.history.land((), event.new)

    @apply.register
    def _(self, event: CulpritSetAside) -> None:
        line = self.landing if event.line == LANDING else self.screening.pop(event.line)
        culprit, rest = line.stack[0], line.stack[1:]
        if line.red is None:
            raise RuntimeError(f"{event.unit} is set aside, but nothing was red")
        name = (culprit.candidate.unit, culprit.candidate.attempt)
        self.aside[event.unit] = Aside(
            stacked=culprit,
            line=event.line,
            below=line.below,
            red=line.red[1],
            cleared=name in self._cleared,
        )
        for stacked in rest:
            self.enqueue(stacked.candidate)
        if event.line == LANDING:
            self.landing = Line(number=LANDING, base=line.base, below=line.below)
        self._count_culprit(self.aside[event.unit], 1)
        self.culprits_in_a_row += 1
        if self._is_outdated(culprit.candidate):
            self._release(self.aside[event.unit])

    @apply.register(CandidateEjected)
    @apply.register(CandidateClashed)
    def _(self, event: CandidateEjected | CandidateClashed) -> None:
        self.aside.pop(event.unit, None)

    @apply.register
    def _(self, _event: BaseRefused) -> None:
        self.aside.pop(BASE, None)

    @apply.register
    def _(self, event: FlakeSeen) -> None:
        self._flakes[event.unit, event.attempt] += 1
        self._release(self.aside[event.unit])

    @apply.register
    def _(self, event: CulpritCleared) -> None:
        self._cleared.add((event.unit, event.attempt))
        self.n_good += 1
        self._release(self.aside[event.unit])

    @apply.register
    def _(self, event: BaseMoved) -> None:
        """Only the newest is merged, unless an older one is under way."""
        self.aside.pop(BASE, None)
        self._queue = [(key, c) for key, c in self._queue if not c.is_base]
        self._newest_base += 1
        number, weight = self._newest_base, float("inf")
        self.enqueue(Candidate(unit=BASE, attempt=number, head=event.commit, weight=weight))

    def _is_outdated(self, candidate: Candidate) -> bool:
        """Whether a newer base holds all that this one does, and maybe what mends it."""
        return candidate.is_base and candidate.attempt < self._newest_base

    @apply.register
    def _(self, _event: MissionResumed) -> None:
        """The places may be others now: a pass in any of them answers for those that were."""
        self._doubted = dict.fromkeys(self._doubted, ANYWHERE)

    def _put_off(self, event: CandidateConflicted | CandidateEmpty, line: Line) -> None:
        """Remember with whom it clashes, by the files; else, that this line is not for it."""
        files = set(event.files) if isinstance(event, CandidateConflicted) else set()
        with_whom = {
            s.candidate.unit for s in line.stack if not files.isdisjoint(s.candidate.files)
        }
        if with_whom:
            self._clashes.setdefault(event.unit, set()).update(with_whom)
            for other in with_whom:
                self._clashes.setdefault(other, set()).add(event.unit)
        else:
            line.put_off.add(event.unit)

    def _take(self, unit: str) -> Candidate:
        index = next(i for i, (_, c) in enumerate(self._queue) if c.unit == unit)
        candidate = self._queue.pop(index)[1]
        self.n_unknown -= self.is_unknown(candidate)
        return candidate

    def _trust(self, passed: ProbeEnded) -> None:
        """Believe the reds of a place up to here: it works."""
        self.culprits_in_a_row = 0
        self._doubted = {
            probe: place
            for probe, place in self._doubted.items()
            if place not in {ANYWHERE, passed.place} or probe > passed.probe
        }

    def _judged(self, probe: Probe, event: ProbeEnded) -> None:
        self.landing.learn(probe.commit, event)
        for line in [*self.screening.values()]:
            line.learn(probe.commit, event)
            if line.passed is not None:
                self._clear(line, line.passed[0])
        for aside in self.aside.values():
            if probe.kind not in {ProbeKind.STACK, ProbeKind.SCREEN}:
                aside.learn(probe.commit, event)

    def _clear(self, line: Line, length: int) -> None:
        for stacked in line.drop(length):
            candidate = stacked.candidate
            self._cleared.add((candidate.unit, candidate.attempt))
            self.n_good += 1
            self.enqueue(candidate)
        if not line.stack:
            del self.screening[line.number]

    def _controlled(self, *, passed: bool) -> None:
        if passed:
            self.control_reds, self.is_adopted = 0, False
            return
        self.control_reds += 1
        self.culprits_in_a_row = 0
        for line in self.lines:
            line.red = None
        for aside in [*self.aside.values()]:
            if not self.is_trusted(aside.red):
                self._release(aside)

    def _release(self, aside: Aside) -> None:
        """Put a culprit back into the queue: it was not its fault."""
        del self.aside[aside.candidate.unit]
        self._count_culprit(aside, -1)
        self.enqueue(aside.candidate)

    def _count_culprit(self, aside: Aside, n: int) -> None:
        if aside.cleared:
            self.n_cleared_culprits += n
        else:
            self.n_culprits += n

    @property
    def is_halted(self) -> bool:
        """Whether nothing may land until `green` itself passes."""
        return self.intent is None and (self.control_reds > 0 or self.is_adopted)

    # -- what is known ------------------------------------------------------------------------

    @property
    def lines(self) -> list[Line]:
        """The line that lands, and those that screen."""
        return [self.landing, *self.screening.values()]

    def unprobed(self) -> list[Line]:
        """The screening lines that are still being filled."""
        probes = self.probes.values()
        lines = self.screening.values()
        return [line for line in lines if line.red is None and not line.in_flight(probes)]

    def is_unknown(self, candidate: Candidate) -> bool:
        """Whether it may be screened: nothing is known of it, and ordinary rules hold for it."""
        name = (candidate.unit, candidate.attempt)
        return not (candidate.is_base or candidate.apart or name in self._cleared)

    def unknown(self) -> Iterator[Candidate]:
        """Those of the queue that may be screened, in order."""
        return (candidate for candidate in self.waiting() if self.is_unknown(candidate))

    @property
    def n_cleared(self) -> int:
        """How many of the queue passed in a screening line; they are its first."""
        return sum(1 for _ in takewhile(lambda entry: not entry[0][0], self._queue))

    def fits(self, candidate: Candidate, line: Line) -> bool:
        """Whether nothing is known that keeps it from being merged on top of a line."""
        if not line.stack:
            return True
        clashes = self._clashes.get(candidate.unit)
        if clashes and any(s.candidate.unit in clashes for s in line.stack):
            return False
        return candidate.unit not in line.put_off

    def greatest_weight(self) -> float:
        """How much waits for what is in the queue or in a line, at the most."""
        firsts = (self._queue[:1], self._queue[self.n_cleared :])
        queued = (next((c for _, c in part if not c.is_base), None) for part in firsts)
        stacked = (s.candidate for line in self.lines for s in line.stack)
        weights = (c.weight for c in (*queued, *stacked) if c is not None)
        return max(weights, default=float("-inf"))

    def inquire(self, aside: Aside) -> Question | Found:
        """What has to be known next about a culprit, or what became known."""
        name = (aside.candidate.unit, aside.candidate.attempt)
        return inquire(aside, self.history, self._flakes[name])

    def is_trusted(self, red: ProbeEnded) -> bool:
        """Whether something began and passed after this, where this was red."""
        return red.probe not in self._doubted

    @property
    def is_suspicious(self) -> bool:
        """Whether one more culprit in a row is likelier to be the place's fault."""
        n = self.culprits_in_a_row
        return n > 0 and self.culprit_rate ** (n + 1) < UNLIKELY
