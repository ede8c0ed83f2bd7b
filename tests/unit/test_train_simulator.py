"""The simulated verifier of the benchmarks and its policies: figures known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from tests.benchmarks.policies import (
    POLICIES,
    Batches,
    Chain,
    PrefixSearch,
    ProductTrain,
    best_step,
)
from tests.benchmarks.rows import Row
from tests.benchmarks.verifications import (
    Policy,
    Setting,
    World,
    WrongMove,
    backlog,
    drain,
    latency,
)

EVERY_POLICY = pytest.mark.parametrize("name", sorted(POLICIES))


def one_by_one(setting: Setting, units: int, make: Callable[[World], Policy]) -> World:
    world = World(setting)
    policy = make(world)
    for _ in range(units):
        policy.enqueue(world.arrive())
    drain(world, policy)
    return world


def bad_ones(world: World) -> set[int]:
    return {unit for unit, bad in enumerate(world._is_bad) if bad}


def test_a_block_holds_exactly_its_share_of_culprits() -> None:
    world = World(Setting(culprit_rate=0.2, slots=1))
    units = [world.arrive() for _ in range(1000)]
    assert len(bad_ones(world)) == 200
    assert bad_ones(world) != set(units[:200])


def test_a_tree_is_bad_from_its_first_bad_unit_on() -> None:
    world = World(Setting(culprit_rate=0.5, slots=1))
    units = [world.arrive() for _ in range(20)]
    first = min(bad_ones(world))
    tree, trees = world.green, []
    for unit in units:
        tree = world.merge(unit, tree)
        trees.append(tree)
    assert [world._tree_is_bad[t] for t in trees] == [unit >= first for unit in units]


def test_a_bad_pair_is_bad_together_and_each_of_it_good_alone() -> None:
    world = World(Setting(culprit_rate=0.01, slots=1, pair_rate=0.5))
    for _ in range(100):
        world.arrive()
    later, (earlier, *_) = max(world._partners.items())
    assert not bad_ones(world) & {earlier, later}
    base = world.merge(earlier, world.green)
    assert not world._tree_is_bad[base]
    assert not world._tree_is_bad[world.merge(later, world.green)]
    assert world._tree_is_bad[world.merge(later, base)]


def test_what_has_landed_is_in_every_tree_above_it_and_in_none_below() -> None:
    world = World(Setting(culprit_rate=0.01, slots=1))
    policy = PrefixSearch(world, probes=1, step=1, confirm=False)
    good = [u for u in (world.arrive() for _ in range(10)) if u not in bad_ones(world)][:2]
    before = world.green
    for unit in good:
        policy.enqueue(unit)
    drain(world, policy)
    tree = world.merge(world.arrive(), world.green)
    assert all(world.holds(tree, unit) for unit in good)
    assert not any(world.holds(world.merge(9, before), unit) for unit in good)


def test_what_did_not_pass_cannot_land() -> None:
    world = World(Setting(culprit_rate=0.01, slots=1))
    tree = world.merge(world.arrive(), world.green)
    with pytest.raises(WrongMove):
        world.land(tree)


def test_what_passed_below_another_green_cannot_land() -> None:
    world = World(Setting(culprit_rate=0.01, slots=2))
    good = [u for u in (world.arrive() for _ in range(10)) if u not in bad_ones(world)][:2]
    one, other = (world.merge(unit, world.green) for unit in good)
    for tree in (one, other):
        world.start("stack", tree)
    world.wait(Chain(world))
    world.land(one)
    with pytest.raises(WrongMove):
        world.land(other)


def test_there_are_no_more_verifications_than_slots() -> None:
    world = World(Setting(culprit_rate=0.01, slots=1))
    world.start("stack", world.green)
    with pytest.raises(WrongMove):
        world.start("stack", world.green)


@EVERY_POLICY
@pytest.mark.parametrize("slots", [1, 4])
def test_all_good_units_land_and_all_bad_ones_do_not(name: str, slots: int) -> None:
    world = one_by_one(Setting(culprit_rate=0.2, slots=slots), 200, POLICIES[name])
    assert world.n_lost == 0
    assert set(world.ejected) == bad_ones(world)
    assert world.n_innocent == 0


@EVERY_POLICY
def test_of_bad_pairs_only_one_lands(name: str) -> None:
    setting = Setting(culprit_rate=0.1, slots=4, pair_rate=0.1)
    world = one_by_one(setting, 200, POLICIES[name])
    assert not set(world.landed_at) & bad_ones(world)
    pairs = [(a, b) for a, others in world._partners.items() for b in others]
    assert pairs
    assert not any(a in world.landed_at and b in world.landed_at for a, b in pairs)


@pytest.mark.parametrize("name", ["serial, 2 reds", "prefix, 2 reds"])
def test_a_second_verdict_saves_those_who_flaked(name: str) -> None:
    setting = Setting(culprit_rate=0.1, slots=2, flake_rate=0.1)
    rash = one_by_one(setting, 500, POLICIES[name.partition(",")[0]])
    patient = one_by_one(setting, 500, POLICIES[name])
    assert rash.n_innocent >= 10
    assert patient.n_innocent < rash.n_innocent / 2


def test_serial_needs_a_run_for_each_unit() -> None:
    done = backlog(Setting(culprit_rate=0.2, slots=4), POLICIES["serial"], n_blocks=2)
    assert done.landed.mean == pytest.approx(0.8, rel=0.02)
    assert done.searches.mean == pytest.approx(1 / 0.8, rel=0.02)


def test_batches_need_the_runs_of_a_binary_tree() -> None:
    p = 0.2
    runs = sum(n * (1 - (1 - p) ** (16 // n)) for n in (2, 4, 8)) + 1  # in a batch of eight
    done = backlog(Setting(culprit_rate=p, slots=1), Batches, n_blocks=4)
    assert done.searches.mean == pytest.approx(runs / 8 / (1 - p), rel=0.05)


def test_a_chain_lands_up_to_its_first_culprit_in_each_round() -> None:
    p, slots = 0.2, 4
    expected = (1 - p) * (1 - (1 - p) ** slots) / p
    done = backlog(Setting(culprit_rate=p, slots=slots), Chain, n_blocks=4)
    assert done.landed.mean == pytest.approx(expected, rel=0.05)
    assert done.searches.mean == pytest.approx(slots / expected, rel=0.05)


def test_prefix_search_with_one_probe_is_near_the_bound() -> None:
    setting = Setting(culprit_rate=0.1, slots=1)
    done = backlog(setting, POLICIES["prefix"], n_blocks=2)
    assert done.searches.mean == pytest.approx(setting.bound, rel=0.05)
    assert done.searches.mean > 0.98 * setting.bound


def test_a_second_verdict_costs_a_run_for_each_culprit() -> None:
    p = 0.2
    done = backlog(Setting(culprit_rate=p, slots=1), POLICIES["prefix, 2 reds"], n_blocks=2)
    assert done.checks.mean == pytest.approx(p / (1 - p), rel=0.05)
    runs = done.searches.mean + done.checks.mean
    assert done.paid == pytest.approx(1 / runs, rel=0.01)


def test_steps_are_single_units_when_culprits_are_many_for_the_slots() -> None:
    assert best_step(Setting(culprit_rate=0.2, slots=16)) == 1
    assert best_step(Setting(culprit_rate=0.02, slots=1)) == pytest.approx(32, abs=4)


def test_the_bound_is_the_entropy_of_a_unit_over_its_chance_to_land() -> None:
    assert Setting(culprit_rate=0.5, slots=1).bound == pytest.approx(2.0)
    assert Setting(culprit_rate=0.1, slots=1).bound == pytest.approx(0.5211, abs=1e-4)


def test_a_lone_unit_waits_for_its_own_verification_only() -> None:
    setting = Setting(culprit_rate=0.01, slots=1)
    waits = latency(setting, POLICIES["train"], units_per_v=0.01, n_units=50)
    assert 1.0 <= waits.mean < 1.2


def test_a_queue_makes_units_wait() -> None:
    """M/D/1 at 70 %: half of 0.7/0.3 in the queue, and the verification itself."""
    setting = Setting(culprit_rate=0.01, slots=1)
    waits = latency(setting, POLICIES["serial"], units_per_v=0.7, n_units=2000)
    assert waits.mean == pytest.approx(1 + 0.7 / 0.3 / 2, rel=0.2)
    assert waits.p95 > waits.mean


def test_a_policy_that_takes_too_long_is_measured_by_what_it_did() -> None:
    setting = Setting(culprit_rate=0.2, slots=1)
    done = backlog(setting, POLICIES["serial"], n_blocks=10**6, patience_seconds=0.02)
    assert done.is_cut
    assert done.landed.mean == pytest.approx(0.8, rel=0.2)


def test_the_trains_own_time_is_measured_when_asked_for() -> None:
    world = World(Setting(culprit_rate=0.2, slots=1))
    timed, untimed = ProductTrain(world, timed=True), ProductTrain(world)
    for policy in (timed, untimed):
        policy.enqueue(world.arrive())
    drain(world, timed)
    assert timed.cpu_seconds > 0.0
    assert math.isclose(untimed.cpu_seconds, 0.0)


def test_a_row_may_want_at_least_so_much() -> None:
    row = Row(work="w", measured=3.0, unit="per V", reference=4.0, wanted=0.75, at_least=True)
    assert row.is_met
    assert not Row(
        work="w", measured=2.9, unit="per V", reference=4.0, wanted=0.75, at_least=True
    ).is_met
