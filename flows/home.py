"""Where the state of all missions lives: never in a checkout."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from blocks.errors import SettingsInvalid

METRICS_FILE = "metrics.duckdb"
"""Name of the metrics in there, which may be deleted at will."""


def home(env: Mapping[str, str] | None = None) -> Path:
    """Return the state folder, `MISSION_HOME` or the platform's, made for this user alone.

    Raises:
        SettingsInvalid: it cannot be made.
    """
    folder = home_path(env)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsInvalid(f"MISSION_HOME: {folder}: {error.strerror}") from error
    return folder


def home_path(env: Mapping[str, str] | None = None) -> Path:
    """Return where the state folder is, or would be: nothing is made."""
    env = os.environ if env is None else env
    return Path(env.get("MISSION_HOME") or _usual_home(env)).expanduser().absolute()


def _usual_home(env: Mapping[str, str]) -> Path:
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/mission")
    return Path(env.get("XDG_STATE_HOME") or "~/.local/state") / "mission"
