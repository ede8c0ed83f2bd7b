"""The profiles' own command lines, taken by the real commands, with a scripted model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from flows.running.agents import Phase, Told, command_of, environment_of, load_profile
from flows.running.outputs import AgentReport, read_output
from flows.running.result import find_result
from tests.agent_clis import CLIS, NOTE, RESULT, Case, Cli, Ran, Site, run
from tests.model_server import Say

MODELS = {
    "claude": ("claude-sonnet-4-5", ""),
    "codex": ("gpt-5", "/v1"),
    "opencode": ("anthropic/claude-sonnet-4-5", "/v1"),
}
"""A model and what follows the server's address."""


def profiled(name: str, phase: Phase) -> Cli:
    """The CLI, started as its profile says."""
    profile, (model, path) = load_profile(name), MODELS[name]
    values = {"MISSION_UNIT_ID": "note"}

    def argv(url: str) -> Sequence[str]:
        url = f"{url}{path}"
        told = Told(phase=phase, model=model, base_url=url, values=values)
        return command_of(profile, told)[1:]

    def environment(url: str, site: Site) -> Mapping[str, str]:
        for file, text in profile.files.items():
            (site.home / file).parent.mkdir(parents=True, exist_ok=True)
            (site.home / file).write_text(text)
        told = Told(phase=phase, model=model, base_url=f"{url}{path}")
        return {**environment_of(profile, told), profile.keys[0]: "not-a-key"}

    cli = Cli(name=name, package=CLIS[name].package, argv=argv, environment=environment)
    if cli.path() is None:
        pytest.skip(cli.skip_reason)
    return cli


def report_of(name: str, ran: Ran) -> AgentReport:
    output = f"{ran.stderr}\n{ran.stdout}".encode()  # one log has both
    return read_output(load_profile(name).reader, output, now=0.0)


@pytest.mark.parametrize("name", MODELS)
def test_a_worker_by_its_profile_works_is_read_and_asks_nobody_else(
    name: str, tmp_path: Path
) -> None:
    ran = run(profiled(name, Phase.WORK), Case(script=NOTE), tmp_path / "site")
    assert ran.exit_code == 0, ran.stderr
    report, tells = report_of(name, ran), load_profile(name).reports
    assert find_result(report.said).summary == "added a note"
    assert (report.input_tokens, report.cached_tokens, report.output_tokens) == (4500, 1200, 180)
    assert bool(report.session_id) == tells.session
    assert (report.turns is not None) == tells.turns
    assert (report.cost_usd is not None) == tells.cost
    assert ran.models.outside == []
    assert len(ran.models.asked) == 3
    if name != "codex":  # its sandbox does not start with a HOME below /tmp
        assert ran.subjects()[0] == "Add a note"


@pytest.mark.parametrize("name", ["claude", "opencode"])
def test_a_reviewer_by_its_profile_has_no_tool_that_writes_or_runs(
    name: str, tmp_path: Path
) -> None:
    ran = run(profiled(name, Phase.REVIEW), Case(script=[Say(RESULT)]), tmp_path / "site")
    assert ran.exit_code == 0, ran.stderr
    tools = {tool.lower() for asked in ran.models.asked for tool in asked.tools}
    assert {"read", "grep", "glob"} <= tools
    assert not tools & {"bash", "edit", "write", "task", "webfetch", "websearch"}
    assert find_result(report_of(name, ran).said)
