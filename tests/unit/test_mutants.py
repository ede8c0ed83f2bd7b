from __future__ import annotations

import pytest

from tests.mutants import Mutant, mutants_of, sample

SOURCE = '''\
"""A docstring with 1 number and 2."""

from __future__ import annotations

import os as os1


def half(amount: int | float, limit: int = 10) -> int | float:
    """No more than 1."""
    if amount is None or not 0 <= amount < limit:
        raise ValueError(f"not below {limit + 1}")
    amount -= 1
    return (
        amount
        / 2
    )
'''


def changes(source: str) -> set[tuple[str, str]]:
    return {(m.kind, m.after.strip()) for m in mutants_of(source)}


@pytest.mark.parametrize(
    ("line", "kind", "mutated"),
    [
        ("a = b < c", "comparison", "a = b <= c"),
        ("a = b is not c", "comparison", "a = b is c"),
        ("a = b in c", "comparison", "a = b not in c"),
        ("a = b < c == d", "comparison", "a = b < c != d"),
        ("a = b and c or d", "boolean", "a = b or c or d"),
        ("a = b and c or d", "boolean", "a = b and c and d"),
        ("a = 'é<', (b) + c", "arithmetic", "a = 'é<', (b) - c"),
        ("a = b // c", "arithmetic", "a = b * c"),
        ("a = not b", "sign", "a = b"),
        ("a = -b", "sign", "a = b"),
        ("a = 7", "constant", "a = 8"),
        ("a = 7", "constant", "a = 6"),
        ("a = 0", "constant", "a = (-1)"),
        ("a = 0.5", "constant", "a = 1.0"),
        ("a = True", "constant", "a = False"),
        ("a = b if c else d", "negation", "a = b if not (c) else d"),
        ("a.b = c", "removal", "pass"),
        ("a()", "removal", "pass"),
    ],
)
def test_a_line_has_this_mutant(line: str, kind: str, mutated: str) -> None:
    assert (kind, mutated) in changes(line)


@pytest.mark.parametrize(
    "source",
    ["'1'", "a = b", "a: int | str", "import a1", "a = f'{b + 1}'", "def f(a: A[1]) -> B[2]: pass"],
)
def test_what_is_no_mistake_in_the_code_is_left_alone(source: str) -> None:
    assert mutants_of(source) == []


def test_everything_but_the_changed_lines_stays_as_it_was() -> None:
    for mutant in mutants_of(SOURCE):
        lines = SOURCE.splitlines(keepends=True)
        lines[mutant.line - 1 : mutant.last_line] = [mutant.after]
        assert mutant.text == "".join(lines)
        assert mutant.text != SOURCE


def test_statements_of_several_lines_can_change_too() -> None:
    (returned,) = [m for m in mutants_of(SOURCE) if m.kind == "return None"]
    assert (returned.line, returned.last_line) == (14, 15)
    assert not returned.is_one_line


def test_no_two_mutants_are_the_same() -> None:
    texts = [m.text for m in mutants_of(SOURCE)]
    assert len(texts) == len({*texts}) > 10


def test_a_sample_takes_every_line_before_it_takes_one_twice() -> None:
    mutants = mutants_of("a = 1 < 2\nb = 3\nc = 4\n")
    assert {m.line for m in sample(mutants, 3, seed=5)} == {1, 2, 3}


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    mutants: list[Mutant] = mutants_of(SOURCE)
    assert sample(mutants, 5, seed=1) == sample(mutants, 5, seed=1)
    assert sample(mutants, 5, seed=1) != sample(mutants, 5, seed=2)


def test_a_mutant_shows_what_changed_in_its_line() -> None:
    (mutant,) = mutants_of("a = b < c\n", "a.py")
    assert str(mutant) == "a.py:1 comparison: a = b <[ -> =] c"
