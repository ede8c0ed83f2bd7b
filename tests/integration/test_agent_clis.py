"""Real Claude Code, Codex and opencode, unattended, with a scripted model on loopback."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.agent_clis import (
    CLAUDE,
    CLIS,
    CODEX,
    OPENCODE,
    PROMPT,
    Case,
    Cli,
    Ran,
    cases,
    neutral,
    run,
    started,
)
from tests.missions import wait_until
from tests.model_server import Say, Shell, Turn, UsageLimit, Write

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"
EACH_CASE = [
    pytest.param(cli, name, id=f"{cli.name}-{name}") for cli in CLIS.values() for name in cases(cli)
]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site"


def has(cli: Cli) -> Cli:
    if cli.path() is None:
        pytest.skip(cli.skip_reason)
    return cli


def kinds(text: str) -> set[tuple[str, ...]]:
    """What kinds of lines there are: `type`, and what tells lines of one type apart."""
    lines = [json.loads(line) for line in text.splitlines()]
    return {
        (
            line["type"],
            line.get("subtype") or "",
            (line.get("item") or line.get("part") or {}).get("type", ""),
            line.get("terminal_reason") or "",
        )
        for line in lines
    }


def fields_of_last(text: str) -> set[str]:
    return set(json.loads(text.splitlines()[-1]))


def says_it_got_there(ran: Ran) -> bool:
    return "MISSION_RESULT" in ran.stdout


@pytest.mark.parametrize(("cli", "name"), EACH_CASE)
def test_a_cli_prints_what_its_transcript_has_and_asks_nobody_but_the_model(
    cli: Cli, name: str, site: Path
) -> None:
    case = cases(has(cli))[name]
    ran = run(cli, case, site)
    assert ran.exit_code == case.exit_code, ran.stdout + ran.stderr
    assert ran.subjects() == (["Add a note", "Begin"] if case.is_committed else ["Begin"])
    recorded = (TRANSCRIPTS / cli.name / f"{name}.jsonl").read_text()
    told, known = kinds(ran.stdout), kinds(recorded)
    assert told <= known
    # codex tells of a command that its sandbox refuses at once only now and then
    assert all("command_execution" in kind for kind in known - told)
    assert fields_of_last(ran.stdout) == fields_of_last(recorded)
    assert says_it_got_there(ran) == (case.exit_code == 0)
    with_tools = [json.dumps(asked.body) for asked in ran.models.asked if asked.tools]
    assert not [body for body in with_tools if PROMPT.strip() not in body]
    assert (with_tools == []) == (name == "logged_out")
    assert ran.models.outside == []


@pytest.mark.parametrize("cli", [CLAUDE, CODEX], ids=["claude", "codex"])
def test_a_scripted_model_finds_the_tools_of_a_cli_whatever_they_are_called(
    cli: Cli, site: Path
) -> None:
    script: list[Turn] = [
        Write("a note.txt", "hello\nworld\n"),
        Shell("cat 'a note.txt' > copy"),
        Say("Done."),
    ]
    ran = run(has(cli), Case(script=script), site)
    assert (ran.site.workspace / "a note.txt").read_text() == "hello\nworld\n"
    assert (ran.site.workspace / "copy").read_text() == "hello\nworld\n", ran.stdout
    with_tools = [asked for asked in ran.models.asked if asked.tools]
    assert len(with_tools) == len(script)
    assert not [asked for asked in ran.models.asked if "not-a-" in json.dumps(asked.headers)]


@pytest.mark.parametrize("cli", CLIS.values(), ids=CLIS)
def test_a_transcript_names_no_folder_of_the_machine_it_was_made_on(cli: Cli) -> None:
    for name in cases(cli):
        text = (TRANSCRIPTS / cli.name / f"{name}.jsonl").read_text()
        assert "/workspace" in text or cli is not CLAUDE
        assert not [word for word in ("/run/", "-run-", "/root", "home-of-tests") if word in text]


def test_paths_of_a_run_are_made_neutral(site: Path) -> None:
    ran = run(has(CODEX), Case(script=[Say("It is in $PWD.")]), site)
    text = neutral(f"{ran.site.workspace}/a {ran.site.home}/b {ran.models.url}/v1", ran)
    assert text == "/workspace/a /home/agent/b http://127.0.0.1:8000/v1"


def test_opencode_waits_out_a_usage_limit_and_says_so_only_in_its_log(site: Path) -> None:
    in_an_hour = cases(CODEX)["usage_limit"].script
    assert isinstance(in_an_hour[0], UsageLimit)
    case = Case(script=in_an_hour, argv=["--print-logs", "--log-level", "ERROR"])
    with started(has(OPENCODE), case, site) as running:
        wait_until(lambda: "The usage limit has been reached" in running.stderr.read_text())
        assert running.process.poll() is None
        assert running.stdout.read_text() == ""


def test_codex_takes_time_zone_and_words_for_its_reset_time(site: Path) -> None:
    """The only place where it is: a sentence; the zone is that of the child."""
    case = Case(script=[UsageLimit(4_102_444_800)], exit_code=1, environment={"TZ": "Etc/GMT-3"})
    ran = run(has(CODEX), case, site)
    assert "try again at Jan 1st, 2100 3:00 AM." in ran.stdout


def test_claude_tells_a_plans_reset_time_as_unix_seconds_and_a_keys_not_at_all(site: Path) -> None:
    resets_at = 4_102_444_800
    known = cases(has(CLAUDE))
    limit = [UsageLimit(resets_at)]
    by_plan = run(
        CLAUDE,
        Case(script=limit, environment=known["usage_limit"].environment),
        site / "plan",
    )
    by_key = run(CLAUDE, Case(script=limit), site / "key")
    lines = [json.loads(line) for line in by_plan.stdout.splitlines()]
    told = [line["rate_limit_info"] for line in lines if line["type"] == "rate_limit_event"]
    assert [info["resetsAt"] for info in told if info["status"] == "rejected"] == [resets_at]
    assert str(resets_at) not in by_key.stdout
    assert by_key.exit_code == by_plan.exit_code == 1


def test_a_program_that_is_not_there_is_skipped_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("MISSION_TEST_CLIS", raising=False)
    assert CLAUDE.path() is None
    with pytest.raises(pytest.skip.Exception, match=r"npm install --prefix FOLDER @anthropic-ai"):
        has(CLAUDE)


def test_a_folder_named_by_the_environment_comes_before_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "codex"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("MISSION_TEST_CLIS", str(tmp_path))
    assert CODEX.path() == program
    assert subprocess.run([program], check=True).returncode == 0
