"""The driver's hands: long actions submitted as Prefect task runs, outcomes posted when known.

A task run is submitted when its work may start, with `wait_for` on the task runs that made what it
depends on: edges show in the UI, and nothing that waits holds a thread.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import State, StateDetails, StateType
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import quote

from flows.driver import Driver, PlanLost, crashed_attempt
from flows.landing.probing import Memory, ProbeOrder
from flows.landing.tasks import probe
from flows.ledger.events import AskEnded, AskOutcome, ProbeEnded
from flows.planning.rounds import PlanOrder
from flows.planning.tasks import plan
from flows.running.asking import AskOrder
from flows.running.attempt import AttemptOrder
from flows.running.bench import Bench
from flows.running.tasks import ask, attempt

Future = PrefectFuture[Any]
Edge = Future | State[Any]


@dataclass(slots=True)
class PrefectHands:
    """Submits to the task runner of the flow that is running."""

    bench: Bench
    memory: Memory | None = None
    driver: Driver | None = None
    _edges: dict[str, Edge] = field(default_factory=dict)
    _asks: dict[int, Future] = field(default_factory=dict)

    def attempt(self, order: AttemptOrder, after: Collection[str]) -> None:
        """Submit an attempt, with edges to the attempts that landed what it depends on."""
        driver, unit = self._driver(), order.unit.id
        edges = [edge for needed in after if (edge := self._edge(needed)) is not None]
        future = attempt.submit(
            unit,
            order.attempt,
            quote(order),
            quote(self.bench),
            quote(driver.post),
            wait_for=edges,
            return_state=False,
        )
        self._edges[unit] = future
        lost = crashed_attempt(order, "its task run ended without a word")
        future.add_done_callback(lambda _: driver.post(lost))  # a second word is passed over

    def probe(self, order: ProbeOrder, kind: str, units: Collection[str]) -> None:
        """Submit a probe."""
        what = f"{kind} of {len(units)}" if len(units) > 1 else " ".join((kind, *units))
        post = self._driver().post
        future = probe.submit(
            order.probe,
            what,
            quote(order),
            quote(self.bench),
            quote(self.memory),
            quote(post),
            return_state=False,
        )
        why = "its task run ended without a word"
        lost = ProbeEnded(probe=order.probe, verdict="not a run", reason=why)
        future.add_done_callback(lambda _: post(lost))  # a second word is passed over

    def ask(self, order: AskOrder, after: int | None) -> None:
        """Submit a question, with an edge to the one whose answer led to it."""
        driver, asked = self._driver(), order.asked
        before = None if after is None else self._asks.get(after)
        node = f" · {asked.node}" if asked.node else ""
        future = ask.submit(
            f"{asked.purpose} · round {asked.round}{node}",
            quote(order),
            quote(self.bench),
            quote(driver.post),
            wait_for=[] if before is None else [before],
            return_state=False,
        )
        self._asks[asked.ask] = future
        why = "its task run ended without a word"
        lost = AskEnded(ask=asked.ask, outcome=AskOutcome.INFRASTRUCTURE.value, problem=why)
        future.add_done_callback(lambda _: driver.post(lost))  # a second word is passed over

    def plan(self, number: int) -> None:
        """Submit the planning of a round."""
        driver = self._driver()
        units = driver.state.units.values()
        order = PlanOrder(
            round=number,
            green=driver.state.green or "",
            known=frozenset(driver.state.units),
            given_up=frozenset(u.unit.id for u in units if u.status in {"failed", "blocked"}),
            replan=driver.state.inquiry.replan,
            tree=driver.state.inquiry.tree,
        )
        future = plan.submit(
            number, quote(order), quote(self.bench), quote(driver.post), return_state=False
        )
        future.add_done_callback(lambda _: driver.post(PlanLost(number, order.replan)))

    def _edge(self, unit: str) -> Edge | None:
        """The future of the attempt that landed a unit; after a resume, its stored task run."""
        if unit in self._edges:
            return self._edges[unit]
        run_id = self._driver().state.units[unit].task_run_id
        if run_id is None:
            return None
        details = StateDetails(task_run_id=UUID(run_id))
        # Prefect refuses to wait for a state without data; what the data is does not matter.
        self._edges[unit] = State(type=StateType.COMPLETED, state_details=details, data=unit)
        return self._edges[unit]

    def _driver(self) -> Driver:
        if self.driver is None:
            raise RuntimeError("the hands have no driver yet")
        return self.driver
