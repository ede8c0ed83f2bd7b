"""Planning a round as a Prefect task run."""

from __future__ import annotations

from collections.abc import Callable

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.errors import MissionError
from flows.ledger.events import PlanMade
from flows.planning.rounds import PlanOrder, plan_round
from flows.running.bench import Bench


@task(
    name="plan",
    task_run_name="plan · round {number}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def plan(
    number: int,  # noqa: ARG001 - names the run
    order: PlanOrder,
    bench: Bench,
    post: Callable[[PlanMade | MissionError], None],
) -> None:
    """Plan a round and hand the plan, or what is wrong with it, to the driver."""
    try:
        made = plan_round(order, bench)
    except MissionError as error:
        post(error)
        raise
    post(made)
