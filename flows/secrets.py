"""Secrets of agents: named in the mission file, fetched when a mission begins, written nowhere.

`env/NAME` is a variable of the process that drives the mission, `secret/NAME` a Prefect Secret
block. Only the agent that names one gets it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import SecretStr

from blocks.errors import SettingsInvalid
from flows.settings import MissionSettings


def fetch_secrets(settings: MissionSettings) -> Mapping[str, SecretStr]:
    """Fetch what all agents of a mission name, by reference.

    Raises:
        SettingsInvalid: one is not there; agent, variable and mend are named.
    """
    return {
        reference: SecretStr(_fetch(reference, f"agents.{name}.secrets.{variable}"))
        for name, agent in settings.agents.items()
        for variable, reference in agent.secrets.items()
    }


def missing_secrets(settings: MissionSettings) -> tuple[str, ...]:
    """Say which variables of this process agents need and do not find; blocks are not looked at."""
    return tuple(
        _not_set(f"agents.{name}.secrets.{variable}", reference.removeprefix("env/"))
        for name, agent in settings.agents.items()
        for variable, reference in agent.secrets.items()
        if reference.startswith("env/") and not os.environ.get(reference.removeprefix("env/"))
    )


def _fetch(reference: str, key: str) -> str:
    kind, _, name = reference.partition("/")
    if kind == "secret":
        return _stored(name, key)
    value = os.environ.get(name, "")
    if not value:
        raise SettingsInvalid(_not_set(key, name))
    return value


def _not_set(key: str, variable: str) -> str:
    return f"{key}: the variable {variable} is not set where the mission runs; export it"


def _stored(name: str, key: str) -> str:
    from prefect.blocks.system import Secret  # noqa: PLC0415 - seconds, and most missions need none

    try:
        block = Secret.load(name)
    except ValueError as missing:
        raise SettingsInvalid(f"{key}: {missing}") from missing
    if not isinstance(block, Secret):
        raise SettingsInvalid(f"{key}: the block {name} is no Secret")
    return str(block.get())
