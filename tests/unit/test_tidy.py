from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from blocks.commands import NOT_FOUND, Finished
from blocks.errors import CommandFailed
from flows.planning.globs import matches
from flows.planning.sources import mypy_arguments, oldest_python, own_sources, ruff_settings
from flows.planning.tidy import TidyPlan, family_of, plan_tidy, slug_of
from flows.planning.todos import find_todos


class ScriptedTools:
    """Answers commands as the tools would; one without an answer is not installed."""

    def __init__(self, folder: Path, **answers: str) -> None:
        self.folder = folder
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, argv: Sequence[str]) -> Finished:
        self.asked.append(tuple(argv))
        name = "_".join(argv[:2]) if argv[0] == "ruff" else argv[0]
        if name not in self.answers:
            raise CommandFailed(argv, NOT_FOUND, b"", b"No such file or directory")
        text = self.answers[name].encode()
        code = 1 if text and argv[0] in {"sh", "mypy"} else 0
        return Finished(argv=tuple(argv), code=code, stdout=text, stderr=b"")

    def finding(self, rule: str, path: str, fix: str | None = "safe") -> dict[str, object]:
        return {
            "code": rule,
            "filename": str(self.folder / path),
            "location": {"row": 3, "column": 1},
            "message": f"about {rule}",
            "url": f"https://docs.astral.sh/ruff/rules/name-of-{rule.lower()}",
            "fix": {"applicability": fix} if fix else None,
        }

    def lint(self, *findings: dict[str, object]) -> ScriptedTools:
        # F401 and I001 are asked for a second time, by name; that answer is the same here.
        self.answers |= {"ruff_check": json.dumps(findings), "ruff_format": "", "sh": ""}
        return self


def write(folder: Path, *paths: str, text: str = "x = 1\n") -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def plan(tools: ScriptedTools, **options: Any) -> TidyPlan:
    return plan_tidy(tools.folder, tools, verify_command="run-tests", **options)


def test_findings_of_one_rule_become_one_unit_with_its_files_and_its_command(
    tmp_path: Path,
) -> None:
    write(tmp_path, "b.py", "a.py", "ruff.toml", text="")
    tools = ScriptedTools(tmp_path)
    found = [tools.finding("F401", path) for path in ("b.py", "a.py", "a.py")]
    (unit,) = plan(tools.lint(*found)).units
    assert unit.id == "lint-f401"
    assert unit.title == "Remove unused imports (F401) in 2 files"
    assert unit.writes == ("a.py", "b.py")
    assert unit.kind == "lint"
    assert unit.command == (
        *("ruff", "check", "--fix", "--select", "F401", "--exit-zero", "--no-cache"),
        *("--", "a.py", "b.py"),
    )


def test_a_target_without_ruff_settings_is_shut_off_from_those_around_it(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", text='[project]\nrequires-python = ">=3.9"\n')
    write(tmp_path, "a.py")
    tools = ScriptedTools(tmp_path)
    (unit,) = plan(tools.lint(tools.finding("B009", "a.py"))).units
    assert {"--isolated", "py39"} <= set(unit.command or ())
    assert unit.title == "Fix name-of-b009 (B009) in a.py"
    assert any("--select" in argv and "--isolated" in argv for argv in tools.asked)


def test_the_same_findings_in_any_order_give_the_same_plan(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "b.py")
    tools = ScriptedTools(tmp_path)
    found = [tools.finding(rule, path) for rule in ("I001", "C400", "E713") for path in ("a.py",)]
    found.append(tools.finding("C416", "b.py"))
    forwards = plan(tools.lint(*found))
    assert plan(tools.lint(*reversed(found))) == forwards
    assert [unit.id for unit in forwards.units] == ["lint-e713", "lint-i001", "lint-comprehensions"]


def test_many_files_are_spread_over_units_so_that_one_bad_fix_takes_few_down(
    tmp_path: Path,
) -> None:
    paths = [f"m{number:02}.py" for number in range(30)]
    write(tmp_path, *paths)
    tools = ScriptedTools(tmp_path)
    units = plan(tools.lint(*(tools.finding("F541", path) for path in paths))).units
    assert [unit.id for unit in units] == ["lint-f541", "lint-f541-2"]
    written = [path for unit in units for path in unit.writes or ()]
    assert written == paths


def test_the_modern_types_unit_takes_the_imports_along_that_it_leaves_unused(
    tmp_path: Path,
) -> None:
    write(tmp_path, "a.py", "b.py")
    tools = ScriptedTools(tmp_path)
    clean, dirty = tools.finding("UP006", "a.py"), tools.finding("UP006", "b.py")
    left = tools.finding("UP035", "a.py", fix=None)
    result = plan(tools.lint(clean, dirty, left, tools.finding("F401", "b.py")))
    selected = {
        unit.writes: unit.command[unit.command.index("--select") + 1]
        for unit in result.units
        if unit.command and "modern-types" in unit.id
    }
    assert selected == {("a.py",): "F401,I001,UP006", ("b.py",): "I001,UP006"}
    assert result.notes == ()


@pytest.mark.parametrize("fix", [None, "unsafe", "display"])
def test_what_has_no_safe_fix_is_a_note_without_an_agent_and_a_unit_with_one(
    tmp_path: Path, fix: str | None
) -> None:
    write(tmp_path, "a.py")
    tools = ScriptedTools(tmp_path)
    tools.lint(tools.finding("B904", "a.py", fix=fix))
    alone = plan(tools)
    assert alone.units == ()
    assert alone.notes == ("needs an agent: 1 lint finding (B904) in a.py",)
    (unit,) = plan(tools, agent_available=True, agent="clever").units
    assert (unit.id, unit.agent, unit.command) == ("lint-a-py", "clever", None)
    assert "a.py:3: about B904 [B904]" in unit.prompt


def test_units_come_most_urgent_first(tmp_path: Path) -> None:
    write(tmp_path, "a.py", text="# TODO: more\n")
    write(tmp_path, "mypy.ini", text="[mypy]\n")
    tools = ScriptedTools(tmp_path)
    tools.lint(tools.finding("E713", "a.py"), tools.finding("S101", "a.py", fix=None))
    tools.answers["mypy"] = 'a.py:1: error: Name "y" is not defined  [name-defined]\n'
    tools.answers["sh"] = "FAILED a.py::test_it - assert 1 == 2\n1 failed in 0.01s\n"
    result = plan(tools, agent_available=True)
    assert [unit.kind for unit in result.units] == [
        *("test", "security", "types", "lint", "objective"),
    ]
    test, _, types, _, todo = result.units
    assert "assert 1 == 2" in test.prompt
    assert 'Name "y" is not defined' in types.prompt
    assert "a.py:1: more" in todo.prompt
    assert all(unit.writes is None for unit in (test, types, todo))
    noted = plan(tools).notes
    assert noted == (
        "needs an agent: 1 failing test in a.py",
        "needs an agent: 1 security finding (S101) in a.py",
        "needs an agent: 1 type error (name-defined) in a.py",
        "needs an agent: 1 to-do in a.py",
    )


def test_tools_that_are_not_there_are_skipped_with_a_note(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", text="[tool.mypy]\n")
    result = plan(ScriptedTools(tmp_path, sh=""))
    assert result.units == ()
    assert result.notes == (
        "ruff is not there, so it was not asked",
        "mypy is not there, so it was not asked",
    )


def test_a_type_checker_that_the_target_does_not_configure_is_not_asked(tmp_path: Path) -> None:
    tools = ScriptedTools(tmp_path).lint()
    plan(tools)
    assert not [argv for argv in tools.asked if argv[0] == "mypy"]


def test_a_red_verification_that_names_no_test_is_told(tmp_path: Path) -> None:
    tools = ScriptedTools(tmp_path).lint()
    tools.answers["sh"] = "make: *** [all] Error 2"
    (note,) = plan(tools).notes
    assert "names no failing test" in note
    assert "Error 2" in note


def test_failing_tests_are_read_from_the_summary_whatever_their_ids_hold(tmp_path: Path) -> None:
    write(tmp_path, "tests/test_a.py", "tests/test_b.py")
    tools = ScriptedTools(tmp_path).lint()
    tools.answers["sh"] = (
        "FAILED tests/test_a.py::Test::test_x[a b] - ValueError: no - not this\n"
        "FAILED tests/test_a.py::test_y\n"
        "ERROR tests/test_b.py - ImportError: gone\n"
        "3 failed in 0.1s\n"
    )
    first, second = plan(tools, agent_available=True).units
    assert "- tests/test_a.py: tests/test_a.py::Test::test_x[a b]\n" in first.prompt
    assert first.title == "Make the failing tests pass in tests/test_a.py"
    assert second.id == "test-tests-test-b-py"


def test_protected_files_get_no_unit_but_a_note(tmp_path: Path) -> None:
    write(tmp_path, "conftest.py", "pkg/conftest.py", "a.py")
    tools = ScriptedTools(tmp_path)
    tools.lint(*(tools.finding("F401", path) for path in ("conftest.py", "pkg/conftest.py")))
    result = plan(tools, protected=["**/conftest.py"])
    assert result.units == ()
    assert result.notes == (
        "protected: 1 finding in conftest.py",
        "protected: 1 finding in pkg/conftest.py",
    )


def test_no_more_units_than_asked_for_and_the_rest_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    tools = ScriptedTools(tmp_path)
    result = plan(
        tools.lint(*(tools.finding(f"F{n}", "a.py") for n in range(100, 105))), max_units=3
    )
    assert [unit.id for unit in result.units] == ["lint-f100", "lint-f101", "lint-f102"]
    assert result.notes == ("left for another round: lint-f103, lint-f104",)


def test_formatting_is_offered_where_it_is_the_custom_only(tmp_path: Path) -> None:
    paths = [f"m{number}.py" for number in range(10)]
    write(tmp_path, *paths)
    tools = ScriptedTools(tmp_path)
    tools.lint(tools.finding("E501", "m0.py", fix=None))

    def diff(count: int) -> str:
        return "".join(
            f"--- {path}\n+++ {path}\n@@ -1 +1 @@\n-x=1\n+x = 1\n" for path in paths[:count]
        )

    tools.answers["ruff_format"] = diff(2)
    result = plan(tools)
    (unit,) = result.units
    assert unit.writes == ("m0.py", "m1.py")
    assert (unit.command or ())[:2] == ("ruff", "format")
    assert result.notes == (), "the formatter takes the long line away"
    tools.answers["ruff_format"] = diff(3)
    assert plan(tools).units == ()
    write(tmp_path, "ruff.toml", text="[format]\n")
    assert len(plan(tools).units) == 1


def test_glob_characters_in_a_name_stand_for_themselves(tmp_path: Path) -> None:
    write(tmp_path, "a[1].py")
    tools = ScriptedTools(tmp_path)
    (unit,) = plan(tools.lint(tools.finding("F401", "a[1].py"))).units
    assert matches("a[1].py", unit.writes or ())
    assert not matches("a1.py", unit.writes or ())
    assert (unit.command or ())[-1] == "a[1].py"


def test_to_dos_are_comments_and_never_strings(tmp_path: Path) -> None:
    text = (
        'A = "# TODO: not this"\n'
        '"""TODO: nor this"""\n'
        "B = 1  # TODO(ada): this one\n"
        "# a word about TODO lists\n"
        "#FIXME and this\n"
    )
    write(tmp_path, "a.py", text=text)
    write(tmp_path, "broken.py", text="def (:\n  # TODO: unreachable\n '''")
    found = find_todos(tmp_path, ["a.py", "broken.py"])
    assert [(todo.line, todo.text) for todo in found] == [(3, "this one"), (5, "and this")]


def test_own_sources_leave_out_what_others_or_programs_wrote(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "pkg/b.pyi", "pkg/notes.txt")
    write(tmp_path, "vendor/x.py", "pkg/_vendor/x.py", "node_modules/x.py", ".hidden/x.py")
    write(tmp_path, "build/x.py", "pkg/generated/x.py", "pkg/x_pb2.py")
    write(tmp_path, "copy/.git", "copy/x.py", "environment/pyvenv.cfg", "environment/x.py")
    write(tmp_path, "made.py", text="# Generated by protoc. DO NOT EDIT!\n")
    write(tmp_path, "about.py", text='"""What is generated by others: do not edit it."""\n')
    (tmp_path / "link.py").symlink_to("a.py")
    assert own_sources(tmp_path) == ("a.py", "about.py", "pkg/b.pyi")


@pytest.mark.parametrize(
    ("file", "text", "arguments"),
    [
        ("pyproject.toml", '[tool.mypy]\nfiles = ["src"]\n', ()),
        ("pyproject.toml", "[tool.mypy]\nstrict = true\n", (".",)),
        ("pyproject.toml", "[tool.ruff]\n", None),
        ("pyproject.toml", "not toml", None),
        ("mypy.ini", "[mypy]\n", (".",)),
        ("setup.cfg", "[mypy]\npackages = a\n", ()),
        ("setup.cfg", "[flake8]\n", None),
    ],
)
def test_mypy_is_told_what_to_check_unless_its_settings_say_so(
    tmp_path: Path, file: str, text: str, arguments: tuple[str, ...] | None
) -> None:
    write(tmp_path, file, text=text)
    assert mypy_arguments(tmp_path) == arguments


def test_settings_of_ruff_and_python_are_found_where_they_may_stand(tmp_path: Path) -> None:
    assert ruff_settings(tmp_path) is None
    assert oldest_python(tmp_path) is None
    write(
        tmp_path, "pyproject.toml", text='[project]\nrequires-python = ">=3.10,<4"\n[tool.ruff]\n'
    )
    assert ruff_settings(tmp_path) == {}
    assert oldest_python(tmp_path) == 10
    write(tmp_path, "ruff.toml", text="line-length = 90\n")
    assert ruff_settings(tmp_path) == {"line-length": 90}


def test_rules_whose_fixes_belong_together_share_a_family() -> None:
    assert family_of("C419") == family_of("C400") == "comprehensions"
    assert family_of("UP007") == family_of("UP045") == "modern-types"
    assert family_of("UP032") == "UP032"


@pytest.mark.parametrize(
    ("text", "slug"), [("src/A b.py", "src-a-b-py"), ("..", "x"), ("é" * 9, "x"), ("F401", "f401")]
)
def test_slugs_are_made_of_the_letters_of_ids(text: str, slug: str) -> None:
    assert slug_of(text) == slug
    assert len(slug_of("a/" * 80)) <= 48
