"""What can happen in a mission: one record type per stated thing.

An event is written before or after an effect, never instead of one: *intent* (`attempt.started`,
`probe.started`, `landing.intended`), then the effect, then *confirmation* (`attempt.ended`,
`probe.ended`, `landed`). Fields hold plain JSON values, so that reading a ledger is `json.loads`
and a constructor. New fields get a default; old ledgers stay readable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar


class Outcome(StrEnum):
    """How an attempt at a unit ended."""

    COLLECTED = "collected"  # a commit is on its way to the train
    NO_CHANGE = "no change"  # nothing was changed; `proven` says whether its verification passes
    FAILED = "failed"  # the agent exited with an error and left nothing usable
    TIMED_OUT = "timed out"
    REFUSED = "refused"  # write set, protected path or unit verification
    REJECTED = "rejected"  # the train found it red twice
    CONFLICTED = "conflicted"  # does not merge with what landed meanwhile; costs no attempt
    INFRASTRUCTURE = "infrastructure"  # ours or the machine's fault; costs no attempt
    RATE_LIMITED = "rate limited"  # the agent's account is out of quota; costs no attempt
    STOPPED = "stopped"  # a person stopped the mission; costs no attempt


class StopReason(StrEnum):
    """Why a mission ended; a closed set."""

    OBJECTIVE_MET = "objective met"
    NOTHING_LEFT = "nothing left to do"
    NO_PROGRESS = "no progress"
    MAX_ROUNDS = "max rounds"
    BUDGET = "budget spent"
    DEADLINE = "deadline passed"
    STOPPED = "stopped"
    FAILURES_IN_A_ROW = "failures in a row"
    INFRASTRUCTURE = "infrastructure"
    RED_BASE = "red base"
    RED_GREEN = "red green"
    BASE_CONFLICT = "base conflict"
    REJECTED = "rejected"  # a person looked at the first units, and did not want more


class Purpose(StrEnum):
    """What an agent is asked that gives an answer instead of work."""

    PLAN = "plan"
    EVALUATE = "evaluate"


class AskOutcome(StrEnum):
    """How a question to an agent ended."""

    ANSWERED = "answered"
    UNUSABLE = "unusable"  # an answer that cannot be read, or none
    TIMED_OUT = "timed out"
    INFRASTRUCTURE = "infrastructure"
    RATE_LIMITED = "rate limited"
    STOPPED = "stopped"


class Trigger(StrEnum):
    """Why a round's plan is made anew; a closed set."""

    UNITS_FAILED = "units failed"
    AGENT_BLOCKED = "agent blocked"  # it says that its unit cannot be done as it was planned


class ProbeKind(StrEnum):
    """What a probe is asked about."""

    BASE = "base"  # the tree that the mission starts from
    STACK = "stack"  # a prefix of the train's stack
    CONFIRM = "confirm"  # a set-aside culprit's own red tree, once more
    CONTROL = "control"  # green itself, where something was red
    SCREEN = "screen"  # a prefix of a line that is only screened
    ALONE = "alone"  # a culprit on the base that it was made from
    PARTNER = "partner"  # a culprit on an earlier green, to find which unit it clashes with
    REPAIR = "repair"  # what a fix-up agent made of refused work, by itself on green


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Anything that is recorded; `type` is its name in the ledger."""

    type: ClassVar[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MissionStarted(Event):
    """A mission begins: settings are frozen here."""

    type: ClassVar[str] = "mission.started"
    mission: str
    name: str
    objective: str
    repository: str
    base_branch: str
    base: str
    green_branch: str
    start: str
    settings: Mapping[str, Any]
    version: str
    restarted_green: bool = False
    reverts: Sequence[str] = ()  # units to be taken out; then nothing else is planned


@dataclass(frozen=True, slots=True, kw_only=True)
class MissionResumed(Event):
    """Another driver goes on; `settings` replaces what a resume may change."""

    type: ClassVar[str] = "mission.resumed"
    pid: int
    settings: Mapping[str, Any]
    changed: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MissionInterrupted(Event):
    """A driver ended in an orderly way and can be resumed."""

    type: ClassVar[str] = "mission.interrupted"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MissionFinished(Event):
    """The mission ended; `counts` has units by final status."""

    type: ClassVar[str] = "mission.finished"
    stop_reason: str
    exit_code: int
    green: str | None
    counts: Mapping[str, int]
    seconds: float
    cost_usd: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundStarted(Event):
    """A round begins from `green`."""

    type: ClassVar[str] = "round.started"
    round: int
    green: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMade(Event):
    """The round's units, in plan order; `notes` are what the planner says to people."""

    type: ClassVar[str] = "plan.made"
    round: int
    planner: str
    units: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()
    seconds: float = 0.0
    replan: int = 0
    nodes: Sequence[Mapping[str, Any]] = ()  # of an agent's plan: the tree, in pre-order


@dataclass(frozen=True, slots=True, kw_only=True)
class AskStarted(Event):
    """An agent is about to be asked something about `green`; `node` is the part of the plan."""

    type: ClassVar[str] = "ask.started"
    ask: int
    purpose: str
    round: int
    agent: str
    place: str
    slot: int
    green: str
    node: str = ""
    replan: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AskEnded(Event):
    """What came of a question: `answer` as it was understood, or the `problem` with it."""

    type: ClassVar[str] = "ask.ended"
    ask: int
    outcome: str
    answer: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    exit_code: int | None = None
    agent_seconds: float = 0.0
    cpu_seconds: float = 0.0
    cost_usd: float | None = None
    session: str = ""
    turns: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    limited_until: float | None = None
    task_run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundJudged(Event):
    """How far the objective is reached after a round: measured, and by an agent's word beside it.

    `score` and `judged` are in [0, 1]; None is no answer. `findings` are counts by kind.
    """

    type: ClassVar[str] = "round.judged"
    round: int
    met: bool
    score: float | None
    signals: Mapping[str, float]
    findings: Mapping[str, int] = field(default_factory=dict)
    judged: float | None = None
    remains: Sequence[str] = ()
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplanWanted(Event):
    """The round's plan did not hold: the rest is planned anew, for the `replan`th time."""

    type: ClassVar[str] = "replan.wanted"
    round: int
    replan: int
    trigger: str
    units: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRequested(Event):
    """A person is asked; until there is an answer, what waits for it stays where it is."""

    type: ClassVar[str] = "review.requested"
    review: str
    about: str
    units: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewAnswered(Event):
    """A person answered: `approved` or `rejected`."""

    type: ClassVar[str] = "review.answered"
    review: str
    answer: str
    by: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEnded(Event):
    """A round is over: all its units have ended and the train is empty."""

    type: ClassVar[str] = "round.ended"
    round: int
    landed: int
    not_landed: int
    green: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Event):
    """An agent is about to work on a unit from `base`."""

    type: ClassVar[str] = "attempt.started"
    unit: str
    attempt: int
    base: str
    agent: str
    place: str
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(Event):
    """An attempt is over; `head` is durable under its ref when there is one."""

    type: ClassVar[str] = "attempt.ended"
    unit: str
    attempt: int
    outcome: str
    head: str | None = None
    tree: str | None = None
    files: Sequence[str] = ()
    detail: str = ""
    proven: bool = False
    exit_code: int | None = None
    agent_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    output_bytes: int = 0
    prepare_seconds: float = 0.0
    collect_seconds: float = 0.0
    cost_usd: float | None = None
    task_run_id: str | None = None
    agent_ended_at: float | None = None
    report: Mapping[str, Any] = field(default_factory=dict)
    review: str = ""  # of another agent: `accepted`, `refused` or `no answer`
    session: str = ""
    turns: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    limited_until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitEnded(Event):
    """A unit will not be tried again: `landed`, `no change`, `failed` or `blocked`."""

    type: ClassVar[str] = "unit.ended"
    unit: str
    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateStacked(Event):
    """A candidate was merged on top of `onto`, as `commit` with `tree`.

    `line` 0 is the one that lands, others only screen, -1 is a trial of a culprit, -2 a repair.
    """

    type: ClassVar[str] = "candidate.stacked"
    unit: str
    attempt: int
    onto: str
    commit: str
    tree: str
    line: int = 0
    changed_lines: int | None = None  # of repairs, which are compared by it


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateConflicted(Event):
    """A candidate does not merge on top of `onto`; on `green` itself this ejects it."""

    type: ClassVar[str] = "candidate.conflicted"
    unit: str
    attempt: int
    onto: str
    files: Sequence[str]
    detail: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateEmpty(Event):
    """Merged on top of `onto`, a candidate changes nothing: what it does is there already."""

    type: ClassVar[str] = "candidate.empty"
    unit: str
    attempt: int
    onto: str
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CulpritSetAside(Event):
    """The first red prefix ends with this candidate; the train goes on without it."""

    type: ClassVar[str] = "culprit.set_aside"
    unit: str
    attempt: int
    commit: str
    tree: str
    probe: int
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CulpritCleared(Event):
    """A culprit of a screening line passes alone: it goes on as if it had been cleared there."""

    type: ClassVar[str] = "culprit.cleared"
    unit: str
    attempt: int
    probe: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateEjected(Event):
    """A candidate was red twice, and nothing but itself is to blame."""

    type: ClassVar[str] = "candidate.ejected"
    unit: str
    attempt: int
    probe: int
    reason: str
    failing: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateClashed(Event):
    """A candidate is good alone and red with `partner`, which landed first; costs no attempt."""

    type: ClassVar[str] = "candidate.clashed"
    unit: str
    attempt: int
    partner: str
    probe: int
    reason: str
    failing: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseMoved(Event):
    """Somebody pushed to the base branch; `commit` is to be merged."""

    type: ClassVar[str] = "base.moved"
    branch: str
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRefused(Event):
    """What was pushed to the base branch is red with what landed, twice; it is left out."""

    type: ClassVar[str] = "base.refused"
    commit: str
    probe: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairStarted(Event):
    """Fix-up agents start on refused work, each by itself: `head`, which was made from `base`.

    `candidates` are the names of their attempts; they begin with the name of the unit.
    """

    type: ClassVar[str] = "repair.started"
    unit: str
    repair: int
    head: str
    base: str
    reason: str
    candidates: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairEnded(Event):
    """The best of the repairs goes on as `attempt` of the unit; none when `winner` is empty."""

    type: ClassVar[str] = "repair.ended"
    unit: str
    repair: int
    winner: str = ""
    attempt: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertRequested(Event):
    """A person wants a landed unit taken out again."""

    type: ClassVar[str] = "revert.requested"
    unit: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertMade(Event):
    """The change that takes `commit` out again is a candidate, as `revert`; or `reason` why not."""

    type: ClassVar[str] = "revert.made"
    unit: str
    revert: str = ""
    commit: str = ""
    head: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlakeSeen(Event):
    """The same tree was red, then green: `failing` are the tests that flaked."""

    type: ClassVar[str] = "flake.seen"
    unit: str
    attempt: int
    tree: str
    red_probe: int
    green_probe: int
    failing: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeStarted(Event):
    """One exact tree is about to be verified; `units` are what it holds above green."""

    type: ClassVar[str] = "probe.started"
    probe: int
    kind: str
    commit: str
    tree: str
    units: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEnded(Event):
    """The verdict on a tree: `passed`, `red`, or `not a run` (which blames nobody)."""

    type: ClassVar[str] = "probe.ended"
    probe: int
    verdict: str
    reason: str = ""
    output: str = ""  # the end of what a red one printed
    failing: Sequence[str] = ()
    exit_code: int | None = None
    seconds: float = 0.0
    prepare_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    tests: Mapping[str, int] = field(default_factory=dict)
    findings: Mapping[str, int] = field(default_factory=dict)
    coverage: float | None = None
    reading: str | None = None
    log: str | None = None
    cached: bool = False
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingIntended(Event):
    """`green` is about to move from `old` to `new`, whose tree passed in `probe`."""

    type: ClassVar[str] = "landing.intended"
    old: str | None
    new: str
    tree: str
    probe: int
    units: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed(Event):
    """`green` is `new` now."""

    type: ClassVar[str] = "landed"
    old: str | None
    new: str
    tree: str
    probe: int
    units: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GreenAdopted(Event):
    """Another mission moved `green` on while this one rested; `new` is verified before all else."""

    type: ClassVar[str] = "green.adopted"
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered(Event):
    """The target repository's `branch` holds `commit`."""

    type: ClassVar[str] = "delivered"
    branch: str
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFailed(Event):
    """The target did not take `commit`; the mission goes on and tries again."""

    type: ClassVar[str] = "delivery.failed"
    branch: str
    commit: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested(Event):
    """A person asked the mission to stop; landed work is kept."""

    type: ClassVar[str] = "stop.requested"
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """Something a person should know that changes nothing by itself."""

    type: ClassVar[str] = "warning"
    text: str


def _all_types(root: type[Event]) -> dict[str, type[Event]]:
    return {child.type: child for child in root.__subclasses__()}


EVENT_TYPES: Mapping[str, type[Event]] = _all_types(Event)
"""Every event class by its name in the ledger."""
