"""Reading settings: the mission file, then the environment, then options; every problem placed."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from blocks.errors import SettingsInvalid
from flows.human_input import (
    KeyPath,
    did_you_mean,
    format_duration,
    line_of,
    one_of,
    parse_duration,
    toml_lines,
    toml_syntax_problem,
)
from flows.settings import MissionSettings, Section, protected_in_review

ENV_PREFIX = "MISSION_"

NOT_SETTINGS = frozenset(
    f"{ENV_PREFIX}{name}"
    for name in ("HOME", "UNIT_ID", "PROMPT_FILE", "ATTEMPT", "WORKSPACE", "TOKEN")
)
"""Names with our prefix that mean something else: the state folder, and what agents are given."""

TEST_PREFIX = f"{ENV_PREFIX}TEST_"
"""Names that tell the tests what this machine has."""

_SHOWN_CHARACTERS = 60


def load_settings(
    path: Path | None,
    *,
    overrides: Mapping[str, Any] = MappingProxyType({}),
    env: Mapping[str, str] | None = None,
) -> MissionSettings:
    """Read the mission file, with variables (`MISSION_BACKEND__SLOTS`) and options over it.

    Raises:
        SettingsInvalid: every problem on a line of its own: where it stands, key, mend.
    """
    origins = _read_sources(path, overrides, os.environ if env is None else env)
    problems = list(_unknown_variables(origins.names))
    folder = (path.parent if path else Path()).resolve()
    layers = (origins.file, origins.env, origins.options)
    merged = reduce(_merged, map(protected_in_review, layers))
    try:
        settings = MissionSettings.model_validate(merged, context={"folder": folder})
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [_problem(each, origins) for each in details]
    if problems:
        raise SettingsInvalid("".join(f"\n{problem}" for problem in problems))
    return settings


def render_settings_table() -> str:
    """Write all keys with defaults, descriptions and variables as a Markdown table."""
    lines = ["| key | default | description | environment |", "| --- | --- | --- | --- |"]
    for path, field in _fields(MissionSettings):
        variable = ENV_PREFIX + "__".join(path).upper()
        default = _shown_default(field).replace("|", "\\|")
        lines.append(f"| `{'.'.join(path)}` | {default} | {field.description} | `{variable}` |")
    return "\n".join(lines) + "\n"


# Sources


@cache
def _keys() -> type[BaseSettings]:
    """Make the keys into the class that pydantic-settings' sources ask for; it has no instance."""

    class Keys(BaseSettings, MissionSettings):
        model_config = SettingsConfigDict(case_sensitive=True, env_nested_delimiter="__")

    return Keys


class _Variables(EnvSettingsSource):
    """Variables of a given environment; what should be JSON and is not stays the string it is."""

    def __init__(self, variables: Mapping[KeyPath, str]) -> None:
        super().__init__(_keys())
        self.env_vars = {"__".join(map(str, path)): value for path, value in variables.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origins:
    """What each source says, and where: to name the place of a problem."""

    path: Path | None
    file: Mapping[str, Any]
    lines: Mapping[KeyPath, int]
    env: Mapping[str, Any]
    names: Mapping[KeyPath, str]
    options: Mapping[str, Any]

    def of(self, key: KeyPath) -> str:
        """Name the source whose value for a key counts."""
        if _has(self.options, key):
            return "option"
        if _has(self.env, key):
            near = (
                name for path, name in self.names.items() if path[: len(key)] == key[: len(path)]
            )
            return next(near, "environment")
        if self.path is None:
            return "settings"
        line = line_of(self.lines, key)
        if line is None and key[:2] == ("review", "protected"):
            line = line_of(self.lines, key[1:])
        return str(self.path) if line is None else f"{self.path}:{line}"


def _read_sources(
    path: Path | None, overrides: Mapping[str, Any], env: Mapping[str, str]
) -> _Origins:
    names = {
        _variable_path(name): name
        for name in env
        if name.startswith(ENV_PREFIX)
        and name not in NOT_SETTINGS
        and not name.startswith(TEST_PREFIX)
    }
    file, text = _read_file(path) if path else ({}, "")
    return _Origins(
        path=path,
        file=file,
        lines=toml_lines(text),
        env=_Variables({key: env[name] for key, name in names.items()})(),
        names=names,
        options=overrides,
    )


def _read_file(path: Path) -> tuple[dict[str, Any], str]:
    try:
        text = path.read_text(encoding="utf-8")
        return TomlConfigSettingsSource(_keys(), path)(), text
    except FileNotFoundError as error:
        raise SettingsInvalid(f"{path}: no such file; `mission init` writes one") from error
    except OSError as error:
        raise SettingsInvalid(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsInvalid(f"{path}: it is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        line, why = toml_syntax_problem(error, text)
        raise SettingsInvalid(f"{path}:{line}: {why}") from error


def _variable_path(name: str) -> KeyPath:
    """Turn a variable's name into a key; names of variables within keep their case."""
    parts = name.removeprefix(ENV_PREFIX).split("__")
    tables = {"set", "env", "secrets"}
    before = ["", *(part.lower() for part in parts)]
    return tuple(
        part if above in tables else part.lower()
        for part, above in zip(parts, before, strict=False)
    )


def _unknown_variables(names: Mapping[KeyPath, str]) -> Iterator[str]:
    known = [ENV_PREFIX + "__".join(path).upper() for path, _ in _fields(MissionSettings)]
    for path, name in names.items():
        if path[0] not in MissionSettings.model_fields:
            hint = did_you_mean(name, known)
            yield f"{name}: no setting has this name{hint or '; unset it'}"


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _merged(below, value)  # noqa: PLW2901 the merged table replaces the value
        merged[key] = value
    return merged


# Problems

_EXPECTED = {
    "bool": "true or false",
    "dict": "a table",
    "float": "a number",
    "int": "a whole number",
    "model": "a table",
    "path": "a path",
    "string": "a string",
    "tuple": "a list of strings",
}


def _problem(detail: ErrorDetails, origins: _Origins) -> str:
    key: KeyPath = tuple(part for part in detail["loc"] if part != "[key]")
    if not key:  # said of keys together; the text names the one to mend
        dotted, _, text = str(detail.get("ctx", {}).get("error", detail["msg"])).partition(": ")
        return f"{origins.of(tuple(dotted.split('.')))}: {dotted}: {text}"
    where, dotted = origins.of(key), ".".join(map(str, key))
    return f"{where}: {dotted}: {_text(detail, key)}"


def _text(detail: ErrorDetails, key: KeyPath) -> str:
    context = detail.get("ctx", {})
    shown = _shown(detail["input"])
    match detail["type"]:
        case "extra_forbidden":
            keys = _keys_beside(key)
            return f"unknown key{did_you_mean(str(key[-1]), keys) or f'; there are {one_of(keys)}'}"
        case "missing":
            return "it is missing"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            hint = did_you_mean(str(detail["input"]), re.findall(r"'(.+?)'", context["expected"]))
            return f"{shown} is not {context['expected']}{hint}"
        case "greater_than_equal":
            return f"{shown} is less than {context['ge']}"
    expected = _EXPECTED.get(detail["type"].partition("_")[0])
    return f"{shown} is not {expected}" if expected else detail["msg"]


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _keys_beside(key: KeyPath) -> list[str]:
    """List the keys that the table of this key may have."""
    known = [path for path, _ in _fields(MissionSettings)]
    depth = len(key) - 1
    return list(
        dict.fromkeys(
            path[depth]
            for path in known
            if len(path) > depth
            and all(own in (part, "<name>") for own, part in zip(path, key[:-1], strict=False))
        )
    )


def _has(values: object, key: KeyPath) -> bool:
    for part in key:
        if not isinstance(values, Mapping):
            return True
        if part not in values:
            return False
        values = values[part]
    return True


# The model, walked


def _fields(model: type[BaseModel]) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield the path and definition of each key; `<name>` stands for any agent's name."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        nested: tuple[str, ...] = (key,)
        inner = field.annotation
        if get_origin(inner) is dict:
            nested, inner = (key, "<name>"), get_args(inner)[1]
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from (((*nested, *path), each) for path, each in _fields(inner))
        else:
            yield (key,), field


def _shown_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default()
    if any(getattr(each, "func", None) is parse_duration for each in field.metadata):
        return f'`"{format_duration(default)}"`'
    if default is None:
        return ""
    return f"`{json.dumps(default)}`"
