"""Ways to land units: four that others use or could, and the product's own train."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from flows.landing.dispatch import next_steps
from flows.landing.steps import CancelProbe, Candidate, Decide, Land, Merge, ProbeTree, Step
from flows.landing.train import Train
from flows.ledger.events import (
    CandidateClashed,
    CandidateEjected,
    CandidateStacked,
    Event,
    Landed,
    LandingIntended,
    ProbeEnded,
    ProbeStarted,
)
from tests.benchmarks.verifications import Policy, Setting, World, WrongMove

BATCH = 8
MAX_ROUNDS = 100_000
"""So often the train may be asked before a verdict comes in."""


class Batches:
    """Batches of eight, a red one tested again in halves, one after another: bors-ng.

    No second verdict, and no last half inferred. One verification at a time, however many slots.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.queue: deque[int] = deque()
        self.halves: deque[list[int]] = deque()
        self.under_way: tuple[list[int], int] | None = None

    @property
    def n_waiting(self) -> int:
        return len(self.queue)

    @property
    def n_owed(self) -> int:
        return 0

    def enqueue(self, unit: int) -> None:
        self.queue.append(unit)

    def ended(self, number: int, *, passed: bool) -> None:
        assert self.under_way is not None, number
        (units, tree), self.under_way = self.under_way, None
        if passed:
            self.world.land(tree)
        elif len(units) == 1:
            self.world.eject(units[0])
        else:
            middle = len(units) // 2
            self.halves.extendleft((units[middle:], units[:middle]))

    def act(self) -> None:
        if self.under_way is None and (units := self._next()):
            tree = self.world.green
            for unit in units:
                tree = self.world.merge(unit, tree)
            self.under_way = units, tree
            self.world.start("stack", tree)

    def _next(self) -> list[int]:
        if self.halves:
            return self.halves.popleft()
        return [self.queue.popleft() for _ in range(min(BATCH, len(self.queue)))]


@dataclass(slots=True, kw_only=True)
class Link:
    """A unit of the chain, verified on top of all before it."""

    unit: int
    tree: int
    number: int
    passed: bool | None = None


class Chain:
    """Each unit on top of all before it, as many as there are slots: Zuul.

    A red one is ejected, without a second verdict, and all behind it is built anew.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.queue: deque[int] = deque()
        self.links: list[Link] = []

    @property
    def n_waiting(self) -> int:
        return len(self.queue)

    @property
    def n_owed(self) -> int:
        return 0

    def enqueue(self, unit: int) -> None:
        self.queue.append(unit)

    def ended(self, number: int, *, passed: bool) -> None:
        for link in self.links:
            if link.number == number:
                link.passed = passed

    def act(self) -> None:
        while self.links and self.links[0].passed is not None:
            first = self.links.pop(0)
            if first.passed:
                self.world.land(first.tree)
            else:
                self._eject(first.unit)
        while self.queue and self.world.free:
            unit = self.queue.popleft()
            tree = self.world.merge(unit, self.links[-1].tree if self.links else self.world.green)
            number = self.world.start("stack", tree)
            self.links.append(Link(unit=unit, tree=tree, number=number))

    def _eject(self, unit: int) -> None:
        self.world.eject(unit)
        for link in self.links:
            if link.passed is None:
                self.world.cancel(link.number)
        self.queue.extendleft(link.unit for link in reversed(self.links))
        self.links = []


class PrefixSearch:
    """One stack of `probes` steps, all its step ends verified at once; a red one is searched.

    It is told the culprit rate. With `confirm`, a culprit's own red tree is verified again when a
    slot is left, or first when as many culprits wait for it as there are slots. With one probe and
    steps of one unit this is verifying one unit after another.
    """

    def __init__(self, world: World, *, probes: int, step: int, confirm: bool) -> None:
        self.world, self.probes, self.step, self.confirm = world, probes, step, confirm
        self.queue: deque[int] = deque()
        self.stack: list[tuple[int, int]] = []  # unit, tree
        self.passed, self.red = 0, 0  # longest, shortest prefix known to be so; 0: none
        self.probing: dict[int, int] = {}  # number -> length of the prefix
        self.aside: deque[tuple[int, int]] = deque()
        self.confirming: dict[int, int] = {}  # number -> unit

    @property
    def n_waiting(self) -> int:
        return len(self.queue)

    @property
    def n_owed(self) -> int:
        return len(self.aside)

    def enqueue(self, unit: int) -> None:
        self.queue.append(unit)

    def ended(self, number: int, *, passed: bool) -> None:
        if number in self.confirming:
            unit = self.confirming.pop(number)
            if passed:
                self.queue.appendleft(unit)
            else:
                self.world.eject(unit)
            return
        length = self.probing.pop(number)
        if passed:
            self.passed = max(self.passed, length)
        else:
            self.red = min(self.red or length, length)

    def act(self) -> None:
        if not self.probing:
            self._settle()
            self._probe()
        while self.aside and self.world.free:
            unit, tree = self.aside.popleft()
            self.confirming[self.world.start("confirm", tree)] = unit

    def _settle(self) -> None:
        if self.passed:
            self.world.land(self.stack[self.passed - 1][1])
            del self.stack[: self.passed]
            self.red, self.passed = max(0, self.red - self.passed), 0
        if self.red == 1:
            unit, tree = self.stack[0]
            if self.confirm:
                self.aside.append((unit, tree))
            else:
                self.world.eject(unit)
            self.queue.extendleft(u for u, _ in reversed(self.stack[1:]))
            self.stack, self.red = [], 0

    def _probe(self) -> None:
        must_confirm = len(self.aside) >= self.world.setting.slots
        n = min(self.probes, self.world.free - must_confirm)
        if n < 1:
            return
        for length in self._quantiles(n) if self.red else self._step_ends(n):
            self.probing[self.world.start("stack", self.stack[length - 1][1])] = length

    def _step_ends(self, n: int) -> Sequence[int]:
        while self.queue and len(self.stack) < n * self.step:
            unit = self.queue.popleft()
            onto = self.stack[-1][1] if self.stack else self.world.green
            self.stack.append((unit, self.world.merge(unit, onto)))
        total = len(self.stack)
        return sorted({math.ceil(total * i / n) for i in range(1, n + 1)}) if total else []

    def _quantiles(self, n: int) -> Sequence[int]:
        """Split the first culprit's place in the red prefix into equal chances."""
        keep = 1 - self.world.setting.culprit_rate
        mass = 1 - keep**self.red
        chances = (i / (n + 1) for i in range(1, n + 1))
        lengths = (round(math.log(1 - c * mass) / math.log(keep)) for c in chances)
        return sorted({min(max(length, 1), self.red - 1) for length in lengths})


def best_step(setting: Setting) -> int:
    """The step that lands most in a cycle: one stack, and the search when it is red.

    Source: sum of q^i over the stack; ceil(log_(C+1) step) rounds of search.
    """
    p, slots = setting.culprit_rate, setting.slots
    q = 1 - p

    def landed_per_round(step: int) -> float:
        good = q ** (slots * step)
        rounds = math.ceil(round(math.log(step, slots + 1), 9))
        return q * (1 - good) / p / (1 + (1 - good) * rounds)

    return max(range(1, 101), key=landed_per_round)


class ProductTrain:
    """The product's own train, driven by its events; all that knows its steps is here."""

    def __init__(self, world: World, *, timed: bool = False) -> None:
        self.world = world
        self.train = Train(green=str(world.green))
        self.timed = timed
        self.cpu_seconds = 0.0

    @property
    def n_waiting(self) -> int:
        return len(self.train.queue)

    @property
    def n_owed(self) -> int:
        return len(self.train.aside)

    def enqueue(self, unit: int) -> None:
        self.train.enqueue(
            Candidate(unit=str(unit), attempt=1, head=str(unit), base=str(self.world.green))
        )

    def ended(self, number: int, *, passed: bool) -> None:
        self._apply(ProbeEnded(probe=number, verdict="passed" if passed else "red"))

    def act(self) -> None:
        for _ in range(MAX_ROUNDS):
            if not (steps := self._next_steps()):
                return
            for step in steps:
                self._perform(step)
        raise WrongMove("the train never waits for a verdict")

    def _next_steps(self) -> Sequence[Step]:
        if not self.timed:
            return next_steps(
                self.train, free_probes=self.world.free, slots=self.world.setting.slots
            )
        began = time.process_time()
        steps = next_steps(self.train, free_probes=self.world.free, slots=self.world.setting.slots)
        self.cpu_seconds += time.process_time() - began
        return steps

    def _apply(self, *events: Event) -> None:
        began = time.process_time() if self.timed else 0.0
        for event in events:
            self.train.apply(event)
        if self.timed:
            self.cpu_seconds += time.process_time() - began

    def _perform(self, step: Step) -> None:
        match step:
            case Merge():
                self._merge(step)
            case ProbeTree():
                self._probe(step)
            case CancelProbe():
                self.world.cancel(step.number)
                self._apply(ProbeEnded(probe=step.number, verdict="cancelled"))
            case Land():
                self._land(step)
            case Decide():
                if isinstance(step.event, CandidateEjected | CandidateClashed):
                    self.world.eject(int(step.event.unit))
                self._apply(step.event)
            case _:
                assert_never(step)

    def _merge(self, step: Merge) -> None:
        unit = step.candidate.unit
        commit = str(self.world.merge(int(unit), int(step.onto)))
        self._apply(
            CandidateStacked(
                unit=unit, attempt=1, onto=step.onto, commit=commit, tree=commit, line=step.line
            )
        )

    def _probe(self, step: ProbeTree) -> None:
        number = self.world.start(step.kind.value, int(step.commit))
        self._apply(
            ProbeStarted(
                probe=number,
                kind=step.kind.value,
                commit=step.commit,
                tree=step.tree,
                units=step.units,
            )
        )

    def _land(self, step: Land) -> None:
        old, new, tree, probe, units = step.old, step.new, step.tree, step.probe, step.units
        self.world.land(int(new))
        self._apply(
            LandingIntended(old=old, new=new, tree=tree, probe=probe, units=units),
            Landed(old=old, new=new, tree=tree, probe=probe, units=units),
        )


def _serial(world: World, *, confirm: bool) -> Policy:
    return PrefixSearch(world, probes=1, step=1, confirm=confirm)


def _prefix(world: World, *, confirm: bool) -> Policy:
    step = best_step(world.setting)
    return PrefixSearch(world, probes=world.setting.slots, step=step, confirm=confirm)


POLICIES: Mapping[str, Callable[[World], Policy]] = {
    "serial": lambda world: _serial(world, confirm=False),
    "batches": Batches,
    "chain": Chain,
    "prefix": lambda world: _prefix(world, confirm=False),
    "serial, 2 reds": lambda world: _serial(world, confirm=True),
    "prefix, 2 reds": lambda world: _prefix(world, confirm=True),
    "train": ProductTrain,
}
"""By the name in the tables; "2 reds" ejects, as the train does, only who was red twice."""
