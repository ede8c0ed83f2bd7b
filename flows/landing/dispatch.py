"""What the train does next: which candidate to merge where, which tree to verify, what to decide.

Pure functions of the train's state. A landing comes first, then decisions, then merges, and last
the verifications, in the order of what they are good for: to go on at all (control), to know what
most waits for, to land, to screen, to know whose fault a red was, and to find a partner.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flows.landing.blame import LANDING, Again, Alone, Aside, Company, Found
from flows.landing.search import Line, batch_length, landed_per_run
from flows.landing.steps import (
    CancelProbe,
    Decide,
    Land,
    Merge,
    Probe,
    ProbeTree,
    Stacked,
    Step,
    units_of,
)
from flows.landing.train import ANYWHERE, TRIAL, Train
from flows.ledger.events import CulpritSetAside, ProbeEnded, ProbeKind

MAX_UNION = 128
"""The most cleared candidates that are stacked at once: behind a culprit all are merged anew."""

SCREENING_PROBES = 3
"""With fewer probes at once, one line searched by all of them lands more.

Landed per V, screening over one line of three probes: 1.10 to 1.16 for culprit rates of 2 to 30 %;
with two probes screening leaves one to search, and lands 0.7 of what both do together.
"""


def next_steps(
    train: Train, *, free_probes: int, slots: int, agents_idle: bool = False
) -> Sequence[Step]:
    """Say what to do now; perform and record all of it, then ask again until nothing is left.

    `slots` is how many verifications may run at once, `free_probes` how many more now. With
    `agents_idle` there is no work for agents but what the answers about culprits may give them.
    """
    now = _Now(train=train, free=free_probes, slots=slots, agents_idle=agents_idle)
    if train.is_halted:
        return now.control(ANYWHERE) if free_probes > 0 else []
    if landing := _landing(train):
        return [landing]
    if decisions := [*_decisions(train)]:
        return decisions
    if merge := now.fill():
        return [merge]
    return [*_cancellations(train), *now.probes()]


def begun_landing(train: Train) -> Land | None:
    """The landing that was begun and is not recorded as done: the ref may have moved."""
    if (i := train.intent) is None:
        return None
    units = tuple(i.units)
    return Land(old=i.old or "", new=i.new, tree=i.tree, probe=i.probe, units=units)


def _landing(train: Train) -> Land | None:
    if train.intent is not None:
        return begun_landing(train)
    line = train.landing
    if line.passed is None:
        return None
    length, passed = line.passed
    top, units = line.stack[length - 1], units_of(line.stack[:length])
    return Land(old=train.green, new=top.commit, tree=top.tree, probe=passed.probe, units=units)


def _decisions(train: Train) -> Iterator[Decide]:
    for line in train.lines:
        if (culprit := line.culprit) and line.red and not train.is_suspicious:
            yield Decide(event=_set_aside(line.number, culprit, line.red[1]))
    for aside in train.aside.values():
        answer = train.inquire(aside)
        if isinstance(answer, Found):
            yield Decide(event=answer.event)


def _cancellations(train: Train) -> list[CancelProbe]:
    """End the probes that can no longer matter."""
    probes = train.probes.values()
    return [CancelProbe(number=p.number) for p in probes if _is_useless(train, p)]


def _is_useless(train: Train, probe: Probe) -> bool:
    if probe.kind in {ProbeKind.STACK, ProbeKind.SCREEN}:
        for line in train.lines:
            if length := line.length_at(probe.commit):
                return line.red is not None and length >= line.red[0]
        return True
    if probe.kind in {ProbeKind.CONTROL, ProbeKind.BASE, ProbeKind.REPAIR}:
        return False
    return not any(probe.commit in aside.trees for aside in train.aside.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Now:
    """The train, and the verifications that it may start at this moment."""

    train: Train
    free: int
    slots: int
    agents_idle: bool

    # -- merging ------------------------------------------------------------------------------

    def fill(self) -> Merge | None:
        """The next candidate to merge, for the landing line or one that screens."""
        return self._fill_landing() or (self._fill_screen() if self.is_screening else None)

    @property
    def is_screening(self) -> bool:
        """Whether there is more of which nothing is known than one line is good for."""
        if self.slots < SCREENING_PROBES:
            return False
        being_filled = sum(len(line.stack) for line in self.train.unprobed())
        return being_filled + self.train.n_unknown > self.train.batch

    @property
    def _batch(self) -> int:
        """How many of which nothing is known the landing line takes."""
        n_probes = 1 if self.slots >= SCREENING_PROBES else self.slots
        return batch_length(self.train.culprit_rate, n_probes)

    def _fill_landing(self) -> Merge | None:
        """Stack one more while the line is not known red and its unknown part is short enough."""
        train, line = self.train, self.train.landing
        if line.red is not None or (line.stack and line.stack[-1].candidate.apart):
            return None
        if self.is_screening and (self._free_to_land < 1 or len(line.stack) >= self._union):
            return None
        behind = line.stack[max(line.in_flight(train.probes.values()), default=0) :]
        full = sum(train.is_unknown(s.candidate) for s in behind) >= self._batch
        for candidate in train.waiting():
            if not train.fits(candidate, line):
                continue
            if train.is_unknown(candidate) and (full or self.is_screening):
                return None  # cleared ones come first in the queue
            if candidate.apart and line.stack:
                return None
            return Merge(candidate=candidate, onto=line.tip, line=LANDING)
        return None

    def _fill_screen(self) -> Merge | None:
        """Share what is unknown among the lines that can be probed now."""
        train, being_filled = self.train, self.train.unprobed()
        searching = sum(len(self._screen_lengths(line, 1)) for line in train.screening.values())
        n_lines = self.free - len(self._landing_lengths(self.free)) - searching + len(being_filled)
        if not train.n_unknown or n_lines < 1:
            return None
        n_unknown = train.n_unknown + sum(len(line.stack) for line in being_filled)
        share = min(train.batch, -(-n_unknown // n_lines))
        for line in being_filled:
            if len(line.stack) < share:
                for candidate in train.unknown():
                    if train.fits(candidate, line):
                        return Merge(candidate=candidate, onto=line.tip, line=line.number)
        if len(being_filled) < n_lines:
            first = next(train.unknown())
            return Merge(candidate=first, onto=train.green, line=train.n_lines + 1)
        return None

    # -- verifying ----------------------------------------------------------------------------

    def probes(self) -> list[Step]:
        """The verifications to start; or the merge that the first of them needs."""
        train, steps = self.train, list[Step]()
        for line in train.lines if train.is_suspicious and self.free > 0 else ():
            if line.culprit and line.red and not steps:
                steps += self.control(line.red[1].place)
        steps += self._questions(self.free - len(steps), urgent=True)
        for length in self._landing_lengths(self.free - len(steps)):
            steps.append(_probe_of(train.landing, length, ProbeKind.STACK))
        for line in train.screening.values():
            for length in self._screen_lengths(line, self.free - len(steps)):
                steps.append(_probe_of(line, length, ProbeKind.SCREEN))
        steps += self._questions(self.free - len(steps), urgent=False)
        merges = [step for step in steps if isinstance(step, Merge)]
        return [merges[0]] if merges else [*_with_one_control(steps)]

    def _landing_lengths(self, free: int) -> list[int]:
        line, train = self.train.landing, self.train
        if self.is_screening:
            free = min(free, self._free_to_land)
        n_unknown = sum(train.is_unknown(s.candidate) for s in line.stack)
        rate = train.culprit_rate if n_unknown else train.clash_rate
        in_flight = line.in_flight(train.probes.values())
        # Several at once find out more, and cost more: only where work waits for it.
        spread = n_unknown >= self._batch if n_unknown else len(line.stack) >= self._union
        return line.wanted(in_flight, free, rate, spread=spread)

    @property
    def _probes_to_land(self) -> int:
        """How many probes land while the others screen: so many that they keep up with these."""
        train = self.train
        screened = landed_per_run(train.culprit_rate)
        return next(
            n
            for n in range(1, self.slots)
            if n == self.slots - 1
            or landed_per_run(train.clash_rate, n) >= screened * (self.slots - n)
        )

    @property
    def _free_to_land(self) -> int:
        in_flight = len(self.train.landing.in_flight(self.train.probes.values()))
        return min(self.free, self._probes_to_land - in_flight)

    @property
    def _union(self) -> int:
        """How many cleared ones the landing line takes."""
        n_probes = self._probes_to_land if self.slots >= SCREENING_PROBES else 1
        return batch_length(self.train.clash_rate, n_probes, most=MAX_UNION)

    def _screen_lengths(self, line: Line, free: int) -> list[int]:
        in_flight = line.in_flight(self.train.probes.values())
        if in_flight or free < 1:
            return []
        return line.wanted(in_flight, 1, self.train.culprit_rate)

    # -- asking -------------------------------------------------------------------------------

    def control(self, place: str) -> list[ProbeTree]:
        """Whether `green` itself passes in a place; nothing while that is being asked."""
        train, kind = self.train, ProbeKind.CONTROL
        if any(p.kind == kind for p in train.probes.values()):
            return []
        green = train.green
        return [ProbeTree(kind=kind, commit=green, tree="", below=green, place=place)]

    def _questions(self, free: int, *, urgent: bool) -> list[Step]:
        """Steps that find out whose fault it is; urgent are those about what most waits for."""
        steps: list[Step] = []
        most = self.train.greatest_weight() if self.train.aside else 0.0
        for aside in self.train.aside.values():
            if len(steps) >= free:
                break
            step = self._question(aside)
            if step is not None and self._is_urgent(aside, step, most) == urgent:
                steps.append(step)
        return steps

    def _is_urgent(self, aside: Aside, step: Step, most: float) -> bool:
        """Whether more waits for the answer than for any landing, or at least all the agents do.

        A landing that is waited for no less is as good as a control.
        """
        kind = step.kind if isinstance(step, ProbeTree) else None
        if kind == ProbeKind.PARTNER:
            return False
        weight = aside.candidate.weight
        ties = self.agents_idle and kind != ProbeKind.CONTROL
        return weight > most or (ties and weight == most)

    def _question(self, aside: Aside) -> Step | None:
        if any(probe.commit in aside.trees for probe in self.train.probes.values()):
            return None
        if not self.train.is_trusted(aside.red):
            return next(iter(self.control(aside.red.place)), None)
        match self.train.inquire(aside):
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
        return _probe_aside(trial.stacked, kind, self.train.history.below(onto))


def _probe_of(line: Line, length: int, kind: ProbeKind) -> ProbeTree:
    top, units = line.stack[length - 1], units_of(line.stack[:length])
    return ProbeTree(kind=kind, commit=top.commit, tree=top.tree, units=units, below=line.below)


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


def _set_aside(line: int, culprit: Stacked, red: ProbeEnded) -> CulpritSetAside:
    return CulpritSetAside(
        unit=culprit.candidate.unit,
        attempt=culprit.candidate.attempt,
        commit=culprit.commit,
        tree=culprit.tree,
        probe=red.probe,
        line=line,
    )
