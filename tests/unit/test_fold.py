"""A driver that reads the ledger decides what the one before it would have decided."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from flows.decisions import CancelAttempts, Circumstances, Finish, MakePlan, StartAttempt, decide
from flows.landing.steps import CancelProbe, Decide, Land, Merge, ProbeTree
from flows.ledger.events import (
    AttemptEnded,
    AttemptStarted,
    BaseMoved,
    CandidateConflicted,
    CandidateEmpty,
    CandidateStacked,
    Event,
    Landed,
    LandingIntended,
    MissionFinished,
    MissionResumed,
    Outcome,
    PlanMade,
    ProbeEnded,
    ProbeStarted,
    StopRequested,
    UnitEnded,
)
from flows.ledger.log import Record, _decode, encode
from flows.ledger.state import fold
from flows.planning.plan import UnitId, unit_to_dict
from tests.stories import TREE, Story, begun, settings, unit

N_STEPS = 100


class Tale(Story):
    """A mission in which everything comes by chance, also what contradicts itself."""

    luck: random.Random
    merge_rate: float
    read: list[Record]

    def told(self) -> list[Record]:
        """The ledger as it is read back."""
        new = self.events[len(self.read) :]
        self.read += (_decode(encode(record), record.seq) for record in new)
        return self.read

    def go_on(self) -> None:
        """What runs comes to an end, or somebody does something, or time passes."""
        state, luck = self.state, self.luck
        running = [u.unit.id for u in state.units.values() if u.status == "running"]
        choices: list[Callable[[], object]] = [self._pass_time]
        choices += [lambda: self._end_attempt(luck.choice(running))] * 4 * bool(running)
        choices += [lambda: self._end_probe(luck.choice([*state.probes]))] * 4 * bool(state.probes)
        choices += [self._meddle] * (luck.random() < 0.1)
        luck.choice(choices)()

    def _pass_time(self) -> None:
        self.at += self.luck.choice([1.0, 20.0, 400.0])

    def _meddle(self) -> None:
        number = len(self.events)
        resumed = MissionResumed(pid=number, settings=self.state.settings)
        moved = BaseMoved(branch="main", commit=f"base-{number}")
        self.tell(self.luck.choice([resumed, moved, StopRequested(by="x")]))

    def _end_attempt(self, name: str) -> None:
        attempt, luck = self.state.units[name].tries, self.luck
        outcome = luck.choice([Outcome.COLLECTED] * 9 + [*Outcome])
        head = f"{name}-{attempt}" if outcome == Outcome.COLLECTED else None
        ended = AttemptEnded(
            unit=name,
            attempt=attempt,
            outcome=outcome.value,
            head=head,
            tree=luck.choice([head, None]),
            files=tuple(luck.sample("xyz", 2)),
            proven=luck.random() < 0.5,
            cost_usd=luck.choice([None, 0.1]),
        )
        self.tell(ended)

    def _end_probe(self, number: int) -> None:
        verdict = self.luck.choice(["passed"] * 6 + ["red"] * 4 + ["not a run", "cancelled"])
        ended = ProbeEnded(
            probe=number,
            verdict=verdict,
            failing=("tests.test_x::test_a",) if verdict == "red" else (),
            tests={"passed": self.luck.randint(1, 3)},
            reading=f"{number}.json",
            cached=self.luck.random() < 0.2,
            place="local",
        )
        self.tell(ended)

    def perform(self, action: Any) -> None:
        """Record what the driver would."""
        match action:
            case Decide():
                self.tell(action.event)
            case StartAttempt():
                self._start_attempt(action)
            case Merge():
                self.tell(self._merged(action))
            case ProbeTree():
                number, what = self.state.n_probes + 1, (action.kind.value, action.commit)
                tree, units = action.tree or f"tree-{action.commit}", action.units
                started = ProbeStarted(
                    probe=number, kind=what[0], commit=what[1], tree=tree, units=units
                )
                self.tell(started)
            case CancelProbe():
                self.tell(ProbeEnded(probe=action.number, verdict="cancelled"))
            case Land():
                self._land(action)
            case MakePlan():
                self.tell(PlanMade(round=action.round, planner="file", units=self._plan()))
            case CancelAttempts():
                self.go_on()
            case Finish():
                self._finish(action)

    def _finish(self, action: Finish) -> None:
        finished = MissionFinished(
            stop_reason=action.stop_reason.value,
            exit_code=action.exit_code,
            green=self.state.green,
            counts=self.state.counts,
            seconds=1.0,
        )
        self.tell(finished, MissionResumed(pid=1, settings=self.state.settings))

    def _start_attempt(self, action: StartAttempt) -> None:
        unit = self.state.units[action.unit]
        started = AttemptStarted(
            unit=action.unit,
            attempt=action.attempt,
            base=unit.base if unit.repair_of else self.state.green or "",
            agent="default",
            place=action.place,
            slot=action.slot,
        )
        self.tell(started)

    def _merged(self, action: Merge) -> Event:
        candidate, onto = action.candidate, action.onto
        what: Mapping[str, Any] = {
            "unit": candidate.unit,
            "attempt": candidate.attempt,
            "onto": onto,
            "line": action.line,
        }
        if self.luck.random() < self.merge_rate:
            new = f"{onto}+{candidate.unit}.{candidate.attempt}"
            return CandidateStacked(commit=new, tree=f"tree-{new}", changed_lines=3, **what)
        if self.luck.random() < 0.8:
            return CandidateConflicted(files=("x",), detail="both change x", **what)
        return CandidateEmpty(**what)

    def _land(self, action: Land) -> None:
        landing: Mapping[str, Any] = {
            "old": action.old or None,
            "new": action.new,
            "tree": action.tree,
            "probe": action.probe,
            "units": action.units,
        }
        self.tell(LandingIntended(**landing))
        if self.luck.random() < 0.1:  # the driver dies here
            return
        ended = (UnitEnded(unit=u, status="landed") for u in action.units if u != "@base")
        self.tell(Landed(**landing), *ended)

    def _plan(self) -> list[Mapping[str, Any]]:
        names = [f"u{i}" for i in range(self.luck.randint(1, 8))]
        return [
            unit_to_dict(
                unit(
                    name,
                    *(UnitId(d) for d in names[:i] if self.luck.random() < 0.15),
                    writes=self.luck.choice([None, None, ("x",)]),
                    may_remove_tests=self.luck.random() < 0.1,
                )
            )
            for i, name in enumerate(names)
        ]


@hypothesis_settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    probes=st.integers(1, 6),
    candidates=st.integers(0, 2),
    merge_rate=st.sampled_from([1.0, 0.9, 0.6]),
)
def test_whoever_folds_the_ledger_decides_the_same_at_every_record(
    seed: int, probes: int, candidates: int, merge_rate: float
) -> None:
    fixup = {"agent": "default" if candidates else "", "candidates": candidates or 1}
    limits = {"max_failures_in_a_row": 99, "max_faults": 9}
    tale = begun_tale(verify={"slots": probes}, fixup=fixup, limits=limits)
    tale.luck, tale.merge_rate, tale.read = random.Random(seed), merge_rate, []
    for _ in range(N_STEPS):
        around = Circumstances(now=tale.at, slots=tale.slots, start_tree=TREE)
        actions = [*decide(tale.state, tale.settings, around)]
        again = fold(tale.told())
        assert [*decide(again, tale.settings, around)] == actions
        assert [*decide(again, tale.settings, around)] == actions, "to ask changes nothing"
        for action in actions:
            tale.perform(action)
        if not actions:
            tale.go_on()


def begun_tale(**tables: Mapping[str, Any]) -> Tale:
    told = begun(settings=settings(**tables))
    tale = Tale(settings=told.settings)
    tale.tell(*(record.event for record in told.events))
    return tale
