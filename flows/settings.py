"""Settings of a mission: all keys that a mission file may have.

The keys are an interface: other people's files and scripts rely on them. Durations are seconds
once read; relative paths are taken from the mission file's folder. What was read is frozen in the
ledger when a mission starts, and a resume may change only what `RESUMABLE` names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from flows.human_input import (
    did_you_mean,
    one_of,
    parse_duration,
)
from flows.planning.plan import DEFAULT_AGENT
from flows.prompts.instructions import INSTRUCTION_FILES
from flows.running.agents import profile_names

RESUMABLE = frozenset(
    {
        "agents.*.max_turns",
        "agents.*.max_usd",
        "agents.*.place",
        "backend.block",
        "backend.config",
        "backend.hosts",
        "backend.kind",
        "backend.lease",
        "backend.root",
        "backend.slots",
        "limits",
        "plan.slots",
        "plan.timeout",
        "repository.poll",
        "verify.cache",
        "verify.slots",
    }
)
"""Keys, with all beneath them, that a resumed mission may change; `*` is any agent."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_AGENT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_SCP_LIKE = re.compile(r"[^/:]+:")
_SECRET = re.compile(r"(env|secret)/[A-Za-z0-9_-]+")


def _words(value: object) -> object:
    return ([value] if value else []) if isinstance(value, str) else value


def _figure(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{json.dumps(value)} is not a number")  # noqa: TRY004 pydantic's contract
    return value


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    return Path(os.path.normpath(folder / path.expanduser())) if folder else path


def _branch(name: str) -> str:
    if not _BRANCH.fullmatch(name) or ".." in name or re.search(r"\.(lock)?(/|$)", name):
        raise ValueError(f"'{name}' is no branch name of letters, digits, '.', '_', '-' and '/'")
    return name


def _agent_name(name: str) -> str:
    if not _AGENT_NAME.fullmatch(name):
        raise ValueError(f"'{name}' is no agent name of a-z, 0-9, '.', '_' and '-'")
    return name


def _profile(name: str) -> str:
    names = profile_names()
    if name not in names:
        hint = did_you_mean(name, names)
        raise ValueError(f"there is no profile '{name}'{hint or f', only {one_of(names)}'}")
    return name


def _secret(reference: str) -> str:
    if not _SECRET.fullmatch(reference):
        raise ValueError("a secret is named, never written: 'secret/<block>' or 'env/<VARIABLE>'")
    return reference


Seconds = Annotated[float, BeforeValidator(parse_duration)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
"""A list of strings; one string is a list of one, the empty string an empty list."""
Count = Annotated[int, BeforeValidator(_figure), Field(ge=0)]
AtLeastOne = Annotated[int, BeforeValidator(_figure), Field(ge=1)]
Amount = Annotated[float, BeforeValidator(_figure), Field(ge=0, allow_inf_nan=False)]
LocalPath = Annotated[Path, AfterValidator(_beside_the_file)]
Branch = Annotated[str, AfterValidator(_branch)]
Sandbox = Literal["auto", "bwrap", "none"]
PhaseName = Literal["plan", "work", "fixup", "review"]


class Section(BaseModel):
    """A table of the mission file: frozen, hashable, and closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        hide_input_in_errors=True,
    )

    def __hash__(self) -> int:
        """Hash the values, tables included."""
        return hash(json.dumps(self.model_dump(mode="json"), sort_keys=True))


class Repository(Section):
    """The target repository and its branches."""

    block: str = Field("", description="Block with the repository, e.g. `target-repository/acme`.")
    url: str = Field(
        "", validate_default=True, description="Path or URL of the repository, unless a block is."
    )
    base: Branch = Field("main", description="Branch that the mission starts from.")
    poll: Seconds = Field(60.0, description="How often to look whether the base branch moved.")
    green: Branch = Field(
        "mission/green",
        validate_default=True,
        description="Branch where landed work is delivered.",
    )

    @field_validator("url")
    @classmethod
    def _one_target(cls, url: str, info: ValidationInfo) -> str:
        if bool(url) == bool(info.data.get("block")):
            raise ValueError("say where the repository is: either url or block")
        if not url or "://" in url or _SCP_LIKE.match(url):
            return url
        return str(_beside_the_file(Path(url), info))

    @field_validator("green")
    @classmethod
    def _apart_from_base(cls, green: str, info: ValidationInfo) -> str:
        if green == info.data.get("base"):
            raise ValueError(f"'{green}' is the base branch, which no mission writes; name another")
        return green


class Environment(Section):
    """What commands in workspaces get; nothing else is inherited."""

    path: Words = Field((), description="Folders that come first on their `PATH`.")
    pass_: Words = Field(
        ("LANG",), alias="pass", description="Variables that are passed on when they are set."
    )
    set: dict[str, str] = Field({}, description="Variables with their values.")

    @field_validator("path")
    @classmethod
    def _absolute(cls, folders: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return tuple(str(_beside_the_file(Path(folder), info)) for folder in folders)


class Verify(Section):
    """How a tree is judged."""

    command: str = Field(description="Command whose exit code 0 means that a tree is good.")
    unit: str = Field("", description="Quick command that filters each unit's own result.")
    setup: str = Field("", description="Command that prepares a workspace, e.g. `uv sync`.")
    setup_inputs: Words = Field(
        ("uv.lock", "poetry.lock", "requirements.txt", "pyproject.toml", "package-lock.json"),
        description="Files whose change makes the setup run again.",
    )
    timeout: Seconds = Field(300.0, description="Longest time that one verification may take.")
    allow_red_base: bool = Field(
        False, description="Start from a base with failing tests: no others may fail then."
    )
    slots: AtLeastOne = Field(1, description="Verifications at once, apart from agents' slots.")
    cache: bool = Field(
        True, description="Take a pass of the very same tree that is less than a day old."
    )
    junit: Words = Field((), description="Globs of JUnit XML reports that the command writes.")
    sarif: Words = Field((), description="Globs of SARIF reports that the command writes.")
    coverage: Words = Field((), description="Globs of coverage reports that the command writes.")
    keep: Words = Field(
        (".venv", "node_modules"), description="Ignored folders that survive a workspace's reset."
    )

    @field_validator("command")
    @classmethod
    def _something(cls, command: str) -> str:
        if not command.strip():
            raise ValueError("it is empty, and with nothing to run nothing could ever pass")
        return command


class Planning(Section):
    """Who makes the plan."""

    planner: Literal["file", "tidy", "agent"] = Field(
        "file", description="Plan from a `file`, from linters and tests (`tidy`), or by an `agent`."
    )
    file: LocalPath | None = Field(
        None, validate_default=True, description="Plan document, for the planner `file`."
    )
    agent: str = Field("default", description="Agent that plans, for the planner `agent`.")
    max_depth: Count = Field(3, description="How often a part of the objective may be divided.")
    max_children: AtLeastOne = Field(5, description="Most parts, or units, in one answer.")
    slots: AtLeastOne = Field(16, description="Questions to planning agents at once.")
    timeout: Seconds = Field(900.0, description="Longest time of one question to an agent.")

    @field_validator("file")
    @classmethod
    def _needed(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is None and info.data.get("planner") == "file":
            raise ValueError('planner "file" needs one, e.g. file = "plan.toml"')
        return file


class Agent(Section):
    """One coding agent and what it is given."""

    profile: Annotated[str, AfterValidator(_profile)] = Field(
        "command", description="Which command line it is; `command` runs any `argv`."
    )
    argv: tuple[str, ...] = Field(
        (), description="Command, with placeholders such as `{files}`; replaces the profile's own."
    )
    model: str = Field("", description="Model that the agent is asked to use.")
    base_url: str = Field("", description="Address of its model's service, if not the usual one.")
    env: dict[str, str] = Field({}, description="Variables that this agent gets besides.")
    secrets: dict[str, Annotated[str, AfterValidator(_secret)]] = Field(
        {}, description="Variables filled from `secret/<block>` or `env/<VARIABLE>`."
    )
    tools: dict[PhaseName, Words] = Field(
        {}, description="Tools by phase (plan, work, fixup, review), if not the profile's."
    )
    place: str = Field("", description="Backend block where it runs, if not the mission's.")
    sandbox: Sandbox | None = Field(None, description="Sandbox, if not the backend's.")
    max_usd: Amount | None = Field(None, description="Most that one attempt may cost, in USD.")
    max_turns: AtLeastOne | None = Field(None, description="Most turns of one attempt.")


class Disclosure(Section):
    """What any agent may see and use in a phase."""

    network: bool = Field(False, description="Let the agent's own tools use the network.")
    documents: Words = Field(
        INSTRUCTION_FILES, description="Files of the repository that the prompt shows."
    )
    writes: Words | None = Field(
        None, description="Globs outside of which nothing is taken, whatever a unit may write."
    )


class Backend(Section):
    """Where agents run."""

    kind: Literal["local", "ssh", "work-pool"] = Field(
        "local", description="This machine, SSH hosts, or a Prefect work pool."
    )
    block: str = Field("", description="Block with the backend, e.g. `ssh-backend/build-farm`.")
    slots: AtLeastOne = Field(4, description="Agents that run at once.")
    lease: Seconds = Field(120.0, description="Agents whose driver is silent for so long end.")
    hosts: Words = Field(
        (), validate_default=True, description="SSH hosts, as `~/.ssh/config` names them."
    )
    sandbox: Sandbox = Field("auto", description="Sandbox around agents, setup and verification.")
    root: str = Field("", description="Folder for workspaces on the backend, if not the usual one.")
    config: LocalPath | None = Field(None, description="SSH configuration, if not the usual one.")

    @field_validator("hosts")
    @classmethod
    def _some_host(cls, hosts: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("kind") == "ssh" and not hosts and not info.data.get("block"):
            raise ValueError('kind "ssh" needs at least one, e.g. hosts = ["build-1"]')
        return hosts


class Limits(Section):
    """When enough is enough."""

    max_rounds: AtLeastOne = Field(20, description="Rounds of plan, run, land and evaluate.")
    max_attempts: AtLeastOne = Field(3, description="Attempts that a unit may use up.")
    max_conflicts: Count = Field(5, description="Merge conflicts of a unit before it fails.")
    max_faults: Count = Field(10, description="Faults of the machinery before the mission stops.")
    unit_timeout: Seconds = Field(2_700.0, description="Longest time of an attempt.")
    deadline: Seconds = Field(28_800.0, description="Longest time of the mission.")
    max_failures_in_a_row: AtLeastOne = Field(5, description="Failures in a row that stop it.")
    budget_usd: Amount = Field(50.0, description="Most that the mission may cost, in USD.")
    budget_usd_per_day: Amount = Field(200.0, description="Most that a day may cost, in USD.")
    budget_tokens: AtLeastOne | None = Field(
        None, description="Most tokens that the mission may use; for agents that tell no cost."
    )
    max_replans: Count = Field(3, description="Times that a round's plan is made anew.")
    stall_window: Annotated[int, BeforeValidator(_figure), Field(ge=2)] = Field(
        3, description="Rounds whose scores are compared to see a standstill."
    )
    stall_epsilon: Amount = Field(0.01, description="Scores closer than this are a standstill.")


class Fixup(Section):
    """Who repairs a unit that the full verification rejects."""

    agent: str = Field("", description="Agent that repairs; none when empty.")
    attempts: AtLeastOne = Field(3, description="Repairs tried one after another.")
    candidates: AtLeastOne = Field(1, description="Repairs tried at once; the best counts.")


class Evaluation(Section):
    """Who judges how far the objective is reached, beside what is measured."""

    agent: str = Field("", description="Agent that judges after each round; none when empty.")
    timeout: Seconds = Field(900.0, description="Longest time of one judgement.")


class Review(Section):
    """What a person is asked."""

    agent: str = Field("", description="Agent that reviews each unit's work; none when empty.")
    canary: Count = Field(0, description="Units that run first, and are looked at by a person.")

    before_first_unit: bool = Field(default=False, description="Ask before any unit starts.")
    before_delivery: bool = Field(default=False, description="Ask before work is delivered.")
    over_usd: Amount | None = Field(None, description="Ask when the cost passes this, in USD.")
    timeout: Seconds = Field(86_400.0, description="No answer for so long is no approval.")
    protected: Words = Field(
        ("mission.toml", ".github/**", "**/conftest.py", "*.lock"),
        description="Globs of paths that no unit may change unasked; also accepted at the top.",
    )
    max_file_bytes: AtLeastOne = Field(
        1_048_576, description="Largest file that a unit may add or change."
    )
    allow_binary: bool = Field(
        default=False,
        description="Take binary files also where a unit's write set does not name them.",
    )
    allow_secrets: Words = Field(
        (), description="Globs of paths that may hold credentials, such as those of test data."
    )


class Landing(Section):
    """How work lands."""

    commit: Literal["squash", "merge"] = Field(
        "squash", description="A unit lands as one commit, or as a merge that keeps its commits."
    )
    union: Words = Field(
        (),
        description="Globs of files that keep the lines of both sides where units conflict, "
        "such as `CHANGELOG.md`.",
    )


class MissionSettings(Section):
    """All that a mission is told before it starts."""

    name: str = Field(description="Name of the mission; resuming finds it by name and repository.")
    objective: str = Field("", description="What is to be reached, in words.")
    repository: Repository = Field(description="The target repository and its branches.")
    environment: Environment = Field(
        Environment(), description="What commands in workspaces get; nothing else is inherited."
    )
    verify: Verify = Field(description="How a tree is judged.")
    plan: Planning = Field(description="Who makes the plan.")
    agents: dict[Annotated[str, AfterValidator(_agent_name)], Agent] = Field(
        {"default": Agent()}, description="Coding agents by name; units name theirs."
    )
    phases: dict[PhaseName, Disclosure] = Field(
        {}, description="What agents may see and use, by phase: plan, work, fixup, review."
    )
    backend: Backend = Field(Backend(), description="Where agents run.")
    limits: Limits = Field(Limits(), description="When enough is enough.")
    fixup: Fixup = Field(Fixup(), description="Who repairs what the verification rejects.")
    evaluate: Evaluation = Field(
        Evaluation(), description="Who judges how far the objective is reached."
    )
    review: Review = Field(Review(), description="What a person is asked.")
    landing: Landing = Field(Landing(), description="How work lands.")

    @property
    def commandless_agents(self) -> frozenset[str]:
        """Agents that only run units which bring a command of their own."""
        agents = self.agents.items()
        return frozenset(
            name for name, each in agents if each.profile == "command" and not each.argv
        )

    @model_validator(mode="before")
    @classmethod
    def _required_tables(cls, values: Any) -> Any:
        """Let absent tables name the keys that are missing in them."""
        if not isinstance(values, Mapping):
            return values
        return {"repository": {}, "verify": {}, "plan": {}, **protected_in_review(values)}

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"'{name}' is no name of at most 64 letters, digits, '.', '_' and '-'")
        return name

    @field_validator("fixup", "evaluate")
    @classmethod
    def _known_agent(cls, section: Fixup | Evaluation, info: ValidationInfo) -> Fixup | Evaluation:
        agents = info.data.get("agents")
        if section.agent and agents is not None and section.agent not in agents:
            raise ValueError(_no_agent(section.agent, agents))
        return section

    @model_validator(mode="after")
    def _a_planner(self) -> Self:
        if self.plan.planner == "agent" and self.plan.agent not in self.agents:
            raise ValueError(f"plan.agent: {_no_agent(self.plan.agent, self.agents)}")
        return self

    @property
    def worker(self) -> str:
        """The agent that works on what a planner made up."""
        return DEFAULT_AGENT if DEFAULT_AGENT in self.agents else self.plan.agent

    @property
    def roles(self) -> tuple[tuple[str, PhaseName], ...]:
        """The agents that are not named by a plan file's units, and what each is asked for."""
        plan, is_agent = self.plan, self.plan.planner == "agent"
        named: tuple[tuple[bool | str, str, PhaseName], ...] = (
            (is_agent, plan.agent, "plan"),
            (plan.planner != "file", self.worker, "work"),
            (self.fixup.agent, self.fixup.agent, "fixup"),
            (self.evaluate.agent, self.evaluate.agent, "review"),
            (self.review.agent, self.review.agent, "review"),
        )
        asked = ((name, phase) for is_asked, name, phase in named if is_asked)
        return tuple(dict.fromkeys(asked))

    def disclosure(self, phase: str) -> Disclosure:
        """What agents may see and use in a phase."""
        return next((each for name, each in self.phases.items() if name == phase), Disclosure())


def _no_agent(name: str, agents: Iterable[str]) -> str:
    hint = did_you_mean(name, agents)
    return f"there is no agent '{name}'{hint or f', only {one_of(agents)}'}"


def protected_in_review(values: Mapping[str, Any]) -> dict[str, Any]:
    """Move a `protected` at the top of the file to its place under `review`."""
    review = values.get("review", {})
    if "protected" not in values or not isinstance(review, Mapping) or "protected" in review:
        return dict(values)
    rest = {key: value for key, value in values.items() if key != "protected"}
    return {**rest, "review": {**review, "protected": values["protected"]}}


def changed_keys(old: MissionSettings, new: MissionSettings) -> list[str]:
    """List the dotted keys whose values differ, in the order of the mission file."""
    before, after = (dict(_leaves(each.model_dump(mode="json"))) for each in (old, new))
    return [key for key in before | after if before.get(key, ...) != after.get(key, ...)]


def may_change_on_resume(key: str) -> bool:
    """Say whether a resumed mission may take a new value for this dotted key."""
    return any(fnmatchcase(key, each) or key.startswith(f"{each}.") for each in RESUMABLE)


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
