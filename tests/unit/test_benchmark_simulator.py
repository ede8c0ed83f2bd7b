"""The simulator of the benchmarks: figures that can be reckoned by hand."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.planning.plan import Plan, Unit, UnitId
from flows.settings import MissionSettings
from tests.benchmarks.simulator import Simulated, plain_bound, simulate

VERIFICATION = 0.5


def mission(slots: int, **limits: int) -> MissionSettings:
    return MissionSettings.model_validate(
        {
            "name": "simulated",
            "repository": {"url": "https://example.org/acme.git"},
            "verify": {"command": "true"},
            "plan": {"planner": "file", "file": "plan.toml"},
            "backend": {"slots": slots},
            "limits": {"max_rounds": 1, **limits},
        }
    )


def unit(name: str, *depends_on: str) -> Unit:
    return Unit(id=UnitId(name), title=name, depends_on=tuple(map(UnitId, depends_on)))


def run(units: Sequence[Unit], *, slots: int, seconds: float | Mapping[UnitId, float]) -> Simulated:
    if isinstance(seconds, float):
        seconds = {each.id: seconds for each in units}
    return simulate(units, mission(slots), agent_seconds=seconds, verification_seconds=VERIFICATION)


def test_one_unit_takes_its_agent_and_one_verification() -> None:
    assert run([unit("a")], slots=1, seconds=2.0).seconds == pytest.approx(2.5)


def test_a_chain_pays_a_verification_for_each_link() -> None:
    chain = [unit("a"), unit("b", "a"), unit("c", "b")]
    simulated = run(chain, slots=8, seconds=1.0)
    assert simulated.landed_at == pytest.approx({"a": 1.5, "b": 3.0, "c": 4.5})
    assert simulated.seconds == pytest.approx(4.5)


def test_independent_units_fill_all_slots_and_share_the_last_verification() -> None:
    simulated = run([unit(f"u{i}") for i in range(16)], slots=8, seconds=1.0)
    assert simulated.seconds == pytest.approx(2.5)
    assert simulated.counts == {"landed": 16}
    # The base, what was there when the train was idle first, and the rest.
    assert simulated.n_probes == 3


def test_what_is_collected_during_a_verification_waits_for_the_next() -> None:
    simulated = run([unit("a"), unit("b")], slots=2, seconds={UnitId("a"): 1.0, UnitId("b"): 1.1})
    assert simulated.landed_at == pytest.approx({"a": 1.5, "b": 2.0})


def test_the_longest_remaining_path_goes_first() -> None:
    units = [unit("short"), unit("root"), unit("leaf", "root")]
    simulated = run(units, slots=1, seconds=1.0)
    assert simulated.landed_at["root"] == pytest.approx(1.5)
    # While `root` is verified the slot is not idle.
    assert simulated.seconds == pytest.approx(3.5)


def test_a_bad_unit_is_rejected_and_does_not_keep_the_others() -> None:
    simulated = simulate(
        [unit("good"), unit("bad"), unit("other")],
        mission(3, max_attempts=1),
        agent_seconds={UnitId(name): 1.0 for name in ("good", "bad", "other")},
        verification_seconds=VERIFICATION,
        is_red=lambda units: "bad" in units,
    )
    assert simulated.counts == {"landed": 2, "failed": 1}
    assert set(simulated.landed_at) == {"good", "other"}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), slots=st.integers(1, 6), size=st.integers(1, 14))
def test_no_simulation_beats_the_plain_bound_and_all_units_land(
    seed: int, slots: int, size: int
) -> None:
    chance = random.Random(seed)
    units = [
        unit(f"u{i}", *(f"u{k}" for k in chance.sample(range(i), min(i, chance.randrange(3)))))
        for i in range(size)
    ]
    seconds = {each.id: chance.uniform(0.2, 2.0) for each in units}
    simulated = run(units, slots=slots, seconds=seconds)
    bound = plain_bound(
        Plan(units=tuple(units)), seconds, slots=slots, verification_seconds=VERIFICATION
    )
    assert simulated.counts == {"landed": size}
    assert simulated.seconds >= bound - 1e-9
    # At worst one after another, each with a verification of its own and one to wait for.
    assert simulated.seconds <= sum(seconds.values()) + 2 * size * VERIFICATION + 1e-9
