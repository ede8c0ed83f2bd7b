"""Agent profiles: what is known of each coding agent's command line, as data.

A profile is one TOML file in `profiles/`, checked against the real command's `--help` at the
version that it names: its argv, how it takes the prompt, what may be passed (model, budget, turns,
address), what it may do in each phase, which reader understands its output (`outputs.py`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from blocks.errors import SettingsInvalid
from flows.human_input import did_you_mean, one_of

PROFILES = Path(__file__).with_name("profiles")

LARGEST_ARGUMENT_BYTES = 131_071
"""What Linux takes as one argument (MAX_ARG_STRLEN, less the zero at its end)."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+)\}")
_GIVEN = ("MISSION_UNIT_ID", "MISSION_PROMPT_FILE", "MISSION_ATTEMPT", "MISSION_WORKSPACE")
_KNOWN = frozenset(
    {
        *("options", "files", "prompt", "tools"),
        *_GIVEN,
        *(n.removeprefix("MISSION_").lower() for n in _GIVEN),
    }
)
_ADDRESS = re.compile(r"https?://[A-Za-z0-9._~:/?#@!$&()*+,;=%\[\]-]+")

OptionName = Literal["model", "max_usd", "max_turns", "base_url"]
ReaderName = Literal["text", "claude", "codex", "gemini", "opencode", "aider"]


class Phase(StrEnum):
    """What an agent is asked for; each phase discloses tools of its own."""

    PLAN = "plan"
    WORK = "work"
    FIXUP = "fixup"
    REVIEW = "review"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Install(_Table):
    """The packages that bring the command."""

    npm: str = ""
    pypi: str = ""


class Addition(_Table):
    """What is added to argv and environment."""

    argv: tuple[str, ...] = ()
    env: dict[str, str] = {}


class Network(Addition):
    """What opens the network to an agent: `tools` besides its own, argv and environment."""

    tools: tuple[str, ...] = ()


class Permission(Addition):
    """What an agent may do in a phase, in words and as it is told; `is_enforced` by the command.

    `tools` are what `{tools}` stands for unless the mission names others. Without `network` the
    command cannot be told that it may use it.
    """

    says: str
    is_enforced: bool = True
    tools: tuple[str, ...] = ()
    network: Network | None = None

    @property
    def takes_tools(self) -> bool:
        """Whether the command can be told which tools it has."""
        return any("{tools}" in text for text in (*self.argv, *self.env.values()))


class Reports(_Table):
    """What the output tells."""

    cost: bool = False
    tokens: bool = False
    turns: bool = False
    session: bool = False


class Profile(_Table):
    """One agent's command line; `{options}` in `argv` is where options and permissions go.

    `files` are written below HOME before it starts. Any one of the variables in `keys` lets it in.
    """

    name: str
    title: str
    checked: str = ""
    install: Install = Install()
    argv: tuple[str, ...]
    prompt: Literal["stdin", "file", "argument"]
    reader: ReaderName
    keys: tuple[str, ...] = ()
    reports: Reports = Reports()
    env: dict[str, str] = {}
    files: dict[str, str] = {}
    options: dict[OptionName, Addition] = {}
    permissions: dict[Phase, Permission]

    @field_validator("permissions")
    @classmethod
    def _every_phase(cls, permissions: dict[Phase, Permission]) -> dict[Phase, Permission]:
        if missing := [phase.value for phase in Phase if phase not in permissions]:
            raise ValueError(f"nothing for {', '.join(missing)}")
        return permissions

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [*_unknown_placeholders(self), *_undelivered_prompt(self)]
        outside = [p for p in self.files if p.startswith("/") or ".." in p.split("/")]
        problems += [f"files: {path} is not below HOME" for path in outside]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def unheeded(self, **wanted: object) -> tuple[OptionName, ...]:
        """Names of wanted options (`max_usd=2.0`) that this command cannot be told."""
        names: tuple[OptionName, ...] = ("model", "max_usd", "max_turns", "base_url")
        return tuple(n for n in names if wanted.get(n) not in {None, ""} and n not in self.options)


def _unknown_placeholders(profile: Profile) -> Iterator[str]:
    parts: list[tuple[str, str, Addition]] = [
        ("argv", "", Addition(argv=profile.argv, env=profile.env)),
        *((f"options.{name}", str(name), each) for name, each in profile.options.items()),
        *((f"permissions.{phase}", "", each) for phase, each in profile.permissions.items()),
        *(
            (f"permissions.{phase}.network", "", each.network)
            for phase, each in profile.permissions.items()
            if each.network
        ),
    ]
    for where, own, part in parts:
        for text in (*part.argv, *part.env.values()):
            for name in _PLACEHOLDER.findall(text):
                if name not in _KNOWN and name != own:
                    yield f"{where}: unknown placeholder {{{name}}}"


def _undelivered_prompt(profile: Profile) -> Iterator[str]:
    needed = {"file": "{prompt_file}", "argument": "{prompt}"}.get(profile.prompt)
    if needed and not any(needed in argument for argument in profile.argv):
        yield f'prompt = "{profile.prompt}", but {needed} is nowhere in argv'


# -- loading ----------------------------------------------------------------------------------


def profile_names() -> tuple[str, ...]:
    """The profiles that there are."""
    return tuple(sorted(path.stem for path in PROFILES.glob("*.toml")))


@cache
def load_profile(name: str) -> Profile:
    """Read a profile.

    Raises:
        SettingsInvalid: there is none of this name, or its file is broken.
    """
    if name not in profile_names():
        hint = did_you_mean(name, profile_names())
        there_are = f", there are {one_of(profile_names())}"
        raise SettingsInvalid(f"there is no profile '{name}'{hint or there_are}")
    return read_profile(PROFILES / f"{name}.toml")


def read_profile(path: Path) -> Profile:
    """Read a profile from a file of this form.

    Raises:
        SettingsInvalid: file and key of each problem.
    """
    try:
        profile = Profile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        lines = [
            f"{path.name}: {'.'.join(map(str, each['loc'])) or 'profile'}: {each['msg']}"
            for each in error.errors(include_url=False)
        ]
        raise SettingsInvalid("\n".join(lines)) from error
    except (OSError, ValueError) as error:  # no file, no UTF-8, no TOML
        raise SettingsInvalid(f"{path.name}: {error}") from error
    if profile.name != path.stem:
        raise SettingsInvalid(f"{path.name}: name: it is '{profile.name}', unlike the file's")
    return profile


# -- using ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a mission tells an agent: its phase, options, and what it may use in that phase.

    `tools` replace the profile's own, by the command's own names. `values` are the `MISSION_…`
    variables of the attempt; what is not in them stays a `{placeholder}`.
    """

    phase: Phase
    model: str = ""
    max_usd: float | None = None
    max_turns: int | None = None
    base_url: str = ""
    tools: Sequence[str] | None = None
    network: bool = False
    values: Mapping[str, str] = field(default_factory=dict)

    def options(self) -> dict[str, str]:
        """The options that have a value, as text.

        Raises:
            SettingsInvalid: the address is none.
        """
        if self.base_url and not _ADDRESS.fullmatch(self.base_url):  # it goes into JSON and TOML
            raise SettingsInvalid(f"base_url: '{self.base_url}' is no http(s) address")
        usd, turns = self.max_usd, self.max_turns
        texts = {
            "model": self.model,
            "max_usd": "" if usd is None else f"{usd:.6f}".rstrip("0").rstrip("."),
            "max_turns": "" if turns is None else str(turns),
            "base_url": self.base_url,
        }
        return {name: text for name, text in texts.items() if text}


def command_of(
    profile: Profile, told: Told, *, prompt: str = "", files: Sequence[str] = ()
) -> tuple[str, ...]:
    """Make the exact argv of an agent.

    An own argv of the mission takes the place of the profile's
    (`profile.model_copy(update={"argv": …})`); options then go to its `{options}`, or nowhere.

    Raises:
        SettingsInvalid: the address is none, or the prompt is too long for an argument.
    """
    known = _known(profile, told)
    if prompt:
        known["prompt"] = prompt
    given = [text for each in _additions(profile, told) for text in each.argv]
    argv = [text for each in profile.argv for text in (given if each == "{options}" else (each,))]
    return tuple(_fitting(profile, fill(argv, known, files)))


def environment_of(profile: Profile, told: Told) -> dict[str, str]:
    """Make the variables that an agent is started with, besides those of the workspace.

    Raises:
        SettingsInvalid: the address is none.
    """
    known = _known(profile, told)
    layers = (profile.env, *(each.env for each in _additions(profile, told)))
    return {name: _filled(text, known) for layer in layers for name, text in layer.items()}


def stdin_of(profile: Profile, prompt: str) -> bytes:
    """What an agent reads from its standard input; empty when that is closed."""
    return prompt.encode("utf-8", "replace") if profile.prompt == "stdin" else b""


def fill(
    argv: Sequence[str], values: Mapping[str, str], files: Sequence[str] = ()
) -> tuple[str, ...]:
    """Fill the placeholders of an argv; `{files}` alone becomes one argument a file.

    One pass: braces in what is filled in stay as they are. Unknown names stay too.
    """
    known = {**_named(values), "files": " ".join(files)}
    filled: list[str] = []
    for argument in argv:
        filled += files if argument == "{files}" else [_filled(argument, known)]
    return tuple(filled)


def tools_of(profile: Profile, told: Told) -> tuple[str, ...]:
    """The tools that an agent is told it has; empty where it cannot be told."""
    permission = profile.permissions[told.phase]
    own = permission.tools if told.tools is None else tuple(told.tools)
    opened = permission.network.tools if told.network and permission.network else ()
    return (*own, *opened) if permission.takes_tools else ()


def _additions(profile: Profile, told: Told) -> list[Addition]:
    """What is added for the options that are given, the phase, and the network."""
    options = told.options()
    permission = profile.permissions[told.phase]
    given = [each for name, each in profile.options.items() if name in options]
    opened = [permission.network] if told.network and permission.network else []
    return [*given, permission, *opened]


def _known(profile: Profile, told: Told) -> dict[str, str]:
    return {
        **_named(told.values),
        **told.options(),
        "tools": ",".join(tools_of(profile, told)),
    }


def _fitting(profile: Profile, argv: Sequence[str]) -> Sequence[str]:
    longest = max((len(argument.encode("utf-8", "replace")) for argument in argv), default=0)
    if longest > LARGEST_ARGUMENT_BYTES:
        why = f"an argument of {longest} bytes; the system takes {LARGEST_ARGUMENT_BYTES}"
        raise SettingsInvalid(f"profile {profile.name}: {why}")
    return argv


def _named(values: Mapping[str, str]) -> dict[str, str]:
    short = {name.removeprefix("MISSION_").lower(): value for name, value in values.items()}
    return {**values, **short}


def _filled(text: str, known: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), text)
