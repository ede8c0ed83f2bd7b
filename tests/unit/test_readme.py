"""What the README says of settings and commands is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

from flows.cli import app
from flows.settings_sources import load_settings, render_settings_table

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_settings_table_is_the_models() -> None:
    shown = README.partition("<!-- settings -->")[2].partition("<!-- /settings -->")[0]
    assert shown.strip() == render_settings_table().strip()


def test_every_command_is_in_the_table() -> None:
    table = README.partition("## Commands")[2].partition("Exit codes")[0]
    first_column = "".join(line.split("|")[1] for line in table.splitlines() if "|" in line)
    commands = {name for name in app.resolved_commands() if not name.startswith("-")}
    assert commands == set(re.findall(r"`(?:mission )?([a-z]+)(?: \[?[A-Z]+\]?)*`", first_column))


def test_the_mission_file_shown_is_one(tmp_path: Path) -> None:
    text = README.partition("# mission.toml\n")[2].partition("```")[0]
    (tmp_path / "mission.toml").write_text(text)
    assert load_settings(tmp_path / "mission.toml").name == "tidy-acme"
