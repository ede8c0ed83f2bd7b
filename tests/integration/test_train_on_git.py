"""The whole driver on real git repositories, against a world that goes wrong in every way at once.

Bad units, bad pairs, units that edit the same line, flakes, faults, a base branch that moves,
repairs, stops, and drivers that die between any two records. What is promised is then read from the
ledger's file and from git.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flows.decisions import decide
from flows.landing.steps import BASE
from flows.ledger.events import (
    CandidateClashed,
    CandidateConflicted,
    CandidateEjected,
    CandidateStacked,
    Landed,
    LandingIntended,
    MissionFinished,
    ProbeEnded,
    ProbeStarted,
    RepairEnded,
    StopReason,
    UnitEnded,
)
from flows.ledger.log import Record, read_ledger
from flows.ledger.state import BASE_REPAIR, MissionState, fold
from tests.git_world import GREEN_REF, Odds, World, read_ref, template
from tests.missions import (
    _assert_attempts_in_order,
    _assert_dependents_came_after,
    _assert_nothing_open,
)

AT_ENDS = {StopReason.OBJECTIVE_MET, StopReason.NOTHING_LEFT, StopReason.MAX_ROUNDS}


@pytest.fixture(scope="module")
def model() -> Iterator[Path]:
    """Where all worlds are, with what they begin as; in memory, since drivers sync every record."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield template(Path(folder))


def chances(*values: float) -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, *values])


worlds = st.builds(
    Odds,
    n_units=st.integers(1, 8) | st.integers(1, 12),
    probes=st.integers(1, 6),
    agents=st.integers(1, 6),
    bad=chances(0.2, 0.6),
    pairs=st.integers(0, 3),
    same_line=chances(0.3, 0.9),
    twins=chances(0.2),
    writes=chances(0.5, 1.0),
    edges=chances(0.1, 0.3),
    flake=chances(0.05, 0.2),
    faults=chances(0.1),
    off_line=chances(0.2),
    base_moves=st.integers(0, 2),
    base_trouble=chances(0.5),
    red_base=st.sampled_from([False, False, False, True]),
    crashes=st.sampled_from([0, 1, 2, 8, 30]),
    stops=st.integers(0, 2),
    resumes=st.integers(0, 2),
    candidates=st.integers(0, 2),
    mends=chances(0.5, 1.0),
    merge=st.booleans(),
    tight=st.sampled_from([False, False, False, True]),
    prompt=chances(0.3, 0.9),
    rounds=st.sampled_from([1, 1, 1, 2]),
)


crowds = st.builds(
    Odds,
    n_units=st.integers(16, 24),
    probes=st.integers(4, 8),
    agents=st.sampled_from([4, 24]),
    bad=chances(0.2, 0.6),
    pairs=st.integers(0, 3),
    same_line=chances(0.3),
    edges=st.just(0.0),
    flake=chances(0.05),
    base_moves=st.integers(0, 2),
    crashes=st.sampled_from([0, 1, 8]),
    candidates=st.integers(0, 2),
    prompt=chances(0.3, 0.9),
)
ruins = st.builds(
    Odds,
    n_units=st.integers(1, 3),
    probes=st.integers(1, 3),
    agents=st.integers(1, 3),
    flake=chances(0.3),
    faults=chances(0.1),
    base_moves=st.integers(0, 1),
    red_base=st.just(True),
    crashes=st.sampled_from([8, 30]),
    stops=st.integers(0, 2),
    resumes=st.just(2),
    candidates=st.integers(1, 2),
    mends=chances(0.5, 1.0),
    prompt=chances(0.3, 0.9),
)
seeds = st.integers(0, 2**20)

AS_FOUND = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a seed does not shrink
    suppress_health_check=[HealthCheck.too_slow],
)


@settings(AS_FOUND, max_examples=45)
@given(odds=worlds, seed=seeds)
def test_whatever_goes_wrong_the_promises_hold(model: Path, odds: Odds, seed: int) -> None:
    run(model, odds, seed)


@settings(AS_FOUND, max_examples=5)
@given(odds=crowds, seed=seeds)
def test_the_promises_hold_where_many_are_screened_at_once(
    model: Path, odds: Odds, seed: int
) -> None:
    run(model, odds, seed)


@settings(AS_FOUND, max_examples=10)
@given(odds=ruins, seed=seeds)
def test_the_promises_hold_where_the_base_is_red(model: Path, odds: Odds, seed: int) -> None:
    run(model, odds, seed)


def run(model: Path, odds: Odds, seed: int) -> None:
    with tempfile.TemporaryDirectory(dir=model) as folder:
        world = World(folder=Path(folder), model=model, odds=odds, seed=seed)
        world.live()
        hold_promises(world)


def hold_promises(world: World) -> None:
    records = read_ledger(world.ledger_file)
    raw = [json.loads(line) for line in world.ledger_file.read_bytes().splitlines()]
    state = fold(records)
    _assert_attempts_in_order(raw)
    _assert_dependents_came_after(raw)
    _assert_nothing_open(raw)
    assert_landed_is_what_passed(world, records)
    assert_green_only_grows(world, records)
    assert_what_was_refused_stayed_out(world, records)
    assert_nobody_is_blamed_without_reason(world, records)
    assert_every_unit_is_accounted_for(world, records, state)
    assert_the_base_is_in(world, state)
    assert_the_same_is_decided_again(world, records)


def of(records: Sequence[Record], kind: type[Any]) -> Iterator[tuple[int, Any]]:
    return ((r.seq, r.event) for r in records if isinstance(r.event, kind))


def assert_landed_is_what_passed(world: World, records: Sequence[Record]) -> None:
    """I1 and I3: each value of green is good, and has the tree of a whole pass before it."""
    started = {e.probe: e for _, e in of(records, ProbeStarted)}
    passed = {e.probe: n for n, e in of(records, ProbeEnded) if e.verdict == "passed"}
    for number, intent in of(records, LandingIntended):
        assert passed[intent.probe] < number
        probed = started[intent.probe]
        assert probed.kind in {"stack", "base"} or (probed.kind == "repair" and intent.old is None)
        tree = world.objects.tree_of(intent.new)
        assert tree == intent.tree == probed.tree == world.objects.tree_of(probed.commit)
        assert world.is_good(intent.new)
    intents = {e.new for _, e in of(records, LandingIntended)}
    assert intents == {e.new for _, e in of(records, Landed)}, "what was begun is brought to an end"


def assert_green_only_grows(world: World, records: Sequence[Record]) -> None:
    """I2: each value contains the one before; here and at the target it is the last one."""
    landed = [e for _, e in of(records, Landed)]
    for before, after in pairwise(landed):
        assert after.old == before.new
        assert before.new in world.objects.ancestors(after.new)
    last = landed[-1].new if landed else None
    assert read_ref(world.ours, GREEN_REF) == last
    assert read_ref(world.target, GREEN_REF) == last
    (finished,) = (e for n, e in of(records, MissionFinished) if n == len(records))
    assert finished.green == last


def assert_what_was_refused_stayed_out(world: World, records: Sequence[Record]) -> None:
    """I9: neither as an ancestor, nor as a commit made of it, nor by its name."""
    landed = [e.new for _, e in of(records, Landed)]
    inside = world.objects.ancestors(landed[-1]) if landed else set[str]()
    messages = [world.objects.message(commit) for commit in inside]
    refused = {
        (e.unit, e.attempt)
        for _, e in of(records, (CandidateEjected, CandidateClashed))  # type: ignore[arg-type]
    }
    for unit, attempt in refused:
        if (unit, attempt) in world.heads:
            assert world.heads[unit, attempt].head not in inside
        assert not any(f"Unit: {unit}\nAttempt: {attempt}\n" in text for text in messages)
    for _, e in of(records, CandidateStacked):
        if (e.unit, e.attempt) in refused:
            assert e.commit not in inside


def assert_nobody_is_blamed_without_reason(world: World, records: Sequence[Record]) -> None:
    """Without flakes only who is bad alone is ejected, and partners are who they are said to be."""
    ended = {e.probe: e.verdict for _, e in of(records, ProbeEnded)}
    for _, e in of(records, CandidateEjected):
        assert ended[e.probe] == "red"
        made = world.heads.get((e.unit, e.attempt))
        n_to_blame = 1 if world.is_in_pair(e.unit) else 2  # reds that were not its own
        if world.n_flakes < n_to_blame and made is not None and made.tree is not None:
            assert made.head is not None
            assert not world.is_good(made.head), f"{e.unit} is good alone"
    for _, e in of(records, CandidateClashed):
        assert ended[e.probe] == "red"
        if not world.n_flakes:
            assert frozenset({e.unit, e.partner}) in world.pairs


def assert_every_unit_is_accounted_for(
    world: World, records: Sequence[Record], state: MissionState
) -> None:
    assert state.finished is not None
    reason, status = state.finished.stop_reason, {u: s.status for u, s in state.units.items()}
    if reason not in AT_ENDS:
        assert reason in allowed_endings(world, records, state), state.finished
        return
    assert all(c.is_base for c in state.train.queue), "only what was pushed at the end is left"
    assert not state.train.landing.stack
    assert not {*state.train.screening, *state.train.aside, *state.repairs}
    assert {*status} - {BASE_REPAIR} == {u.id for u in world.units}
    collided = {e.unit for _, e in of(records, (CandidateConflicted, CandidateClashed))}  # type: ignore[arg-type]
    for unit in (u.unit for u in state.units.values() if u.unit.id != BASE_REPAIR):
        lost = [d for d in unit.depends_on if status[d] in {"failed", "blocked"}]
        if lost:
            assert status[unit.id] == "blocked"
        elif world.is_blameless(unit.id) and not world.n_flakes + world.n_faults:
            assert status[unit.id] in {"landed", "no change"} or unit.id in collided
    landed = {u for _, e in of(records, Landed) for u in e.units} - {BASE}
    inside = world.objects.files(state.green) if state.green else {}
    repaired = {e.unit for _, e in of(records, RepairEnded)}  # some threw the work away
    made = {f"{u}.txt" for u in landed - repaired - world.twins}
    assert made <= {*inside}, "what landed is there"
    assert landed == {u for u, s in status.items() if s == "landed"}
    ends = [e.unit for _, e in of(records, UnitEnded)]
    assert len(ends) == len({*ends}), "a unit ends once"


def allowed_endings(world: World, records: Sequence[Record], state: MissionState) -> set[str]:
    allowed: set[str] = set()
    if world.odds.tight:
        allowed |= {StopReason.FAILURES_IN_A_ROW}
    if world.bases and (world.odds.base_trouble or world.odds.red_base):
        allowed |= {StopReason.BASE_CONFLICT}
    if state.green is None and (world.odds.red_base or world.n_flakes > 1):
        allowed |= {StopReason.RED_BASE}
    return allowed


def assert_the_base_is_in(world: World, state: MissionState) -> None:
    """What was pushed and is good is merged, and nothing is said against it."""
    assert state.finished is not None
    if state.green is None or not world.bases or world.n_flakes:
        return
    inside, is_late = world.objects.ancestors(state.green), not state.train.is_empty
    if state.finished.stop_reason in AT_ENDS and world.is_good(state.base_tip) and not is_late:
        assert state.base_tip in inside
    if state.base_tip in inside:
        assert "main moved" not in state.finished.detail


def assert_the_same_is_decided_again(world: World, records: Sequence[Record]) -> None:
    """Whoever folds the ledger up to any record decides what the driver of that time decided."""
    told, state = iter(world.told), MissionState()
    seq, around, actions = next(told)
    for record in records:
        state.apply(record)
        while seq == record.seq:
            assert [*decide(state, world.settings, around)] == actions
            seq, around, actions = next(told, (0, around, []))
