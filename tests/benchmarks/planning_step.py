"""What it costs to decide once, when a mission has many units."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

from flows.decisions import Circumstances, StartAttempt, decide
from flows.landing.steps import Merge, ProbeTree
from flows.ledger.events import (
    AttemptEnded,
    AttemptStarted,
    CandidateStacked,
    Event,
    Landed,
    MissionStarted,
    Outcome,
    PlanMade,
    ProbeEnded,
    ProbeKind,
    ProbeStarted,
    RoundStarted,
)
from flows.ledger.log import Record
from flows.ledger.state import MissionState
from flows.planning.plan import Unit, UnitId, unit_to_dict
from flows.settings import MissionSettings

PLACE, START = "local", "start"
N_RUNNING = 8


class Planning:
    """A mission of `n_units` of which eight run, `n_landing` are with the train, and others wait.

    With `free_slots` there is room for more agents, with `writes` for units that may run.
    """

    def __init__(
        self,
        n_units: int,
        *,
        n_landing: int = 0,
        free_slots: int = 0,
        writes: tuple[str, ...] | None = None,
    ) -> None:
        self.state = MissionState()
        self.settings = _settings(N_RUNNING + free_slots)
        self.around = Circumstances(
            now=0.0, slots={PLACE: N_RUNNING + free_slots}, start_tree=START
        )
        names = [UnitId(f"u{i:04}") for i in range(n_units)]
        self._begin([Unit(id=name, title=name, writes=writes) for name in names])
        for i, name in enumerate(names[: N_RUNNING + n_landing]):
            self._attempt(name, slot=i, collected=i >= N_RUNNING)
        self._stack()

    def median_ms(self, n: int) -> float:
        """CPU time of deciding once, in ms: the median of `n`."""
        return median(self._decide_ms() for _ in range(n))

    def _decide_ms(self) -> float:
        began = time.process_time_ns()
        decide(self.state, self.settings, self.around)
        return (time.process_time_ns() - began) / 1e6

    def _record(self, *events: Event) -> None:
        for event in events:
            self.state.apply(Record(self.state.seq + 1, 0.0, event))

    def _begin(self, units: Sequence[Unit]) -> None:
        repository = self.settings.repository
        self._record(
            MissionStarted(
                mission="m",
                name="m",
                objective="",
                repository=repository.url,
                base_branch=repository.base,
                base=START,
                green_branch=repository.green,
                start=START,
                settings={},
                version="",
            ),
            ProbeStarted(probe=1, kind=ProbeKind.BASE.value, commit=START, tree=START),
            ProbeEnded(probe=1, verdict="passed"),
            Landed(old=None, new=START, tree=START, probe=1, units=()),
            RoundStarted(round=1, green=START),
            PlanMade(round=1, planner="file", units=[unit_to_dict(unit) for unit in units]),
        )

    def _attempt(self, unit: str, *, slot: int, collected: bool) -> None:
        self._record(
            AttemptStarted(
                unit=unit, attempt=1, base=START, agent="default", place=PLACE, slot=slot
            )
        )
        if collected:
            outcome = Outcome.COLLECTED.value
            self._record(AttemptEnded(unit=unit, attempt=1, outcome=outcome, head=unit, tree=unit))

    def _stack(self) -> None:
        """Let the train merge and probe until it waits for verdicts."""
        while steps := [
            action
            for action in decide(self.state, self.settings, self.around)
            if not isinstance(action, StartAttempt)
        ]:
            for step in steps:
                self._perform(step)

    def _perform(self, step: object) -> None:
        match step:
            case Merge(candidate=candidate, onto=onto, line=line):
                commit = f"c{self.state.seq}"
                self._record(
                    CandidateStacked(
                        unit=candidate.unit,
                        attempt=1,
                        onto=onto,
                        commit=commit,
                        tree=commit,
                        line=line,
                    )
                )
            case ProbeTree(kind=kind, commit=commit, tree=tree, units=units):
                number = self.state.n_probes + 1
                self._record(
                    ProbeStarted(
                        probe=number, kind=kind.value, commit=commit, tree=tree, units=units
                    )
                )
            case _:
                raise AssertionError(step)


def _settings(slots: int) -> MissionSettings:
    return MissionSettings.model_validate(
        {
            "name": "planning",
            "repository": {"url": "https://example.org/acme.git"},
            "verify": {"command": "true", "slots": 4},
            "plan": {"planner": "file", "file": "plan.toml"},
            "backend": {"slots": slots},
        }
    )
