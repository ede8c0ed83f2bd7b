from __future__ import annotations

import pytest

from flows.planning.history import (
    COMMANDS,
    AgentHistory,
    Estimate,
    History,
    Quantiles,
    estimate,
)
from flows.planning.plan import Unit, UnitId

A, B, C = UnitId("a"), UnitId("b"), UnitId("c")


def quantiles(low: float, high: float) -> Quantiles:
    return Quantiles(low=low, middle=(low + high) / 2, high=high)


def agent(
    low: float,
    high: float,
    *,
    n: int = 10,
    n_costs: int = 10,
    per_landed: float | None = 1.0,
    usd: Quantiles | None = None,
) -> AgentHistory:
    return AgentHistory(
        n_attempts=n,
        seconds=quantiles(low, high),
        n_costs=n_costs,
        cost_usd=usd,
        attempts_per_landed=per_landed,
    )


def history(verify: Quantiles | None = None, **agents: AgentHistory) -> History:
    return History(n_missions=2, agents=agents, verify_seconds=verify or quantiles(10, 20))


def units(*names: UnitId, by: str = "default") -> list[Unit]:
    return [Unit(id=name, title=name, agent=by) for name in names]


def seconds(found: Estimate) -> tuple[float | None, float | None]:
    return found.seconds_low, found.seconds_high


def test_units_in_a_row_take_the_sum_of_their_times_and_verifications() -> None:
    found = estimate(history(default=agent(60, 100)), units(A, B), (A, B), 4, 1)
    assert seconds(found) == (2 * (60 + 10), 2 * (100 + 20))


def test_units_side_by_side_take_the_time_of_the_slots_and_one_verification() -> None:
    found = estimate(history(default=agent(60, 100)), units(A, B, C), (A,), 2, 3)
    assert seconds(found) == (3 * 60 / 2 + 10, 3 * 100 / 2 + 20)


def test_verification_may_be_what_takes_longest() -> None:
    slow = history(quantiles(10, 700), default=agent(60, 100))
    assert seconds(estimate(slow, units(A, B, C), (A,), 8, 1)) == (60 + 10, 3 * 700)
    assert seconds(estimate(slow, units(A, B, C), (A,), 8, 2)) == (60 + 10, 3 * 700 / 2)


def test_units_that_take_several_attempts_take_longer_and_cost_more_at_worst() -> None:
    usual = history(default=agent(60, 100, per_landed=1.5, usd=quantiles(0.1, 0.4)))
    found = estimate(usual, units(A, B), (A, B), 4, 1)
    assert seconds(found) == (140, 1.5 * 2 * 120)
    assert found.usd_low == 0.2
    assert found.usd_high == pytest.approx(2 * 1.5 * 0.4)
    assert (found.seconds_unknown, found.usd_unknown) == ("", "")


def test_an_attempt_that_brings_several_units_home_is_no_fraction_of_one() -> None:
    found = estimate(history(default=agent(60, 100, per_landed=0.5)), units(A), (A,), 1, 1)
    assert seconds(found) == (70, 120)


def test_each_unit_takes_what_its_own_agent_takes() -> None:
    both = history(default=agent(60, 100), quick=agent(5, 8))
    plan = [*units(A), *units(B, by="quick")]
    assert seconds(estimate(both, plan, (A, B), 2, 1)) == (60 + 5 + 20, 100 + 8 + 40)


def test_units_with_a_command_of_their_own_are_no_agents_units() -> None:
    plan = [Unit(id=A, title="a", command=("ruff", "check"))]
    known = history(default=agent(60, 100))
    assert "(commands)" in estimate(known, plan, (A,), 1, 1).seconds_unknown
    commands = History(
        n_missions=1, agents={COMMANDS: agent(1, 2)}, verify_seconds=quantiles(10, 20)
    )
    assert seconds(estimate(commands, plan, (A,), 1, 1)) == (11, 22)


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (History(), "no earlier mission of this repository"),
        (history(), "fewer than 3 attempts by default"),
        (history(default=agent(60, 100, n=2)), "fewer than 3 attempts by default"),
    ],
)
def test_too_little_is_known_to_say_anything(known: History, why: str) -> None:
    found = estimate(known, units(A), (A,), 1, 1)
    assert found == Estimate(seconds_unknown=why, usd_unknown=why)


def test_three_attempts_are_enough() -> None:
    found = estimate(history(default=agent(60, 100, n=3)), units(A), (A,), 1, 1)
    assert seconds(found) == (70, 120)


def test_an_agent_that_tells_no_cost_makes_the_cost_unknown_and_not_the_time() -> None:
    both = history(
        default=agent(60, 100, usd=quantiles(1, 2)),
        silent=agent(5, 8, n_costs=2, usd=quantiles(1, 2)),
    )
    found = estimate(both, [*units(A), *units(B, by="silent")], (A,), 1, 1)
    assert (found.usd_low, found.usd_high) == (None, None)
    assert found.usd_unknown == "no cost is told by silent"
    assert found.seconds_low is not None


def test_of_an_agent_that_landed_nothing_only_the_least_is_known() -> None:
    known = history(default=agent(60, 100, per_landed=None, usd=quantiles(1, 2)))
    found = estimate(known, units(A), (A,), 1, 1)
    assert seconds(found) == (70, None)
    assert (found.usd_low, found.usd_high) == (1, None)
    assert found.seconds_unknown == found.usd_unknown == "nothing landed by default"


def test_without_a_verification_the_time_is_unknown_and_not_the_cost() -> None:
    known = History(n_missions=1, agents={"default": agent(60, 100, usd=quantiles(1, 2))})
    found = estimate(known, units(A), (A,), 1, 1)
    assert seconds(found) == (None, None)
    assert found.seconds_unknown == "nothing was ever verified"
    assert (found.usd_low, found.usd_high) == (1, 2)


def test_without_units_nothing_is_said() -> None:
    assert estimate(history(), [], (), 1, 1).seconds_unknown == "no units"
