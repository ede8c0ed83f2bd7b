"""Before a mission: what is wrong with its settings here and now, found without running anything.

`check_mission` refuses what can only fail; `examine` looks at everything and makes rows of it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blocks.errors import (
    BackendUnreachable,
    CommandFailed,
    MissionError,
    PlanInvalid,
    SettingsInvalid,
)
from blocks.places import supervise
from blocks.places.place import Place, judge_survey
from blocks.places.workspaces import SYSTEM_PATH
from flows.home import home
from flows.human_input import one_of
from flows.planning.plan import Unit, matches
from flows.planning.rounds import file_units
from flows.reporting.narration import count
from flows.running.agents import Phase, command_of, load_profile
from flows.running.calling import profile_of, told_to
from flows.secrets import missing_secrets
from flows.settings import Agent, MissionSettings
from flows.settings_sources import load_settings

_BUILT_IN = frozenset(("!", "(", ".", ":", "[", "cd", "case", "eval", "exec", "export", "for"))
_BUILT_IN |= {"if", "set", "test", "trap", "ulimit", "umask", "unset", "until", "while", "{"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, whether it is good, and what was found or how to mend it."""

    what: str
    ok: bool
    detail: str


def check_mission(settings: MissionSettings) -> tuple[str, ...]:
    """Refuse a mission that can only fail; returns warnings. Looks at this machine alone.

    Raises:
        SettingsInvalid: every problem with the settings on a line of its own.
        PlanInvalid: the plan cannot be read, or every problem with its units.
    """
    if problems := [*_not_in_this_version(settings)]:
        raise SettingsInvalid(_listed(problems))
    units = file_units(settings) if settings.plan.planner == "file" else ()
    used = {unit.agent for unit in units if unit.command is None}
    used |= {name for name, _ in settings.roles}
    if problems := [*_agents_problems(settings, used)]:
        raise SettingsInvalid(_listed(problems))
    if problems := [*_unit_problems(settings, units)]:
        raise PlanInvalid(_listed(problems))
    return (*_warnings(settings), *_unit_warnings(settings, units))


def reach_places(settings: MissionSettings) -> None:
    """See that distant hosts answer and have what jobs need, before anything is started.

    Raises:
        BackendUnreachable: one does not; the message says which and what is missing.
    """
    if settings.backend.kind != "ssh" or settings.backend.block:
        return
    for place in _places_of(settings):
        try:
            found = place.check()
        finally:
            place.close()
        if lacking := [f"{what}: {detail}" for what, ok, detail in found if not ok]:
            raise BackendUnreachable(f"{place.name}: {'; '.join(lacking)}")


def _listed(problems: Sequence[str]) -> str:
    return problems[0] if len(problems) == 1 else "".join(f"\n{problem}" for problem in problems)


# -- what this version does not do ------------------------------------------------------------


def _not_in_this_version(settings: MissionSettings) -> Iterator[str]:
    """Yield settings that would be passed over: better refused than not done."""
    if settings.repository.block:
        yield "repository.block: not in this version; name the repository with url"
    if settings.backend.kind == "work-pool":
        yield 'backend.kind: "work-pool" is not in this version; use "local" or "ssh"'
    if settings.backend.sandbox == "bwrap":
        yield 'backend.sandbox: "bwrap" is not in this version; agents would run without one'
    review = settings.review
    for key in ("before_first_unit", "before_delivery"):
        if getattr(review, key):
            yield f"review.{key}: nobody would be asked; reviews are not in this version"
    if review.over_usd is not None:
        yield "review.over_usd: nobody would be asked; reviews are not in this version"
    for name, agent in settings.agents.items():
        yield from _agent_not_in_this_version(name, agent)


def _agent_not_in_this_version(name: str, agent: Agent) -> Iterator[str]:
    key = f"agents.{name}"
    if agent.place:
        yield f"{key}.place: not in this version; all agents run on the mission's backend"
    if agent.sandbox == "bwrap":
        yield f'{key}.sandbox: "bwrap" is not in this version; the agent would run without one'


# -- commands ---------------------------------------------------------------------------------


def workspace_path(settings: MissionSettings, agent: Agent | None = None) -> str:
    """The `PATH` of commands in workspaces, or of an agent there."""
    chosen = settings.environment
    path = os.pathsep.join([*chosen.path, SYSTEM_PATH])
    if "PATH" in chosen.pass_:
        path = os.environ.get("PATH", path)
    path = chosen.set.get("PATH", path)
    return agent.env.get("PATH", path) if agent else path


def _agents_problems(settings: MissionSettings, used: Collection[str]) -> Iterator[str]:
    """Yield why agents that will be asked for cannot do it, or not within the budget."""
    named = dict(settings.roles)
    for name, agent in settings.agents.items():
        if name not in used:
            continue
        is_empty = not profile_of(agent).argv
        if is_empty and named.get(name, "work") != "work":
            yield f"agents.{name}.argv: it is empty, and {named[name]} asks for this agent"
        yield from _agent_problems(settings, name, agent)
        if not _tells_cost(agent) and "budget_usd" in settings.limits.model_fields_set:
            what = f"limits.budget_usd: agent '{name}' ({agent.profile}) tells no cost"
            yield f"{what}; cap it by limits.budget_tokens, max_attempts, unit_timeout or deadline"
    yield from (why for why in missing_secrets(settings) if why.split(".")[1] in used)


def _tells_cost(agent: Agent) -> bool:
    """Whether the cost of an agent is told; what any command tells is not known."""
    return agent.profile == "command" or load_profile(agent.profile).reports.cost


def _agent_problems(settings: MissionSettings, name: str, agent: Agent) -> Iterator[str]:
    profile, key = profile_of(agent), f"agents.{name}"
    if not profile.argv:
        return
    if why := _missing(settings, f"{key}.argv", profile.argv[0], workspace_path(settings, agent)):
        install = profile.install
        package = f"npm install --global {install.npm}" if install.npm else ""
        package = package or (f"pip install {install.pypi}" if install.pypi else "")
        yield f"{why} ({package} installs it)" if package and not agent.argv else why
    if agent.profile == "command":
        return
    for option in profile.unheeded(
        model=agent.model,
        max_usd=agent.max_usd,
        max_turns=agent.max_turns,
        base_url=agent.base_url,
    ):
        yield f"{key}.{option}: {profile.title} cannot be told of it; leave it out"
    given = {*agent.env, *agent.secrets, *settings.environment.set, *settings.environment.pass_}
    if profile.keys and not given.intersection(profile.keys):
        wanted, first = one_of(profile.keys), profile.keys[0]
        mend = f'secrets = {{ {first} = "env/{first}" }}'
        yield f"{key}.secrets: {profile.title} needs {wanted}: {mend}"


def _unit_problems(settings: MissionSettings, units: Iterable[Unit]) -> Iterator[str]:
    for unit in units:
        if unit.checkpoint:
            why = "nobody would be asked; checkpoints are not in this version"
            yield f"unit '{unit.id}': checkpoint: {why}"
        if unit.command is not None:
            path = workspace_path(settings, settings.agents.get(unit.agent))
            if why := _missing(settings, "command", unit.command[0], path):
                yield f"unit '{unit.id}': {why}"


def _missing(settings: MissionSettings, key: str, name: str, path: str) -> str:
    """Why a command will not be found; empty where it will, or where only the place can tell."""
    is_here = settings.backend.kind == "local" and not settings.backend.block
    if not is_here or "{" in name or _is_found(name, path):
        return ""
    if name.startswith("/"):
        return f"{key}: '{name}' cannot be executed"
    theirs = shutil.which(name)
    folder = f' (path = ["{Path(theirs).parent}"] has it)' if theirs else ""
    mend = f"add its folder to [environment] path{folder}"
    return f"{key}: '{name}' is not on the PATH of workspaces ({path}); {mend}"


def _is_found(name: str, path: str) -> bool:
    if "/" in name and not name.startswith("/"):
        return True  # relative to the workspace, which is not there yet
    return shutil.which(name, path=path) is not None


def _first_word(command: str) -> str:
    """The program that a shell command begins with; empty when that is not plain to see."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    word = next((word for word in words if "=" not in word), "")
    is_plain = word and word not in _BUILT_IN and not set(word) & set("$`(;|&<>*?")
    return word if is_plain else ""


# -- warnings ---------------------------------------------------------------------------------


def _warnings(settings: MissionSettings) -> Iterator[str]:
    yield from _command_warnings(settings)
    if settings.backend.kind == "local" and not settings.backend.block:
        for folder in settings.environment.path:
            if not Path(folder).is_dir():
                yield f"environment.path: there is no folder {folder}"
    for name, agent in settings.agents.items():
        if agent.profile == "command":
            untold = ("model", "max_usd", "max_turns", "base_url")
            yield from (
                f"agents.{name}.{key}: a `command` agent is not told of it"
                for key in untold
                if getattr(agent, key)
            )
            if "budget_usd" in settings.limits.model_fields_set and agent.argv:
                told = "counts what its MISSION_RESULT line tells as cost_usd, and nothing else"
                yield f"limits.budget_usd: agent '{name}' {told}"
        yield from _disclosure_warnings(settings, name, agent)


def _disclosure_warnings(settings: MissionSettings, name: str, agent: Agent) -> Iterator[str]:
    """Yield what a mission wants told of tools and network and a command cannot be told."""
    profile = profile_of(agent)
    for phase, permission in profile.permissions.items():
        if agent.tools.get(phase.value) is not None and not permission.takes_tools:
            yield f"agents.{name}.tools.{phase}: {profile.title} is not told of it"
        if settings.disclosure(phase).network and permission.network is None:
            yield f"phases.{phase}.network: {profile.title} (agent {name}) is not told of it"


def _command_warnings(settings: MissionSettings) -> Iterator[str]:
    path = workspace_path(settings)
    for key in ("command", "unit", "setup"):
        word = _first_word(getattr(settings.verify, key))
        if word and (why := _missing(settings, f"verify.{key}", word, path)):
            yield why
    is_tidy = settings.plan.planner == "tidy"
    if is_tidy and (why := _missing(settings, "plan.planner", "ruff", path)):
        yield f"{why}; without it little is found"


def _unit_warnings(settings: MissionSettings, units: Iterable[Unit]) -> Iterator[str]:
    protected = settings.review.protected
    for unit in units:
        shut = [path for path in unit.writes or () if matches(path, protected)]
        if shut:
            yield f"unit '{unit.id}': writes: {', '.join(shut)} is protected and will be refused"


# -- doctor -----------------------------------------------------------------------------------


def examine(mission_file: Path) -> list[Check]:
    """Look at everything that a mission needs; what is wrong becomes a row, not an error."""
    rows, settings = _settings_row(mission_file)
    if settings is None:
        return [*rows, *_state_folder(), *_here()]
    parts = (_target, _plan, _unsupported, _places, _agents, _commands, _blocks)
    for part in parts:
        rows += part(settings)
    return [*rows, *_state_folder()]


def _settings_row(mission_file: Path) -> tuple[list[Check], MissionSettings | None]:
    try:
        settings = load_settings(mission_file)
    except MissionError as error:
        return [Check(what="settings", ok=False, detail=str(error))], None
    return [Check(what="settings", ok=True, detail=f"{mission_file}: {settings.name}")], settings


def _row(what: str, look: Callable[[], str]) -> Check:
    """Make a row of what a look finds, or of why it fails."""
    try:
        return Check(what=what, ok=True, detail=look())
    except (MissionError, OSError, ValueError) as error:
        return Check(what=what, ok=False, detail=str(error))


def _target(settings: MissionSettings) -> list[Check]:
    from flows.opening import inspect_target  # noqa: PLC0415 - imports GitPython

    def look() -> str:
        found = f"{settings.repository.url} has {settings.repository.base}"
        return "; ".join([found, *inspect_target(settings)])

    return [] if settings.repository.block else [_row("target repository", look)]


def _plan(settings: MissionSettings) -> list[Check]:
    if settings.plan.planner != "file":
        return []
    return [
        _row("plan", lambda: f"{settings.plan.file}: {count(len(file_units(settings)), 'unit')}")
    ]


def _unsupported(settings: MissionSettings) -> list[Check]:
    """The rows of what is refused; agents have rows of their own."""
    problems = [p for p in _not_in_this_version(settings) if not p.startswith("agents.")]
    return [
        Check(what=key, ok=False, detail=why.strip())
        for key, _, why in (problem.partition(":") for problem in problems)
    ]


def _places(settings: MissionSettings) -> list[Check]:
    backend = settings.backend
    if backend.block or backend.kind == "work-pool":
        return _here()
    try:
        places = _places_of(settings)
    except (OSError, ValueError) as error:
        return [Check(what=f"backend {backend.kind}", ok=False, detail=str(error))]
    here = [] if backend.kind == "local" else _here()
    return [*here, *(row for place in places for row in _place(place, settings))]


def _places_of(settings: MissionSettings) -> list[Place]:
    backend = settings.backend
    if backend.kind == "local":
        from blocks.places.local import LocalPlace  # noqa: PLC0415

        return [LocalPlace(backend.root or home() / "places" / "local")]
    from blocks.places.hosts import places_on  # noqa: PLC0415 - imports Fabric

    found = places_on(backend.hosts, root=backend.root or None, config=backend.config)
    return [*found]


def _place(place: Place, settings: MissionSettings) -> list[Check]:
    try:
        found = place.check()
        rows = [Check(what=f"{place.name}: {w}", ok=ok, detail=d) for w, ok, d in found]
        reached = all(row.ok for row in rows[:1])
        return [*rows, *_commands_there(place, settings)] if reached else rows
    except (BackendUnreachable, CommandFailed, OSError) as error:
        return [Check(what=place.name, ok=False, detail=str(error))]
    finally:
        place.close()


def _commands_there(place: Place, settings: MissionSettings) -> Iterator[Check]:
    """Look for the agents' programs on a distant place."""
    if place.name == "local":
        return
    for name, agent in settings.agents.items():
        word = next(iter(profile_of(agent).argv), "")
        if not word or "{" in word or ("/" in word and not word.startswith("/")):
            continue
        argv = ["sh", "-c", 'command -v "$1"', "sh", word]
        done = place.run(argv, env={"PATH": workspace_path(settings, agent)}, check=False)
        missing = f"'{word}' is not there; add its folder to [environment] path"
        what = f"{place.name}: agent {name}"
        yield Check(what=what, ok=done.code == 0, detail=done.text or missing)


def _here() -> list[Check]:
    """Rows about this machine that need no mission."""
    try:
        found = judge_survey(supervise.survey(str(home())), now=time.time())
    except (MissionError, OSError) as error:
        return [Check(what="this machine", ok=False, detail=str(error))]
    wanted = ("python3", "git", "disk space")
    return [Check(what=what, ok=ok, detail=detail) for what, ok, detail in found if what in wanted]


def _agents(settings: MissionSettings) -> list[Check]:
    return [_agent(settings, name, agent) for name, agent in settings.agents.items()]


def _agent(settings: MissionSettings, name: str, agent: Agent) -> Check:
    what = f"agent {name}"
    if problems := [*_agent_not_in_this_version(name, agent)]:
        return Check(what=what, ok=False, detail=_listed(problems))
    profile = profile_of(agent)
    if not profile.argv:
        return Check(what=what, ok=True, detail="no argv: runs units that bring a command")
    problems = [*_agent_problems(settings, name, agent)]
    if problems := [*problems, *(w for w in missing_secrets(settings) if f".{name}." in w)]:
        return Check(what=what, ok=False, detail=_listed(problems))
    found = shutil.which(profile.argv[0], path=workspace_path(settings, agent))
    argv = command_of(profile, told_to(settings, name, Phase.WORK, {}), files=["{files}"])
    return Check(what=what, ok=True, detail=f"{found or profile.argv[0]}: {shlex.join(argv)}")


def _commands(settings: MissionSettings) -> list[Check]:
    warnings = [*_warnings(settings)]
    rows = [
        Check(what=key, ok=False, detail=why.strip())
        for key, _, why in (warning.partition(":") for warning in warnings)
    ]
    if any(warning.startswith("verify.command") for warning in warnings):
        return rows
    word = _first_word(settings.verify.command)
    found = shutil.which(word, path=workspace_path(settings)) if word else None
    how = f"{settings.verify.command}" + (f" ({found})" if found else "")
    return [Check(what="verify.command", ok=True, detail=how), *rows]


def _blocks(settings: MissionSettings) -> list[Check]:
    named = {"backend": settings.backend.block, "repository": settings.repository.block}
    later = "is stored on the Prefect server; it is looked at when the mission starts"
    return [
        Check(what=f"{what} block", ok=True, detail=f"{block} {later}")
        for what, block in named.items()
        if block
    ]


def _state_folder() -> list[Check]:
    return [_row("state folder", lambda: f"{home()} is writable")]
