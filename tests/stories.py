"""A mission told event by event, for tests of what is decided next: no process, no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flows.decisions import (
    Circumstances,
    StartAttempt,
    decide,
    next_wake,
)
from flows.landing.repair import REPAIR
from flows.landing.steps import Decide
from flows.ledger.events import (
    AttemptEnded,
    AttemptStarted,
    CandidateEjected,
    CandidateStacked,
    CulpritSetAside,
    Event,
    Landed,
    LandingIntended,
    MissionStarted,
    Outcome,
    PlanMade,
    ProbeEnded,
    ProbeStarted,
    RoundEnded,
    RoundJudged,
    RoundStarted,
    UnitEnded,
)
from flows.ledger.log import Record
from flows.ledger.state import MissionState
from flows.planning.plan import Unit, UnitId, unit_to_dict
from flows.settings import MissionSettings

BASE, TREE = "base", "tree-of-base"
START = 1_000_000.0

SETTINGS: dict[str, Any] = {
    "name": "m",
    "repository": {"url": "/target"},
    "verify": {"command": "true"},
    "plan": {"planner": "file", "file": "/plan.toml"},
    "limits": {"max_attempts": 2, "max_conflicts": 1, "max_faults": 2},
}


def settings(**tables: Mapping[str, Any]) -> MissionSettings:
    """The settings of a story; tables are merged into what is usual."""
    merged = {**SETTINGS, **{k: {**SETTINGS.get(k, {}), **v} for k, v in tables.items()}}
    return MissionSettings.model_validate(merged)


@dataclass
class Story:
    """A ledger in the making; `at` is the time of what is told next."""

    events: list[Record] = field(default_factory=list)
    at: float = START
    settings: MissionSettings = field(default_factory=settings)
    state: MissionState = field(default_factory=MissionState)
    slots: Mapping[str, int] = field(default_factory=lambda: {"local": 4})
    planning: bool = False

    def tell(self, *events: Event) -> Story:
        """Record what happened, all at the same time."""
        for event in events:
            self.events.append(Record(len(self.events) + 1, self.at, event))
            self.state.apply(self.events[-1])
        return self

    def decide(self, **changes: Any) -> list[Any]:
        """What is to be done now."""
        return [*decide(self.state, self.settings, replace(self.around, **changes))]

    @property
    def around(self) -> Circumstances:
        """What the driver knows besides the ledger."""
        return Circumstances(now=self.at, slots=self.slots, start_tree=TREE, planning=self.planning)

    def wake(self) -> float | None:
        """When something becomes due."""
        return next_wake(self.state, self.settings, self.around)

    def judged(self) -> Story:
        """Tell that the round, in which nothing is left to do, ended and was judged."""
        for kind in (RoundEnded, RoundJudged):
            (action,) = self.decide()
            assert isinstance(action.event, kind)
            self.tell(action.event)
        return self

    def starts(self) -> list[str]:
        """The units that are to be started."""
        return [a.unit for a in self.decide() if isinstance(a, StartAttempt)]

    def attempt(self, unit: str, outcome: Outcome | None = None, **values: Any) -> Story:
        """Tell of an attempt at a unit, ended when there is an outcome."""
        number = self.state.units[unit].tries + 1
        place, slot = ("other", 0) if values.pop("elsewhere", None) else ("local", number)
        self.tell(
            AttemptStarted(
                unit=unit, attempt=number, base=BASE, agent="default", place=place, slot=slot
            )
        )
        if outcome is not None:
            self.tell(AttemptEnded(unit=unit, attempt=number, outcome=outcome.value, **values))
        return self

    def collected(self, unit: str, *files: str) -> Story:
        """Tell of an attempt whose work was collected."""
        return self.attempt(unit, Outcome.COLLECTED, head=f"head-{unit}", tree="t", files=files)

    def landed(self, unit: str) -> Story:
        """Tell that a collected unit was stacked, probed and landed."""
        state = self.state
        green, number = state.green or BASE, state.n_probes + 1
        new, tree, attempt = f"{green}+{unit}", f"tree-{unit}", state.units[unit].tries
        what: dict[str, Any] = {"new": new, "tree": tree, "probe": number, "units": (unit,)}
        return self.tell(
            CandidateStacked(unit=unit, attempt=attempt, onto=green, commit=new, tree=tree),
            ProbeStarted(probe=number, kind="stack", commit=new, tree=tree, units=(unit,)),
            ProbeEnded(probe=number, verdict="passed"),
            LandingIntended(old=green, **what),
            Landed(old=green, **what),
            UnitEnded(unit=unit, status="landed"),
        )

    def stacked(self, unit: str, attempt: int = 0) -> str:
        """Tell that a collected unit was merged on top of green; returns the commit."""
        onto = self.state.green or BASE
        number = attempt or self.state.units[unit].tries
        commit = f"{onto}+{unit}.{number}"
        self.tell(
            CandidateStacked(unit=unit, attempt=number, onto=onto, commit=commit, tree=commit)
        )
        return commit

    def probed(self, kind: str, commit: str, verdict: str, **values: Any) -> Story:
        """Tell of a probe that ended so."""
        number = self.state.n_probes + 1
        return self.tell(
            ProbeStarted(probe=number, kind=kind, commit=commit, tree=commit),
            ProbeEnded(probe=number, verdict=verdict, **values),
        )

    def rejected(self, unit: str) -> Story:
        """Tell that a collected unit was stacked, red, and found to be at fault."""
        attempt, commit = self.state.units[unit].tries, self.stacked(unit)
        self.probed("stack", commit, "red")
        probe = self.state.n_probes
        which: dict[str, Any] = {"unit": unit, "attempt": attempt, "probe": probe}
        aside = CulpritSetAside(commit=commit, tree=commit, **which)
        return self.tell(aside, CandidateEjected(reason="red", **which))

    def mended(self, name: str, verdict: str = "passed", **values: Any) -> Story:
        """Tell that a fix-up agent made something, and what its probe said."""
        self.collected(name)
        commit, onto = f"made-by-{name}", self.state.green or BASE
        made = CandidateStacked(
            unit=name, attempt=1, onto=onto, commit=commit, tree=commit, line=REPAIR
        )
        return self.tell(made).probed("repair", commit, verdict, **values)

    def settle(self) -> list[Any]:
        """Record all decisions that need nothing but the ledger; returns what is left to do."""
        while decisions := [a for a in self.decide() if isinstance(a, Decide)]:
            self.tell(*(decision.event for decision in decisions))
        return self.decide()


def begun(**changes: Any) -> Story:
    """A mission that has started and nothing else."""
    story = Story(**changes)
    started = MissionStarted(
        mission="m",
        name="m",
        objective="",
        repository="/target",
        base_branch="main",
        base=BASE,
        green_branch="mission/green",
        start=BASE,
        settings=story.settings.model_dump(mode="json", by_alias=True),
        version="0",
    )
    return story.tell(started)


def green(**changes: Any) -> Story:
    """A mission whose base has passed and landed."""
    what: dict[str, Any] = {"new": BASE, "tree": TREE, "probe": 1}
    return begun(**changes).tell(
        ProbeStarted(probe=1, kind="base", commit=BASE, tree=TREE),
        ProbeEnded(probe=1, verdict="passed"),
        LandingIntended(old=None, **what),
        Landed(old=None, **what),
    )


def planned(*units: Unit, **changes: Any) -> Story:
    """A mission with a plan."""
    dicts = [unit_to_dict(unit) for unit in units]
    return green(**changes).tell(
        RoundStarted(round=1, green=BASE), PlanMade(round=1, planner="file", units=dicts)
    )


def unit(name: str, *depends_on: str, **values: Any) -> Unit:
    """A unit that needs others."""
    needs = tuple(UnitId(d) for d in depends_on)
    return Unit(id=UnitId(name), title=name, depends_on=needs, **values)
