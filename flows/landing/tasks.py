"""A probe as a Prefect task run: one verification of one tree."""

from __future__ import annotations

from collections.abc import Callable

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.landing.probing import Memory, ProbeOrder, run_probe
from flows.ledger.events import ProbeEnded
from flows.running.bench import Bench


@task(
    name="probe",
    task_run_name="probe {number} · {what}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def probe(
    number: int,  # noqa: ARG001 - names the run
    what: str,  # noqa: ARG001
    order: ProbeOrder,
    bench: Bench,
    memory: Memory | None,
    post: Callable[[ProbeEnded], None],
) -> State[None]:
    """Verify a tree and hand the verdict to the driver; a red verdict is a result, no failure."""
    ended = run_probe(order, bench, memory)
    post(ended)
    return Completed(name=ended.verdict.capitalize(), message=ended.reason or None)
