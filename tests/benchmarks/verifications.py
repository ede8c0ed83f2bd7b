"""A verifier whose culprits are known here and nowhere else, and what a landing policy makes of it.

Every verification takes one V, the unit of time. A tree is a number: its parent, the unit that it
adds, and whether it is bad are kept in lists, so that tens of thousands of units are quick. Merging
and deciding take no time. What a policy lands must have passed, id for id, and be good.

Of every block of units exactly the wanted share is bad, in random order: figures scatter less than
with independent units, and no policy here makes use of it.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Protocol

CULPRITS_PER_BLOCK = 100
RECENT = 32
"""A bad pair is made with one of this many units before."""

SEARCH_KINDS = frozenset({"stack", "screen"})
"""Probes that look for what lands; all others ask again, or about one unit: checks."""

LOAD = 0.7
"""Of its own capacity, what a policy gets for its latency."""


class WrongMove(Exception):
    """A policy did what no policy may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a verifier is like: chances per unit, per unit, and per run of a good tree."""

    culprit_rate: float
    slots: int
    pair_rate: float = 0.0
    flake_rate: float = 0.0

    @property
    def block(self) -> int:
        """How many units hold `CULPRITS_PER_BLOCK` bad ones."""
        return round(CULPRITS_PER_BLOCK / self.culprit_rate)

    @property
    def bound(self) -> float:
        """Runs per landed unit that no policy goes below: a run tells at most one bit."""
        p = self.culprit_rate
        return -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) / (1 - p)


class Policy(Protocol):
    """Decides what is merged, verified and landed, through the world it was made with."""

    @property
    def n_waiting(self) -> int:
        """Units in the queue."""

    @property
    def n_owed(self) -> int:
        """Culprits whose second verdict is still to come."""

    def enqueue(self, unit: int) -> None:
        """Take in a unit."""

    def ended(self, number: int, *, passed: bool) -> None:
        """Take in a verdict."""

    def act(self) -> None:
        """Do all that is to be done now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A verification under way."""

    tree: int
    kind: str
    ends: float


class World:
    """Units, trees, `green`, the verifier's slots and the clock."""

    def __init__(self, setting: Setting, *, seed: int = 1) -> None:
        self.setting = setting
        self.now = 0.0
        self.green = 0
        self.running: dict[int, Running] = {}  # in the order in which they end
        self.n_started: Counter[str] = Counter()
        self.n_cancelled = 0
        self.n_landed = 0
        self.ejected: list[int] = []
        self.n_innocent = 0
        self.entered: list[float] = []  # by unit, as are the next three
        self.landed_at: dict[int, float] = {}
        self._is_bad: list[bool] = []
        self._partners: dict[int, list[int]] = {}
        self._block: list[bool] = []
        self._arrivals, self._verdicts = (random.Random(f"{name} {seed}") for name in "av")
        self._parent, self._adds, self._tree_is_bad = [0], [-1], [False]
        self._passed: set[int] = set()
        self._greens: dict[int, int] = {0: 0}  # the values of green, numbered
        self._landed_in: dict[int, int] = {}  # unit -> number of the value of green

    # -- units --------------------------------------------------------------------------------

    def arrive(self) -> int:
        """Make a unit that enters the queue now."""
        unit = len(self._is_bad)
        if not self._block:
            n = self.setting.block
            self._block = [i < CULPRITS_PER_BLOCK for i in range(n)]
            self._arrivals.shuffle(self._block)
        self._is_bad.append(self._block.pop())
        self.entered.append(self.now)
        if self.setting.pair_rate and self._arrivals.random() < self.setting.pair_rate:
            self._pair(unit)
        return unit

    def _pair(self, unit: int) -> None:
        """Let a unit be bad together with a recent one, each of them good alone."""
        recent = range(max(0, unit - RECENT), unit)
        good = [other for other in recent if not self._is_bad[other]]
        if good and not self._is_bad[unit]:
            other = self._arrivals.choice(good)
            self._partners.setdefault(unit, []).append(other)
            self._partners.setdefault(other, []).append(unit)

    @property
    def n_units(self) -> int:
        """How many units arrived."""
        return len(self._is_bad)

    @property
    def n_lost(self) -> int:
        """Units that neither landed nor were ejected."""
        return self.n_units - self.n_landed - len(self.ejected)

    # -- what policies do ---------------------------------------------------------------------

    @property
    def free(self) -> int:
        """Slots that are not taken."""
        return self.setting.slots - len(self.running)

    def merge(self, unit: int, onto: int) -> int:
        """Make the tree that adds a unit to another tree."""
        self._parent.append(onto)
        self._adds.append(unit)
        pairs = self._partners.get(unit, ())
        bad = self._tree_is_bad[onto] or self._is_bad[unit]
        self._tree_is_bad.append(bad or any(self.holds(onto, other) for other in pairs))
        return len(self._parent) - 1

    def holds(self, tree: int, unit: int) -> bool:
        """Whether a unit is in a tree."""
        while tree not in self._greens:
            if self._adds[tree] == unit:
                return True
            tree = self._parent[tree]
        return unit in self._landed_in and self._landed_in[unit] <= self._greens[tree]

    def start(self, kind: str, tree: int) -> int:
        """Start to verify a tree; the probe's number."""
        if self.free < 1:
            raise WrongMove("more verifications than slots")
        number = self.n_started.total() + 1
        self.n_started[kind] += 1
        self.running[number] = Running(tree=tree, kind=kind, ends=self.now + 1.0)
        return number

    def cancel(self, number: int) -> None:
        """End a verification without a verdict; it counts as a run."""
        del self.running[number]
        self.n_cancelled += 1

    def land(self, tree: int) -> None:
        """Move `green` to a tree that passed."""
        units, above = [], tree
        while above != self.green and above:
            units.append(self._adds[above])
            above = self._parent[above]
        if above != self.green or not units or tree not in self._passed:
            raise WrongMove(f"tree {tree} may not land on {self.green}")
        self._greens[tree] = len(self._greens)
        self.green = tree
        self.n_landed += len(units)
        self._landed_in.update(dict.fromkeys(units, self._greens[tree]))
        self.landed_at.update(dict.fromkeys(units, self.now))
        if len(self._landed_in) != self.n_landed:
            raise WrongMove(f"tree {tree} lands a unit twice")

    def eject(self, unit: int) -> None:
        """Send a unit back; innocent is who is good, also with all that has landed."""
        self.ejected.append(unit)
        partners = self._partners.get(unit, ())
        is_guilty = self._is_bad[unit] or any(p in self._landed_in for p in partners)
        self.n_innocent += not is_guilty

    # -- the clock ----------------------------------------------------------------------------

    def wait(self, policy: Policy, *, until: float = math.inf) -> None:
        """Let the clock jump to the next verdicts, and hand over all of that moment."""
        due = next((r.ends for r in self.running.values()), math.inf)
        self.now = min(due, until)
        if math.isinf(self.now):
            raise WrongMove("nothing runs and nothing is awaited")
        for number in [n for n, r in self.running.items() if r.ends <= self.now]:
            policy.ended(number, passed=self._verdict(self.running.pop(number).tree))

    def _verdict(self, tree: int) -> bool:
        flake_rate = self.setting.flake_rate
        flaked = flake_rate > 0 and self._verdicts.random() < flake_rate
        if self._tree_is_bad[tree] or flaked:
            return False
        self._passed.add(tree)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What had been done at a moment."""

    landed: int
    now: float
    searches: int
    checks: int
    owed: int


START = Mark(landed=0, now=0.0, searches=0, checks=0, owed=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A mean and its standard error, `None` when there is nothing to tell it by."""

    mean: float
    error: float | None

    def __str__(self) -> str:
        digits = max(0, 2 - math.floor(math.log10(self.mean))) if self.mean > 0 else 2
        error = "?" if self.error is None else f"{self.error:.{digits}f}"
        return f"{self.mean:.{digits}f}±{error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What a policy did with a queue that never ends, and how it came to an end."""

    per_landed: Figure  # V per landed unit
    searches: Figure  # runs per landed unit
    checks: Figure  # runs per landed unit, those still owed at the end included
    owed: int
    n_slots: int
    n_landed: int
    n_ejected: int
    n_innocent: int
    n_lost: int
    is_cut: bool  # for lack of time: neither measured in full nor drained
    marks: Sequence[Mark] = field(repr=False)

    @property
    def landed(self) -> Figure:
        """Landed units per V."""
        mean = 1.0 / self.per_landed.mean
        error = self.per_landed.error
        return Figure(mean=mean, error=None if error is None else error * mean**2)

    @property
    def paid(self) -> float:
        """Landed units per V, had the owed second verdicts been fetched as well."""
        first, last = self.marks[0], self.marks[-1]
        late = max(0, last.owed - first.owed) / self.n_slots
        return (last.landed - first.landed) / (last.now - first.now + late)


def backlog(
    setting: Setting,
    make: Callable[[World], Policy],
    *,
    n_blocks: int = 10,
    seed: int = 1,
    patience_seconds: float = math.inf,
) -> Backlog:
    """Let a policy work on an endless queue, then on what is left of it.

    One block of units goes before the measured `n_blocks`. A policy that uses up more CPU than
    `patience_seconds` is measured by what it has done until then.

    Raises:
        WrongMove: a policy did what none may do.
    """
    world = World(setting, seed=seed)
    policy = make(world)
    length = 4 * setting.slots * max(8, round(1 / setting.culprit_rate))
    goal = setting.block * (1 - setting.culprit_rate)  # a block's good units
    marks: list[Mark] = []
    ends = time.process_time() + patience_seconds
    while len(marks) <= n_blocks and (is_patient := time.process_time() < ends):
        while policy.n_waiting < length:
            policy.enqueue(world.arrive())
        policy.act()
        if world.n_landed >= goal * (len(marks) + 1):
            marks.append(_mark(world, policy))
        world.wait(policy)
    if is_patient:
        drain(world, policy)
    else:
        marks = [*(marks or [START]), _mark(world, policy)]
    return Backlog(
        per_landed=_per_landed(marks, [m.now for m in marks]),
        searches=_per_landed(marks, [m.searches for m in marks]),
        checks=_per_landed(marks, [m.checks + m.owed for m in marks]),
        owed=marks[-1].owed,
        n_slots=setting.slots,
        n_landed=world.n_landed,
        n_ejected=len(world.ejected),
        n_innocent=world.n_innocent,
        n_lost=world.n_lost,
        is_cut=not is_patient,
        marks=marks,
    )


def drain(world: World, policy: Policy) -> None:
    """Let a policy finish what it has."""
    policy.act()
    while world.running:
        world.wait(policy)
        policy.act()


def _mark(world: World, policy: Policy) -> Mark:
    searches = sum(n for kind, n in world.n_started.items() if kind in SEARCH_KINDS)
    checks = world.n_started.total() - searches
    return Mark(
        landed=world.n_landed,
        now=world.now,
        searches=searches,
        checks=checks,
        owed=policy.n_owed,
    )


def _per_landed(marks: Sequence[Mark], totals: Sequence[float]) -> Figure:
    """The ratio of two sums; its error from how the blocks differ."""
    landed = [b.landed - a.landed for a, b in pairwise(marks)]
    done = [b - a for a, b in pairwise(totals)]
    mean, n = sum(done) / sum(landed), len(landed)
    rest = sum((d - mean * size) ** 2 for d, size in zip(done, landed, strict=True))
    error = math.sqrt(rest / (n * (n - 1))) / fmean(landed) if n > 1 else None
    return Figure(mean=mean, error=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """From entering the queue to being on `green`, in V, of the units that land."""

    mean: float
    p95: float


def latency(
    setting: Setting,
    make: Callable[[World], Policy],
    *,
    units_per_v: float,
    n_units: int,
    seed: int = 2,
    patience_seconds: float = math.inf,
) -> Latency:
    """Let units arrive at random (Poisson); the first fifth of them is not measured.

    They stop coming when a policy has used up more CPU than `patience_seconds`.

    Raises:
        WrongMove: a policy did what none may do.
    """
    world = World(setting, seed=seed)
    policy = make(world)
    gaps = random.Random(f"gaps {seed}")
    arrival = 0.0
    ends = time.process_time() + patience_seconds
    while world.n_units < n_units and time.process_time() < ends:
        while world.now >= arrival:
            policy.enqueue(world.arrive())
            arrival += gaps.expovariate(units_per_v)
        policy.act()
        world.wait(policy, until=arrival)
    drain(world, policy)
    taken = sorted(
        at - world.entered[unit]
        for unit, at in world.landed_at.items()
        if unit >= world.n_units / 5
    )
    return Latency(mean=fmean(taken), p95=taken[int(0.95 * len(taken))])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one policy made of one setting."""

    policy: str
    setting: Setting
    backlog: Backlog
    latency: Latency | None = None
