"""Agents' command lines, made from profiles."""

from __future__ import annotations

import json
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from blocks.errors import SettingsInvalid
from flows.running.agents import (
    LARGEST_ARGUMENT_BYTES,
    Phase,
    Told,
    command_of,
    environment_of,
    fill,
    load_profile,
    profile_names,
    read_profile,
    stdin_of,
)
from flows.running.outputs import read_output
from flows.settings import Agent

VALUES = {"MISSION_PROMPT_FILE": "/job/prompt.md", "MISSION_UNIT_ID": "settings"}
CLIS = [name for name in profile_names() if name != "command"]

BROKEN = """
name = "broken"
title = "a CLI"
argv = ["cli", "{promt_file}"]
prompt = "file"
reader = "text"
[permissions.plan]
says = "reads"
[permissions.work]
says = "edits"
[permissions.fixup]
says = "edits"
[permissions.review]
says = "reads"
"""


def work(name: str, **options: object) -> tuple[str, ...]:
    files = cast("list[str]", options.pop("files", []))
    told = Told(phase=Phase.WORK, values=VALUES, **options)  # type: ignore[arg-type] # any option
    return command_of(load_profile(name), told, files=files)


def test_settings_take_every_profile_that_has_a_file_and_no_other() -> None:
    assert {Agent(profile=name).profile for name in profile_names()} == {*profile_names()}
    with pytest.raises(ValueError, match="did you mean 'codex'"):
        Agent(profile="codx")


@pytest.mark.parametrize("name", CLIS)
def test_a_profile_names_the_version_that_it_was_checked_with_and_its_package(name: str) -> None:
    profile = load_profile(name)
    assert profile.checked
    assert bool(profile.install.npm) != bool(profile.install.pypi)
    assert profile.keys


@pytest.mark.parametrize("name", CLIS)
def test_only_what_is_not_known_yet_is_left_as_a_placeholder(name: str) -> None:
    argv = work(name, model="m-1", base_url="http://127.0.0.1:1/v1")
    assert not [argument for argument in argv if "{" in argument and '="' not in argument]
    assert "m-1" in argv


@pytest.mark.parametrize("name", CLIS)
def test_without_a_model_none_is_asked_for(name: str) -> None:
    argv = work(name)
    assert "--model" not in argv
    assert all(argv), argv


@pytest.mark.parametrize("name", CLIS)
def test_reading_and_working_are_told_apart(name: str) -> None:
    profile = load_profile(name)
    told = {
        phase: (
            command_of(profile, Told(phase=phase)),
            environment_of(profile, Told(phase=phase)),
        )
        for phase in Phase
    }
    assert told[Phase.PLAN] == told[Phase.REVIEW] != told[Phase.WORK] == told[Phase.FIXUP]
    assert all(profile.permissions[phase].says for phase in Phase)


@pytest.mark.parametrize("name", CLIS)
def test_an_address_reaches_the_command_by_argument_or_environment(name: str) -> None:
    profile, url = load_profile(name), "http://127.0.0.1:8000/v1"
    argv = command_of(profile, Told(phase=Phase.WORK, base_url=url))
    env = environment_of(profile, Told(phase=Phase.WORK, base_url=url))
    assert any(url in text for text in (*argv, *env.values()))


@pytest.mark.parametrize("name", profile_names())
def test_settings_within_a_profile_are_well_formed(name: str) -> None:
    profile = load_profile(name)
    env = environment_of(profile, Told(phase=Phase.WORK, base_url="https://a.example/v1?b=c"))
    for text in (*env.values(), *profile.files.values()):
        if text.startswith("{"):
            json.loads(text)
    argv = command_of(profile, Told(phase=Phase.WORK, base_url="https://a.example/v1?b=c"))
    for option, value in pairwise(argv):
        if option == "-c":
            tomllib.loads(value)


def test_claude_is_told_budget_turns_and_tools() -> None:
    argv = work("claude", model="opus", max_usd=2.5, max_turns=30)
    text = " ".join(argv)
    assert "--max-budget-usd 2.5" in text
    assert "--max-turns 30" in text
    assert "--model opus" in text
    assert argv[argv.index("--allowedTools") + 1] == "Bash,Edit,Write,Read,Glob,Grep"
    assert stdin_of(load_profile("claude"), "do it") == b"do it"


def test_tools_and_network_are_what_the_mission_says() -> None:
    argv = work("claude", tools=("Read", "Bash(git:*)"), network=True)
    assert argv[argv.index("--allowedTools") + 1] == "Read,Bash(git:*),WebFetch,WebSearch"
    assert "sandbox_workspace_write.network_access=true" in work("codex", network=True)
    assert "network" not in " ".join(work("codex"))
    told = Told(phase=Phase.WORK, network=True)
    allowed = json.loads(environment_of(load_profile("opencode"), told)["OPENCODE_PERMISSION"])
    assert (allowed["webfetch"], allowed["task"]) == ("allow", "deny")


def test_codex_ends_with_the_dash_that_reads_stdin() -> None:
    argv = work("codex", model="gpt")
    assert argv[-1] == "-"
    assert argv[argv.index("--sandbox") + 1] == "workspace-write"


def test_aider_gets_a_file_for_a_prompt_and_one_argument_a_file() -> None:
    argv = work("aider", files=["a b.py", "c.py"])
    assert argv[argv.index("--message-file") + 1] == "/job/prompt.md"
    assert argv[-2:] == ("a b.py", "c.py")
    assert stdin_of(load_profile("aider"), "do it") == b""


def test_what_a_command_cannot_be_told_is_named() -> None:
    codex, claude = load_profile("codex"), load_profile("claude")
    assert codex.unheeded(model="m", max_usd=1.0, max_turns=None) == ("max_usd",)
    assert claude.unheeded(model="m", max_usd=1.0, max_turns=3, base_url="") == ()
    assert load_profile("command").unheeded(model="m") == ("model",)


def test_an_own_argv_takes_options_only_where_it_asks_for_them() -> None:
    claude = load_profile("claude")
    bare = claude.model_copy(update={"argv": ("my-claude", "{unit_id}")})
    asking = claude.model_copy(update={"argv": ("my-claude", "{options}", "end")})
    assert command_of(bare, Told(phase=Phase.WORK, model="m", values=VALUES)) == (
        "my-claude",
        "settings",
    )
    argv = command_of(asking, Told(phase=Phase.WORK, model="m"))
    assert (argv[:3], argv[-1]) == (("my-claude", "--model", "m"), "end")


def test_braces_in_a_prompt_stay_what_they_are() -> None:
    echo = load_profile("command").model_copy(update={"argv": ("echo", "{prompt}", "{other}")})
    argv = command_of(echo, Told(phase=Phase.WORK, values=VALUES), prompt="fix {files} {unit_id}")
    assert argv == ("echo", "fix {files} {unit_id}", "{other}")


def test_placeholders_are_filled_by_either_name() -> None:
    argv = ("{MISSION_UNIT_ID}", "-{unit_id}-", "{files}", "all: {files}", '{"json": 1}')
    filled = fill(argv, VALUES, ["a", "b"])
    assert filled == ("settings", "-settings-", "a", "b", "all: a b", '{"json": 1}')


def test_a_prompt_that_is_too_long_for_an_argument_is_refused() -> None:
    echo = load_profile("command").model_copy(update={"argv": ("echo", "{prompt}")})
    with pytest.raises(SettingsInvalid, match="bytes"):
        command_of(echo, Told(phase=Phase.WORK), prompt="é" * (LARGEST_ARGUMENT_BYTES // 2 + 1))


@pytest.mark.parametrize("url", ['http://a"b', "ftp://a", "http://a b", "http://a\\", "{model}"])
def test_an_address_that_could_leave_its_quotes_is_refused(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="address"):
        work("codex", base_url=url)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("", ""), r"unknown placeholder \{promt_file\}"),
        (("{promt_file}", "x"), r"\{prompt_file\} is nowhere"),
        (('reader = "text"', 'reader = "tekst"'), "reader"),
        (("[permissions.review]\nsays", "[options.model]\nargv = []\nx"), "x: Extra inputs"),
        (('[permissions.review]\nsays = "reads"', ""), "nothing for review"),
        (('title = "a CLI"', "title = "), "Invalid value"),
        (('title = "a CLI"', 'title = "a CLI"\nfiles = {"../x" = ""}'), "not below HOME"),
    ],
)
def test_a_broken_profile_is_refused_with_file_and_key(
    tmp_path: Path, change: tuple[str, str], problem: str
) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(BROKEN.replace(*change) if change[0] else BROKEN)
    with pytest.raises(SettingsInvalid, match=rf"(?s)broken\.toml: .*{problem}"):
        read_profile(path)


def test_a_profile_that_is_not_there_is_refused_with_a_hint() -> None:
    with pytest.raises(SettingsInvalid, match="did you mean 'claude'"):
        load_profile("claud")


def test_every_reader_that_a_profile_names_is_there() -> None:
    told = b'{"type": "thread.started", "thread_id": "7", "session_id": "7", "sessionID": "7"}'
    told += b'\n{"type": "init", "session_id": "7"}\nTokens: 1 sent, 2 received.\n'
    for name in CLIS:
        profile = load_profile(name)
        report = read_output(profile.reader, told, now=0.0)
        assert (report.session_id == "7") == profile.reports.session, name
