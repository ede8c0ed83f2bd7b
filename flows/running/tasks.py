"""An attempt as a Prefect task run: a name in the UI, edges to its dependencies, a named state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.ledger.events import AttemptEnded, Outcome
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
