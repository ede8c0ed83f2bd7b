"""What the agent of an attempt is told, and what its report tells those that come after it."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from blocks.repository import IntegrationRepository
from flows.ledger.events import AttemptEnded
from flows.prompts.instructions import Instruction, read_instructions
from flows.prompts.prompts import (
    MEMORY_CHARACTERS,
    Budget,
    Cause,
    RepairPrompt,
    ReviewerPrompt,
    Trouble,
    Verification,
    WorkerPrompt,
    render_repair,
    render_reviewer,
    render_worker,
)
from flows.running.agents import Phase
from flows.running.bench import Bench
from flows.running.memory import Memory, entries_of

if TYPE_CHECKING:
    from flows.running.attempt import AttemptOrder

_CLASH = re.compile(r"good by itself, but red together with `([a-z0-9._-]+)`")
_CONFLICT = "conflicts with what landed"


def prompt_for(order: AttemptOrder, bench: Bench) -> str:
    """Write the prompt of an attempt, from its order and what is known of the repository."""
    unit, settings = order.unit, bench.settings
    agent = settings.agents.get(unit.agent)
    budget = Budget(
        seconds=unit.timeout_seconds or settings.limits.unit_timeout,
        max_usd=agent.max_usd if agent else None,
    )
    verification = Verification(
        command=settings.verify.command,
        unit=unit.verify or settings.verify.unit,
        may_remove_tests=unit.may_remove_tests,
    )
    protected = settings.review.protected
    documents = settings.disclosure(order.phase).documents
    instructions = instructions_at(bench.repository, order.base, documents)
    newest = Memory.beside(bench.repository.path).newest(MEMORY_CHARACTERS)
    memory = tuple(entry.line for entry in newest)
    if order.is_repair:
        return render_repair(
            RepairPrompt(
                title=unit.title,
                prompt=unit.prompt,
                verification=verification,
                budget=budget,
                cause=order.cause,
                writes=unit.writes,
                protected=protected,
                dependencies=order.dependencies,
                instructions=instructions,
                memory=memory,
            )
        )
    return render_worker(
        WorkerPrompt(
            title=unit.title,
            prompt=unit.prompt,
            verification=verification,
            budget=budget,
            writes=unit.writes,
            protected=protected,
            dependencies=order.dependencies,
            instructions=instructions,
            memory=memory,
            cause=cause_of(order.cause) if order.cause else None,
        )
    )


def review_prompt_for(order: AttemptOrder, bench: Bench, head: str) -> str:
    """Write the prompt of an agent that reviews the work of an attempt."""
    unit, settings = order.unit, bench.settings
    checked = unit.verify or settings.verify.unit
    documents = settings.disclosure(Phase.REVIEW).documents
    return render_reviewer(
        ReviewerPrompt(
            title=unit.title,
            prompt=unit.prompt,
            diff=bench.repository.diff_text(order.base, head),
            verdict=f"passed: {checked}" if checked else "It has not been verified yet.",
            writes=unit.writes,
            protected=settings.review.protected,
            instructions=instructions_at(bench.repository, order.base, documents),
        )
    )


def cause_of(text: str) -> Cause:
    """Tell from the mission state's words for it why an attempt did not land.

    The words come before anything that an agent or a test wrote.
    """
    if clash := _CLASH.match(text):
        return Cause(text=text, trouble=Trouble.CLASH, partner=clash[1])
    return Cause(text=text, trouble=Trouble.CONFLICT if text.startswith(_CONFLICT) else Trouble.RED)


@lru_cache(maxsize=32)  # many attempts start from one value of `green`
def instructions_at(
    repository: IntegrationRepository, base: str, documents: tuple[str, ...]
) -> tuple[Instruction, ...]:
    """The documents that a commit has for agents; one run of git where there are none."""
    there = repository.files(base, *documents) if documents else {}
    return read_instructions(
        lambda path: repository.show(base, path) if path in there else None, documents
    )


def remember(ended: AttemptEnded, bench: Bench) -> None:
    """Keep what an agent reported of the repository; a repeated report adds nothing."""
    if ended.report:
        entries = entries_of(ended.report, unit=ended.unit, mission=bench.mission, at=time.time())
        Memory.beside(bench.repository.path).add(entries)
