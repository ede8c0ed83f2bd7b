"""An agent that reviews the work of another before it may land; it can only refuse it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks.places.workspaces import Workspace
from flows.judging.review import read_review
from flows.running.agents import Phase
from flows.running.bench import REVIEW, Bench
from flows.running.calling import Call, call_agent, profile_of, report_of
from flows.running.telling import review_prompt_for
from flows.settings import Agent

if TYPE_CHECKING:
    from flows.running.attempt import AttemptOrder

REVIEW_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """What came of a review: `word` is `accepted`, `refused` or `no answer`, empty without one."""

    word: str = ""
    refusal: str = ""
    cost_usd: float | None = None


def review_work(
    order: AttemptOrder, bench: Bench, workspace: Workspace, directory: str, head: str
) -> Reviewed:
    """Have a commit reviewed, when the mission has an agent for it; no answer refuses nothing.

    Raises:
        BackendUnreachable: it was ended before it began.
    """
    name = bench.settings.review.agent
    if not name:
        return Reviewed()
    workspace.reset(head)
    place, where = workspace.place, f"{directory}/{REVIEW}"
    call = Call(
        agent=name,
        phase=Phase.REVIEW,
        prompt=review_prompt_for(order, bench, head),
        timeout_seconds=REVIEW_SECONDS,
        values={
            "MISSION_UNIT_ID": f"review-{order.unit.id}",
            "MISSION_ATTEMPT": str(order.attempt),
        },
    )
    result = call_agent(call, bench, workspace, where)
    profile = profile_of(bench.settings.agents.get(name) or Agent())
    report = report_of(profile, place, where, result)
    verdict = read_review(report.said)
    if verdict is None:
        return Reviewed(word="no answer", cost_usd=report.cost_usd)
    refusal = f"refused by the review of agent {name}: {verdict}" if verdict.is_refused else ""
    word = "refused" if verdict.is_refused else "accepted"
    return Reviewed(word=word, refusal=refusal, cost_usd=report.cost_usd)
