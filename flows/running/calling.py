"""Calling an agent: its command line by its profile in a workspace, its output read.

What it may use in a phase is told to the command in its own way; what that cannot enforce, our
checks after the fact refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blocks.places.place import Ending, JobResult, Place
from blocks.places.workspaces import Workspace
from flows.running.agents import (
    Phase,
    Profile,
    Told,
    command_of,
    environment_of,
    load_profile,
    stdin_of,
)
from flows.running.bench import Bench
from flows.running.outputs import READ_BYTES, AgentReport, read_output
from flows.settings import Agent, MissionSettings

_MOST_USD = 1e6
"""What claims more costs than that is not believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What an agent is called for; `values` are its `MISSION_…` variables, `files` its `{files}`.

    `command` is a unit's own argv, which replaces the agent's and gets none of its secrets.
    """

    agent: str
    phase: Phase
    prompt: str
    timeout_seconds: float
    values: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[str] = ()
    command: Sequence[str] | None = None


def call_agent(call: Call, bench: Bench, workspace: Workspace, directory: str) -> JobResult:
    """Run an agent to its end, or go on waiting for it.

    Raises:
        BackendUnreachable: it was ended before it began.
        SettingsInvalid: its command line cannot be made.
    """
    place, prompt_file = workspace.place, f"{directory}/prompt.md"
    place.write(prompt_file, call.prompt.encode("utf-8", "replace"))
    values = {
        **call.values,
        "MISSION_PROMPT_FILE": prompt_file,
        "MISSION_WORKSPACE": workspace.tree,
    }
    settings = bench.settings
    agent = settings.agents.get(call.agent) or Agent()
    profile = profile_of(agent, call.command)
    told = told_to(settings, call.agent, call.phase, values)
    secrets = bench.secrets_of(agent) if call.command is None else {}
    for path, text in profile.files.items():
        place.write(f"{workspace.home}/{path}", text.encode())
    return bench.run_job(
        workspace,
        directory,
        command_of(profile, told, prompt=call.prompt, files=call.files),
        timeout_seconds=call.timeout_seconds,
        stdin=stdin_of(profile, call.prompt),
        extra={**environment_of(profile, told), **agent.env, **secrets, **values},
    )


def profile_of(agent: Agent, command: Sequence[str] | None = None) -> Profile:
    """The profile of an agent, with the mission's or the unit's argv in place of its own."""
    if command is not None:
        return load_profile("command").model_copy(update={"argv": tuple(command)})
    profile = load_profile(agent.profile)
    return profile.model_copy(update={"argv": agent.argv}) if agent.argv else profile


def told_to(settings: MissionSettings, name: str, phase: Phase, values: Mapping[str, str]) -> Told:
    """What a mission tells one of its agents in a phase."""
    agent = settings.agents.get(name) or Agent()
    return Told(
        phase=phase,
        model=agent.model,
        max_usd=agent.max_usd,
        max_turns=agent.max_turns,
        base_url=agent.base_url,
        tools=agent.tools.get(phase.value),
        network=settings.disclosure(phase).network,
        values=values,
    )


def report_of(profile: Profile, place: Place, directory: str, result: JobResult) -> AgentReport:
    """What an agent's output tells; where it was never started, nothing."""
    if result.ending == Ending.NOT_STARTED:
        return AgentReport()
    output = place.tail(directory, READ_BYTES)
    is_whole = len(output) < READ_BYTES
    return read_output(profile.reader, output, now=result.ended_at, is_whole=is_whole)


def is_out_of_quota(report: AgentReport, result: JobResult) -> bool:
    """Whether a limit of its account ended an agent; one that got there in spite of it did not."""
    return report.rate_limited_until is not None and result.exit_code != 0


def figures_of(report: AgentReport, said: Mapping[str, Any], result: JobResult) -> dict[str, Any]:
    """The fields of an event that an agent's own figures fill; an absent one is not told.

    An agent whose output has no known form may tell its cost in its result line.
    """
    limited = report.rate_limited_until if is_out_of_quota(report, result) else None
    return {
        "session": report.session_id or "",
        "turns": report.turns,
        "input_tokens": report.input_tokens,
        "output_tokens": report.output_tokens,
        "cached_tokens": report.cached_tokens,
        "cost_usd": _claimed_usd(said) if report.cost_usd is None else report.cost_usd,
        "limited_until": limited,
    }


def _claimed_usd(said: Mapping[str, Any]) -> float | None:
    claimed = said.get("cost_usd")
    if isinstance(claimed, bool) or not isinstance(claimed, int | float):
        return None
    return float(claimed) if 0 <= claimed < _MOST_USD else None
