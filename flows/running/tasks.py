"""Attempts and questions as Prefect task runs: a name in the UI, edges, a named state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.ledger.events import AskEnded, AskOutcome, AttemptEnded, Outcome
from flows.running.asking import AskOrder, run_ask
from flows.running.attempt import AttemptOrder, run_attempt
from flows.running.bench import Bench

GOOD = frozenset({Outcome.COLLECTED, Outcome.NO_CHANGE})


@task(
    name="attempt",
    task_run_name="{unit} · attempt {number}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def attempt(
    unit: str,  # noqa: ARG001 - names the run
    number: int,  # noqa: ARG001
    order: AttemptOrder,
    bench: Bench,
    post: Callable[[AttemptEnded], None],
) -> State[None]:
    """Run an attempt and hand its outcome to the driver."""
    ended = replace(run_attempt(order, bench), task_run_id=str(runtime.task_run.id))
    post(ended)
    name = ended.outcome.capitalize()
    message = ended.detail.partition("\n")[0] or None
    good = ended.outcome in GOOD
    return Completed(name=name, message=message) if good else Failed(name=name, message=message)


@task(
    name="ask",
    task_run_name="{what}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def ask(
    what: str,  # noqa: ARG001 - names the run
    order: AskOrder,
    bench: Bench,
    post: Callable[[AskEnded], None],
) -> State[None]:
    """Ask an agent something and hand the answer to the driver."""
    ended = replace(run_ask(order, bench), task_run_id=str(runtime.task_run.id))
    post(ended)
    name = ended.outcome.capitalize()
    message = ended.problem.partition("\n")[0] or None
    good = ended.outcome == AskOutcome.ANSWERED
    return Completed(name=name, message=message) if good else Failed(name=name, message=message)
