from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.errors import PlanInvalid
from flows.planning.plan import Plan, Unit, UnitId, overlap
from flows.planning.schedule import Schedule, critical_path, longest_paths, order_units, ready


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


def test_the_unit_with_the_longest_path_is_first_and_ties_follow_the_plan() -> None:
    plan = Plan(units=(unit("b"), unit("a"), unit("long"), unit("behind", "long")))

    found = ready(plan, satisfied=(), started=(), busy_writes=(), priority=longest_paths(plan))

    assert ids(found) == ["long", "b", "a"]


def test_a_unit_waits_for_all_it_depends_on() -> None:
    schedule = Schedule(DIAMOND, satisfied=[UnitId("top")], started=[UnitId("top")])
    assert ids(schedule.ready()) == ["left", "right"]

    assert schedule.satisfy(UnitId("left")) == ()
    assert schedule.satisfy(UnitId("left")) == ()
    assert schedule.satisfy(UnitId("right")) == ("end",)


def test_a_unit_is_not_offered_while_its_write_set_is_taken() -> None:
    busy = unit("busy", writes=("src/a.py",))
    plan = Plan(units=(unit("same", writes=("src/*.py",)), unit("other", writes=("src/b.md",))))

    assert ids(Schedule(plan).ready([busy])) == ["other"]


def test_units_picked_together_do_not_meet_each_other() -> None:
    plan = Plan(
        units=(
            unit("a", writes=("src/x.py",)),
            unit("b", writes=("src",)),
            unit("c", writes=("docs/x.md",)),
            unit("d"),
        )
    )

    schedule = Schedule(plan)

    assert ids(schedule.pick(4)) == ["a", "c", "d"]
    assert ids(schedule.pick(1)) == ["a"]
    assert schedule.pick(0) == []


def test_a_unit_that_was_put_back_is_offered_again() -> None:
    schedule = Schedule(DIAMOND)
    schedule.start(UnitId("top"))
    schedule.start(UnitId("top"))
    assert schedule.ready() == []

    schedule.put_back(UnitId("top"))
    schedule.put_back(UnitId("top"))
    assert ids(schedule.ready()) == ["top"]


@settings(deadline=None)  # the machine may be busy
@given(plans(), st.data())
def test_event_by_event_the_schedule_says_what_the_whole_plan_says(
    plan: Plan, data: st.DataObject
) -> None:
    schedule = Schedule(plan)
    started: set[UnitId] = set()
    satisfied: set[UnitId] = set()
    names = st.sampled_from([each.id for each in plan.units])
    events = st.tuples(st.sampled_from(["start", "satisfy", "put back"]), names)
    for event, name in data.draw(st.lists(events, max_size=20)):
        if event == "start":
            schedule.start(name)
            started.add(name)
        elif event == "satisfy":
            schedule.satisfy(name)
            satisfied.add(name)
        else:
            schedule.put_back(name)
            started.discard(name)
    busy = [plan.unit(name) for name in sorted(started - satisfied)]

    offered = schedule.ready(busy)

    assert offered == ready(
        plan,
        satisfied=satisfied,
        started=started,
        busy_writes=busy,
        priority=longest_paths(plan),
    )
    assert not any(overlap(each, other) for each in offered for other in busy)
    free = [
        each
        for each in plan.units
        if each.id not in started and satisfied.issuperset(each.depends_on)
    ]
    assert all(each in offered or any(overlap(each, other) for other in busy) for each in free)
    picked = schedule.pick(len(plan.units), busy)
    assert not any(overlap(a, b) for a in picked for b in picked if a is not b)


def test_a_thousand_units_are_scheduled_in_a_blink() -> None:
    units = [
        unit(f"u{n}", *([f"u{n // 3}"] if n % 2 else []), writes=(f"src/m{n}.py", f"tests/{n}"))
        for n in range(2, 1_002)
    ]
    plan = Plan(units=(unit("u0"), unit("u1"), *units))
    begin = time.process_time()

    schedule = Schedule(plan)
    running: list[Unit] = []
    done = 0
    while True:
        for chosen in schedule.pick(16 - len(running), running):
            schedule.start(chosen.id)
            running.append(chosen)
        if not running:
            break
        schedule.satisfy(running.pop(0).id)
        done += 1

    assert done == len(plan.units)
    assert time.process_time() - begin < 2  # 0.1 s in practice; quadratic work takes far longer
