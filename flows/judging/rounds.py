"""What a round needs besides its units: questions to agents, a judgement, a plan made anew.

Pure functions of the mission's state, as those of `flows.decisions`, which asks them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from flows.judging.evaluation import Judgement, is_met
from flows.judging.signals import Signals, is_standstill, score, values_of
from flows.ledger.events import (
    AskStarted,
    ProbeEnded,
    Purpose,
    ReplanWanted,
    RoundJudged,
    StopReason,
    Trigger,
)
from flows.ledger.state import SATISFIED, MissionState, Status, UnitState
from flows.settings import MissionSettings

CAUSE_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AskAgent:
    """Ask an agent something, in this slot of this place; `node` is the part of a plan."""

    purpose: Purpose
    agent: str
    place: str
    slot: int
    node: str = ""


# -- questions --------------------------------------------------------------------------------


def questions(
    state: MissionState,
    settings: MissionSettings,
    *,
    places: Sequence[str],
    limited: Mapping[str, float],
    now: float,
) -> Iterator[AskAgent]:
    """Yield what agents can be asked now; `limited` are those out of quota, and until when."""
    agent, purpose, nodes = _wanted(state, settings)
    if not nodes or max(limited.get(agent, 0.0), state.inquiry.not_before) > now:
        return
    under_way = [*state.inquiry.asks.values()]
    free = _free(places, under_way, settings.plan.slots)
    for node, (place, slot) in zip(nodes, free, strict=False):
        yield AskAgent(purpose=purpose, agent=agent, place=place, slot=slot, node=node)


def waiting_agent(state: MissionState, settings: MissionSettings) -> str:
    """The agent that there is a question for; empty without one."""
    agent, _, nodes = _wanted(state, settings)
    return agent if nodes else ""


def _wanted(state: MissionState, settings: MissionSettings) -> tuple[str, Purpose, Sequence[str]]:
    """Who is to be asked for what, and the parts of the plan that nobody was asked for yet."""
    inquiry, tree = state.inquiry, state.inquiry.tree
    if state.round_open:
        nodes = [] if tree is None or state.planned else [q.path for q in tree.questions()]
        return settings.plan.agent, Purpose.PLAN, nodes
    wants_judgement = (
        bool(settings.evaluate.agent)
        and state.round > 0
        and not (inquiry.is_judged(state.round) or inquiry.is_answered or inquiry.asks)
    )
    return settings.evaluate.agent, Purpose.EVALUATE, [""] if wants_judgement else []


def _free(
    places: Sequence[str], asks: Iterable[AskStarted], slots: int
) -> Iterator[tuple[str, int]]:
    """Free (place, slot) pairs, `slots` over all places, those of each place from 0."""
    taken = {(ask.place, ask.slot) for ask in asks}
    pairs = ((place, slot) for slot in range(slots) for place in places)
    room = slots - len(taken)
    for number, pair in enumerate(pair for pair in pairs if pair not in taken):
        if number >= room:
            return
        yield pair


# -- a plan made anew -------------------------------------------------------------------------


def replan(state: MissionState, settings: MissionSettings) -> ReplanWanted | None:
    """Whether what is left of the round is planned anew, and why; by agents' plans only."""
    number = state.inquiry.replan + 1
    if state.inquiry.tree is None or number > settings.limits.max_replans:
        return None
    failed = [u for u in _current(state) if u.status == Status.FAILED]
    if not failed:
        return None
    is_blocked = any(unit.says_blocked for unit in failed)
    return ReplanWanted(
        round=state.round,
        replan=number,
        trigger=Trigger.AGENT_BLOCKED if is_blocked else Trigger.UNITS_FAILED,
        units=[unit.unit.id for unit in failed],
    )


def remaining(state: MissionState) -> tuple[str, ...]:
    """What is still to be done, by the last word on it and by what did not land since."""
    units = [u for u in state.planned_units if u.round == state.round]
    return (*_not_landed(units), *state.inquiry.remains)


def _not_landed(units: Iterable[UnitState]) -> Iterator[str]:
    for unit in units:
        if unit.status not in SATISFIED:
            why = unit.cause.strip()[:CAUSE_CHARACTERS]
            yield f"{unit.unit.title} (unit {unit.unit.id} {unit.status.value}: {why})"


# -- the judgement ----------------------------------------------------------------------------


def judge(state: MissionState, settings: MissionSettings) -> RoundJudged:
    """Judge the round that ended: what was measured, and an agent's word beside it."""
    judgement, units = state.inquiry.judgement, _current(state)
    first = _signals(state.first_figures, (), None)
    now = _signals(state.green_figures, units, judgement, known=first.findings)
    is_all = all(unit.status in SATISFIED for unit in units)
    if settings.plan.planner == "file":
        met = is_all
    elif settings.evaluate.agent:
        met = is_met(are_units_satisfied=is_all, judgement=judgement)
    else:
        met = not units and _was_all_done(state)
    said = judgement.remains if judgement else ()
    return RoundJudged(
        round=state.round,
        met=met,
        score=score(now, first),
        signals=values_of(now, first),
        findings=dict(now.findings),
        judged=judgement.score if judgement else None,
        remains=tuple(dict.fromkeys((*said, *_not_landed(units)))),
        summary=judgement.summary if judgement else "",
    )


def why_end(state: MissionState, settings: MissionSettings) -> StopReason | None:
    """Why no other round follows the one that was judged last."""
    judged, limits = state.inquiry.judged, settings.limits
    if judged[-1].met:
        return StopReason.OBJECTIVE_MET
    if settings.plan.planner == "file" or not _current(state):
        return StopReason.NOTHING_LEFT
    scores = [_scores(each) for each in judged]
    if is_standstill(scores, window=limits.stall_window, epsilon=limits.stall_epsilon):
        return StopReason.NO_PROGRESS
    return StopReason.MAX_ROUNDS if state.round >= limits.max_rounds else None


def _scores(judged: RoundJudged) -> dict[str, float]:
    scores = {"signals": judged.score, "judged": judged.judged}
    return {name: score for name, score in scores.items() if score is not None}


def _current(state: MissionState) -> list[UnitState]:
    """The units of the plan that counts: the round's last one."""
    number, replan_number = state.round, state.inquiry.replan
    units = (u for u in state.planned_units if not u.reverts)
    return [u for u in units if (u.round, u.replan) == (number, replan_number)]


def _was_all_done(state: MissionState) -> bool:
    """Whether all is satisfied that the last plan with units wanted."""
    plans = [(u.round, u.replan) for u in state.planned_units if not u.reverts]
    last = max(plans, default=None)
    units = (u for u in state.planned_units if (u.round, u.replan) == last)
    return all(unit.status in SATISFIED for unit in units)


def _signals(
    figures: ProbeEnded | None,
    units: Sequence[UnitState],
    judgement: Judgement | None,
    known: Iterable[str] = (),
) -> Signals:
    """What was measured; kinds of findings that are `known` and not seen any more are none."""
    tests = figures.tests if figures else {}
    return Signals(
        n_planned=len(units),
        n_satisfied=sum(unit.status in SATISFIED for unit in units),
        tests_passed=tests.get("passed", 0),
        tests_failed=tests.get("failed", 0) + tests.get("errors", 0),
        tests_skipped=tests.get("skipped", 0),
        findings={**dict.fromkeys(known, 0), **figures.findings} if figures else {},
        coverage=figures.coverage if figures else None,
        n_remaining=len(judgement.remains) if judgement else None,
    )


def figures_in_words(state: MissionState) -> dict[str, str]:
    """What was measured of `green`, for agents that plan or judge."""
    figures = state.green_figures
    if figures is None:
        return {}
    tests = ", ".join(f"{n} {name}" for name, n in figures.tests.items() if n)
    findings = ", ".join(f"{n} {kind}" for kind, n in figures.findings.items())
    coverage = "" if figures.coverage is None else f"{figures.coverage:.1%}"
    told = {"tests": tests, "findings": findings, "coverage": coverage}
    return {name: text for name, text in told.items() if text}
