from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.errors import PlanInvalid
from flows.planning.plan import Plan, Unit, UnitId
from flows.planning.schedule import critical_path, longest_paths, order_units


def unit(name: str, *needed: str, writes: tuple[str, ...] | None = None) -> Unit:
    depends_on = tuple(map(UnitId, needed))
    return Unit(id=UnitId(name), title=name, depends_on=depends_on, writes=writes)


def ids(units: Sequence[Unit]) -> list[str]:
    return [each.id for each in units]


WRITES = st.none() | st.lists(
    st.sampled_from(["a", "a/b", "a/b/c", "b", "a/**", "*.py", "x.py", "b/x.py", "[ab]/c"]),
    max_size=2,
).map(tuple)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    count = draw(st.integers(1, 12))
    names = [f"u{place}" for place in range(count)]
    units = []
    for place, name in enumerate(names):
        needed = draw(st.lists(st.sampled_from(names[:place]), max_size=4)) if place else []
        units.append(unit(name, *needed, writes=draw(WRITES)))
    return Plan(units=tuple(draw(st.permutations(units))))


DIAMOND = Plan(
    units=(unit("top"), unit("left", "top"), unit("right", "top"), unit("end", "left", "right"))
)


@settings(deadline=None)  # the machine may be busy
@given(plans())
def test_any_order_respects_all_edges_and_loses_no_unit(plan: Plan) -> None:
    ordered = order_units(plan)

    place = {each.id: number for number, each in enumerate(ordered)}
    assert sorted(place) == sorted(each.id for each in plan.units)
    assert all(place[needed] < place[each.id] for each in ordered for needed in each.depends_on)


def test_ties_of_the_order_are_broken_by_the_plan() -> None:
    assert ids(order_units(Plan(units=(unit("z", "b"), unit("c"), unit("a"), unit("b"))))) == [
        "c", "a", "b", "z",
    ]  # fmt: skip


def test_a_circular_plan_has_no_order() -> None:
    with pytest.raises(PlanInvalid, match="a → b → a"):
        order_units(Plan(units=(unit("a", "b"), unit("b", "a"), unit("c"))))


def test_the_longest_path_counts_the_unit_itself() -> None:
    assert longest_paths(DIAMOND) == {"top": 3, "left": 2, "right": 2, "end": 1}


def test_the_longest_path_weighs_by_seconds() -> None:
    seconds = {UnitId("right"): 10.0, UnitId("end"): 5.0}

    assert longest_paths(DIAMOND, seconds) == {"top": 16, "left": 6, "right": 15, "end": 5}
    assert critical_path(DIAMOND, seconds) == ("top", "right", "end")
    assert critical_path(DIAMOND) == ("top", "left", "end")


@settings(deadline=None)  # the machine may be busy
@given(plans())
def test_the_critical_path_is_as_long_as_the_longest_path(plan: Plan) -> None:
    path = critical_path(plan)

    assert len(path) == max(longest_paths(plan).values())
    steps = pairwise(path)
    assert all(before in plan.unit(after).depends_on for before, after in steps)
