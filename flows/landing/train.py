"""The merge train: which candidates to merge, which trees to probe, what lands, who is the culprit.

A pure state machine. Recorded events go in through `apply`; `next_steps` says what to do now. It
does no I/O, keeps no clock, and is rebuilt from the ledger.

- The *landing line* is candidates merged one on another on top of `green`. A green prefix lands at
  once; a red one is searched (`search`) for the first culprit, which is *set aside*; the rest is
  stacked again, refilled from the queue. Culprits are judged when the search has nothing to do
  (`blame`).
- *Screening*: with four probes or more and a backlog, all but one or two of them search lines of
  their own, made of different candidates. What passes there is *cleared*, and only cleared ones are
  taken into the landing line. Their exact union is probed before it lands like any other tree.
- *Control*: whose fault a red is, is asked only after something passed in the same place. When
  nothing did, `green` itself is probed there; red means that the place or the world is broken: all
  verdicts since the last pass are void, and nothing lands until `green` passes again.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from functools import singledispatchmethod
from itertools import takewhile

from flows.landing.blame import (
    LANDING,
    Again,
    Alone,
    Aside,
    Company,
    Found,
    History,
    Trial,
    inquire,
)
from flows.landing.repair import REPAIR
from flows.landing.search import PASSED, RED, Line, batch_length
from flows.landing.steps import (
    BASE,
    CancelProbe,
    Candidate,
    Decide,
    Land,
    Merge,
    Probe,
    ProbeTree,
    Stacked,
    Step,
    units_of,
)
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
    Landed,
    LandingIntended,
    ProbeEnded,
    ProbeKind,
    ProbeStarted,
)

PRIOR_CULPRITS = 1.0
PRIOR_RESOLVED = 20.0
"""Before anything is known, one candidate in twenty is taken for a culprit."""

CLEARED_RATE = 0.01
"""The chance that a cleared candidate is a culprit in other company."""

SCREENING_PROBES = 4
"""With fewer probes at once, one line searched by all of them lands more."""

TRIAL = -1
"""The line of a culprit that is merged on another commit to find out whose fault it is."""

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
        self.n_good = 0
        self.n_culprits = 0
        self._queue: list[tuple[Key, Candidate]] = []
        self._n_unknown = 0  # how many of the queue may be screened
        self._arrival: dict[tuple[str, int], int] = {}
        self._cleared: set[tuple[str, int]] = set()
        self._intent: LandingIntended | None = None
        self._flakes: dict[str, int] = {}
        self._clashes: dict[str, set[str]] = {}  # unit -> units with which it does not merge
        self._doubted: dict[int, str] = {}  # red probe -> its place, where nothing passed since
        self._culprits_in_a_row = 0
        self._n_lines = 0
        if green:
            self.history.land((), green)

    @property
    def queue(self) -> list[Candidate]:
        """The candidates that are in no line, in the order in which they are taken."""
        return [candidate for _, candidate in self._queue]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on its way to `green`."""
        return not (
            self._queue or self.landing.stack or self.screening or self.aside or self._intent
        )

    @property
    def culprit_rate(self) -> float:
        """The estimated chance that a candidate is a culprit, with a prior."""
        resolved = self.n_good + self.n_culprits
        return (self.n_culprits + PRIOR_CULPRITS) / (resolved + PRIOR_RESOLVED)

    @property
    def batch(self) -> int:
        """How many candidates of which nothing is known are asked about at once, at the most."""
        return batch_length(self.culprit_rate)

    def enqueue(self, candidate: Candidate) -> None:
        """Put a collected candidate into the queue: what most waits for comes first."""
        name = (candidate.unit, candidate.attempt)
        if name not in self._arrival:  # new work clashes with nobody yet
            for other in self._clashes.pop(candidate.unit, ()):
                self._clashes[other].discard(candidate.unit)
        arrival = self._arrival.setdefault(name, len(self._arrival))
        key = (name not in self._cleared, -candidate.weight, arrival)
        insort(self._queue, (key, candidate), key=lambda entry: entry[0])
        self._n_unknown += self._is_unknown(candidate)

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
            self._n_lines = max(self._n_lines, event.line)
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
        self._intent = event

    @apply.register
    def _(self, event: Landed) -> None:
        gone = self.landing.drop(self.landing.length_at(event.new))
        self.history.land(gone, event.new)
        names = ((s.candidate.unit, s.candidate.attempt) for s in gone)
        self.n_good += sum(name not in self._cleared for name in names)
        self.green = self.landing.base = self.landing.below = event.new
        self.landing.put_off.clear()
        self._intent = None

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
        line.stack, line.red, line.passed = [], None, None
        line.put_off.clear()
        self.n_culprits += 1
        self._culprits_in_a_row += 1

    @apply.register(CandidateEjected)
    @apply.register(CandidateClashed)
    def _(self, event: CandidateEjected | CandidateClashed) -> None:
        self.aside.pop(event.unit, None)

    @apply.register
    def _(self, _event: BaseRefused) -> None:
        self.aside.pop(BASE, None)

    @apply.register
    def _(self, event: FlakeSeen) -> None:
        self._flakes[event.unit] = self._flakes.get(event.unit, 0) + 1
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
        number = sum(unit == BASE for unit, _ in self._arrival) + 1
        weight = float("inf")
        self.enqueue(Candidate(unit=BASE, attempt=number, head=event.commit, weight=weight))

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

    def _fits(self, candidate: Candidate, line: Line) -> bool:
        """Whether nothing is known that keeps it from being merged on top of a line."""
        if not line.stack:
            return True
        clashes = self._clashes.get(candidate.unit)
        if clashes and any(s.candidate.unit in clashes for s in line.stack):
            return False
        return candidate.unit not in line.put_off

    def _take(self, unit: str) -> Candidate:
        index = next(i for i, (_, c) in enumerate(self._queue) if c.unit == unit)
        candidate = self._queue.pop(index)[1]
        self._n_unknown -= self._is_unknown(candidate)
        return candidate

    def _trust(self, passed: ProbeEnded) -> None:
        """Believe the reds of a place up to here: it works."""
        self._culprits_in_a_row = 0
        self._doubted = {
            probe: place
            for probe, place in self._doubted.items()
            if place != passed.place or probe > passed.probe
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
            self.control_reds = 0
            return
        self.control_reds += 1
        self._culprits_in_a_row = 0
        for line in self._lines():
            line.red = None
        for aside in [*self.aside.values()]:
            if not self._is_trusted(aside.red):
                self._release(aside)

    def _release(self, aside: Aside) -> None:
        """Put a culprit back into the queue: it was not its fault."""
        del self.aside[aside.candidate.unit]
        self.n_culprits -= 1
        self.enqueue(aside.candidate)

    # -- what to do ---------------------------------------------------------------------------

    def next_steps(self, *, free_probes: int, slots: int) -> Sequence[Step]:
        """Say what to do now; perform and record all of it, then ask again until nothing is left.

        `slots` is how many verifications may run at once, `free_probes` how many more now.
        """
        if self.control_reds and self._intent is None:
            return self._control("") if free_probes > 0 else []
        if landing := self._landing():
            return [landing]
        if decisions := [*self._decisions()]:
            return decisions
        if merge := self._fill(free_probes, slots):
            return [merge]
        return [*self._cancellations(), *self._probes(free_probes, slots)]

    def _lines(self) -> list[Line]:
        return [self.landing, *self.screening.values()]

    def _landing(self) -> Land | None:
        if self._intent is not None:
            i = self._intent
            units = tuple(i.units)
            return Land(old=i.old or "", new=i.new, tree=i.tree, probe=i.probe, units=units)
        if self.landing.passed is None:
            return None
        length, passed = self.landing.passed
        top, units = self.landing.stack[length - 1], units_of(self.landing.stack[:length])
        return Land(old=self.green, new=top.commit, tree=top.tree, probe=passed.probe, units=units)

    # Culprits and what is found out about them

    def _decisions(self) -> Iterator[Decide]:
        for line in self._lines():
            if (culprit := line.culprit) and line.red and not self._is_suspicious():
                yield Decide(event=_set_aside(line.number, culprit, line.red[1]))
        for aside in self.aside.values():
            answer = self._inquire(aside)
            if isinstance(answer, Found):
                yield Decide(event=answer.event)

    def _inquire(self, aside: Aside) -> Again | Alone | Company | Found:
        return inquire(aside, self.history, self._flakes.get(aside.candidate.unit, 0))

    def _is_trusted(self, red: ProbeEnded) -> bool:
        """Whether something began and passed after this, where this was red."""
        return red.probe not in self._doubted

    def _is_suspicious(self) -> bool:
        """Whether one more culprit in a row is likelier to be the place's fault."""
        n = self._culprits_in_a_row
        return n > 0 and self.culprit_rate ** (n + 1) < UNLIKELY

    def _control(self, place: str) -> list[ProbeTree]:
        if any(p.kind == ProbeKind.CONTROL for p in self.probes.values()):
            return []
        kind = ProbeKind.CONTROL
        return [ProbeTree(kind=kind, commit=self.green, tree="", below=self.green, place=place)]

    # Merging

    def _is_screening(self, slots: int) -> bool:
        """Whether there is more of which nothing is known than one line is good for."""
        if slots < SCREENING_PROBES:
            return False
        waiting = sum(len(line.stack) for line in self._unprobed())
        return waiting + self._n_unknown > self.batch

    def _unprobed(self) -> list[Line]:
        """The screening lines that are still being filled."""
        in_flight = self.probes.values()
        return [
            line
            for line in self.screening.values()
            if line.red is None and not line.in_flight(in_flight)
        ]

    def _is_unknown(self, candidate: Candidate) -> bool:
        """Whether it may be screened: nothing is known of it, and ordinary rules hold for it."""
        name = (candidate.unit, candidate.attempt)
        return not (candidate.is_base or candidate.apart or name in self._cleared)

    def _fill(self, free: int, slots: int) -> Merge | None:
        screening = self._is_screening(slots)
        if merge := self._fill_landing(free, slots, screening=screening):
            return merge
        return self._fill_screen(free, slots) if screening else None

    def _fill_landing(self, free: int, slots: int, *, screening: bool) -> Merge | None:
        """Stack one more while the line is not known red and its unknown part is short enough."""
        line = self.landing
        if line.red is not None or (line.stack and line.stack[-1].candidate.apart):
            return None
        if screening and self._probes_to_land(free, slots) < 1:
            return None
        behind = line.stack[max(line.in_flight(self.probes.values()), default=0) :]
        full = sum(self._is_unknown(s.candidate) for s in behind) >= self.batch
        for _, candidate in self._queue:
            if not self._fits(candidate, line):
                continue
            if self._is_unknown(candidate) and (screening or full):
                return None  # cleared ones come first in the queue
            if candidate.apart and line.stack:
                return None
            return Merge(candidate=candidate, onto=line.tip, line=LANDING)
        return None

    def _fill_screen(self, free: int, slots: int) -> Merge | None:
        """Share what is unknown among the lines that can be probed now."""
        if not self._n_unknown:
            return None
        waiting = self._unprobed()
        searching = sum(len(self._screen_lengths(line, 1)) for line in self.screening.values())
        wanted = len(self._landing_lengths(free, slots)) + searching
        n_lines = free - wanted + len(waiting)
        if n_lines < 1:
            return None
        n_unknown = self._n_unknown + sum(len(line.stack) for line in waiting)
        share = min(self.batch, -(-n_unknown // n_lines))
        for line in waiting:
            if len(line.stack) < share:
                for candidate in self._unknown():
                    if self._fits(candidate, line):
                        return Merge(candidate=candidate, onto=line.tip, line=line.number)
        if len(waiting) < n_lines:
            first = next(self._unknown())
            return Merge(candidate=first, onto=self.green, line=self._n_lines + 1)
        return None

    def _unknown(self) -> Iterator[Candidate]:
        return (candidate for _, candidate in self._queue if self._is_unknown(candidate))

    # Probing

    def _cancellations(self) -> list[CancelProbe]:
        return [CancelProbe(number=p.number) for p in self.probes.values() if self._is_useless(p)]

    def _is_useless(self, probe: Probe) -> bool:
        if probe.kind in {ProbeKind.STACK, ProbeKind.SCREEN}:
            for line in self._lines():
                if length := line.length_at(probe.commit):
                    return line.red is not None and length >= line.red[0]
            return True
        if probe.kind in {ProbeKind.CONTROL, ProbeKind.BASE, ProbeKind.REPAIR}:
            return False
        return not any(probe.commit in _trees(aside) for aside in self.aside.values())

    def _probes(self, free: int, slots: int) -> list[Step]:
        steps: list[Step] = []
        for line in self._lines() if self._is_suspicious() and free > 0 else ():
            if line.culprit and line.red and not steps:
                steps += self._control(line.red[1].place)
        steps += self._questions(free - len(steps), urgent=True)
        for length in self._landing_lengths(free - len(steps), slots):
            steps.append(_probe_of(self.landing, length, ProbeKind.STACK, self.green))
        for line in self.screening.values():
            for length in self._screen_lengths(line, free - len(steps)):
                steps.append(_probe_of(line, length, ProbeKind.SCREEN, line.below))
        steps += self._questions(free - len(steps), urgent=False)
        merges = [step for step in steps if isinstance(step, Merge)]
        return [merges[0]] if merges else [*_with_one_control(steps)]

    def _landing_lengths(self, free: int, slots: int) -> list[int]:
        if self._is_screening(slots):
            free = self._probes_to_land(free, slots)
        in_flight = self.landing.in_flight(self.probes.values())
        known = any(self._is_unknown(s.candidate) for s in self.landing.stack)
        rate = self.culprit_rate if known else CLEARED_RATE
        return self.landing.wanted(in_flight, free, rate)

    def _probes_to_land(self, free: int, slots: int) -> int:
        """How many more probes land while others screen: more of them the more is cleared."""
        in_queue = takewhile(lambda entry: not entry[0][0], self._queue)  # cleared ones are first
        cleared = sum(1 for _ in in_queue) + len(self.landing.stack)
        share = 1 + cleared // (2 * slots * self.batch)
        in_flight = len(self.landing.in_flight(self.probes.values()))
        return min(free, min(share, slots // 2) - in_flight)

    def _screen_lengths(self, line: Line, free: int) -> list[int]:
        in_flight = line.in_flight(self.probes.values())
        if in_flight or free < 1:
            return []
        return line.wanted(in_flight, 1, self.culprit_rate)

    def _questions(self, free: int, *, urgent: bool) -> list[Step]:
        """Steps that find out whose fault it is; urgent are those about what most waits for."""
        steps: list[Step] = []
        most = self._most_waited_for() if self.aside else 0.0
        for aside in self.aside.values():
            if len(steps) >= free:
                break
            step = self._question(aside)
            is_urgent = aside.candidate.weight > most and not _is_for_partner(step)
            if step is not None and is_urgent == urgent:
                steps.append(step)
        return steps

    def _most_waited_for(self) -> float:
        """The greatest weight of what is in the queue or in a line."""
        is_cleared = takewhile(lambda entry: not entry[0][0], self._queue)
        firsts = (self._queue[:1], self._queue[sum(1 for _ in is_cleared) :])
        stacked = (s.candidate for line in self._lines() for s in line.stack)
        queued = (next((c for _, c in part if not c.is_base), None) for part in firsts)
        weights = (c.weight for c in (*queued, *stacked) if c is not None)
        return max(weights, default=float("-inf"))

    def _question(self, aside: Aside) -> Step | None:
        trees = _trees(aside)
        if any(probe.commit in trees for probe in self.probes.values()):
            return None
        if not self._is_trusted(aside.red):
            return next(iter(self._control(aside.red.place)), None)
        match self._inquire(aside):
            case Again():
                return _probe_aside(aside.stacked, ProbeKind.CONFIRM, aside.below)
            case Alone(onto):
                return self._try_on(aside, onto, ProbeKind.ALONE)
            case Company(onto):
                return self._try_on(aside, onto, ProbeKind.PARTNER)
            case _:
                return None

    def _try_on(self, aside: Aside, onto: str, kind: ProbeKind) -> Step:
        trial = aside.trials.get(onto)
        if trial is None or trial.stacked is None:
            return Merge(candidate=aside.candidate, onto=onto, line=TRIAL)
        return _probe_aside(trial.stacked, kind, self.history.below(onto))


def _probe_of(line: Line, length: int, kind: ProbeKind, below: str) -> ProbeTree:
    top, units = line.stack[length - 1], units_of(line.stack[:length])
    return ProbeTree(kind=kind, commit=top.commit, tree=top.tree, units=units, below=below)


def _probe_aside(stacked: Stacked, kind: ProbeKind, below: str) -> ProbeTree:
    units = (stacked.candidate.unit,)
    return ProbeTree(kind=kind, commit=stacked.commit, tree=stacked.tree, units=units, below=below)


def _with_one_control(steps: Sequence[Step]) -> Iterator[Step]:
    """One control answers for all that wait for it."""
    controlled = False
    for step in steps:
        is_control = isinstance(step, ProbeTree) and step.kind == ProbeKind.CONTROL
        if not (is_control and controlled):
            yield step
        controlled = controlled or is_control


def _is_for_partner(step: Step | None) -> bool:
    """Whether a step only helps to find a partner, which idle probes are for."""
    return isinstance(step, ProbeTree) and step.kind == ProbeKind.PARTNER


def _set_aside(line: int, culprit: Stacked, red: ProbeEnded) -> CulpritSetAside:
    return CulpritSetAside(
        unit=culprit.candidate.unit,
        attempt=culprit.candidate.attempt,
        commit=culprit.commit,
        tree=culprit.tree,
        probe=red.probe,
        line=line,
    )


def _trees(aside: Aside) -> set[str]:
    """The commits on which a verdict about a culprit can come."""
    tried = (t.stacked.commit for t in aside.trials.values() if t.stacked is not None)
    return {aside.stacked.commit, *tried}
