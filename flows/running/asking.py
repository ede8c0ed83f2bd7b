"""Asking an agent something that it answers in words: to plan a part, to judge a round.

It runs as an agent at work does, in a workspace of its own that holds `green`, under a supervisor;
what it changes there is thrown away. A driver that comes back finds the job by its directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from blocks.errors import BackendUnreachable, CommandFailed, PlanInvalid
from blocks.places.place import Ending, JobResult
from flows.judging.evaluation import read_evaluation
from flows.judging.rounds import figures_in_words
from flows.ledger.events import AskEnded, AskOutcome, AskStarted, Purpose
from flows.ledger.state import SATISFIED, MissionState
from flows.planning.answers import read_plan_answer
from flows.planning.tree import Question
from flows.prompts.prompts import (
    MEMORY_CHARACTERS,
    EvaluatorPrompt,
    PlannerPrompt,
    Verification,
    render_evaluator,
    render_planner,
)
from flows.running.agents import Phase
from flows.running.bench import ASK_JOBS, LOG_TAIL_BYTES, Bench, describe
from flows.running.calling import (
    Call,
    call_agent,
    figures_of,
    is_out_of_quota,
    profile_of,
    report_of,
)
from flows.running.memory import Memory
from flows.running.outputs import AgentReport
from flows.running.telling import instructions_at
from flows.settings import Agent

ASKS = "asks"
"""The kind of their workspaces."""

PROBLEM_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is known where a question is asked; all lists have the newest first."""

    readings: Mapping[str, str] = field(default_factory=dict)
    remains: Sequence[str] = ()
    discoveries: Sequence[str] = ()
    landed: Sequence[str] = ()
    not_landed: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOrder:
    """What is asked; `question` is of the plan, and None for a judgement."""

    asked: AskStarted
    question: Question | None
    context: Context


def context_of(state: MissionState, remains: Sequence[str]) -> Context:
    """What a mission's state tells those who plan or judge."""
    units = [unit for unit in reversed(state.planned_units) if not unit.reverts]
    of_round = [unit for unit in units if unit.round == state.round]
    return Context(
        readings=figures_in_words(state),
        remains=tuple(remains),
        discoveries=tuple(reversed(state.discoveries)),
        landed=tuple(f"{u.unit.title} (unit {u.unit.id})" for u in units if u.status in SATISFIED),
        not_landed=tuple(
            f"{u.unit.title} (unit {u.unit.id}): {u.cause}"
            for u in of_round
            if u.status not in SATISFIED
        ),
    )


def run_ask(order: AskOrder, bench: Bench) -> AskEnded:
    """Ask, and read the answer; our own troubles become the outcome `infrastructure`."""
    try:
        ended = _run(order, bench)
    except (CommandFailed, BackendUnreachable, OSError) as error:
        ended = AskEnded(
            ask=order.asked.ask,
            outcome=AskOutcome.INFRASTRUCTURE.value,
            problem=str(error)[:PROBLEM_CHARACTERS],
        )
    ended = replace(ended, answer=bench.masked(ended.answer), problem=bench.masked(ended.problem))
    place = bench.places[order.asked.place]
    bench.let_go(bench.job_directory(place, ASK_JOBS, str(order.asked.ask)))
    if bench.is_stopping() and ended.outcome != AskOutcome.ANSWERED:
        return replace(ended, outcome=AskOutcome.STOPPED.value)  # what it cost was spent
    return ended


def _run(order: AskOrder, bench: Bench) -> AskEnded:
    asked = order.asked
    place = bench.places[asked.place]
    workspace = bench.workspace(place, ASKS, asked.slot)
    directory = bench.job_directory(place, ASK_JOBS, str(asked.ask))
    if bench.is_under_way(place, directory):
        result = bench.wait(place, directory)
    else:
        bench.provide(place, asked.green)
        bench.take(workspace, directory)
        workspace.reset(asked.green)
        result = call_agent(_call(order, bench), bench, workspace, directory)
    agent = bench.settings.agents.get(asked.agent) or Agent()
    report = report_of(profile_of(agent), place, directory, result)
    outcome, answer, problem = _judge(order, bench, report, result, directory)
    return AskEnded(
        ask=asked.ask,
        outcome=outcome.value,
        answer=answer,
        problem=problem[:PROBLEM_CHARACTERS],
        exit_code=result.exit_code,
        agent_seconds=result.wall_seconds,
        cpu_seconds=result.cpu_seconds,
        **figures_of(report, {}, result),
    )


def _call(order: AskOrder, bench: Bench) -> Call:
    asked, settings = order.asked, bench.settings
    is_plan = order.question is not None
    node = f"-{asked.node}" if asked.node else ""
    return Call(
        agent=asked.agent,
        phase=Phase.PLAN if is_plan else Phase.REVIEW,
        prompt=_planner_prompt(order, bench) if is_plan else _evaluator_prompt(order, bench),
        timeout_seconds=settings.plan.timeout if is_plan else settings.evaluate.timeout,
        values={
            "MISSION_UNIT_ID": f"{asked.purpose}-{asked.round}{node}",
            "MISSION_ATTEMPT": str(asked.ask),
        },
    )


def _planner_prompt(order: AskOrder, bench: Bench) -> str:
    question, context, settings = order.question, order.context, bench.settings
    if question is None:
        raise RuntimeError("a plan has a question")
    newest = Memory.beside(bench.repository.path).newest(MEMORY_CHARACTERS)
    is_root = not question.scope
    return render_planner(
        PlannerPrompt(
            objective=settings.objective,
            scope="" if is_root else f"{question.title}\n\n{question.scope}",
            files=tuple(bench.repository.files(order.asked.green)),
            verification=Verification(command=settings.verify.command, unit=settings.verify.unit),
            protected=settings.review.protected,
            depth=question.depth,
            max_depth=settings.plan.max_depth,
            max_children=settings.plan.max_children,
            readings=tuple(f"{name}: {value}" for name, value in context.readings.items()),
            remains=context.remains,
            discoveries=context.discoveries,
            instructions=_documents(order, bench, Phase.PLAN),
            memory=tuple(entry.line for entry in newest),
            refused=question.refused,
        )
    )


def _evaluator_prompt(order: AskOrder, bench: Bench) -> str:
    context = order.context
    return render_evaluator(
        EvaluatorPrompt(
            objective=bench.settings.objective,
            signals=context.readings,
            landed=context.landed,
            not_landed=context.not_landed,
            discoveries=context.discoveries,
            instructions=_documents(order, bench, Phase.REVIEW),
        )
    )


def _documents(order: AskOrder, bench: Bench, phase: Phase) -> Any:
    documents = bench.settings.disclosure(phase).documents
    return instructions_at(bench.repository, order.asked.green, documents)


def _judge(
    order: AskOrder, bench: Bench, report: AgentReport, result: JobResult, directory: str
) -> tuple[AskOutcome, dict[str, Any], str]:
    """Name the outcome, with the answer or the problem; an answer counts however it ended."""
    if is_out_of_quota(report, result):
        why = f"the agent's account is out of quota: {report.error}"
        return AskOutcome.RATE_LIMITED, {}, why
    if result.ending not in {Ending.EXITED, Ending.TIMED_OUT}:
        return AskOutcome.INFRASTRUCTURE, {}, f"the agent {describe(result)}"
    try:
        return AskOutcome.ANSWERED, _read(order, bench, report.said), ""
    except PlanInvalid as unusable:
        problem = str(unusable)
    if result.ending == Ending.TIMED_OUT:
        return AskOutcome.TIMED_OUT, {}, f"the agent {describe(result)}"
    if result.exit_code != 0:
        tail = bench.places[order.asked.place].tail(directory, LOG_TAIL_BYTES)
        problem = f"the agent {describe(result)}\n{tail.decode(errors='replace').strip()}"
    return AskOutcome.UNUSABLE, {}, problem


def _read(order: AskOrder, bench: Bench, said: str) -> dict[str, Any]:
    if order.asked.purpose == Purpose.EVALUATE:
        judgement = read_evaluation(said)
        if judgement is None:
            raise PlanInvalid("there is no judgement in what the agent said")
        return judgement.as_dict()
    if order.question is None:
        raise RuntimeError("a plan has a question")
    return read_plan_answer(
        said,
        agent=bench.settings.worker,
        max_children=bench.settings.plan.max_children,
        may_split=order.question.may_split,
    ).as_dict()
