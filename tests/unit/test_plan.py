from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.errors import PlanInvalid
from flows.planning.globs import may_meet
from flows.planning.plan import (
    Unit,
    UnitId,
    check_plan,
    find_cycles,
    is_unit_id,
    matches,
    overlap,
    unit_from_dict,
    unit_to_dict,
)


def unit(
    name: str, *needed: str, writes: tuple[str, ...] | None = None, agent: str = "default"
) -> Unit:
    return Unit(
        id=UnitId(name),
        title=name.upper(),
        depends_on=tuple(map(UnitId, needed)),
        writes=writes,
        agent=agent,
    )


def problems(*units: Unit, commandless: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(PlanInvalid) as refusal:
        check_plan(units, agents=["default", "claude"], source="plan.toml", commandless=commandless)
    return str(refusal.value).splitlines()[1:]


@pytest.mark.parametrize("name", ["a", "0", "fix-1.2_b", "a" * 64, "locked", "a.lockx"])
def test_a_name_that_git_and_folders_take_is_a_unit_id(name: str) -> None:
    assert is_unit_id(name)


@pytest.mark.parametrize(
    "name", ["", "A", "-a", ".a", "a/b", "a..b", "a.lock", "a" * 65, "a b", "a\n", "é"]
)
def test_a_name_that_git_or_folders_refuse_is_no_unit_id(name: str) -> None:
    assert not is_unit_id(name)


def test_a_good_plan_finds_units_and_their_dependents() -> None:
    plan = check_plan(
        [unit("a"), unit("c", "a"), unit("b", "a", "c", "a")], agents=["default"], source="x"
    )

    assert plan.unit(UnitId("c")).title == "C"
    assert plan.dependents() == {"a": ("c", "b"), "c": ("b",), "b": ()}
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert hash(plan) == hash(check_plan(plan.units, agents=["default"], source="y"))


def test_every_problem_is_named_at_once() -> None:
    found = problems(
        unit("parser", "lexr", "parser", "nothing-like-it"),
        unit("lexer", agent="cluade"),
        unit("lexer"),
        unit("Bad Id", writes=("../outside", "")),
        Unit(id=UnitId("odd"), title="", kind="tets", timeout_seconds=0, command=()),
    )

    assert found == [
        "plan.toml: unit 'parser': depends_on: there is no unit 'lexr'; did you mean 'lexer'?",
        "plan.toml: unit 'parser': depends_on: the unit depends on itself; take its id out",
        "plan.toml: unit 'parser': depends_on: there is no unit 'nothing-like-it'",
        "plan.toml: unit 'lexer': agent: there is no agent 'cluade'; did you mean 'claude'?",
        "plan.toml: unit 'lexer': id: unit 2 of the plan has this id already; rename one",
        (
            "plan.toml: unit 'Bad Id': id: it becomes part of a branch and a folder: "
            "use at most 64 of a-z, 0-9, '.', '_' and '-', not '..' and no '.lock' at the end"
        ),
        "plan.toml: unit 'Bad Id': writes: '../outside' names nothing inside the repository",
        "plan.toml: unit 'Bad Id': writes: '' names nothing inside the repository",
        (
            "plan.toml: unit 'odd': kind: 'tets' is not 'regression', 'test', 'security', 'types', "
            "'lint' or 'objective'; did you mean 'test'?"
        ),
        "plan.toml: unit 'odd': timeout: 0 is not more than zero seconds",
        "plan.toml: unit 'odd': command: it is empty; leave it out to use the agent's own",
    ]


def test_an_empty_plan_is_refused() -> None:
    assert problems() == ["plan.toml: the plan has no units"]


def test_an_agent_nobody_resembles_is_told_how_to_be_made() -> None:
    assert problems(unit("a", agent="zzz")) == [
        "plan.toml: unit 'a': agent: there is no agent 'zzz'; add [agents.zzz] to the mission file"
    ]


def test_an_agent_without_argv_takes_only_units_with_a_command() -> None:
    own = Unit(id=UnitId("own"), title="", command=("true",))

    assert problems(own, unit("a"), commandless=("default",)) == [
        (
            "plan.toml: unit 'a': agent: agent 'default' has no argv; give it one, "
            "or the unit a command"
        )
    ]


def test_each_cycle_is_named_with_its_ids_in_order() -> None:
    found = problems(
        unit("d", "a"), unit("b", "c"), unit("a", "b"), unit("c", "a"), unit("x", "y"),
        unit("y", "x"),
    )  # fmt: skip

    assert [line.partition("each other: ")[2] for line in found] == [
        "b → c → a → b; take one of these away",
        "x → y → x; take one of these away",
    ]


def test_a_long_chain_needs_no_recursion() -> None:
    chain = [unit("u0"), *(unit(f"u{n}", f"u{n - 1}") for n in range(1, 3_000))]

    assert find_cycles(list(reversed(chain))) == ()


def test_many_ways_to_the_same_unit_are_walked_once() -> None:
    layers = [unit("l0"), unit("r0")]
    for n in range(1, 40):
        layers += [unit(f"{side}{n}", f"l{n - 1}", f"r{n - 1}") for side in "lr"]

    assert find_cycles(list(reversed(layers))) == ()


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 8), st.data())
def test_any_cycle_is_refused_with_its_ids(length: int, data: st.DataObject) -> None:
    ring = [f"r{n}" for n in range(length + 1)]
    chords = data.draw(st.lists(st.tuples(st.sampled_from(ring), st.sampled_from(ring))))
    edges: dict[str, list[str]] = {
        name: [ring[(place + 1) % len(ring)]] for place, name in enumerate(ring)
    }
    for tail, head in chords:
        edges[tail].append(head)
    edges["free"] = [data.draw(st.sampled_from(ring))]
    units = data.draw(st.permutations([unit(name, *needed) for name, needed in edges.items()]))

    cycles = find_cycles(units)

    assert cycles
    assert str(PlanInvalid("; ".join(problems(*units)))).count("each other") == len(cycles)
    for cycle in cycles:
        assert all(
            after in edges[before]
            for before, after in zip(cycle, (*cycle[1:], cycle[0]), strict=True)
        )


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("src/a.py", "src/a.py"),
        ("src/a.py", "./src/a.py"),
        ("./src/a.py", "src/a.py"),
        ("src/deep/a.py", "src"),
        ("src/deep/a.py", "src/"),
        ("src/deep/a.py", "src/**"),
        ("src/a.py", "**"),
        ("conftest.py", "**/conftest.py"),
        ("tests/unit/conftest.py", "**/conftest.py"),
        ("uv.lock", "*.lock"),
        ("web/yarn.lock", "*.lock"),
        (".github/workflows/ci.yml", ".github/**"),
        ("a/x/y/b.txt", "a/**/b.txt"),
        ("a/b.txt", "a/**/b.txt"),
        ("a/b1.txt", "a/b?.txt"),
        ("a/b1.txt", "a/b[0-9].txt"),
        ("a/bx.txt", "a/b[!0-9].txt"),
        ("app/[id]/page.tsx", "app/[id]/page.tsx"),
        ("a*b", r"a\*b"),
        ("a[z-a]", "a[z-a]"),
        ("README.md", "/README.md"),
    ],
)
def test_a_pattern_matches(path: str, pattern: str) -> None:
    assert matches(path, ["nothing", pattern])


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("src/ab.py", "src/a.py"),
        ("source/a.py", "src"),
        ("src", "src/**"),
        ("src/deep/a.py", "src/*.py"),
        ("docs/README.md", "README.md"),
        ("docs/README.md", "/README*"),
        ("a/b.lockx", "*.lock"),
        ("a/b.txt", "a?b.txt"),
        ("a/bx.txt", "a/b[0-9].txt"),
        ("axb", r"a\*b"),
        ("x", ""),
        ("x", "/"),
    ],
)
def test_a_pattern_does_not_match(path: str, pattern: str) -> None:
    assert not matches(path, [pattern])


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (("src/a.py",), ("src/a.py",), True),
        (("src/a.py",), ("src/b.py",), False),
        (("src",), ("src/a.py",), True),
        (("src/**",), ("src/a.py",), True),
        (("src/*.py",), ("src/a.md",), False),
        (("src/*.py",), ("src/**/a.*",), True),
        (("src/**",), ("tests/**",), False),
        (("**/conftest.py",), ("tests/*",), True),
        (("*.py",), ("deep/down/a.py",), True),
        (("src/a*.py",), ("src/b*.py",), False),
        (("x", "src/a.py"), ("y", "src/a.py"), True),
        (("app/[id]/page.tsx",), ("app",), True),
        ((), ("src/a.py",), False),
        (None, ("src/a.py",), False),
        (None, None, False),
    ],
)
def test_write_sets_overlap(
    left: tuple[str, ...] | None, right: tuple[str, ...] | None, expected: bool
) -> None:
    one, other = unit("a", writes=left), unit("b", writes=right)

    assert overlap(one, other) is expected
    assert overlap(other, one) is expected


NAMES = st.sampled_from(["a", "b", "ab", "[ab]", "x.py"])
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "x.py"]), min_size=1, max_size=4).map("/".join)
GLOBS = st.lists(
    NAMES | st.sampled_from(["*", "**", "a*", "*b", "?", "*.py", "[!a]"]), min_size=1, max_size=4
).map("/".join)


@settings(deadline=None)  # the machine may be busy
@given(PATHS, GLOBS, GLOBS)
def test_patterns_that_match_one_path_are_known_to_meet(path: str, left: str, right: str) -> None:
    if matches(path, [left]) and matches(path, [right]):
        assert may_meet(left, right)


@settings(deadline=None)  # the machine may be busy
@given(
    st.builds(
        Unit,
        id=st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True).map(UnitId),
        title=st.text(),
        prompt=st.text(),
        depends_on=st.lists(st.text().map(UnitId)).map(tuple),
        writes=st.none() | st.lists(st.text()).map(tuple),
        timeout_seconds=st.none() | st.floats(min_value=0.001, max_value=1e9),
        verify=st.none() | st.text(),
        checkpoint=st.booleans(),
        command=st.none() | st.lists(st.text()).map(tuple),
    )
)
def test_a_unit_comes_back_from_the_ledger_as_it_was(made: Unit) -> None:
    assert unit_from_dict(json.loads(json.dumps(unit_to_dict(made)))) == made


def test_an_older_ledger_without_the_newer_fields_is_readable() -> None:
    assert unit_from_dict({"id": "a", "title": "A", "gone": 1}) == unit("a")
