"""The train against a model: bad units, bad pairs, flakes, conflicts, crashes at any step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.landing.train import (
    CancelProbe,
    Candidate,
    Decide,
    Land,
    Merge,
    ProbeTree,
    Train,
    split_points,
)
from flows.ledger.events import (
    CandidateConflicted,
    CandidateEjected,
    CandidateStacked,
    CulpritSetAside,
    Event,
    FlakeSeen,
    Landed,
    LandingIntended,
    ProbeEnded,
    ProbeKind,
    ProbeStarted,
)

MAX_STEPS = 5_000


@dataclass
class World:
    """Trees are sets of units; what is bad in them is known here and nowhere else."""

    bad: frozenset[str] = frozenset()
    bad_pairs: frozenset[frozenset[str]] = frozenset()
    clashes: frozenset[frozenset[str]] = frozenset()
    flake_rate: float = 0.0
    slots: int = 1
    seed: int = 0
    crash_rate: float = 0.0
    events: list[Event] = field(default_factory=list)
    green_values: list[frozenset[str]] = field(default_factory=list)
    trees: dict[str, frozenset[str]] = field(default_factory=dict)
    running: dict[int, ProbeStarted] = field(default_factory=dict)
    n_probes: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.candidates: list[Candidate] = []
        self.train = Train(green=self._commit(frozenset()))

    def run(self, units: Sequence[str]) -> Train:
        self.candidates = [Candidate(unit=u, attempt=1, head=f"head-{u}") for u in units]
        for candidate in self.candidates:
            self.train.enqueue(candidate)
        for _ in range(MAX_STEPS):
            steps = self.train.next_steps(free_probes=self.slots - len(self.running))
            for step in steps:
                self._perform(step)
            if not steps and not self.running:
                return self.train
            if not steps:  # several may end before anybody asks what to do
                for _ in range(self.random.randint(1, len(self.running))):
                    self._end_a_probe()
            if self.random.random() < self.crash_rate:
                self._crash()
        raise AssertionError("the train does not come to an end")

    @property
    def landed(self) -> frozenset[str]:
        return self.trees[self.train.green]

    def _commit(self, tree: frozenset[str]) -> str:
        name = "+".join(sorted(tree)) or "base"
        self.trees[name] = tree
        return name

    def _record(self, *events: Event) -> None:
        for event in events:
            self.events.append(event)
            self.train.apply(event)

    def _perform(self, step: object) -> None:
        match step:
            case Merge(candidate=candidate, onto=onto):
                self._record(self._merge(candidate, onto))
            case ProbeTree():
                self._probe(step)
            case Decide(event=event):
                self._record(event)
            case CancelProbe(number=number):
                self.running.pop(number)
                self._record(ProbeEnded(probe=number, verdict="cancelled"))
            case Land():
                self._land(step)
            case _:
                raise AssertionError(step)

    def _merge(self, candidate: Candidate, onto: str) -> Event:
        unit, there = candidate.unit, self.trees[onto]
        if any(frozenset({unit, other}) in self.clashes for other in there):
            return CandidateConflicted(unit=unit, attempt=1, onto=onto, files=("x",))
        commit = self._commit(there | {unit})
        return CandidateStacked(unit=unit, attempt=1, onto=onto, commit=commit, tree=commit)

    def _probe(self, step: ProbeTree) -> None:
        assert len(self.running) < self.slots, "more probes than slots"
        self.n_probes += 1
        started = ProbeStarted(
            probe=self.n_probes,
            kind=step.kind.value,
            commit=step.commit,
            tree=step.tree,
            units=step.units,
        )
        self.running[started.probe] = started
        self._record(started)

    def _end_a_probe(self) -> None:
        number = self.random.choice(sorted(self.running))
        tree = self.trees[self.running.pop(number).commit]
        good = self._is_good(tree) and self.random.random() >= self.flake_rate
        self._record(ProbeEnded(probe=number, verdict="passed" if good else "red", reason="r"))

    def _is_good(self, tree: frozenset[str]) -> bool:
        pairs = map(frozenset, combinations(tree, 2))
        return not (tree & self.bad) and not any(pair in self.bad_pairs for pair in pairs)

    def _land(self, step: Land) -> None:
        intent = LandingIntended(
            old=step.old, new=step.new, tree=step.tree, probe=step.probe, units=step.units
        )
        if not any(isinstance(e, LandingIntended) and e == intent for e in self.events):
            self._record(intent)
            if self.random.random() < self.crash_rate:
                self._crash()
                return
        before = self.trees[step.old]
        after = self.trees[step.new]
        assert before < after, "green only grows"
        assert after - before == set(step.units)
        passed = [
            e.probe for e in self.events if isinstance(e, ProbeEnded) and e.verdict == "passed"
        ]
        started = [e for e in self.events if isinstance(e, ProbeStarted) and e.tree == step.tree]
        assert any(e.probe in passed for e in started), "the landed tree was probed and passed"
        self.green_values.append(after)
        landed = Landed(
            old=step.old, new=step.new, tree=step.tree, probe=step.probe, units=step.units
        )
        self._record(landed)

    def _crash(self) -> None:
        """A new train is made of what was recorded; probes under way are lost."""
        for number in [*self.running]:
            self.running.pop(number)
            self._record(ProbeEnded(probe=number, verdict="cancelled"))
        self.train = Train(green="base")
        for candidate in self.candidates:
            self.train.enqueue(candidate)
        for event in self.events:
            self.train.apply(event)


UNITS = [f"u{i:02d}" for i in range(24)]
some_units = st.frozensets(st.sampled_from(UNITS), max_size=6)
some_pairs = st.frozensets(
    st.tuples(st.sampled_from(UNITS), st.sampled_from(UNITS))
    .filter(lambda pair: pair[0] != pair[1])
    .map(frozenset),
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(
    bad=some_units,
    pairs=some_pairs,
    clashes=some_pairs,
    slots=st.integers(1, 16),
    seed=st.integers(0, 2**16),
    crash_rate=st.sampled_from([0.0, 0.0, 0.02, 0.2]),
    n=st.integers(1, 24),
)
def test_everything_good_lands_and_nothing_bad_does(
    bad: frozenset[str],
    pairs: frozenset[frozenset[str]],
    clashes: frozenset[frozenset[str]],
    slots: int,
    seed: int,
    crash_rate: float,
    n: int,
) -> None:
    world = World(
        bad=bad, bad_pairs=pairs, clashes=clashes, slots=slots, seed=seed, crash_rate=crash_rate
    )
    units = UNITS[:n]
    train = world.run(units)
    assert train.is_empty
    assert not world.landed & bad
    assert not any(pair <= world.landed for pair in pairs | clashes)
    involved = {unit for pair in pairs | clashes for unit in pair}
    assert set(units) - bad - involved <= world.landed
    assert world.green_values == sorted(world.green_values, key=len)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**16), slots=st.integers(1, 4))
def test_flakes_cost_no_good_unit_its_place(seed: int, slots: int) -> None:
    world = World(flake_rate=0.05, seed=seed, slots=slots)
    world.run(UNITS)
    ejected = [e for e in world.events if isinstance(e, CandidateEjected)]
    assert world.landed == set(UNITS) - {e.unit for e in ejected}
    flakes = [e for e in world.events if isinstance(e, FlakeSeen)]
    for event in ejected:  # only red twice on the very same tree blames anybody
        assert sum(f.unit == event.unit for f in flakes) <= 3


def test_an_idle_train_probes_a_lone_candidate_at_once() -> None:
    train = Train(green="base")
    train.enqueue(Candidate(unit="a", attempt=1, head="h"))
    (merge,) = train.next_steps(free_probes=1)
    assert merge == Merge(candidate=Candidate(unit="a", attempt=1, head="h"), onto="base")
    train.apply(CandidateStacked(unit="a", attempt=1, onto="base", commit="c", tree="t"))
    (probe,) = train.next_steps(free_probes=1)
    assert probe == ProbeTree(kind=ProbeKind.STACK, commit="c", tree="t", units=("a",))


def test_the_last_red_of_a_search_needs_no_run() -> None:
    world = World(bad=frozenset({"u01"}))
    world.run(UNITS[:2])
    kinds = [e.kind for e in world.events if isinstance(e, ProbeStarted)]
    assert kinds == ["stack", "stack", "confirm"]  # both red, u00 green; u01 must be the culprit
    assert world.landed == {"u00"}


def test_a_culprit_is_confirmed_only_when_the_search_has_nothing_to_do() -> None:
    world = World(bad=frozenset({"u03"}))
    world.run(UNITS[:8])
    events = [e for e in world.events if isinstance(e, ProbeStarted | Landed)]
    confirm = next(i for i, e in enumerate(events) if getattr(e, "kind", "") == "confirm")
    assert all(not isinstance(e, Landed) for e in events[confirm:])


def test_what_clashes_with_the_stack_only_waits_for_green() -> None:
    """Its clash is with a unit that never lands, so it is no conflict of its own."""
    clash = frozenset({frozenset({"u00", "u01"})})
    world = World(bad=frozenset({"u00"}), clashes=clash)
    world.run(UNITS[:3])
    assert world.landed == {"u01", "u02"}


def test_a_set_aside_culprit_names_the_probe_that_was_red() -> None:
    world = World(bad=frozenset({"u02"}))
    world.run(UNITS[:5])
    (aside,) = (e for e in world.events if isinstance(e, CulpritSetAside))
    ended = {e.probe: e for e in world.events if isinstance(e, ProbeEnded)}
    assert ended[aside.probe].verdict == "red"
    assert world.trees[aside.tree] - {"u02"} <= world.landed


def test_ten_units_one_bad_need_at_most_six_runs_before_the_rest_has_landed() -> None:
    for position in range(10):
        world = World(bad=frozenset({UNITS[position]}))
        world.run(UNITS[:10])
        runs = [e for e in world.events if isinstance(e, ProbeStarted)]
        assert len(world.landed) == 9
        assert sum(e.kind == "stack" for e in runs) <= 6


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5])
@given(red=st.integers(2, 64), n_probes=st.integers(1, 16))
def test_split_points_are_proper_prefixes_in_order(rate: float, red: int, n_probes: int) -> None:
    points = split_points(red, n_probes, rate)
    assert points
    assert points == sorted(set(points))
    assert all(1 <= point < red for point in points)
    assert len(points) <= n_probes


def test_a_longer_prefix_that_passes_clears_a_shorter_red_one() -> None:
    train = Train(green="base")
    for unit in ("a", "b", "c", "d"):
        train.enqueue(Candidate(unit=unit, attempt=1, head=unit))
    onto = "base"
    for unit in ("a", "b", "c", "d"):
        commit = f"{onto}+{unit}"
        train.apply(CandidateStacked(unit=unit, attempt=1, onto=onto, commit=commit, tree=commit))
        onto = commit
        if unit in {"b", "d"}:
            number = 1 if unit == "b" else 2
            train.apply(ProbeStarted(probe=number, kind="stack", commit=commit, tree=commit))
    train.apply(ProbeEnded(probe=1, verdict="red"))
    train.apply(ProbeEnded(probe=2, verdict="passed"))
    (land,) = train.next_steps(free_probes=0)
    assert isinstance(land, Land)
    train.apply(
        Landed(old="base", new=land.new, tree=land.tree, probe=land.probe, units=land.units)
    )
    assert train.is_empty
    assert not train.next_steps(free_probes=1)


def test_the_batch_shrinks_as_culprits_are_found() -> None:
    train = Train(green="base")
    before = train.batch
    train.n_culprits = 5
    assert train.batch < before
    train.n_landed = 1_000
    assert train.batch > before
