from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import RepositoryUnusable, SettingsInvalid
from deployments.demo.target import make_target
from flows.initialising import initialise
from flows.planning.rounds import file_units
from flows.preflight import check_mission
from flows.settings import MissionSettings
from flows.settings_sources import load_settings
from tests.missions import MISSION, commit_files, git, make_repository, wait_until

TOOLS = Path(sys.executable).parent
GOOD = "def test_one():\n    assert True\n\n\ndef test_two():\n    assert True\n"
BAD = "def test_one():\n    assert False\n\n\ndef test_two():\n    assert True\n"


@pytest.fixture(autouse=True)
def _user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has Python tools that the system has not, and no settings of ours."""
    monkeypatch.setenv("PATH", f"{TOOLS}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setenv("MISSION_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def begin(folder: Path, files: Mapping[str, str]) -> str:
    make_repository(folder, files)
    return "\n".join(initialise(folder))


def settings(folder: Path) -> MissionSettings:
    return load_settings(folder / "mission.toml", env={})


def values(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "mission.toml").read_text())


def test_a_python_repository_gets_a_mission_that_tidies_it(tmp_path: Path) -> None:
    make_target(tmp_path / "acme")
    said = "\n".join(initialise(tmp_path / "acme"))
    assert "baseline  passed in" in said
    assert "110 tests passed" in said
    written = settings(tmp_path / "acme")
    assert written.name == "acme"
    assert written.plan.planner == "tidy"
    assert written.verify.command == "python3 -m pytest -q"
    assert written.repository.url == str(tmp_path / "acme")
    assert written.environment.path == (str(TOOLS),)
    assert check_mission(written) == ()
    assert not (tmp_path / "acme" / "plan.toml").exists()


def test_the_checkout_gets_the_new_files_and_no_other_change(tmp_path: Path) -> None:
    begin(tmp_path / "acme", {"check.mk": "", "Makefile": "test:\n\t@touch made\n"})
    untracked = git(tmp_path / "acme", "status", "--porcelain").split()
    assert untracked == ["??", "mission.toml", "??", "plan.toml"]
    assert git(tmp_path / "acme", "for-each-ref", "--format=%(refname)") == "refs/heads/main"


def test_without_ruff_or_python_a_plan_is_written_to_begin_with(tmp_path: Path) -> None:
    begin(tmp_path / "acme", {"Makefile": "test:\n\ttrue\n\nlint:\n\ttrue\n"})
    written = settings(tmp_path / "acme")
    assert (written.plan.planner, written.verify.command) == ("file", "make test")
    (unit,) = file_units(written)
    assert unit.writes == ("MISSION-EXAMPLE.md",)
    assert check_mission(written) == ()
    assert (
        "found too, join with && what must hold: make lint"
        in (tmp_path / "acme" / "mission.toml").read_text()
    )


def test_what_is_tried_is_what_is_committed(tmp_path: Path) -> None:
    make_repository(tmp_path / "acme", {"test_acme.py": GOOD})
    (tmp_path / "acme" / "test_acme.py").write_text(BAD)
    said = "\n".join(initialise(tmp_path / "acme"))
    assert "2 tests passed" in said
    assert (tmp_path / "acme" / "test_acme.py").read_text() == BAD


def test_a_red_baseline_is_said_with_what_comes_first(tmp_path: Path) -> None:
    said = begin(tmp_path / "acme", {"test_acme.py": BAD})
    assert "baseline  RED after" in said
    assert "            test_acme::test_one" in said
    assert "repair it first" in said
    assert "--allow-red-base" in said
    assert settings(tmp_path / "acme").verify.command == "python3 -m pytest -q"


def test_the_next_guess_is_tried_when_the_first_finds_no_tests(tmp_path: Path) -> None:
    said = begin(tmp_path / "acme", {"tool.py": "", "Makefile": "test:\n\ttrue\n"})
    assert "trying    python3 -m pytest -q\n          no tests were collected" in said
    assert "trying    make test\nbaseline  passed" in said
    assert settings(tmp_path / "acme").verify.command == "make test"


def test_a_setup_that_is_needed_is_tried_and_written(tmp_path: Path) -> None:
    package = '{"scripts": {"test": "sh made.sh"}, "dependencies": {"x": "file:x"}}'
    files = {"package.json": package, "made.sh": "test -d node_modules/x\n"}
    said = begin(
        tmp_path / "acme", {**files, "x/package.json": '{"name": "x", "version": "1.0.0"}'}
    )
    assert "baseline  passed" in said, said
    written = settings(tmp_path / "acme")
    assert written.verify.command == "npm test"
    assert written.verify.setup == "npm install --no-audit --no-fund"
    assert written.environment.set == {"CI": "1"}


def test_a_program_that_the_user_has_not_is_said(tmp_path: Path) -> None:
    said = begin(tmp_path / "acme", {"go.mod": "module acme\n"})
    assert "skipped   go test ./...: go is not on your PATH" in said
    assert "baseline  not tried" in said
    assert settings(tmp_path / "acme").verify.command == "go test ./..."


def test_a_repository_without_tests_gets_a_verification_that_fails(tmp_path: Path) -> None:
    said = begin(tmp_path / "acme", {"README.md": "Hello.\n"})
    assert "nothing that looks like tests" in said
    assert settings(tmp_path / "acme").verify.command.endswith("exit 1")


@pytest.mark.parametrize("name", ["mission.toml", "plan.toml"])
def test_no_file_is_ever_overwritten(tmp_path: Path, name: str) -> None:
    make_repository(tmp_path / "acme", {"Makefile": "test:\n\ttrue\n"})
    (tmp_path / "acme" / name).write_text("mine")
    with pytest.raises(SettingsInvalid, match=f"{name} is there already"):
        list(initialise(tmp_path / "acme"))
    assert (tmp_path / "acme" / name).read_text() == "mine"
    others = {"mission.toml", "plan.toml"} - {name}
    assert not any((tmp_path / "acme" / other).exists() for other in others)


def test_a_link_to_nowhere_is_a_file_that_is_there(tmp_path: Path) -> None:
    make_repository(tmp_path / "acme", {"Makefile": "test:\n\ttrue\n"})
    (tmp_path / "acme" / "mission.toml").symlink_to(tmp_path / "elsewhere.toml")
    with pytest.raises(SettingsInvalid, match="is there already"):
        list(initialise(tmp_path / "acme"))
    assert not (tmp_path / "elsewhere.toml").exists()


def test_the_file_may_lie_in_a_folder_of_the_repository(tmp_path: Path) -> None:
    make_repository(tmp_path / "acme", {"Makefile": "test:\n\ttrue\n", "ops/README": ""})
    list(initialise(tmp_path / "acme" / "ops"))
    assert values(tmp_path / "acme" / "ops")["repository"]["url"] == ".."
    assert settings(tmp_path / "acme" / "ops").repository.url == str(tmp_path / "acme")


def test_the_branch_that_is_checked_out_is_the_base(tmp_path: Path) -> None:
    make_repository(tmp_path / "acme", {"Makefile": "test:\n\tfalse\n"})
    git(tmp_path / "acme", "switch", "--quiet", "--create", "feature/x")
    commit_files(tmp_path / "acme", {"Makefile": "test:\n\ttrue\n"}, "Mend")
    said = "\n".join(initialise(tmp_path / "acme"))
    assert "baseline  passed" in said
    assert settings(tmp_path / "acme").repository.base == "feature/x"


def test_an_earlier_green_does_not_stand_in_for_the_base(tmp_path: Path) -> None:
    make_repository(tmp_path / "acme", {"Makefile": "test:\n\tfalse\n"})
    git(tmp_path / "acme", "switch", "--quiet", "--create", "mission/green")
    commit_files(tmp_path / "acme", {"Makefile": "test:\n\ttrue\n"}, "Mend")
    git(tmp_path / "acme", "switch", "--quiet", "main")
    assert "baseline  RED" in "\n".join(initialise(tmp_path / "acme"))


def test_an_earlier_green_that_clashes_is_no_business_of_a_first_file(tmp_path: Path) -> None:
    make_repository(tmp_path / "acme", {"Makefile": "test:\n\ttrue\n"})
    git(tmp_path / "acme", "switch", "--quiet", "--create", "mission/green")
    commit_files(tmp_path / "acme", {"Makefile": "test:\n\tfalse\n"}, "One way")
    git(tmp_path / "acme", "switch", "--quiet", "main")
    commit_files(tmp_path / "acme", {"Makefile": "test:\n\ttrue || true\n"}, "Another way")
    assert "baseline  passed" in "\n".join(initialise(tmp_path / "acme"))


def test_a_name_of_odd_letters_becomes_a_name_for_missions(tmp_path: Path) -> None:
    begin(tmp_path / 'my "acme" ✓', {"Makefile": "test:\n\ttrue\n"})
    assert settings(tmp_path / 'my "acme" ✓').name == "my-acme"


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda _: None, "not a git repository"),
        (lambda folder: git(folder, "init", "--quiet"), "no commit yet"),
        (lambda folder: git(folder, "init", "--quiet", "--bare"), "work tree"),
    ],
    ids=["no repository", "no commit", "bare"],
)
def test_what_is_no_checkout_is_refused(tmp_path: Path, prepare: Any, why: str) -> None:
    (tmp_path / "acme").mkdir()
    prepare(tmp_path / "acme")
    with pytest.raises(RepositoryUnusable, match=why):
        list(initialise(tmp_path / "acme"))


def test_a_detached_head_is_refused(tmp_path: Path) -> None:
    make_repository(tmp_path / "acme", {"Makefile": "test:\n\ttrue\n"})
    git(tmp_path / "acme", "switch", "--quiet", "--detach")
    with pytest.raises(RepositoryUnusable, match="no branch checked out"):
        list(initialise(tmp_path / "acme"))


def test_an_environment_that_imports_the_checkout_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "acme.pth").write_text(str(tmp_path / "acme" / "src"))
    (tmp_path / "venv" / "bin").mkdir()
    (tmp_path / "venv" / "bin" / "python3").symlink_to(TOOLS / "python3")
    monkeypatch.setenv("PATH", f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    said = begin(tmp_path / "acme", {"test_acme.py": "import unittest\n"})
    assert "installed as editable" in said


def test_an_interrupted_try_leaves_nothing_behind(tmp_path: Path) -> None:
    script = f"test:\n\techo $$$$ > {tmp_path}/pid; exec sleep 600\n"
    make_repository(tmp_path / "acme", {"Makefile": script})
    (tmp_path / "tmp").mkdir()
    env = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen([*MISSION, "init", "acme"], env=env, stdout=subprocess.DEVNULL) as init:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        init.send_signal(signal.SIGINT)
        assert init.wait() == 130
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "acme" / "mission.toml").exists()
