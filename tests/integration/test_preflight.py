from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from blocks.errors import PlanInvalid, SettingsInvalid
from flows.preflight import Check, check_mission, examine
from flows.settings_sources import load_settings
from tests.missions import make_repository

PLAN = '[[unit]]\nid = "a"\ntitle = "A"\nwrites = ["a.txt"]\n'
MISSION = """\
name = "m"
[repository]
url = "target"
[verify]
command = "sh check.sh"
[plan]
file = "plan.toml"
[agents.default]
argv = ["sed", "-i", "s/a/b/", "{files}"]
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISSION_HOME", str(tmp_path / "home"))


def mission_file(folder: Path, text: str = MISSION, plan: str = PLAN) -> Path:
    (folder / "plan.toml").write_text(plan)
    (folder / "mission.toml").write_text(text)
    return folder / "mission.toml"


def warnings(folder: Path, text: str = MISSION, plan: str = PLAN) -> tuple[str, ...]:
    return check_mission(load_settings(mission_file(folder, text, plan), env={}))


def tool(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return folder


def rows(checks: list[Check]) -> Mapping[str, Check]:
    return {check.what: check for check in checks}


# -- before a mission -------------------------------------------------------------------------


def test_a_mission_that_can_start_has_nothing_to_say(tmp_path: Path) -> None:
    assert warnings(tmp_path) == ()


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ("[[unit]", "plan.toml:1: "),
        ('[[unit]]\nid = "a"\nagent = "x"\n', "there is no agent 'x'"),
        (PLAN + "checkpoint = true\n", "unit 'a': checkpoint: nobody would be asked"),
        (
            PLAN + 'command = ["no-such-tool"]\n',
            "unit 'a': command: 'no-such-tool' is not on the PATH of workspaces",
        ),
    ],
)
def test_a_plan_that_can_only_fail_is_refused(tmp_path: Path, plan: str, problem: str) -> None:
    with pytest.raises(PlanInvalid) as refusal:
        warnings(tmp_path, plan=plan)
    assert problem in str(refusal.value)


def test_a_plan_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = mission_file(tmp_path)
    (tmp_path / "plan.toml").unlink()
    with pytest.raises(PlanInvalid, match=r"plan\.toml: No such file"):
        check_mission(load_settings(path, env={}))


def test_a_program_that_only_the_user_has_is_refused_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tool(tmp_path / "bin", "fixer")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    text = MISSION.replace('"sed", "-i"', '"fixer"')
    with pytest.raises(SettingsInvalid) as refusal:
        warnings(tmp_path, text)
    message = str(refusal.value)
    assert "agents.default.argv: 'fixer' is not on the PATH of workspaces (/usr/local/" in message
    assert f'add its folder to [environment] path (path = ["{folder}"] has it)' in message
    assert warnings(tmp_path, text + f'[environment]\npath = ["{folder}"]\n') == ()


@pytest.mark.parametrize(
    "extra",
    [
        'env = {{ PATH = "{folder}" }}\n',
        '[environment]\nset = {{ PATH = "{folder}:/usr/bin:/bin" }}\n',
        '[environment]\npath = "bin"\n',
    ],
)
def test_the_path_is_the_one_that_the_agent_gets(tmp_path: Path, extra: str) -> None:
    folder = tool(tmp_path / "bin", "fixer")
    text = MISSION.replace('"sed", "-i"', '"fixer"') + extra.format(folder=folder)
    assert warnings(tmp_path, text) == ()


@pytest.mark.parametrize("name", ["./fix.sh", "{workspace}/fix.sh"])
def test_a_program_of_the_target_itself_is_not_looked_for(tmp_path: Path, name: str) -> None:
    assert warnings(tmp_path, MISSION.replace('"sed"', f'"{name}"')) == ()


def test_an_agent_that_no_unit_uses_may_be_missing(tmp_path: Path) -> None:
    assert warnings(tmp_path, MISSION + '[agents.other]\nargv = ["no-such-tool"]\n') == ()


def test_programs_on_other_machines_are_not_looked_for_here(tmp_path: Path) -> None:
    text = MISSION.replace('"sed"', '"no-such-tool"')
    assert warnings(tmp_path, text + '[backend]\nkind = "ssh"\nhosts = ["build-1"]\n') == ()


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ('[agents.c]\nplace = "ssh-backend/farm"\n', "agents.c.place"),
        ('[agents.c]\nsandbox = "bwrap"\n', "agents.c.sandbox"),
        ('[backend]\nsandbox = "bwrap"\n', "backend.sandbox"),
        ('[backend]\nkind = "work-pool"\n', "backend.kind"),
        ("[review]\nbefore_delivery = true\n", "review.before_delivery"),
        ("[review]\nover_usd = 5\n", "review.over_usd"),
    ],
)
def test_what_would_be_passed_over_is_refused(tmp_path: Path, setting: str, key: str) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        warnings(tmp_path, MISSION + setting)
    assert key in str(refusal.value)


CODEX = """\
[agents.planner]
profile = "codex"
argv = ["sh", "{options}"]
env = { CODEX_API_KEY = "x" }
"""


def planned(extra: str = "", agent: str = CODEX) -> str:
    """A mission whose agent `planner` plans; its default agent works."""
    plan = 'planner = "agent"\nagent = "planner"'
    return MISSION.replace('file = "plan.toml"', plan) + agent + extra


def test_an_agent_may_plan(tmp_path: Path) -> None:
    assert warnings(tmp_path, planned()) == ()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("env =", 'secrets = { CODEX_API_KEY = "env/NOT_SET" }\n#', "NOT_SET is not set"),
        ("env =", "#", "agents.planner.secrets: OpenAI Codex needs 'CODEX_API_KEY'"),
        ("env =", "max_usd = 1.0\nenv =", "agents.planner.max_usd: OpenAI Codex cannot be told"),
        ('"sh"', '"no-such-codex"', "agents.planner.argv: 'no-such-codex' is not on the PATH"),
        ("[agents.p", "[limits]\nbudget_usd = 5\n[agents.p", "'planner' (codex) tells no cost"),
        ('"codex"\nargv = ["sh", "{options}"]', '"command"', "it is empty, and plan asks"),
        (
            "[agents.planner]",
            "[agents.planer]",
            "there is no agent 'planner'; did you mean 'planer'",
        ),
    ],
)
def test_an_agent_that_cannot_do_what_it_is_for_is_refused(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        warnings(tmp_path, planned(agent=CODEX.replace(old, new)))
    assert problem in str(refusal.value)


def test_a_missing_cli_is_refused_with_what_installs_it(tmp_path: Path) -> None:
    text = planned(agent=CODEX.replace('argv = ["sh", "{options}"]', 'model = "m"'))
    with pytest.raises(SettingsInvalid, match="npm install --global @openai/codex installs it"):
        warnings(tmp_path, text)


def test_what_a_command_cannot_be_told_of_is_a_warning(tmp_path: Path) -> None:
    told = '[phases.plan]\nnetwork = true\n[agents.default.tools]\nwork = ["Read"]\n'
    assert {*warnings(tmp_path, MISSION + told)} == {
        "phases.plan.network: any command (agent default) is not told of it",
        "agents.default.tools.work: any command is not told of it",
    }


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = MISSION + '[agents.c]\nsandbox = "bwrap"\n[backend]\nkind = "work-pool"\n'
    with pytest.raises(SettingsInvalid) as refusal:
        warnings(tmp_path, text)
    assert len(str(refusal.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        ("sh check.sh", "no-such-tool -q", "verify.command: 'no-such-tool' is not on the PATH"),
        ("sh check.sh", "X=1 no-such-tool", "verify.command: 'no-such-tool' is not on the PATH"),
        ('"sh check.sh"', '"sh x"\nsetup = "no-such-tool"', "verify.setup: 'no-such-tool' is not"),
        ("[verify]", '[environment]\npath = "gone"\n[verify]', "environment.path: there is no"),
        ("argv =", "max_usd = 1\nargv =", "agents.default.max_usd: a `command` agent is not told"),
    ],
)
def test_what_is_odd_is_a_warning(tmp_path: Path, old: str, new: str, warning: str) -> None:
    (found,) = warnings(tmp_path, MISSION.replace(old, new))
    assert found.startswith(warning)


@pytest.mark.parametrize("command", ["cd src && make", "test -f x", "$RUN", "(exit 0)", "'open"])
def test_what_only_a_shell_understands_is_left_to_it(tmp_path: Path, command: str) -> None:
    assert warnings(tmp_path, MISSION.replace("sh check.sh", command)) == ()


def test_a_unit_that_writes_what_is_protected_is_a_warning(tmp_path: Path) -> None:
    (found,) = warnings(tmp_path, plan=PLAN.replace("a.txt", ".github/ci.yml"))
    assert found == "unit 'a': writes: .github/ci.yml is protected and will be refused"


def test_tidying_without_ruff_is_a_warning(tmp_path: Path) -> None:
    text = MISSION.replace('file = "plan.toml"', 'planner = "tidy"')
    text += '[environment]\nset = { PATH = "/bin:/nonexistent" }\n'
    (found,) = warnings(tmp_path, text)
    assert found.startswith("plan.planner: 'ruff' is not on the PATH")


# -- doctor -----------------------------------------------------------------------------------


def test_a_healthy_mission_has_only_good_rows(tmp_path: Path) -> None:
    make_repository(tmp_path / "target", {"check.sh": "exit 0\n"})
    checks = examine(mission_file(tmp_path))
    assert [check for check in checks if not check.ok] == []
    found = rows(checks)
    assert {"settings", "target repository", "plan", "state folder"} <= found.keys()
    assert {"local: python3", "local: git", "local: disk space"} <= found.keys()
    assert found["plan"].detail.endswith("plan.toml: 1 unit")
    assert found["agent default"].detail.endswith("/sed: sed -i s/a/b/ '{files}'")
    assert "/sh)" in found["verify.command"].detail


def test_a_mission_file_that_is_wrong_is_a_row(tmp_path: Path) -> None:
    found = rows(examine(mission_file(tmp_path, MISSION.replace("[verify]", "[verfy]"))))
    assert not found["settings"].ok
    assert "verfy" in found["settings"].detail
    assert found["git"].ok
    assert found["disk space"].ok


def test_a_mission_file_that_is_not_there_is_a_row(tmp_path: Path) -> None:
    found = rows(examine(tmp_path / "mission.toml"))
    assert "`mission init` writes one" in found["settings"].detail


def test_each_part_that_is_wrong_is_a_row_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    text = MISSION.replace('"sed"', '"no-such-tool"').replace("sh check.sh", "no-such-check")
    text += '[agents.c]\nprofile = "codex"\n'
    found = rows(examine(mission_file(tmp_path, text, plan="[[unit]]\n")))
    bad = {what for what, check in found.items() if not check.ok}
    assert bad == {"target repository", "plan", "agent default", "agent c", "verify.command"}
    assert "no git repository" in found["target repository"].detail


def test_a_dirty_target_is_good_and_said(tmp_path: Path) -> None:
    target = make_repository(tmp_path / "target", {"check.sh": "exit 0\n"})
    (target / "check.sh").write_text("exit 1\n")
    check = rows(examine(mission_file(tmp_path)))["target repository"]
    assert check.ok
    assert "uncommitted changes" in check.detail


def test_a_file_that_git_does_not_know_is_no_uncommitted_change(tmp_path: Path) -> None:
    target = make_repository(tmp_path / "target", {"check.sh": "exit 0\n"})
    (target / "new").touch()
    check = rows(examine(mission_file(tmp_path)))["target repository"]
    assert check.ok
    assert "uncommitted changes" not in check.detail


def test_stored_blocks_are_looked_at_later(tmp_path: Path) -> None:
    make_repository(tmp_path / "target", {"check.sh": "exit 0\n"})
    text = MISSION + '[backend]\nblock = "ssh-backend/farm"\n'
    check = rows(examine(mission_file(tmp_path, text)))["backend block"]
    assert check.ok
    assert "ssh-backend/farm is stored on the Prefect server" in check.detail


def test_a_host_that_cannot_be_reached_is_a_row(tmp_path: Path) -> None:
    make_repository(tmp_path / "target", {"check.sh": "exit 0\n"})
    (tmp_path / "ssh_config").write_text("Host gone\n  HostName 127.0.0.1\n  Port 9\n")
    text = MISSION + '[backend]\nkind = "ssh"\nhosts = ["gone"]\nconfig = "ssh_config"\n'
    found = rows(examine(mission_file(tmp_path, text)))
    assert not found["gone: connection"].ok
    assert found["git"].ok, "this machine has rows of its own"
