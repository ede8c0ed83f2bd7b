"""Assembling a plan: unique ids, parts in order, overlapping units in order, few edges."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows.planning.answers import Part, PlanAnswer
from flows.planning.assembly import Assembled, assemble, merge_units, paths_named
from flows.planning.edges import Edges, ones
from flows.planning.plan import DEFAULT_AGENT, Unit, UnitId, is_unit_id, overlap, plan_problems
from flows.planning.tree import ROOT, PlanTree
from flows.planning.writesets import WriteSets


def unit(
    name: str, *needed: str, writes: Sequence[str] | None = None, prompt: str = "do it"
) -> Unit:
    return Unit(
        id=UnitId(name),
        title=name.upper(),
        prompt=prompt,
        depends_on=tuple(map(UnitId, needed)),
        writes=None if writes is None else tuple(writes),
    )


def part(name: str, *needed: str) -> Part:
    return Part(id=name, title=name.upper(), scope=name, depends_on=needed)


def grown(*answers: tuple[str, PlanAnswer], max_children: int = 9) -> PlanTree:
    tree = PlanTree("x", max_children=max_children)
    for path, answer in answers:
        assert tree.ask(path)
        assert tree.take(path, answer)
    assert not tree.questions()
    return tree


def flat(*units: Unit) -> PlanTree:
    return grown((ROOT, PlanAnswer(units=units)), max_children=1_000)


def parted(parts: Sequence[Part], *units: Sequence[Unit]) -> PlanTree:
    answers = [(f"0.{n}", PlanAnswer(units=tuple(each))) for n, each in enumerate(units, start=1)]
    return grown((ROOT, PlanAnswer(parts=tuple(parts))), *answers)


def made(tree: PlanTree, tracked: Collection[str] = (), known: Collection[str] = ()) -> Assembled:
    return assemble(tree, round_number=2, tracked=tracked, known=known)


def edges(found: Assembled) -> dict[str, set[str]]:
    return {each.id: set(each.depends_on) for each in found.units}


def test_units_come_in_plan_order_and_keep_what_they_say() -> None:
    units = (unit("b"), unit("a", "b", writes=["x.py"]), unit("c", "a", "b"))
    assert made(flat(*units)) == Assembled(units=units)


def test_a_tree_with_open_questions_is_no_plan_yet() -> None:
    with pytest.raises(ValueError, match="open"):
        made(PlanTree("x"))


def test_ids_are_unique_and_local_dependencies_follow() -> None:
    found = made(
        parted(
            [part("p"), part("q")],
            [unit("tests"), unit("docs", "tests")],
            [unit("tests"), unit("docs", "tests")],
        ),
        known={"docs"},
    )
    assert edges(found) == {
        "tests": set(),
        "docs.r2": {"tests"},
        "tests-2": set(),
        "docs-2": {"tests-2"},
    }


def test_a_long_id_stays_one() -> None:
    long = "a" * 63 + "."
    (first, second), known = (
        made(parted([part("p"), part("q")], [unit(long)], [unit(long)])).units,
        {long},
    )
    assert (first.id, is_unit_id(second.id)) == (long, True)
    (renamed,) = made(flat(unit(long)), known=known).units
    assert is_unit_id(renamed.id)
    assert renamed.id.endswith("a.r2")


def test_an_id_that_ends_in_a_dot_stays_one() -> None:
    (renamed,) = made(flat(unit("a.")), known={"a."}).units
    assert renamed.id == "a.r2"


def test_a_part_waits_for_the_last_units_of_the_part_it_depends_on() -> None:
    found = made(
        parted(
            [part("web", "core"), part("core")],
            [unit("w1"), unit("w2", "w1"), unit("w3")],
            [unit("c1"), unit("c2", "c1"), unit("c3", "c1")],
        )
    )
    assert edges(found) == {
        "w1": {"c2", "c3"},
        "w2": {"w1"},
        "w3": {"c2", "c3"},
        "c1": set(),
        "c2": {"c1"},
        "c3": {"c1"},
    }


def test_a_part_without_units_hands_its_dependencies_on() -> None:
    found = made(
        parted([part("a"), part("b", "a"), part("c", "b")], [unit("a1")], [], [unit("c1")])
    )
    assert edges(found) == {"a1": set(), "c1": {"a1"}}


def test_a_part_of_parts_is_waited_for_as_a_whole() -> None:
    tree = grown(
        (ROOT, PlanAnswer(parts=(part("a"), part("b", "a")))),
        ("0.1", PlanAnswer(parts=(part("a1"), part("a2", "a1")))),
        ("0.1.1", PlanAnswer(units=(unit("x"),))),
        ("0.1.2", PlanAnswer(units=(unit("y"),))),
        ("0.2", PlanAnswer(units=(unit("z"),))),
    )
    assert edges(made(tree)) == {"x": set(), "y": {"x"}, "z": {"y"}}


def test_overlapping_units_form_a_chain_and_no_more() -> None:
    units = [unit(name, writes=["src/a.py", f"{name}.py"]) for name in "abcd"]
    assert edges(made(flat(*units))) == {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"c"}}


def test_globs_and_folders_overlap_with_what_is_in_them() -> None:
    found = made(
        flat(
            unit("glob", writes=["src/**/*.py"]),
            unit("file", writes=["src/web/app.py"]),
            unit("folder", writes=["src/web"]),
            unit("apart", writes=["docs/a.md"]),
            unit("anywhere"),
        )
    )
    assert edges(found) == {
        "glob": set(),
        "file": {"glob"},
        "folder": {"file"},
        "apart": set(),
        "anywhere": set(),
    }


def test_a_unit_that_is_waited_for_does_not_wait_in_turn() -> None:
    found = made(flat(unit("a", "b", writes=["x", "y"]), unit("b", writes=["x"])))
    assert edges(found) == {"a": {"b"}, "b": set()}


def test_small_units_with_the_same_files_are_one() -> None:
    found = made(
        flat(
            unit("b", "a", writes=["x", "y"], prompt="then b"),
            unit("a", writes=["y", "x"], prompt="first a"),
            unit("c", "b"),
            unit("other", writes=["x"]),
        )
    )
    first, *_ = found.units
    assert edges(found) == {"a": set(), "c": {"a"}, "other": {"a"}}
    assert (first.title, first.prompt) == ("A; B", "## 1. A\n\nfirst a\n\n## 2. B\n\nthen b")
    assert found.notes == ("“A”, “B” write the same files and are one unit",)


@pytest.mark.parametrize(
    "units",
    [
        [unit("a", writes=["x"]), unit("m", "a"), unit("b", "m", writes=["x"])],
        [unit("a", writes=["x"]), unit("b", writes=["x"], prompt="long " * 999)],
        [unit("a"), unit("b")],
        [unit("a", writes=["x"]), unit("b", writes=["x", "y"])],
    ],
)
def test_other_units_stay_apart(units: list[Unit]) -> None:
    assert merge_units(units) == (units, [])


def test_a_unit_has_at_most_four_sections() -> None:
    merged, notes = merge_units([unit(name, writes=["x"]) for name in "abcdef"])
    assert [each.id for each in merged] == ["a", "e"]
    assert len(notes) == 2


def test_a_unit_waits_for_the_one_that_makes_a_file_it_names() -> None:
    found = made(
        flat(
            unit("use", writes=["u.py"], prompt="Import it from src/new/api.py. See `README`."),
            unit("make", writes=["src/new/**"]),
        ),
        tracked=["README", "src/old.py"],
    )
    assert edges(found) == {"use": {"make"}, "make": set()}
    said = "`use` names `src/new/api.py`, which only `make` makes: it waits for it"
    assert found.notes == (said,)


@pytest.mark.parametrize(
    ("prompt", "writes"),
    [
        ("Read src/old.py and `src`.", ["src/old.py", "src"]),  # there already
        ("Add a test in src/new.py.", ["src/**"]),  # it may be its own
        ("Read `https://x.org/src/new.py`.", ["src/new.py"]),
        ("Python 3.11, e.g. and/or", ["**", "new"]),
    ],
)
def test_what_is_no_new_file_makes_nobody_wait(prompt: str, writes: list[str]) -> None:
    units = [unit("use", prompt=prompt), unit("make", writes=writes)]
    assert not edges(made(flat(*units), tracked=["src/old.py"]))["use"]


def test_a_file_that_several_make_makes_nobody_wait() -> None:
    one, other = unit("one", writes=["new.py", "1"]), unit("two", "one", writes=["new.py", "2"])
    assert not edges(made(flat(unit("use", prompt="`new.py`"), one, other)))["use"]


def test_a_file_that_is_made_too_late_is_said() -> None:
    found = made(flat(unit("use", prompt="`new.py`"), unit("make", "use", writes=["new.py"])))
    said = "`use` names `new.py`, which only `make` makes, and `make` waits for `use`"
    assert found.notes == (said,)


def test_hot_files_and_big_units_are_said() -> None:
    tracked = [f"src/{n}.py" for n in range(21)]
    units = [unit(name, writes=["src/0.py", "src/1.py", name]) for name in "abcd"]
    found = made(flat(*units, unit("big", writes=["src"]), unit("all", writes=["**"])), tracked)
    assert found.notes == (
        "`src/0.py` and 1 more: written by `a`, `b`, `c`, `d`, `big`, one after the other",
        "`big` may write 21 files; it may be too big",
        "`all` may write anything: nothing runs beside it",
    )


@pytest.mark.parametrize(
    ("prompt", "paths"),
    [
        ("See `Makefile`, a.py and ./b/c.", ("Makefile", "a.py", "b/c")),
        ("`src/new/` /etc/x .github/x.yml 1.2 e.g.", ("src/new", ".github/x.yml", "e.g")),
    ],
)
def test_paths_are_found_in_prose(prompt: str, paths: tuple[str, ...]) -> None:
    assert set(paths_named(prompt)) == set(paths)


patterns = st.sampled_from(
    [
        "a",
        "a/b",
        "a/b/c.py",
        "*.py",
        "a/**",
        "**/c.py",
        "d/*.py",
        "d/e.py",
        "d/e.md",
        "**",
        "a/*/c.py",
    ]
)
prompts = st.sampled_from(["", "see `a/b/c.py`", "see d/e.py and a/b", "long " * 500])


@st.composite
def some_units(draw: st.DrawFn) -> tuple[Unit, ...]:
    names = draw(st.lists(st.sampled_from(["u", "v", "w", "u.r2"]), unique=True, max_size=4))
    return tuple(
        unit(
            name,
            *draw(st.lists(st.sampled_from(names[:n]), unique=True) if n else st.just([])),
            writes=draw(st.none() | st.lists(patterns, min_size=1, max_size=2)),
            prompt=draw(prompts),
        )
        for n, name in enumerate(names)
    )[:: draw(st.sampled_from([1, -1]))]


@st.composite
def some_parts(draw: st.DrawFn) -> tuple[Part, ...]:
    names = ["p", "q", "r"][: draw(st.integers(1, 3))]
    return tuple(
        part(name, *draw(st.lists(st.sampled_from(names[:n]), unique=True) if n else st.just([])))
        for n, name in enumerate(names)
    )[:: draw(st.sampled_from([1, -1]))]


@st.composite
def trees(draw: st.DrawFn) -> PlanTree:
    tree = PlanTree("x", max_depth=2, max_children=4)
    while questions := tree.questions():
        question = questions[0]
        tree.ask(question.path)
        may_split = question.may_split and draw(st.booleans())
        answer = (
            PlanAnswer(parts=draw(some_parts()))
            if may_split
            else PlanAnswer(units=draw(some_units()))
        )
        assert tree.take(question.path, answer)
    return tree


@given(trees(), st.sets(st.sampled_from(["u", "v", "v.r2", "w-2"])))
def test_any_tree_becomes_a_sound_plan(tree: PlanTree, known: set[str]) -> None:
    found = made(tree, tracked=["a/b/c.py", "d/f.py"], known=known)
    if found.units:
        assert not plan_problems(found.units, agents=[DEFAULT_AGENT])
    assert not known & {each.id for each in found.units}
    places = {each.id: place for place, each in enumerate(found.units)}
    order = Edges(len(found.units))
    for each in found.units:
        for needed in each.depends_on:
            order.add(places[needed], places[each.id])
    for one in range(len(found.units)):
        for other in range(one):
            if overlap(found.units[one], found.units[other]):
                assert order.are_ordered(one, other)
    assert made(tree, tracked=["d/f.py", "a/b/c.py"], known=known) == found


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6))))
def test_edges_know_all_paths(pairs: list[tuple[int, int]]) -> None:
    order, direct = Edges(7), {node: set[int]() for node in range(7)}
    for first, then in pairs:
        if order.add(first, then):
            direct[then].add(first)
    place = {node: n for n, node in enumerate(order.in_order())}
    assert len(place) == 7
    for node in range(7):
        reached, waiting = set[int](), [*direct[node]]
        while waiting:
            here = waiting.pop()
            waiting += direct[here] - reached
            reached.add(here)
        assert set(ones(order.above(node))) == reached
        assert all(place[each] < place[node] for each in reached)
        assert all(order.below(each) >> node & 1 for each in reached)


@given(st.lists(st.none() | st.lists(patterns, max_size=3), max_size=6))
@example([["d/*.py"], ["d/e.md"], ["d/e.py"]])
def test_write_sets_meet_as_their_units_overlap(sets: list[list[str] | None]) -> None:
    units = [unit(str(n), writes=writes) for n, writes in enumerate(sets)]
    meeting = WriteSets(units).meeting(len(units))
    for one, bits in enumerate(meeting):
        expected = {n for n in range(len(units)) if n != one and overlap(units[one], units[n])}
        assert set(ones(bits)) == expected


@pytest.mark.parametrize("pattern", ["*a{}*", "src/x{}/**", "src/x{}.py"])
@pytest.mark.parametrize("n_patterns", [1, 20])
def test_a_huge_plan_is_assembled_in_no_time(pattern: str, n_patterns: int) -> None:
    units = []
    for n in range(625):
        writes = [pattern.format(f"{n}-{k}") for k in range(n_patterns)]
        units.append(unit(f"u{n}", writes=writes, prompt="p " * 999))
    tree = flat(*units)
    began = time.process_time()
    found = made(tree, tracked=[f"src/x{n}-0.py" for n in range(5_000)])
    assert time.process_time() - began < 5
    assert len(found.units) == 625
