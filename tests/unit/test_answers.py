"""Answers of planning agents: understood as models write them, refused where a plan would break."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.errors import PlanInvalid
from flows.planning.answers import (
    PLAN_MARKS,
    Part,
    PlanAnswer,
    answer_from_dict,
    id_of,
    read_plan_answer,
)
from flows.planning.plan import Unit, UnitId, is_unit_id, plan_problems
from flows.prompts.prompts import PLAN_MARK, PlannerPrompt, Verification, render_planner

UNIT = {"id": "a", "title": "A", "prompt": "do a"}


def read(answer: object, *, max_children: int = 5, may_split: bool = True) -> PlanAnswer:
    text = answer if isinstance(answer, str) else f"Sure!\nMISSION_PLAN: {json.dumps(answer)}\n"
    return read_plan_answer(text, agent="coder", max_children=max_children, may_split=may_split)


def problems(answer: object, *, max_children: int = 5, may_split: bool = True) -> list[str]:
    with pytest.raises(PlanInvalid) as refusal:
        read(answer, max_children=max_children, may_split=may_split)
    return str(refusal.value).removeprefix("The plan is not right: ").strip().splitlines()


def units(*entries: Any) -> dict[str, Any]:
    return {"units": list(entries)}


def test_the_mark_is_the_one_that_planners_are_asked_for() -> None:
    assert (PLAN_MARK.rstrip(":"),) == PLAN_MARKS


def test_units_are_read_with_the_agent_that_is_to_do_them() -> None:
    lexer = {"id": "lexer", "title": "Lex", "prompt": "Write it.", "writes": ["src/lexer.py"]}
    parser = {"id": "parser", "title": "Parse", "prompt": "Then this.", "depends_on": ["lexer"]}
    assert read(units(lexer, parser)).units == (
        Unit(
            id=UnitId("lexer"),
            title="Lex",
            prompt="Write it.",
            writes=("src/lexer.py",),
            agent="coder",
        ),
        Unit(
            id=UnitId("parser"),
            title="Parse",
            prompt="Then this.",
            depends_on=(UnitId("lexer"),),
            agent="coder",
        ),
    )


def test_parts_are_read() -> None:
    first = {"title": "The core", "scope": "src/core"}
    second = {"id": "web", "title": "Web", "scope": "src/web", "depends_on": ["The core"]}
    assert read({"parts": [first, second]}).parts == (
        Part(id="the-core", title="The core", scope="src/core"),
        Part(id="web", title="Web", scope="src/web", depends_on=("the-core",)),
    )


@pytest.mark.parametrize("answer", [{"units": []}, {"units": [], "parts": []}, {"tasks": []}])
def test_nothing_left_to_do_is_an_answer(answer: object) -> None:
    assert read(answer, may_split=False) == PlanAnswer()


def test_what_models_call_things_is_understood() -> None:
    written = {
        "tasks": [
            {"id": 1, "name": "Lex", "description": "Write it.", "files": "`src/a.py`, ./src/b.py"},
            {"id": 2, "name": "Parse", "depends": 1, "paths": [{"path": "src/c.py (new)"}]},
            {"name": "Wörter & mehr", "dependencies": "Lex, 2", "mood": "good"},
            "Tell people",
        ]
    }
    first, second, third, fourth = read(written).units
    assert (first.id, first.prompt, first.writes) == ("1", "Write it.", ("src/a.py", "src/b.py"))
    assert (second.depends_on, second.writes, second.prompt) == (("1",), ("src/c.py",), "Parse")
    assert (third.id, third.depends_on, third.writes) == ("worter-mehr", ("1", "2"), None)
    assert (fourth.id, fourth.title) == ("tell-people", "Tell people")


@pytest.mark.parametrize(
    "answer",
    [
        {"plan": {"units": [UNIT]}},
        {"units": [UNIT], "parts": []},
        {"units": [UNIT], "parts": None},
        {"units": {"a": {"title": "A", "prompt": "do a"}}},
        {"unit": UNIT},
        {"units": [{**UNIT, "writes": [], "depends_on": "none", "kind": "chore"}]},
    ],
)
def test_other_shapes_of_one_unit_are_understood(answer: object) -> None:
    expected = Unit(id=UnitId("a"), title="A", prompt="do a", agent="coder")
    assert read(answer).units == (expected,)


def test_ids_are_made_of_our_letters_and_dependencies_follow() -> None:
    answer = units({"id": "Fix/The Parser", "title": "P"}, {"title": "Q", "depends_on": ["P"]})
    assert [(u.id, u.depends_on) for u in read(answer).units] == [
        ("fix-the-parser", ()),
        ("q", ("fix-the-parser",)),
    ]


def test_what_only_people_set_is_not_read() -> None:
    wish = {
        "verify": "true",
        "command": ["rm"],
        "may_remove_tests": True,
        "timeout": "9h",
        "timeout_seconds": 9,
        "checkpoint": True,
        "agent": "root",
    }
    assert read(units({**UNIT, **wish})) == read(units(UNIT))


def test_every_problem_is_named_with_its_key() -> None:
    answer = units(
        {"id": "parser", "title": "P", "depends_on": ["lexr", "parser"], "writes": ["/etc/x"]},
        {"id": "lexer", "title": "L", "writes": ["../up", "C:\\x", "src/{a,b}.py"]},
        {"id": "lexer", "title": "M", "writes": [["x"], "!x", "a?b*c*d*e*"]},
        {"id": "empty"},
    )
    assert problems(answer) == [
        "units[0].writes: '/etc/x' is absolute; name it from the repository's root",
        "units[0].depends_on: there is no 'lexr'; did you mean 'lexer'?",
        "units[0].depends_on: it depends on itself; take its id out",
        "units[1].writes: 'C:\\x' is absolute; name it from the repository's root",
        "units[1].writes: 'src/{a,b}.py': braces are not expanded; name each path",
        "units[2].writes: expected texts, not ['x']",
        "units[2].writes: '!x': nothing can be excluded; name what may be written",
        "units[2].writes: 'a?b*c*d*e*' has more than 4 wildcards; name folders",
        "units[3].prompt: it is empty, and so is the title; say what the unit is",
        "units[1].writes: '../up' names nothing inside the repository",
        "units[2].id: unit 2 of the plan has this id already; rename one",
    ]


@pytest.mark.parametrize("key", ["units", "parts"])
def test_a_cycle_is_named(key: str) -> None:
    entries = [{"id": "unit-a", "depends_on": "b"}, {"id": "b", "depends_on": "unit-a"}]
    (problem,) = problems({key: [{**each, "title": "x"} for each in entries]})
    chain = "unit-a → b → unit-a"
    text = f"{key} wait for each other: {chain}; take one of these away"
    assert problem == f"{key}[0].depends_on: {text}"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({}, "units, parts: neither is there; give one of them"),
        ({"parts": []}, "units, parts: neither is there; give one of them"),
        ({"units": [UNIT], "parts": [UNIT]}, "units, parts: both are there; give one of them"),
        (units(*"abc"), "units: 3 are too many; give at most 2, or parts that are planned further"),
        ({"parts": ["a", "b", "c"]}, "parts: 3 are too many; give at most 2"),
        ({"units": "none of it"}, "units: expected a list, not 'none of it'"),
        (units(7), "units[0].prompt: it is empty"),
        (units({"title": "a", "depends_on": ["x"]}), "there is no 'x'; there are no others"),
        (
            units({"title": "a"}, {"title": "b", "depends_on": ["速"]}),
            "there is no '速'; there are a",
        ),
        (units({"title": "a", "prompt": "x" * 40_000}), "40000 characters; at most 32000"),
        (units({**UNIT, "writes": [f"f{n}" for n in range(51)]}), "51 are too many; name folders"),
        ("I will plan it.", "there is no line `MISSION_PLAN: "),
        ('MISSION_PLAN: {"units": [}', "is no JSON: Expecting value in its line 1"),
    ],
)
def test_an_answer_that_is_none_says_what_to_give(answer: object, problem: str) -> None:
    assert problem in "\n".join(problems(answer, max_children=2))


def test_parts_are_refused_where_units_are_due() -> None:
    expected = "parts: it is not divided further; give at most 5 units"
    assert problems({"parts": [{"title": "x", "scope": "y"}]}, may_split=False) == [expected]


def test_a_prompt_that_is_printed_back_is_no_plan() -> None:
    verification = Verification(command="true")
    prompt = render_planner(PlannerPrompt(objective="x", files=(), verification=verification))
    assert problems(prompt)


def test_many_problems_are_counted() -> None:
    found = problems(units({**UNIT, "writes": [[n] for n in range(99)]}))
    assert (len(found), found[-1]) == (21, "and 79 more problems")


@given(st.text())
def test_any_text_makes_an_id_or_none(text: str) -> None:
    assert not id_of(text) or is_unit_id(id_of(text))


@pytest.mark.parametrize("text", ["a.lock.lock", ".lock", "a..b", "-" * 99, "É" * 99, "a" * 99])
def test_an_odd_text_makes_an_id_or_none(text: str) -> None:
    assert not id_of(text) or is_unit_id(id_of(text))


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("a")
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list("abc")), inner)
    ),
    max_leaves=5,
)
entries = st.fixed_dictionaries(
    {},
    optional={
        key: values | st.sampled_from(["a", "b", ["a"], ["b", "c"], "src/*.py"])
        for key in ("id", "title", "prompt", "depends_on", "writes", "kind", "scope")
    },
)
answers = st.fixed_dictionaries(
    {}, optional={key: values | st.lists(entries, max_size=4) for key in ("units", "parts", "plan")}
)


@given(answers, st.booleans())
def test_whatever_is_answered_is_a_sound_answer_or_refused(answer: Any, may_split: bool) -> None:
    try:
        found = read(answer, max_children=3, may_split=may_split)
    except PlanInvalid:
        return
    assert not (found.units and found.parts)
    assert not (found.parts and not may_split)
    assert max(len(found.units), len(found.parts)) <= 3
    assert not found.units or not plan_problems(found.units, agents=["coder"])
    assert answer_from_dict(json.loads(json.dumps(found.as_dict()))) == found


@given(st.lists(st.sampled_from(["MISSION_PLAN: ", '{"units":', "[", "{", "}", '"', "a", "\n"])))
def test_nothing_that_is_printed_is_another_error(pieces: list[str]) -> None:
    try:
        read("".join(pieces))
    except PlanInvalid:
        return


@pytest.mark.parametrize(
    "value",
    [
        {"units": [{"title": "a", "writes": [[]] * 60_000}]},
        {"units": [{"title": "a", "depends_on": [f"a{n}" for n in range(25_000)]}]},
        {"units": [{"title": "a", "writes": "!a,a," * 40_000}]},
        {"units": [{"title": "a", "writes": "{," * 120_000}]},
        {"units": [{"title": "a (" * 60_000, "writes": ["a\t(" * 20_000]}]},
        {"units": ["a"] * 50_000},
    ],
)
def test_a_hostile_answer_takes_no_time(value: object) -> None:
    text = f"MISSION_PLAN: {json.dumps(value)}"
    began = time.process_time()
    found = problems(text, max_children=100_000)
    assert time.process_time() - began < 3
    assert sum(map(len, found)) < 20_000
