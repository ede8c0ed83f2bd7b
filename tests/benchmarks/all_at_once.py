"""The other way to run a DAG with Prefect: submit every unit at once, with `wait_for` edges.

`python -m tests.benchmarks.all_at_once FOLDER WORKERS` runs a workload's units so, and prints how
long they took. What is the same as in a mission: agents, workspaces, supervisors and collecting
(`run_attempt`), the train that batches what is to land (`Train`), merging, probes (`run_probe`),
delivery. What is not: nobody chooses which unit is next, each waits in a thread of the task runner,
and there is no ledger, which is to its favour.
"""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows.landing.delivery import Deliverer
from flows.landing.dispatch import next_steps
from flows.landing.probing import ProbeOrder, run_probe
from flows.landing.steps import Candidate, Land, Merge, ProbeTree, Step
from flows.landing.train import Train
from flows.ledger.events import (
    AttemptEnded,
    CandidateStacked,
    Event,
    Landed,
    Outcome,
    ProbeEnded,
    ProbeStarted,
)
from flows.planning.plan import Plan, Unit
from flows.planning.schedule import order_units
from flows.running.attempt import AttemptOrder, run_attempt
from flows.running.bench import Bench
from tests.benchmarks.steps import opened_bench
from tests.benchmarks.workload import Workload

GREEN_REF = "refs/heads/mission/green"


@dataclass(slots=True, kw_only=True)
class Lander:
    """Lands what is collected: the mission's train, in a thread, without a ledger."""

    bench: Bench
    deliverer: Deliverer
    units: Mapping[str, Unit]
    train: Train
    landed: Mapping[str, Signal]
    inbox: queue.SimpleQueue[AttemptEnded | ProbeEnded] = field(default_factory=queue.SimpleQueue)
    n_probes: int = 0
    ended_at: float = 0.0
    _bases: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def run(self) -> None:
        """Go on until all units have landed."""
        while not all(signal.is_set() for signal in self.landed.values()):
            self._take_in(self.inbox.get())
            while not self.inbox.empty():
                self._take_in(self.inbox.get())
            while steps := next_steps(self.train, free_probes=1 - len(self.train.probes), slots=1):
                for step in steps:
                    self._perform(step)

    def _take_in(self, event: AttemptEnded | ProbeEnded) -> None:
        if isinstance(event, AttemptEnded):
            candidate = Candidate(unit=event.unit, attempt=1, head=event.head or "")
            self._bases[event.unit] = (event.report["base"], event.tree)
            self.train.enqueue(candidate)
        else:
            self.train.apply(event)

    def _perform(self, step: Step) -> None:
        match step:
            case Merge():
                self.train.apply(self._merge(step))
            case ProbeTree():
                self._probe(step)
            case Land():
                self._land(step)
            case _:
                raise RuntimeError(f"a verification was red: {step}")

    def _merge(self, step: Merge) -> Event:
        unit, repository = step.candidate.unit, self.bench.repository
        base, tree = self._bases[unit]
        title = self.units[unit].title
        merged = repository.merge(step.onto, step.candidate.head, title, base=base, tree=tree)
        return CandidateStacked(
            unit=unit,
            attempt=1,
            onto=step.onto,
            commit=merged.commit,
            tree=merged.tree,
            line=step.line,
        )

    def _probe(self, step: ProbeTree) -> None:
        self.n_probes += 1
        number, commit = self.n_probes, step.commit
        self.train.apply(
            ProbeStarted(probe=number, kind=step.kind.value, commit=commit, tree=step.tree)
        )
        order = ProbeOrder(probe=number, commit=commit, place="local", slot=0, baseline=None)
        Thread(target=lambda: self.inbox.put(run_probe(order, self.bench)), daemon=True).start()

    def _land(self, step: Land) -> None:
        repository = self.bench.repository
        repository.move_ref(GREEN_REF, step.new, repository.resolve(GREEN_REF))
        self.train.apply(
            Landed(old=step.old, new=step.new, tree=step.tree, probe=step.probe, units=step.units)
        )
        self.deliverer.deliver(step.new)
        self.ended_at = time.monotonic()
        for unit in step.units:
            self.landed[unit].set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What the tasks share."""

    lander: Lander
    slots: queue.SimpleQueue[int]
    runner: Any  # Prefect's own types do not accept its thread pool here

    def work(self, name: str) -> None:
        """Run a unit's agent in a slot; done when the unit has landed."""
        lander, slot = self.lander, self.slots.get()
        base = lander.train.green
        try:
            unit = lander.units[name]
            order = AttemptOrder(unit=unit, attempt=1, base=base, place="local", slot=slot)
            ended = run_attempt(order, lander.bench)
        finally:
            self.slots.put(slot)
        if ended.outcome != Outcome.COLLECTED:
            raise RuntimeError(f"{name}: {ended.outcome}: {ended.detail}")
        lander.inbox.put(replace(ended, report={"base": base}))
        lander.landed[name].wait()

    def run(self, plan: Plan) -> float:
        """Submit everything, wait for everything; returns seconds to the last landing."""

        @task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
        def work(name: str) -> None:
            self.work(name)

        @flow(task_runner=self.runner, persist_result=False)
        def all_at_once() -> None:
            futures: dict[str, PrefectFuture[None]] = {}
            for unit in order_units(plan):
                edges = [futures[needed] for needed in unit.depends_on]
                futures[unit.id] = work.submit(unit.id, wait_for=edges, return_state=False)
            for future in futures.values():
                future.result()

        landing = Thread(target=self.lander.run, daemon=True)
        landing.start()
        began = time.monotonic()
        all_at_once()
        landing.join()
        return self.lander.ended_at - began


def run(folder: Path, n_workers: int) -> Mapping[str, object]:
    """Run the workload that was written in `folder`, with so many threads."""
    workload = Workload.read(folder)
    units: dict[str, Unit] = {unit.id: unit for unit in workload.units}
    slots: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(workload.slots):
        slots.put(slot)
    with opened_bench(workload, folder) as (bench, base):
        bench.repository.save_ref(GREEN_REF, base)
        deliverer = Deliverer(
            repository=bench.repository,
            url=str(workload.target),
            branch="mission/green",
            fallback="fallback",
            report=lambda _: None,
        )
        lander = Lander(
            bench=bench,
            deliverer=deliverer,
            units=units,
            train=Train(base),
            landed={name: Signal() for name in units},
        )
        deliverer.start()
        runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=n_workers)
        seconds = Workshop(lander=lander, slots=slots, runner=runner).run(
            Plan(units=workload.units)
        )
        deliverer.close()
    return {"seconds": seconds, "n_probes": lander.n_probes}


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]))))
