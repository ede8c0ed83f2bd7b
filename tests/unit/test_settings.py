from __future__ import annotations

import json
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from blocks.errors import SettingsInvalid
from flows.home import home
from flows.settings import MissionSettings, Section, changed_keys, may_change_on_resume
from flows.settings_sources import NOT_SETTINGS, load_settings, render_settings_table

GOOD = """\
name = "tidy-acme"
objective = "No lint findings."

[repository]
url = "../acme"

[verify]
command = "python3 -m pytest -q"
timeout = "5m"
junit = "reports/*.xml"

[plan]
file = "plan.toml"

[agents.default]
argv = ["ruff", "check", "--fix", "{files}"]

[backend]
slots = 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "missions" / "mission.toml"
    path.parent.mkdir()
    path.write_text(GOOD, encoding="utf-8")
    return path


def load(
    path: Path | None, *, env: Mapping[str, str] | None = None, **overrides: Any
) -> MissionSettings:
    return load_settings(path, env=env or {}, overrides=overrides)


def problems(path: Path | None, *, env: Mapping[str, str] | None = None, **overrides: Any) -> str:
    with pytest.raises(SettingsInvalid) as refusal:
        load(path, env=env, **overrides)
    text = str(refusal.value).removeprefix("The mission file is not right: ").strip()
    return text.replace(f"{path.parent}/", "") if path else text


def edit(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_the_file_of_the_design_is_read_with_its_defaults(file: Path) -> None:
    settings = load(file)

    assert (settings.name, settings.objective) == ("tidy-acme", "No lint findings.")
    assert (settings.verify.timeout, settings.verify.junit) == (300.0, ("reports/*.xml",))
    assert settings.verify.keep == (".venv", "node_modules")
    assert settings.agents["default"].argv == ("ruff", "check", "--fix", "{files}")
    assert (settings.repository.base, settings.repository.green) == ("main", "mission/green")
    assert (settings.backend.slots, settings.backend.lease) == (2, 120.0)
    assert (settings.limits.max_rounds, settings.limits.unit_timeout) == (20, 2_700.0)
    assert settings.landing.commit == "squash"
    assert settings.environment.pass_ == ("LANG",)


def test_local_paths_are_taken_from_the_folder_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(file, "[backend]", 'environment.path = ["bin", "/usr/bin"]\n[backend]\nconfig = "ssh"')
    edit(file, "environment.path", "model = 'x'\n[environment]\npath")
    monkeypatch.chdir(file.parent)

    settings = load(Path("mission.toml"))

    assert settings.repository.url == str(file.parent.parent / "acme")
    assert settings.plan.file == file.parent / "plan.toml"
    assert settings.backend.config == file.parent / "ssh"
    assert settings.environment.path == (str(file.parent / "bin"), "/usr/bin")


@pytest.mark.parametrize(
    "url", ["https://example.org/a.git", "git@example.org:a/b.git", "file:///a", "host:a", "/a/b"]
)
def test_a_url_stays_as_it_is(file: Path, url: str) -> None:
    assert load(edit(file, "../acme", url)).repository.url == url


def test_options_win_over_the_environment_and_that_over_the_file(file: Path) -> None:
    env = {"MISSION_BACKEND__SLOTS": "8", "MISSION_VERIFY__TIMEOUT": "1h", "OTHER": "1"}

    settings = load(file, env=env, backend={"slots": 16})

    assert (settings.backend.slots, settings.verify.timeout) == (16, 3_600.0)
    assert load(file, env=env).backend.slots == 8


def test_variables_reach_lists_tables_and_agents(file: Path) -> None:
    settings = load(
        file,
        env={
            "MISSION_BACKEND__HOSTS": '["a", "b"]',
            "MISSION_VERIFY__JUNIT": "other/*.xml",
            "MISSION_ENVIRONMENT__PASS": "LANG",
            "MISSION_ENVIRONMENT__SET__Mixed_Case": "1",
            "MISSION_AGENTS__DEFAULT__MODEL": "opus",
            "MISSION_AGENTS__DEFAULT__ENV__HTTP_PROXY": "none",
            "MISSION_LIMITS": '{"max_rounds": 3}',
            "MISSION_REVIEW__BEFORE_DELIVERY": "true",
        },
    )

    assert settings.backend.hosts == ("a", "b")
    assert settings.verify.junit == ("other/*.xml",)
    assert settings.environment.pass_ == ("LANG",)
    assert settings.environment.set == {"Mixed_Case": "1"}
    assert settings.agents["default"].model == "opus"
    assert settings.agents["default"].argv[0] == "ruff"
    assert settings.agents["default"].env == {"HTTP_PROXY": "none"}
    assert settings.limits.max_rounds == 3
    assert settings.review.before_delivery


def test_the_environment_of_the_process_is_read_when_none_is_given(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISSION_BACKEND__SLOTS", "7")

    assert load_settings(file).backend.slots == 7


def test_settings_work_without_a_file() -> None:
    settings = load(
        None,
        env={"MISSION_NAME": "x", "MISSION_VERIFY__COMMAND": "make"},
        repository={"url": "https://example.org/a"},
        plan={"planner": "tidy"},
    )

    assert settings.verify.command == "make"


def test_every_problem_says_where_it_stands_and_how_to_mend_it(file: Path) -> None:
    edit(file, 'timeout = "5m"', 'timeout = "5 parsecs"')
    edit(file, "slots = 2", 'slotz = 2\nkind = "shh"\nlease = true')
    edit(file, "[agents.default]", '[agents.default]\nprofile = "cluade"\nmax_usd = -1')
    edit(file, 'url = "../acme"', 'url = "../acme"\nbase = "mission/green"')

    assert problems(
        file,
        env={
            "MISSION_VERIFY__SLOTS": "many",
            "MISSION_BACKND__SLOTS": "8",
            "MISSION_LIMITS__X": "1",
        },
        limits={"deadline": "soon", "max_attempts": 0},
        landing={"commit": "rebase"},
    ).splitlines() == [
        "MISSION_BACKND__SLOTS: no setting has this name; did you mean 'MISSION_BACKEND__SLOTS'?",
        ("mission.toml:4: repository.green: 'mission/green' is the base branch, "
        "which no mission writes; name another"),
        ("mission.toml:10: verify.timeout: '5 parsecs' is no duration; "
        'write e.g. "5m" or "1h30m"'),
        "MISSION_VERIFY__SLOTS: verify.slots: 'many' is not a whole number",
        ("mission.toml:17: agents.default.profile: there is no profile 'cluade'; "
        "did you mean 'claude'?"),
        "mission.toml:18: agents.default.max_usd: -1 is less than 0",
        ("mission.toml:23: backend.kind: 'shh' is not 'local', 'ssh' or 'work-pool'; "
        "did you mean 'ssh'?"),
        'mission.toml:24: backend.lease: True is no duration; write e.g. "5m" or "1h30m"',
        "mission.toml:22: backend.slotz: unknown key; did you mean 'slots'?",
        "option: limits.max_attempts: 0 is less than 1",
        "option: limits.deadline: 'soon' is no duration; write e.g. \"5m\" or \"1h30m\"",
        ("MISSION_LIMITS__X: limits.x: unknown key; there are 'max_rounds', 'max_attempts', "
        "'max_conflicts', 'max_faults', 'unit_timeout', 'deadline', 'max_failures_in_a_row', "
        "'budget_usd', 'budget_usd_per_day', 'budget_tokens', 'max_replans', "
        "'stall_window' or 'stall_epsilon'"),
        "option: landing.commit: 'rebase' is not 'squash' or 'merge'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"tidy-acme"', '"a/b"', "mission.toml:1: name: 'a/b' is no name of at most 64 letters"),
        ("name =", "nome =", "mission.toml: name: it is missing\nmission.toml:1: nome: unknown"),
        ("python3 -m pytest -q", " ", "mission.toml:8: verify.command: it is empty, and with"),
        ('command = "python3', 'unit = "python3', "mission.toml:7: verify.command: it is missing"),
        ('file = "plan.toml"', "", 'mission.toml:12: plan.file: planner "file" needs one, e.g.'),
        ('file = "plan.toml"', 'planner = "tydy"', "mission.toml:13: plan.planner: 'tydy' is not "),
        ('url = "../acme"', "", "mission.toml:4: repository.url: say where the repository is"),
        ("url =", 'block = "b/c"\nurl =', "mission.toml:6: repository.url: say where the reposit"),
        ("url =", 'green = "a..b"\nurl =', "mission.toml:5: repository.green: 'a..b' is no branch"),
        ("agents.default", "agents.A", "mission.toml:15: agents.A: 'A' is no agent name of a-z"),
        ('["ruff"', '[1, "ruff"', "mission.toml:16: agents.default.argv.0: 1 is not a string"),
        ("slots = 2", "slots = true", "mission.toml:19: backend.slots: true is not a number"),
        ("slots = 2", "slots = 2.5", "mission.toml:19: backend.slots: 2.5 is not a whole number"),
        ("slots = 2", 'kind = "ssh"', 'mission.toml:18: backend.hosts: kind "ssh" needs at least'),
        (
            "[backend]",
            "[fixup]\nagent = 'defualt'\n[backend]",
            "mission.toml:18: fixup: there is",
        ),
        ("[backend]\nslots", "backend", "mission.toml:18: agents.default.backend: unknown key"),
        ("[backend]\nslots", "[backend", "mission.toml:18: Expected ']' at the end of a table"),
    ],
)
def test_a_wrong_file_names_the_line(file: Path, old: str, new: str, expected: str) -> None:
    assert problems(edit(file, old, new)).startswith(expected)


def test_a_secret_written_in_the_file_is_refused_and_not_repeated(file: Path) -> None:
    edit(file, "[backend]", 'secrets = { KEY = "sk-1234" }\n[backend]')

    said = problems(file)

    assert said.startswith("mission.toml:18: agents.default.secrets.KEY: a secret is named")
    assert "sk-1234" not in said
    with pytest.raises(ValidationError) as refusal:
        MissionSettings.model_validate({"agents": {"a": {"secrets": {"KEY": "sk-1234"}}}})
    assert "sk-1234" not in str(refusal.value)


def test_secrets_are_named_by_block_or_variable(file: Path) -> None:
    edit(file, "[backend]", 'secrets = { A = "secret/key", B = "env/KEY" }\n[backend]')

    assert load(file).agents["default"].secrets == {"A": "secret/key", "B": "env/KEY"}


def test_a_missing_file_tells_how_to_make_one(tmp_path: Path) -> None:
    assert problems(tmp_path / "mission.toml") == (
        "mission.toml: no such file; `mission init` writes one"
    )


def test_a_file_that_is_no_text_or_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mission.toml").write_bytes(b"\xff")

    assert problems(tmp_path / "mission.toml") == "mission.toml: it is not UTF-8 text"
    assert problems(tmp_path) == f"{tmp_path.name}: Is a directory"


def test_nothing_at_all_names_what_is_needed() -> None:
    assert problems(None).splitlines() == [
        "settings: name: it is missing",
        "settings: repository.url: say where the repository is: either url or block",
        "settings: verify.command: it is missing",
        'settings: plan.file: planner "file" needs one, e.g. file = "plan.toml"',
    ]


@pytest.mark.parametrize("where", ["[review]\n", ""])
def test_protected_is_accepted_under_review_and_at_the_top(file: Path, where: str) -> None:
    text = file.read_text(encoding="utf-8")
    file.write_text(f'{where}protected = ["a"]\n', encoding="utf-8")
    if where:
        file.write_text(f"{text}{where}protected = ['a']\n", encoding="utf-8")
    else:
        file.write_text(f"protected = ['a']\n{text}", encoding="utf-8")

    assert load(file).review.protected == ("a",)
    assert load(file, env={"MISSION_REVIEW__PROTECTED": "b"}).review.protected == ("b",)


def test_a_wrong_protected_at_the_top_names_its_line(file: Path) -> None:
    edit(file, "objective", "protected = 3\nobjective")

    assert problems(file) == "mission.toml:2: review.protected: 3 is not a list of strings"


def test_names_that_agents_get_are_no_settings(file: Path) -> None:
    assert load(file, env=dict.fromkeys(NOT_SETTINGS, "x")) == load(file)


def test_agents_without_argv_need_units_with_a_command(file: Path) -> None:
    edit(file, "[backend]", '[agents.bare]\n[agents.ai]\nprofile = "claude"\n[backend]')

    assert load(file).commandless_agents == {"bare"}


def test_settings_survive_the_ledger_and_are_frozen(file: Path) -> None:
    settings = load(file, env={"MISSION_ENVIRONMENT__SET__A": "1"})

    again = MissionSettings.model_validate(json.loads(json.dumps(settings.model_dump(mode="json"))))

    assert again == settings
    assert hash(again) == hash(settings)
    assert changed_keys(settings, again) == []
    with pytest.raises(ValidationError, match="frozen"):
        settings.name = "other"  # type: ignore[misc]  # the refusal is what is tested


def test_the_environment_of_a_later_process_does_not_leak_into_frozen_settings(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(file)
    monkeypatch.setenv("MISSION_OBJECTIVE", "something else")
    monkeypatch.setenv("MISSION_BACKEND__SLOTS", "99")

    assert MissionSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_a_resume_may_change_slots_limits_and_places_only(file: Path) -> None:
    new = load(
        file,
        env={"MISSION_BACKEND__SLOTS": "9", "MISSION_ENVIRONMENT__SET__A": "1"},
        limits={"deadline": "1h"},
        verify={"command": "make"},
        agents={"default": {"place": "ssh-backend/farm"}, "more": {"profile": "codex"}},
    )

    changed = changed_keys(load(file), new)

    assert [key for key in changed if may_change_on_resume(key)] == [
        "agents.default.place",
        "backend.slots",
        "limits.deadline",
        "agents.more.place",
        "agents.more.max_usd",
        "agents.more.max_turns",
    ]
    assert {"environment.set.A", "verify.command", "agents.more.profile"} <= set(changed)


@examples(deadline=None)  # the machine may be busy
@given(st.integers(1, 100), st.floats(0, 1e6), st.lists(st.text(min_size=1)))
def test_any_value_survives_the_ledger(slots: int, usd: float, patterns: list[str]) -> None:
    settings = load(
        None,
        name="x",
        repository={"block": "target-repository/x"},
        verify={"command": "make", "junit": patterns},
        plan={"planner": "tidy"},
        backend={"slots": slots},
        limits={"budget_usd": usd},
    )

    assert MissionSettings.model_validate_json(settings.model_dump_json()) == settings


def test_every_key_is_described_in_a_sentence() -> None:
    for section in Section.__subclasses__():
        for name, field in section.model_fields.items():
            assert (field.description or "").endswith("."), f"{section.__name__}.{name}"


def test_the_table_has_a_line_for_each_key() -> None:
    lines = render_settings_table().splitlines()

    assert lines[:2] == [
        "| key | default | description | environment |",
        "| --- | --- | --- | --- |",
    ]
    assert (
        '| `verify.timeout` | `"5m"` | Longest time that one verification may take. '
        "| `MISSION_VERIFY__TIMEOUT` |" in lines
    )
    assert any(line.startswith("| `name` | required | ") for line in lines)
    assert any(line.startswith('| `environment.pass` | `["LANG"]` | ') for line in lines)
    assert any("`MISSION_AGENTS__<NAME>__MODEL`" in line for line in lines)
    assert all(line.count(" | ") == 3 for line in lines)


def test_home_is_made_for_this_user_alone(tmp_path: Path) -> None:
    folder = home({"MISSION_HOME": str(tmp_path / "a" / "state")})

    assert folder == tmp_path / "a" / "state"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert home({"MISSION_HOME": str(folder)}) == folder


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS keeps it in the user's library")
def test_home_without_a_name_is_the_platforms_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert home({"XDG_STATE_HOME": str(tmp_path / "x")}) == tmp_path / "x" / "mission"
    assert home({}) == tmp_path / ".local" / "state" / "mission"


def test_a_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SettingsInvalid, match=r"MISSION_HOME: .*file/x: Not a directory"):
        home({"MISSION_HOME": str(tmp_path / "file" / "x")})


def test_a_planner_that_is_no_agent_is_told_with_its_place(file: Path) -> None:
    text = file.read_text()
    file.write_text(text + '\n[evaluate]\nagent = ""\n')
    with pytest.raises(SettingsInvalid) as refusal:
        load(file, plan={"planner": "agent", "agent": "plannr"})
    assert "option: plan.agent: there is no agent 'plannr'" in str(refusal.value)
