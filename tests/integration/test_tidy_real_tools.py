from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from blocks.commands import Finished, run
from deployments.demo.target import make_target
from flows.planning.plan import Unit, check_plan, overlap
from flows.planning.tidy import TidyPlan, plan_tidy

VERIFY = "python3 -m pytest -q -p no:cacheprovider"
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "LANG": "C.UTF-8",
}
BROKEN = "lint-f401"


def runner(folder: Path) -> Callable[[Sequence[str]], Finished]:
    def in_folder(argv: Sequence[str]) -> Finished:
        return run(argv, cwd=folder, env=ENVIRONMENT, check=False)

    return in_folder


def apply(unit: Unit, folder: Path) -> None:
    assert unit.command is not None
    done = runner(folder)(unit.command)
    assert done.code == 0, done.stderr


def changed(folder: Path) -> set[str]:
    names = run(["git", "diff", "--name-only"], cwd=folder).text
    return set(names.splitlines())


def is_green(folder: Path) -> bool:
    return runner(folder)(["sh", "-c", VERIFY]).code == 0


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> TidyPlan:
    folder = tmp_path_factory.mktemp("planned") / "target"
    make_target(folder)
    made = plan_tidy(folder, runner(folder), verify_command=VERIFY)
    assert changed(folder) == set(), "planning changes nothing"
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    make_target(tmp_path / "target")
    return tmp_path / "target"


def test_the_demos_plan_is_a_plan(plan: TidyPlan) -> None:
    checked = check_plan(plan.units, agents=["default"], source="tidy", commandless=["default"])
    assert [unit.id for unit in checked.units] == [
        "lint-e713",
        "lint-f401",
        "lint-f541",
        "lint-i001",
        "lint-ret505",
        "lint-sim118",
        "lint-up004",
        "lint-up015",
        "lint-up032",
        "lint-comprehensions",
        "lint-modern-types",
        "lint-format",
    ]


def test_the_demos_plan_says_what_no_tool_can_mend(plan: TidyPlan) -> None:
    assert plan.notes == (
        "needs an agent: 1 type error (assignment) in parcelpost/insurance.py",
        "needs an agent: 1 lint finding (B904) in parcelpost/money.py",
        "needs an agent: 1 to-do in parcelpost/customs.py",
    )


def test_some_units_of_the_demo_touch_the_same_file_and_some_can_run_at_once(
    plan: TidyPlan,
) -> None:
    pairs = [overlap(one, other) for one in plan.units for other in plan.units if one.id < other.id]
    assert pairs.count(True) >= 2
    assert pairs.count(False) >= 10


def test_every_unit_alone_keeps_the_tests_green_except_one(plan: TidyPlan, tmp_path: Path) -> None:
    red = []
    for unit in plan.units:
        folder = tmp_path / unit.id
        make_target(folder)
        apply(unit, folder)
        assert changed(folder) == set(unit.writes or ()), unit.id
        if not is_green(folder):
            red.append(unit.id)
    assert red == [BROKEN]


@pytest.mark.parametrize("backwards", [False, True])
def test_all_good_units_together_are_green_and_leave_nothing_of_theirs(
    plan: TidyPlan, target: Path, backwards: bool
) -> None:
    good = [unit for unit in plan.units if unit.id != BROKEN]
    for unit in reversed(good) if backwards else good:
        apply(unit, target)
    assert is_green(target)
    again = plan_tidy(target, runner(target), verify_command=VERIFY)
    left = {unit.id for unit in again.units}
    assert left - {BROKEN} <= ({"lint-format"} if backwards else set())


def test_a_test_that_fails_is_work_for_an_agent(target: Path) -> None:
    file = target / "parcelpost" / "insurance.py"
    file.write_text(
        file.read_text(encoding="utf-8").replace("HIGHEST = 2_500_000", "HIGHEST = 9_500_000")
    )
    made = plan_tidy(target, runner(target), verify_command=VERIFY, agent_available=True)
    first, second, third = made.units[:3]
    assert (first.kind, first.title) == (
        "test",
        "Make the failing tests pass in tests/test_insurance.py",
    )
    assert "test_treasures_are_not_covered" in first.prompt
    assert second.kind == "types"
    assert third.command is None or third.kind == "lint"
    assert made.units[-1].title == "Do what the to-do comments ask in parcelpost/customs.py"


def test_a_target_without_settings_is_read_with_sensible_rules_alone(tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    inner = outer / "target"
    inner.mkdir(parents=True)
    (outer / "ruff.toml").write_text('lint.select = ["ALL"]\n')
    (inner / "a.py").write_text("import os\n\n\ndef f(x):\n    return not x in [1]\n")
    made = plan_tidy(inner, runner(inner), verify_command="true")
    assert [unit.id for unit in made.units] == ["lint-e713", "lint-f401"]
    assert made.notes == ()
    for unit in made.units:
        apply(unit, inner)
    assert (inner / "a.py").read_text() == "\n\ndef f(x):\n    return x not in [1]\n"


def test_broken_python_is_told_and_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def (:\n")
    made = plan_tidy(tmp_path, runner(tmp_path), verify_command="true")
    assert made.units == ()
    assert [note for note in made.notes if "invalid-syntax" in note and "a.py" in note]
