"""The train against a model: bad units, bad pairs, flakes, conflicts, base moves, broken places,
crashes between any two steps.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.landing.dispatch import next_steps
from flows.landing.search import batch_length, split_points
from flows.landing.steps import (
    BASE,
    CancelProbe,
    Candidate,
    Decide,
    Land,
    Merge,
    ProbeTree,
)
from flows.landing.train import Train
from flows.ledger.events import (
    BaseMoved,
    BaseRefused,
    CandidateClashed,
    CandidateConflicted,
    CandidateEjected,
    CandidateEmpty,
    CandidateStacked,
    CulpritSetAside,
    Event,
    FlakeSeen,
    Landed,
    LandingIntended,
    MissionResumed,
    ProbeEnded,
    ProbeKind,
    ProbeStarted,
)

MAX_STEPS = 20_000
START = "start"

Tree = frozenset[str]
Pairs = frozenset[frozenset[str]]


@dataclass(kw_only=True)
class World:
    """Trees are sets of units; what is bad in them is known here and nowhere else.

    A candidate that was ejected or clashed comes back once, as `name#2`, mended.
    """

    bad: frozenset[str] = frozenset()
    bad_pairs: Pairs = frozenset()
    clashes: Pairs = frozenset()
    flake_rate: float = 0.0
    slots: int = 1
    agents_idle: bool = False
    seed: int = 0
    crash_rate: float = 0.0
    outage_rate: float = 0.0  # how soon all verdicts turn red for a while, once
    base_moves: int = 0
    apart: frozenset[str] = frozenset()
    weights: Mapping[str, float] = field(default_factory=dict)
    n_good: int = 0  # what the train has seen before: makes long batches
    arrive_at_once: int = 1_000
    retries: bool = False
    log: list[Event | Candidate] = field(default_factory=list)
    green_values: list[Tree] = field(default_factory=list)
    trees: dict[str, Tree] = field(default_factory=dict)
    running: dict[int, ProbeStarted] = field(default_factory=dict)
    n_probes: int = 0
    n_steps: int = 0
    n_bases: int = 0
    outage: int = 0  # so many more verdicts are red, whatever the tree

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.trees[START] = frozenset()
        self.train = self._new_train()
        self.waiting: list[str] = []
        self.candidates: dict[str, Candidate] = {}

    def _new_train(self) -> Train:
        train = Train(green=START)
        train.n_good = self.n_good
        return train

    # -- running ------------------------------------------------------------------------------

    def run(self, units: Sequence[str]) -> Train:
        self.waiting = [*units]
        for self.n_steps in range(MAX_STEPS):
            self._arrivals()
            free = self.slots - len(self.running)
            steps = next_steps(
                self.train, free_probes=free, slots=self.slots, agents_idle=self.agents_idle
            )
            for step in steps:
                self._perform(step)
            if not steps:
                if not self.running and not self.waiting and self.n_bases >= self.base_moves:
                    return self.train
                self._let_time_pass()
            if self.random.random() < self.crash_rate:
                self._crash()
        raise AssertionError("the train does not come to an end")

    def _arrivals(self) -> None:
        for _ in range(min(self.arrive_at_once, len(self.waiting))):
            name = self.waiting.pop(0)
            head = f"head-{name}"
            self.trees[head] = self.trees[self.train.green] | {name}
            unit, _, attempt = name.partition("#")
            candidate = Candidate(
                unit=unit,
                attempt=int(attempt or 1),
                head=head,
                base=self.train.green,
                weight=self.weights.get(unit, 0.0),
                apart=unit in self.apart,
            )
            self.candidates[name] = candidate
            self.log.append(candidate)
            self.train.enqueue(candidate)
        if self.n_bases < self.base_moves and self.random.random() < 0.1:
            self.n_bases += 1
            commit = f"base-{self.n_bases}"
            self.trees[commit] = frozenset(f"base-{i + 1}" for i in range(self.n_bases))
            self._record(BaseMoved(branch="main", commit=commit))

    def _let_time_pass(self) -> None:
        """Several probes may end before anybody asks what to do."""
        for _ in range(self.random.randint(1, max(1, len(self.running)))):
            if self.running:
                self._end_a_probe()

    @property
    def events(self) -> list[Event]:
        return [e for e in self.log if not isinstance(e, Candidate)]

    def of(self, *kinds: type[Event]) -> list[Event]:
        return [e for e in self.events if isinstance(e, kinds)]

    @property
    def landed(self) -> frozenset[str]:
        return self.trees[self.train.green]

    @property
    def landed_units(self) -> set[str]:
        """What landed, in whichever attempt."""
        return {name.partition("#")[0] for name in self.landed}

    def _record(self, *events: Event) -> None:
        for event in events:
            self.log.append(event)
            self.train.apply(event)

    # -- steps --------------------------------------------------------------------------------

    def _perform(self, step: object) -> None:
        match step:
            case Merge():
                self._record(self._merge(step))
            case ProbeTree():
                self._probe(step)
            case Decide(event=event):
                self._decide(event)
            case CancelProbe(number=number):
                self.running.pop(number)
                self._record(ProbeEnded(probe=number, verdict="cancelled"))
            case Land():
                self._land(step)
            case _:
                raise AssertionError(step)

    def _decide(self, event: Event) -> None:
        self._record(event)
        if self.retries and isinstance(event, CandidateEjected | CandidateClashed):
            self.waiting += [f"{event.unit}#2"] if event.attempt == 1 else []

    def _name(self, unit: str, attempt: int) -> str:
        return unit if attempt == 1 else f"{unit}#{attempt}"

    def _merge(self, step: Merge) -> Event:
        candidate, onto, line = step.candidate, step.onto, step.line
        there, unit, attempt = self.trees[onto], candidate.unit, candidate.attempt
        if candidate.is_base:
            new = self.trees[candidate.head]
        else:
            new = frozenset({self._name(unit, attempt)})
        if new <= there:
            return CandidateEmpty(unit=unit, attempt=attempt, onto=onto, line=line)
        if any(frozenset({a, b}) in self.clashes for a in new for b in there):
            return CandidateConflicted(
                unit=unit, attempt=attempt, onto=onto, files=("x",), line=line
            )
        commit = f"{onto}+{self._name(unit, attempt)}"
        self.trees[commit] = there | new
        return CandidateStacked(
            unit=unit, attempt=attempt, onto=onto, commit=commit, tree=commit, line=line
        )

    def _probe(self, step: ProbeTree) -> None:
        assert len(self.running) < self.slots, "more probes than slots"
        self.n_probes += 1
        started = ProbeStarted(
            probe=self.n_probes,
            kind=step.kind.value,
            commit=step.commit,
            tree=step.tree or step.commit,
            units=step.units,
        )
        if step.kind not in {ProbeKind.CONTROL, ProbeKind.PARTNER}:
            above = self.trees[step.commit] - self.trees[step.below]
            alone = [u for u in above if u.partition("#")[0] in self.apart]
            assert not alone or len(above) == 1, "what is apart shares its tree with others"
        self.running[started.probe] = started
        self._record(started)

    def _end_a_probe(self) -> None:
        number = self.random.choice(sorted(self.running))
        tree = self.trees[self.running.pop(number).commit]
        if self.outage == 0 and self.random.random() < self.outage_rate:
            self.outage, self.outage_rate = self.random.randint(1, 40), 0.0
        good = self.is_good(tree) and self.random.random() >= self.flake_rate and not self.outage
        self.outage = max(0, self.outage - 1)
        self._record(ProbeEnded(probe=number, verdict="passed" if good else "red", reason="r"))

    def is_good(self, tree: Tree) -> bool:
        return not (tree & self.bad) and not any(pair <= tree for pair in self.bad_pairs)

    def _land(self, step: Land) -> None:
        intent = LandingIntended(
            old=step.old, new=step.new, tree=step.tree, probe=step.probe, units=step.units
        )
        if intent not in self.events:
            self._record(intent)
            if self.random.random() < self.crash_rate:
                self._crash()
                return
        before, after = self.trees[step.old], self.trees[step.new]
        assert before < after, "green only grows"
        self._assert_probed(step)
        self.green_values.append(after)
        landed = Landed(
            old=step.old, new=step.new, tree=step.tree, probe=step.probe, units=step.units
        )
        self._record(landed)

    def _assert_probed(self, step: Land) -> None:
        """The landed tree is one that was probed and passed, and no pass of parts."""
        started = {e.probe: e for e in self.events if isinstance(e, ProbeStarted)}
        passed = {
            e.probe for e in self.events if isinstance(e, ProbeEnded) and e.verdict == "passed"
        }
        assert step.probe in passed
        assert started[step.probe].tree == step.tree
        assert started[step.probe].kind == ProbeKind.STACK

    def _crash(self) -> None:
        """A new train is made of what was recorded; probes under way are lost."""
        for number in [*self.running]:
            self.running.pop(number)
            self.log.append(ProbeEnded(probe=number, verdict="cancelled"))
        self.train = self._new_train()
        for entry in self.log:
            if isinstance(entry, Candidate):
                self.train.enqueue(entry)
            else:
                self.train.apply(entry)


UNITS = [f"u{i:02d}" for i in range(80)]


def pairs_of(units: st.SearchStrategy[str], max_size: int = 3) -> st.SearchStrategy[Pairs]:
    two = st.frozensets(units, min_size=2, max_size=2)
    return st.frozensets(two, max_size=max_size)


some_units = st.frozensets(st.sampled_from(UNITS[:24]), max_size=6)
some_pairs = pairs_of(st.sampled_from(UNITS[:24]))
crash_rates = st.sampled_from([0.0, 0.0, 0.02, 0.2])


def involved(pairs: Iterable[frozenset[str]]) -> set[str]:
    return {unit for pair in pairs for unit in pair}


@settings(max_examples=200, deadline=None)
@given(
    bad=some_units,
    pairs=some_pairs,
    clashes=some_pairs,
    apart=st.frozensets(st.sampled_from(UNITS[:24]), max_size=2),
    slots=st.integers(1, 16),
    seed=st.integers(0, 2**16),
    crash_rate=crash_rates,
    base_moves=st.integers(0, 3),
    n=st.integers(1, 80),
    n_good=st.sampled_from([0, 0, 100, 10_000]),
    at_once=st.sampled_from([1, 3, 1_000]),
)
def test_everything_good_lands_and_nothing_bad_does(
    bad: frozenset[str],
    pairs: Pairs,
    clashes: Pairs,
    apart: frozenset[str],
    slots: int,
    seed: int,
    crash_rate: float,
    base_moves: int,
    n: int,
    n_good: int,
    at_once: int,
) -> None:
    world = World(
        bad=bad,
        bad_pairs=pairs,
        clashes=clashes,
        apart=apart,
        slots=slots,
        seed=seed,
        crash_rate=crash_rate,
        base_moves=base_moves,
        n_good=n_good,
        arrive_at_once=at_once,
        weights={unit: float(seed * i % 5) for i, unit in enumerate(UNITS)},
    )
    units = UNITS[:n]
    train = world.run(units)
    assert train.is_empty
    assert not world.landed & bad
    assert not any(pair <= world.landed for pair in pairs | clashes)
    assert {*units} - bad - involved(pairs | clashes) <= world.landed
    assert {f"base-{i + 1}" for i in range(base_moves)} <= world.landed
    assert world.green_values == sorted(world.green_values, key=len)
    for ejected in world.of(CandidateEjected):
        assert isinstance(ejected, CandidateEjected)
        head = world.candidates[ejected.unit].head
        assert not world.is_good(world.trees[head]), "only who is bad alone is ejected for it"
    for clash in world.of(CandidateClashed):
        assert isinstance(clash, CandidateClashed)
        assert frozenset({clash.unit, clash.partner}) in pairs, "the partner is the right one"


@settings(max_examples=100, deadline=None)
@given(
    bad=some_units,
    pairs=some_pairs,
    slots=st.integers(1, 16),
    seed=st.integers(0, 2**16),
    crash_rate=crash_rates,
    at_once=st.sampled_from([2, 1_000]),
)
def test_who_was_refused_and_mended_lands_in_the_end(
    bad: frozenset[str], pairs: Pairs, slots: int, seed: int, crash_rate: float, at_once: int
) -> None:
    world = World(
        bad=bad,
        bad_pairs=pairs,
        slots=slots,
        seed=seed,
        crash_rate=crash_rate,
        arrive_at_once=at_once,
        retries=True,
    )
    world.run(UNITS[:24])
    assert world.landed_units == {*UNITS[:24]}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    slots=st.integers(1, 16),
    rate=st.sampled_from([0.01, 0.05]),
    crash_rate=crash_rates,
)
def test_flakes_cost_no_good_unit_its_place(
    seed: int, slots: int, rate: float, crash_rate: float
) -> None:
    """Only two reds can blame anybody, and then it is told what they were."""
    world = World(flake_rate=rate, seed=seed, slots=slots, crash_rate=crash_rate)
    world.run(UNITS)
    refused = world.of(CandidateEjected, CandidateClashed)
    ended = {e.probe: e.verdict for e in world.events if isinstance(e, ProbeEnded)}
    assert world.landed == {*UNITS} - {e.unit for e in refused}  # type: ignore[attr-defined]
    for event in refused:
        assert isinstance(event, CandidateEjected | CandidateClashed)
        assert ended[event.probe] == "red"
    assert len(refused) <= 3


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    slots=st.integers(1, 16),
    bad=some_units,
    at_once=st.sampled_from([1, 1_000]),
)
def test_a_place_that_is_broken_for_a_while_blames_nobody(
    seed: int, slots: int, bad: frozenset[str], at_once: int
) -> None:
    """However long every verdict is red; only two such times could be taken for bad work."""
    world = World(seed=seed, slots=slots, bad=bad, outage_rate=0.05, arrive_at_once=at_once)
    world.run(UNITS[:40])
    assert world.landed == {*UNITS[:40]} - bad


def test_a_red_green_stops_landing_and_blames_nobody() -> None:
    world = World(outage=1_000_000)
    world.train = train = Train(green=START)
    for unit in UNITS[:8]:
        train.enqueue(Candidate(unit=unit, attempt=1, head=unit, base=START))
    for _ in range(200):
        steps = next_steps(train, free_probes=1 - len(world.running), slots=1)
        for step in steps:
            world._perform(step)
        if not steps:
            world._let_time_pass()
    kinds = [e.kind for e in world.events if isinstance(e, ProbeStarted)]
    assert train.control_reds > 1
    assert {*kinds[-5:]} == {"control"}
    assert not world.of(CandidateEjected, Landed)
    assert not train.aside
    assert len(train.queue) + len(train.landing.stack) == 8


def enqueue(train: Train, *units: str, base: str = START) -> None:
    for unit in units:
        train.enqueue(Candidate(unit=unit, attempt=1, head=f"head-{unit}", base=base))


def test_an_idle_train_probes_a_lone_candidate_at_once() -> None:
    train = Train(green=START)
    enqueue(train, "a")
    (merge,) = next_steps(train, free_probes=1, slots=1)
    assert isinstance(merge, Merge)
    assert (merge.candidate.unit, merge.onto, merge.line) == ("a", START, 0)
    train.apply(CandidateStacked(unit="a", attempt=1, onto=START, commit="c", tree="t"))
    (probe,) = next_steps(train, free_probes=1, slots=1)
    kind = ProbeKind.STACK
    assert probe == ProbeTree(kind=kind, commit="c", tree="t", units=("a",), below=START)


def stack(train: Train, *units: str, onto: str = START, line: int = 0, attempt: int = 1) -> str:
    """Merge units one on another; returns the last commit."""
    for unit in units:
        commit = f"{onto}+{unit}"
        train.apply(
            CandidateStacked(
                unit=unit, attempt=attempt, onto=onto, commit=commit, tree=commit, line=line
            )
        )
        onto = commit
    return onto


def probe(
    train: Train, number: int, commit: str, verdict: str, *, kind: str = "stack", place: str = ""
) -> None:
    """Probe a commit to its end."""
    train.apply(ProbeStarted(probe=number, kind=kind, commit=commit, tree=commit))
    train.apply(ProbeEnded(probe=number, verdict=verdict, place=place))


def merges_of(train: Train) -> list[tuple[str, str]]:
    """The merges to make now: who, and on what."""
    steps = next_steps(train, free_probes=0, slots=1)
    return [(step.candidate.unit, step.onto) for step in steps if isinstance(step, Merge)]


def second_culprit() -> Train:
    """A train that set one culprit aside and has found another since; nothing passed between."""
    train = Train(green=START)
    enqueue(train, "a", "b")
    probe(train, 1, stack(train, "a"), "red", place="here")
    train.apply(CulpritSetAside(unit="a", attempt=1, commit="c", tree="c", probe=1))
    probe(train, 2, stack(train, "b"), "red", place="here")
    return train


def test_before_an_unlikely_second_culprit_in_a_row_green_is_probed_in_its_place() -> None:
    train = second_culprit()
    (control,) = next_steps(train, free_probes=1, slots=1)
    assert isinstance(control, ProbeTree)
    assert (control.kind, control.commit, control.place) == (ProbeKind.CONTROL, START, "here")
    probe(train, 3, START, "passed", kind="control", place="here")
    (decision,) = next_steps(train, free_probes=1, slots=1)
    assert isinstance(decision, Decide)
    assert isinstance(decision.event, CulpritSetAside)
    assert decision.event.unit == "b"


def test_when_green_is_red_the_reds_before_it_are_void() -> None:
    train = second_culprit()
    probe(train, 3, START, "red", kind="control", place="here")
    probe(train, 4, START, "passed", kind="control", place="here")
    assert not train.aside
    assert merges_of(train) == [("a", f"{START}+b")]
    stack(train, "a", onto=f"{START}+b")
    assert probes_of(train) == [("stack", f"{START}+b+a")]


def conflict(train: Train, unit: str, onto: str, path: str) -> None:
    train.apply(CandidateConflicted(unit=unit, attempt=1, onto=onto, files=(path,)))


def enqueue_with_files(train: Train, **files: str) -> None:
    for unit, path in files.items():
        head = f"head-{unit}"
        train.enqueue(Candidate(unit=unit, attempt=1, head=head, base=START, files=(path,)))


def test_who_clashes_is_not_merged_on_the_one_it_clashes_with_but_on_others() -> None:
    train = Train(green=START)
    enqueue_with_files(train, a="x", b="x", c="y", d="z")
    tip = stack(train, "a")
    conflict(train, "b", tip, "x")
    assert merges_of(train) == [("c", tip)]
    probe(train, 1, tip, "red")
    train.apply(CulpritSetAside(unit="a", attempt=1, commit=tip, tree=tip, probe=1))
    tip = stack(train, "c")
    assert merges_of(train) == [("b", tip)]


def test_who_clashed_with_the_line_for_no_known_reason_is_tried_again_after_a_landing() -> None:
    train = Train(green=START)
    enqueue_with_files(train, a="x", b="y", c="z")
    tip = stack(train, "a")
    conflict(train, "b", tip, "elsewhere")
    assert merges_of(train) == [("c", tip)]
    top = stack(train, "c", onto=tip)
    assert merges_of(train) == []
    train.apply(Landed(old=START, new=tip, tree=tip, probe=1, units=("a",)))
    assert merges_of(train) == [("b", top)]


def test_new_work_of_a_unit_clashes_with_nobody_yet() -> None:
    train = Train(green=START)
    enqueue_with_files(train, a="x", b="x")
    tip = stack(train, "a")
    conflict(train, "b", tip, "x")
    assert merges_of(train) == []
    probe(train, 1, tip, "red")
    train.apply(CulpritSetAside(unit="a", attempt=1, commit=tip, tree=tip, probe=1))
    train.apply(CandidateEjected(unit="a", attempt=1, probe=1, reason="red"))
    train.enqueue(Candidate(unit="a", attempt=2, head="other", base=START, files=("y",)))
    tip = stack(train, "a", attempt=2)
    assert merges_of(train) == [("b", tip)]


def kinds_of(world: World) -> list[str]:
    return [e.kind for e in world.events if isinstance(e, ProbeStarted)]


def test_the_last_red_of_a_search_needs_no_run() -> None:
    world = World(bad=frozenset({"u01"}))
    world.run(UNITS[:2])
    assert kinds_of(world) == ["stack", "stack", "alone"]  # both red, u00 green: it must be u01
    assert world.landed == {"u00"}


def test_a_lone_culprit_is_blamed_only_after_green_passed_in_its_place() -> None:
    world = World(bad=frozenset({"u00"}))
    world.run(UNITS[:1])
    assert kinds_of(world) == ["stack", "control", "confirm"]
    assert len(world.of(CandidateEjected)) == 1


def test_who_is_bad_alone_needs_one_run_more_and_no_control_when_others_passed() -> None:
    world = World(bad=frozenset({"u03"}))
    world.run(UNITS[:8])
    assert [k for k in kinds_of(world) if k != "stack"] == ["alone"]


def test_a_culprit_is_judged_only_when_the_search_has_nothing_to_do() -> None:
    world = World(bad=frozenset({"u03"}))
    world.run(UNITS[:8])
    events = [e for e in world.events if isinstance(e, ProbeStarted | Landed)]
    alone = next(i for i, e in enumerate(events) if getattr(e, "kind", "") == "alone")
    assert all(not isinstance(e, Landed) for e in events[alone:])


def test_a_culprit_that_most_waits_for_is_judged_at_once() -> None:
    world = World(bad=frozenset({"u00"}), weights={"u00": 9.0}, slots=1)
    world.run(UNITS[:30])
    kinds = kinds_of(world)
    assert kinds.index("confirm") < len(kinds) - 2


def test_of_a_bad_pair_the_later_one_goes_and_is_told_who_was_first() -> None:
    pair = frozenset({frozenset({"u01", "u05"})})
    world = World(bad_pairs=pair)
    world.run(UNITS[:8])
    (clash,) = world.of(CandidateClashed)
    assert isinstance(clash, CandidateClashed)
    assert (clash.unit, clash.partner) == ("u05", "u01")
    assert world.landed == {*UNITS[:8]} - {"u05"}
    assert not world.of(CandidateEjected)


def test_what_most_waits_for_lands_first() -> None:
    world = World(weights={"u07": 5.0, "u04": 2.0})
    world.run(UNITS[:8])
    (first, *_) = [e for e in world.events if isinstance(e, CandidateStacked)]
    assert first.unit == "u07"


def test_what_clashes_with_the_stack_only_waits_for_green() -> None:
    """Its clash is with a unit that never lands, so it is no conflict of its own."""
    clash = frozenset({frozenset({"u00", "u01"})})
    world = World(bad=frozenset({"u00"}), clashes=clash)
    world.run(UNITS[:3])
    assert world.landed == {"u01", "u02"}


def test_a_set_aside_culprit_names_the_probe_that_was_red() -> None:
    world = World(bad=frozenset({"u02"}))
    world.run(UNITS[:5])
    (aside,) = world.of(CulpritSetAside)
    assert isinstance(aside, CulpritSetAside)
    ended = {e.probe: e for e in world.events if isinstance(e, ProbeEnded)}
    assert ended[aside.probe].verdict == "red"
    assert world.trees[aside.tree] - {"u02"} <= world.landed


def test_ten_units_one_bad_need_at_most_six_runs_before_the_rest_has_landed() -> None:
    for position in range(10):
        world = World(bad=frozenset({UNITS[position]}))
        world.run(UNITS[:10])
        assert len(world.landed) == 9
        assert kinds_of(world).count("stack") <= 6
        assert world.n_probes <= 7


def test_agents_that_idle_are_told_of_a_culprit_before_the_rest_is_verified() -> None:
    """Of ten units one is bad: six runs in the mean until a fix-up agent can start, never eight."""
    until_told = []
    for position in range(10):
        world = World(bad=frozenset({UNITS[position]}), agents_idle=True)
        world.run(UNITS[:10])
        (told,) = (i for i, e in enumerate(world.events) if isinstance(e, CandidateEjected))
        until_told.append(sum(isinstance(e, ProbeStarted) for e in world.events[:told]))
        assert len(world.landed) == 9
    assert sum(until_told) <= 60
    assert max(until_told) <= 7


def test_a_backlog_is_screened_in_disjoint_groups_and_lands_as_their_union() -> None:
    world = World(slots=8)
    world.run(UNITS)
    starts = [e for e in world.events if isinstance(e, ProbeStarted)]
    screens = [e.units for e in starts if e.kind == "screen"]
    assert len(screens) >= 7
    assert len({u for group in screens for u in group}) == sum(map(len, screens))
    assert world.landed == {*UNITS}
    assert max(len(e.units) for e in starts if e.kind == "stack") > 40


def test_a_backlog_is_shared_evenly_among_the_probes_that_are_free() -> None:
    world = World(slots=8)
    world.run(UNITS)
    first = [e for e in world.events if isinstance(e, ProbeStarted)][:8]
    assert [(e.kind, len(e.units)) for e in first] == [("screen", 10)] * 8


def test_no_line_grows_while_it_is_screened() -> None:
    world = World(slots=4, arrive_at_once=7)
    world.run(UNITS)
    probed: set[str] = set()
    for event in world.events:
        if isinstance(event, ProbeStarted) and event.kind == "screen":
            probed.add(event.commit)
        assert not (isinstance(event, CandidateStacked) and event.onto in probed)
    assert probed


def test_what_is_cleared_is_taken_before_all_of_which_nothing_is_known() -> None:
    train = Train(green=START)
    enqueue(train, "a", "b")
    train.enqueue(Candidate(unit="heavy", attempt=1, head="h", base=START, weight=9.0))
    stack(train, "a", line=1)
    probe(train, 1, f"{START}+a", "passed", kind="screen")
    assert [candidate.unit for candidate in train.queue] == ["a", "heavy", "b"]


def test_few_probes_or_little_to_do_are_never_spent_on_screening() -> None:
    few, little = World(slots=2), World(slots=16)
    few.run(UNITS)
    little.run(UNITS[:10])
    assert "screen" not in kinds_of(few) + kinds_of(little)


def test_a_screened_culprit_that_passes_alone_is_cleared() -> None:
    pairs = frozenset({frozenset({"u00", "u01"})})
    world = World(slots=4, bad_pairs=pairs, arrive_at_once=40)
    world.train.apply(_landed_unit("z"))
    world.log.append(_landed_unit("z"))
    world.trees["start+z"] = frozenset({"z"})
    world.run(UNITS[:40])
    assert len(world.landed & {"u00", "u01"}) == 1
    assert len(world.of(CandidateClashed)) == 1


def _landed_unit(unit: str) -> Landed:
    commit = f"{START}+{unit}"
    return Landed(old=START, new=commit, tree=commit, probe=0, units=())


def test_a_flake_of_tests_that_the_candidate_changed_is_its_own_fault() -> None:
    train = Train(green=START)
    own = Candidate(unit="a", attempt=1, head="h", base=START, files=("tests/test_a.py",))
    train.enqueue(own)
    failing = ("tests.test_a::test_x",)
    for event in (
        CandidateStacked(unit="a", attempt=1, onto=START, commit="c", tree="c"),
        ProbeStarted(probe=1, kind="stack", commit="c", tree="c"),
        ProbeEnded(probe=1, verdict="red", failing=failing),
        CulpritSetAside(unit="a", attempt=1, commit="c", tree="c", probe=1),
        ProbeStarted(probe=2, kind="confirm", commit="c", tree="c"),
        ProbeEnded(probe=2, verdict="passed"),
    ):
        train.apply(event)
    (decision,) = next_steps(train, free_probes=1, slots=1)
    assert isinstance(decision, Decide)
    assert isinstance(decision.event, CandidateEjected)
    assert "test_x" in decision.event.reason


def test_a_place_that_is_gone_after_a_resume_is_not_asked_about_for_ever() -> None:
    train = Train(green=START)
    enqueue(train, "a")
    for event in (
        CandidateStacked(unit="a", attempt=1, onto=START, commit="c", tree="c"),
        ProbeStarted(probe=1, kind="stack", commit="c", tree="c"),
        ProbeEnded(probe=1, verdict="red", place="gone"),
        CulpritSetAside(unit="a", attempt=1, commit="c", tree="c", probe=1),
        MissionResumed(pid=1, settings={}),
    ):
        train.apply(event)
    assert probes_of(train) == [("control", START)]
    train.apply(ProbeStarted(probe=2, kind="control", commit=START, tree=START))
    train.apply(ProbeEnded(probe=2, verdict="passed", place="here"))
    assert probes_of(train) == [("confirm", "c")]


def probes_of(train: Train) -> list[tuple[str, str]]:
    steps = next_steps(train, free_probes=1, slots=1)
    return [(step.kind.value, step.commit) for step in steps if isinstance(step, ProbeTree)]


def flakes(train: Train, attempt: int) -> object:
    """Make the tree of unit a's attempt red, then green; returns what is decided."""
    commit, number = f"c{attempt}", len(train.history.values) + 100 * attempt
    aside = CulpritSetAside(unit="a", attempt=attempt, commit=commit, tree=commit, probe=number)
    for event in (
        CandidateStacked(unit="a", attempt=attempt, onto=START, commit=commit, tree=commit),
        ProbeStarted(probe=number, kind="stack", commit=commit, tree=commit),
        ProbeEnded(probe=number, verdict="red"),
        aside,
        ProbeStarted(probe=number + 1, kind="confirm", commit=commit, tree=commit),
        ProbeEnded(probe=number + 1, verdict="passed"),
    ):
        train.apply(event)
    (decision,) = next_steps(train, free_probes=1, slots=1)
    assert isinstance(decision, Decide)
    train.apply(decision.event)
    return decision.event


def test_a_tree_that_flakes_a_fourth_time_is_refused() -> None:
    train = Train(green=START)
    enqueue(train, "a")
    events = [flakes(train, 1) for _ in range(4)]
    assert [isinstance(event, FlakeSeen) for event in events] == [True, True, True, False]
    assert isinstance(events[-1], CandidateEjected)
    assert "4 times" in events[-1].reason
    assert train.is_empty


def test_the_flakes_of_an_earlier_attempt_are_not_held_against_a_new_one() -> None:
    train = Train(green=START)
    enqueue(train, "a")
    for _ in range(4):
        flakes(train, 1)
    train.enqueue(Candidate(unit="a", attempt=2, head="mended", base=START))
    assert isinstance(flakes(train, 2), FlakeSeen)


def test_a_base_that_is_red_with_what_landed_is_left_out_and_named() -> None:
    world = World(bad=frozenset({"base-1"}), base_moves=1)
    world.run(UNITS[:6])
    (refused,) = world.of(BaseRefused)
    assert isinstance(refused, BaseRefused)
    assert refused.commit == "base-1"
    assert world.landed == {*UNITS[:6]}


def test_only_the_newest_of_many_bases_is_merged() -> None:
    train = Train(green=START)
    for commit in ("b1", "b2", "b3"):
        train.apply(BaseMoved(branch="main", commit=commit))
    (candidate,) = train.queue
    assert (candidate.unit, candidate.head) == (BASE, "b3")


def test_an_older_base_that_leaves_the_stack_is_not_asked_about_again() -> None:
    train = Train(green=START)
    train.apply(BaseMoved(branch="main", commit="b1"))
    train.apply(CandidateStacked(unit=BASE, attempt=1, onto=START, commit="c1", tree="c1"))
    train.apply(ProbeStarted(probe=1, kind="stack", commit="c1", tree="c1"))
    train.apply(BaseMoved(branch="main", commit="b2"))
    train.apply(ProbeEnded(probe=1, verdict="red"))
    train.apply(CulpritSetAside(unit=BASE, attempt=1, commit="c1", tree="c1", probe=1))
    assert not train.aside
    assert [candidate.head for candidate in train.queue] == ["b2"]


def test_of_two_bases_only_the_newer_goes_back_into_the_queue() -> None:
    train = Train(green=START)
    enqueue(train, "a")
    train.apply(CandidateStacked(unit="a", attempt=1, onto=START, commit="c1", tree="c1"))
    train.apply(BaseMoved(branch="main", commit="b1"))
    train.apply(CandidateStacked(unit=BASE, attempt=1, onto="c1", commit="c2", tree="c2"))
    train.apply(ProbeStarted(probe=1, kind="stack", commit="c1", tree="c1"))
    train.apply(BaseMoved(branch="main", commit="b2"))
    train.apply(ProbeEnded(probe=1, verdict="red"))
    train.apply(CulpritSetAside(unit="a", attempt=1, commit="c1", tree="c1", probe=1))
    assert [candidate.head for candidate in train.queue] == ["b2"]


@pytest.mark.parametrize("slots", [1, 4])
def test_a_base_that_moves_all_the_time_holds_nothing_up(slots: int) -> None:
    """It moves twice as often as a verification ends; a fifth of the throughput is the most."""
    still = World(slots=slots, seed=1, arrive_at_once=3)
    moving = World(slots=slots, seed=1, arrive_at_once=3, base_moves=120)
    still.run(UNITS)
    moving.run(UNITS)
    last = [e.probe for e in moving.events if isinstance(e, Landed) and {*e.units} - {BASE}][-1]
    assert {*UNITS} <= moving.landed
    assert last <= 1.2 * still.n_probes + 2


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5])
@given(red=st.integers(2, 64), n_probes=st.integers(1, 16))
def test_split_points_are_proper_prefixes_in_order(rate: float, red: int, n_probes: int) -> None:
    points = split_points(red, n_probes, rate)
    assert points
    assert points == sorted(set(points))
    assert all(1 <= point < red for point in points)
    assert len(points) <= n_probes


@given(red=st.integers(2, 64))
def test_one_probe_at_a_time_finds_the_culprit_in_as_many_runs_as_bits(red: int) -> None:
    def worst(n: int) -> int:
        if n == 1:
            return 0
        (half,) = split_points(n, 1, 0.01)
        return 1 + max(worst(half), worst(n - half))

    assert worst(red) == (red - 1).bit_length()


@pytest.mark.parametrize(
    ("rate", "length"), [(0.02, 34), (0.05, 14), (0.1, 7), (0.2, 3), (0.3, 2), (0.4, 1), (0.9, 1)]
)
def test_a_batch_is_as_long_as_the_run_length_code_says(rate: float, length: int) -> None:
    assert batch_length(rate) == length


@pytest.mark.parametrize(("n_probes", "length"), [(1, 14), (2, 22), (3, 28)])
def test_a_batch_is_longer_for_several_probes_at_once(n_probes: int, length: int) -> None:
    assert batch_length(0.05, n_probes) == length


def test_a_longer_prefix_that_passes_clears_a_shorter_red_one() -> None:
    train = Train(green=START)
    enqueue(train, "a", "b", "c", "d")
    onto = START
    for unit in ("a", "b", "c", "d"):
        commit = f"{onto}+{unit}"
        train.apply(CandidateStacked(unit=unit, attempt=1, onto=onto, commit=commit, tree=commit))
        onto = commit
        if unit in {"b", "d"}:
            number = 1 if unit == "b" else 2
            train.apply(ProbeStarted(probe=number, kind="stack", commit=commit, tree=commit))
    train.apply(ProbeEnded(probe=1, verdict="red"))
    train.apply(ProbeEnded(probe=2, verdict="passed"))
    (land,) = next_steps(train, free_probes=0, slots=1)
    assert isinstance(land, Land)
    train.apply(Landed(old=START, new=land.new, tree=land.tree, probe=land.probe, units=land.units))
    assert train.is_empty
    assert not next_steps(train, free_probes=1, slots=1)


def test_the_batch_shrinks_as_culprits_are_found() -> None:
    train = Train(green=START)
    before = train.batch
    train.n_culprits = 5
    assert train.batch < before
    train.n_good = 1_000
    assert train.batch > before
