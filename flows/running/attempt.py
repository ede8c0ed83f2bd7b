"""One attempt at a unit: workspace, agent, collected commit, outcome.

1. The workspace is reset to the base commit and set up. Safe to repeat: nothing of it is kept.
2. The agent runs under the place's supervisor. A driver that comes back finds the job by its
   directory, which names mission, unit and attempt, and waits for it instead of starting another.
3. What is in the workspace becomes a commit under `refs/missions/…` before anything else happens.
4. Our checks on that commit can only refuse it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from blocks.errors import BackendUnreachable, CommandFailed
from blocks.places.place import Ending, JobResult, Place
from blocks.places.workspaces import Collected, Workspace
from flows.ledger.events import AttemptEnded, Outcome
from flows.planning.plan import Unit, matches
from flows.prompts.prompts import LandedDependency
from flows.running.agents import Phase
from flows.running.bench import CHECK, LOG_TAIL_BYTES, PROOF, Bench, describe
from flows.running.calling import (
    Call,
    call_agent,
    figures_of,
    is_out_of_quota,
    profile_of,
    report_of,
)
from flows.running.outputs import AgentReport
from flows.running.policy import check_claims, describe_unfounded, refuse
from flows.running.result import find_result
from flows.running.reviewing import Reviewed, review_work
from flows.running.telling import prompt_for, remember
from flows.settings import Agent

DETAIL_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOrder:
    """What is asked of an attempt; `cause` is why the one before it did not land.

    A repair starts from refused work (`base`), and `cause` is why it was refused.
    """

    unit: Unit
    attempt: int
    base: str
    place: str
    slot: int
    cause: str = ""
    is_repair: bool = False
    dependencies: tuple[LandedDependency, ...] = ()

    @property
    def phase(self) -> Phase:
        """What its agent is asked for."""
        return Phase.FIXUP if self.is_repair else Phase.WORK

    def ref(self, mission: str) -> str:
        """Where the collected commit is kept."""
        return f"refs/missions/{mission}/{self.unit.id}/{self.attempt}"


def run_attempt(order: AttemptOrder, bench: Bench) -> AttemptEnded:
    """Run an attempt to its end; our own troubles become the outcome `infrastructure`.

    While the mission is stopping, whatever did not come to a good end was stopped.
    """
    try:
        ended = _run(order, bench)
    except (CommandFailed, BackendUnreachable, OSError) as error:
        ended = _ended(order, Outcome.INFRASTRUCTURE, detail=str(error)[:DETAIL_CHARACTERS])
    ended = replace(ended, detail=bench.masked(ended.detail), report=bench.masked(ended.report))
    remember(ended, bench)
    place = bench.places[order.place]
    bench.let_go(bench.job_directory(place, order.unit.id, str(order.attempt)))
    good = ended.outcome in {Outcome.COLLECTED, Outcome.NO_CHANGE}
    if bench.is_stopping() and not good:
        return replace(ended, outcome=Outcome.STOPPED.value)
    return ended


def _run(order: AttemptOrder, bench: Bench) -> AttemptEnded:
    place = bench.places[order.place]
    workspace = bench.workspace(place, "agents", order.slot)
    directory = bench.job_directory(place, order.unit.id, str(order.attempt))
    began = time.monotonic()
    if bench.is_under_way(place, directory):
        result = _taken_up(order, bench, workspace, directory)
    else:
        bench.provide(place, order.base)
        bench.take(workspace, directory)
        workspace.reset(order.base)
        if trouble := bench.set_up(workspace, directory):
            return _ended(order, Outcome.INFRASTRUCTURE, detail=trouble)
        prepared = time.monotonic() - began
        result = _run_agent(order, bench, workspace, directory)
        return _conclude(order, bench, workspace, directory, result, prepare_seconds=prepared)
    return _conclude(order, bench, workspace, directory, result, prepare_seconds=0.0)


def _taken_up(order: AttemptOrder, bench: Bench, workspace: Workspace, directory: str) -> JobResult:
    """Wait for an agent that an earlier driver started; its workspace is as the agent left it.

    Raises:
        BackendUnreachable: the workspace was lent to something else meanwhile.
    """
    result = bench.wait(workspace.place, directory)
    if bench.owner(workspace) != directory:
        raise BackendUnreachable("its workspace was lent to another mission meanwhile")
    if bench.end_checks(workspace.place, directory):  # they may have left files of their own
        collected = bench.repository.resolve(order.ref(bench.mission))
        workspace.reset(collected or order.base)
    return result


def _run_agent(
    order: AttemptOrder, bench: Bench, workspace: Workspace, directory: str
) -> JobResult:
    unit = order.unit
    call = Call(
        agent=unit.agent,
        phase=order.phase,
        prompt=prompt_for(order, bench),
        timeout_seconds=unit.timeout_seconds or bench.settings.limits.unit_timeout,
        values={"MISSION_UNIT_ID": unit.id, "MISSION_ATTEMPT": str(order.attempt)},
        files=expand(unit.writes, lambda: bench.repository.files(order.base)),
        command=unit.command,
    )
    return call_agent(call, bench, workspace, directory)


def expand(writes: Sequence[str] | None, tracked: Any) -> tuple[str, ...]:
    """The files that a write set names: plain paths as they are, globs by what is tracked."""
    if writes is None:
        return ()
    if not any(c in w for w in writes for c in "*?["):
        return tuple(writes)
    return tuple(path for path in tracked() if matches(path, writes))


def _conclude(
    order: AttemptOrder,
    bench: Bench,
    workspace: Workspace,
    directory: str,
    result: JobResult,
    *,
    prepare_seconds: float,
) -> AttemptEnded:
    began = time.monotonic()
    place, ref = workspace.place, order.ref(bench.mission)
    collected = workspace.collect(base=order.base, ref=ref, message=order.unit.title)
    if collected.head != order.base:
        bench.import_ref(place, ref)
    agent = bench.settings.agents.get(order.unit.agent) or Agent()
    report = report_of(profile_of(agent, order.unit.command), place, directory, result)
    said = find_result(report.said).as_dict() if report.said else {}
    outcome, detail = _judge(order, bench, workspace, directory, result, collected, report)
    reviewed = Reviewed()
    if outcome == Outcome.COLLECTED:
        reviewed = review_work(order, bench, workspace, directory, collected.head)
        if reviewed.refusal:
            outcome, detail = Outcome.REFUSED, reviewed.refusal
    proven = outcome == Outcome.NO_CHANGE and not detail
    if unfounded := check_claims(said, collected, order.base, bench.repository):
        said = {**said, "unfounded": list(unfounded)}
        detail = f"{describe_unfounded(unfounded)}\n{detail}" if detail else detail
    return _ended(
        order,
        outcome,
        head=collected.head if collected.head != order.base else None,
        tree=collected.tree if collected.descends else None,
        files=collected.files,
        detail=detail[:DETAIL_CHARACTERS],
        proven=proven,
        exit_code=result.exit_code,
        agent_seconds=result.wall_seconds,
        cpu_seconds=result.cpu_seconds,
        peak_memory_bytes=result.peak_memory_bytes,
        output_bytes=result.output_bytes,
        prepare_seconds=prepare_seconds,
        collect_seconds=time.monotonic() - began,
        agent_ended_at=result.ended_at,
        report=said if any(said.values()) else {},
        review=reviewed.word,
        **_with_cost(figures_of(report, said, result), reviewed.cost_usd),
    )


def _with_cost(figures: dict[str, Any], more_usd: float | None) -> dict[str, Any]:
    """The figures of an agent, with what its review cost besides."""
    if more_usd is None:
        return figures
    return {**figures, "cost_usd": (figures["cost_usd"] or 0.0) + more_usd}


def _judge(
    order: AttemptOrder,
    bench: Bench,
    workspace: Workspace,
    directory: str,
    result: JobResult,
    collected: Collected,
    report: AgentReport,
) -> tuple[Outcome, str]:
    """Name the outcome, and why it is not `collected`."""
    committed = bool(collected.files)  # commits that change nothing are no work
    outcome = _ending(result)
    if is_out_of_quota(report, result):
        return Outcome.RATE_LIMITED, f"the agent's account is out of quota: {report.error}"
    if outcome is None and committed:
        refusal = refuse(
            collected,
            order.base,
            order.unit,
            bench.settings,
            bench.repository,
            within=bench.settings.disclosure(order.phase).writes,
            secrets=bench.known_secrets,
        )
        if refusal:
            return Outcome.REFUSED, refusal
    if outcome is None and result.exit_code != 0:
        outcome = Outcome.FAILED
    if outcome is not None:
        return outcome, f"the agent {describe(result)}{_output(workspace.place, directory)}"
    if not committed:
        return Outcome.NO_CHANGE, _proof(order, bench, workspace, directory)
    red = _filter(order, bench, workspace, directory, collected.head)
    return (Outcome.REFUSED, red) if red else (Outcome.COLLECTED, "")


def _filter(
    order: AttemptOrder, bench: Bench, workspace: Workspace, directory: str, head: str
) -> str:
    """Why the unit's own verification refuses the collected commit; it can only reject."""
    command = order.unit.verify or bench.settings.verify.unit
    if not command:
        return ""
    workspace.reset(head)
    return _check(bench, workspace, f"{directory}/{CHECK}", command)


def _ending(result: JobResult) -> Outcome | None:
    match result.ending:
        case Ending.EXITED:
            return None
        case Ending.TIMED_OUT:
            return Outcome.TIMED_OUT
        case _:
            return Outcome.INFRASTRUCTURE


def _proof(order: AttemptOrder, bench: Bench, workspace: Workspace, directory: str) -> str:
    """Why `no change` does not satisfy the unit; empty when its own verification passes."""
    command = order.unit.verify or bench.settings.verify.unit
    if not command:
        return "nothing was changed, and the unit has no verification that could prove it done"
    return _check(bench, workspace, f"{directory}/{PROOF}", command)


def _check(bench: Bench, workspace: Workspace, directory: str, command: str) -> str:
    """Run a unit's own verification; returns why it does not pass, empty when it does.

    Raises:
        BackendUnreachable: it was not run to its end, for which nobody's work is to blame.
    """
    timeout = bench.settings.verify.timeout
    argv = ("sh", "-c", command)
    result = bench.run_job(workspace, directory, argv, timeout_seconds=timeout)
    if result.ending == Ending.EXITED and result.exit_code == 0:
        return ""
    if result.ending not in {Ending.EXITED, Ending.TIMED_OUT}:
        raise BackendUnreachable(f"{workspace.place.name}: a verification {describe(result)}")
    tail = _output(workspace.place, directory)
    return f"the unit's verification {describe(result)}: {command}{tail}"


def _output(place: Place, directory: str) -> str:
    tail = place.tail(directory, LOG_TAIL_BYTES).decode(errors="replace").strip()
    return f"\n{tail[-DETAIL_CHARACTERS // 2 :]}" if tail else ""


def _ended(order: AttemptOrder, outcome: Outcome, **values: Any) -> AttemptEnded:
    return AttemptEnded(unit=order.unit.id, attempt=order.attempt, outcome=outcome.value, **values)
