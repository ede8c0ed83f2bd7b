"""Missions to measure: a target repository, a plan, a mission file, and an agent in shell."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from blocks.commands import run
from blocks.repository import HERMETIC
from flows.planning.plan import Unit, UnitId
from flows.settings import MissionSettings
from flows.settings_sources import load_settings

N_FILES, FILES_PER_FOLDER = 200, 20
VERIFICATION_SECONDS = 0.5

AGENT = """\
set -e
read -r seconds noise < "$1/$MISSION_UNIT_ID"
case $noise in
loud) cat "$1/.noise" ;;
quiet) cat "$1/.noise" > /dev/null ;;
esac
[ "$seconds" = 0 ] || sleep "$seconds"
printf '%s\\n' "$MISSION_UNIT_ID" > "units/$MISSION_UNIT_ID.txt"
git add -- "units/$MISSION_UNIT_ID.txt"
git commit --quiet --no-verify -m "$MISSION_UNIT_ID"
"""
"""Sleeps as it is told, writes one file, commits it; `$1` is a folder with a file per unit."""

TEST_AGENT = """\
set -e
file=units/test_$MISSION_UNIT_ID.py
printf 'from units import keep\\n\\n\\ndef test_unit():\\n    assert keep("%s")\\n' \\
    "$MISSION_UNIT_ID" > "$file"
git add -- "$file"
git commit --quiet --no-verify -m "$MISSION_UNIT_ID"
"""
"""Adds a test of its own."""

CHECK = """\
sleep {seconds}
[ -f README.md ] || exit 1
for file in units/*; do [ -s "$file" ] || exit 1; done
"""
"""Sleeps, and looks at every file that units made."""

PYTEST = "python3 -m pytest -q -p no:cacheprovider"

NOISE_BYTES = 2 * 2**20

_MISSION = """\
name = "{name}"
objective = "Be measured."

[repository]
url = {target}
base = "main"

[environment]
path = [{path}]

[verify]
command = {command}

[plan]
planner = "file"
file = "plan.json"

[agents.default]
profile = "command"
argv = ["sh", {agent}, {seconds}]

[backend]
kind = "local"
slots = {slots}
lease = "1h"

[limits]
max_rounds = 1
max_attempts = 1
max_failures_in_a_row = 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one unit's agent does."""

    unit: str
    seconds: float = 0.0
    depends_on: tuple[str, ...] = ()
    noise: str = "-"  # `loud`: 2 MiB of output; `quiet`: the same, thrown away

    @property
    def planned(self) -> Unit:
        """The unit as a plan has it."""
        needs = tuple(UnitId(each) for each in self.depends_on)
        return Unit(id=UnitId(self.unit), title=f"Unit {self.unit}", depends_on=needs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A mission that can be run: all its files are in `folder`."""

    folder: Path
    works: Sequence[Work]
    slots: int
    with_pytest: bool = False

    @property
    def mission_file(self) -> Path:
        """The mission file."""
        return self.folder / "mission.toml"

    @property
    def home(self) -> Path:
        """The mission's own MISSION_HOME."""
        return self.folder / "home"

    @property
    def target(self) -> Path:
        """The target repository."""
        return self.folder / "target"

    @property
    def units(self) -> tuple[Unit, ...]:
        """The plan's units."""
        return tuple(work.planned for work in self.works)

    @property
    def agent_argv(self) -> tuple[str, ...]:
        """The agent's command."""
        return ("sh", str(self.folder / "agent.sh"), str(self.folder / "seconds"))

    @property
    def verification(self) -> str:
        """The verification command."""
        return PYTEST if self.with_pytest else CHECK.format(seconds=VERIFICATION_SECONDS)

    def settings(self) -> MissionSettings:
        """The mission's settings, without what this process's environment would add."""
        return load_settings(self.mission_file, env={})

    def write(self) -> None:
        """Make all files."""
        self.folder.mkdir(parents=True)
        _make_target(self.target, with_pytest=self.with_pytest)
        (self.folder / "agent.sh").write_text(TEST_AGENT if self.with_pytest else AGENT)
        seconds = self.folder / "seconds"
        seconds.mkdir()
        for work in self.works:
            (seconds / work.unit).write_text(f"{work.seconds:g} {work.noise}\n")
        if any(work.noise != "-" for work in self.works):
            line = (
                b"What an agent says while it works, again and again: one line of 80 bytes.....\n"
            )
            (seconds / ".noise").write_bytes((line * (NOISE_BYTES // len(line) + 1))[:NOISE_BYTES])
        units = [
            {"id": w.unit, "title": w.planned.title, "depends_on": [*w.depends_on]}
            for w in self.works
        ]
        (self.folder / "plan.json").write_text(json.dumps({"unit": units}))
        (self.folder / "works.json").write_text(json.dumps([asdict(w) for w in self.works]))
        self.mission_file.write_text(self._mission_text())

    @classmethod
    def read(cls, folder: Path) -> Workload:
        """What `write` made of a workload in this folder; with the slots of its mission file."""
        works = [
            Work(**{**values, "depends_on": tuple(values["depends_on"])})
            for values in json.loads((folder / "works.json").read_bytes())
        ]
        workload = cls(folder=folder, works=works, slots=1)
        return replace(workload, slots=workload.settings().backend.slots)

    def _mission_text(self) -> str:
        _, agent, seconds = self.agent_argv
        python = Path(sys.executable).parent
        return _MISSION.format(
            name="benchmark",
            target=json.dumps(str(self.target)),
            path=json.dumps(str(python)) if self.with_pytest else "",
            command=json.dumps(self.verification),
            agent=json.dumps(agent),
            seconds=json.dumps(seconds),
            slots=self.slots,
        )


def independent(n_units: int, seconds: float) -> tuple[Work, ...]:
    """Units that need nothing of each other."""
    return tuple(Work(unit=f"u{i:04}", seconds=seconds) for i in range(n_units))


def chain(n_units: int, seconds: float = 0.0) -> tuple[Work, ...]:
    """Units one after another: whenever one of them is done, the train is idle."""
    names = [f"u{i:04}" for i in range(n_units)]
    needs: list[tuple[str, ...]] = [(), *((name,) for name in names)]
    return tuple(
        Work(unit=name, seconds=seconds, depends_on=need)
        for name, need in zip(names, needs, strict=False)
    )


def random_dag(n_units: int, *, seed: int = 7) -> tuple[Work, ...]:
    """Units of 0.2 to 2 s, each of which depends on up to two earlier ones."""
    chance = random.Random(seed)
    works: list[Work] = []
    for i in range(n_units):
        needed = chance.sample(range(i), min(i, chance.choice((0, 1, 1, 2))))
        works.append(
            Work(
                unit=f"u{i:04}",
                seconds=round(chance.uniform(0.2, 2.0), 2),
                depends_on=tuple(works[k].unit for k in sorted(needed)),
            )
        )
    return tuple(works)


def _make_target(path: Path, *, with_pytest: bool) -> None:
    for i in range(N_FILES):
        file = path / f"part{i // FILES_PER_FOLDER:02}" / f"file{i:03}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"This is file {i}.\n" * 20)
    (path / "README.md").write_text("# A target to measure with\n")
    (path / "units").mkdir()
    (path / "units" / "first.txt").write_text("first\n")
    if with_pytest:
        (path / "units" / "__init__.py").write_text("def keep(name):\n    return bool(name)\n")
        (path / "units" / "test_first.py").write_text("def test_first():\n    assert True\n")
    for argv in (
        ["git", "init", "--quiet", "-b", "main"],
        ["git", "add", "-A"],
        ["git", "commit", "--quiet", "-m", "Begin"],
    ):
        run(argv, cwd=path, env=git_environment())


def git_environment() -> Mapping[str, str]:
    """What git gets: no configuration of this machine's user."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **HERMETIC}
