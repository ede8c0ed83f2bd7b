from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.human_input import (
    did_you_mean,
    format_duration,
    line_of,
    parse_duration,
    toml_lines,
    toml_syntax_problem,
    toml_text,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("45s", 45),
        ("10m", 600),
        ("1h30m", 5_400),
        ("1h 30m", 5_400),
        ("2d", 172_800),
        ("1.5h", 5_400),
        ("90", 90),
        (90, 90),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_seconds(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "5 parsecs", "m", "30m1h", "-5m", "0s", 0, -1, "nan", "inf", float("nan"), True, None, []],
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"is no duration|is not more than zero"):
        parse_duration(written)


@settings(deadline=None)  # the machine may be busy
@given(st.floats(min_value=1e-300, max_value=1e300) | st.integers(1, 10**10).map(float))
def test_a_formatted_duration_reads_back_exactly(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


def test_a_duration_is_formatted_as_people_write_it() -> None:
    assert [format_duration(each) for each in (45, 600, 5_400, 86_400, 61, 0.5)] == [
        "45s",
        "10m",
        "1h30m",
        "24h",
        "1m1s",
        "0.5",
    ]


def test_only_a_close_word_is_suggested() -> None:
    assert did_you_mean("slotz", ["lease", "slots"]) == "; did you mean 'slots'?"
    assert did_you_mean("zzz", ["lease", "slots"]) == ""


TOML = '''# comment with [brackets] and "quotes
name = "x" # [no.table]
long = """
[not.a.table]
key = 1
"""
list = [
  "a", # ]
  { b = "]" },
]

[backend]
a.b = 1
"quoted key" = 2
"tab\\tkey" = 3

[[unit]]
id = 'a # b'
[[unit]]
[unit.sub]
id = "b"
[[unit.part]]
[[unit.part]]
x = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("long",), 3),
        (("list",), 7),
        (("backend",), 12),
        (("backend", "a"), 13),
        (("backend", "a", "b"), 13),
        (("backend", "quoted key"), 14),
        (("backend", "tab\tkey"), 15),
        (("unit",), 17),
        (("unit", 0), 17),
        (("unit", 0, "id"), 18),
        (("unit", 1), 19),
        (("unit", 1, "sub", "id"), 21),
        (("unit", 1, "part", 1, "x"), 24),
    ],
)
def test_keys_of_a_toml_text_have_lines(path: tuple[str | int, ...], line: int) -> None:
    tomllib.loads(TOML)

    assert toml_lines(TOML)[path] == line


def test_only_keys_have_lines_and_others_have_those_around_them() -> None:
    lines = toml_lines(TOML)

    assert ("key",) not in lines
    assert ("a",) not in lines
    assert ("not",) not in lines
    assert line_of(lines, ("backend", "missing", 0)) == 12
    assert line_of(lines, ("missing",)) is None


@settings(deadline=None)  # the machine may be busy
@given(st.text(), st.text())
def test_any_text_is_written_as_toml_on_one_line(text: str, other: str) -> None:
    document = f"{toml_text(text)} = {toml_text(other)}\nnext = 1\n"
    read = tomllib.loads(document)

    assert read == {text: other, "next": 1}
    assert toml_lines(document)[(text,)] == 1
    assert toml_lines(document)[("next",)] == (1 if text == "next" else 2)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [("a = 1\na = 2\n", 2, "Cannot overwrite a value"), ("a = 1\nb =\n\n\n", 2, "Invalid value")],
)
def test_a_syntax_problem_has_its_line(text: str, line: int, why: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as problem:
        tomllib.loads(text)

    assert toml_syntax_problem(problem.value, text) == (line, why)
