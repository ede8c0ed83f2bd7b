"""`python -m deployments.demo`: tidy a small repository, and see the one bad fix refused.

Makes the target in a fresh folder, writes its mission file, runs `mission run` in this terminal,
then says what landed, what was refused and why. Exit code 0: it went as it should; 1: it did not;
2: something that the demo needs is not there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blocks.errors import MissionError, Refused
from deployments.demo.target import BRANCH, make_target
from flows.ledger.events import Delivered, PlanMade
from flows.ledger.log import Record, read_ledger
from flows.ledger.state import SATISFIED, MissionState, Status, UnitState, fold

NAME = "demo"
BROKEN_RULE = "F401"
"""The rule whose fix removes an import that another module takes from there."""

PROJECT = Path(__file__).resolve().parents[2]
TOOLS = PROJECT / ".venv-tools" / "bin"
_NEEDED = ("python3", "ruff")
_SYSTEM = ("/usr/local/bin", "/usr/bin", "/bin")
_MARK = "made-by-the-demo"
_MISSION_FILE = """\
name = "{name}"
objective = "No lint findings that a tool can mend; the tests stay green."

[repository]
url = {target}
base = "{branch}"
green = "mission/green"

[environment]
path = [{path}]
pass = ["LANG"]
set = {{ PYTHONDONTWRITEBYTECODE = "1" }}

[verify]
command = "python3 -m pytest -q"
timeout = "2m"

[plan]
planner = "tidy"

[agents.default]
profile = "command"
argv = ["ruff", "check", "--fix", "{{files}}"]

[backend]
kind = "local"
slots = 4

[limits]
max_rounds = 1
max_attempts = 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Where the demo keeps its things."""

    folder: Path
    home: Path
    tools: Path

    @property
    def target(self) -> Path:
        """The repository that is tidied."""
        return self.folder / "target"

    @property
    def mission_file(self) -> Path:
        """The mission file, as a person would write it."""
        return self.folder / "mission.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and give its exit code."""
    options = _parser().parse_args(arguments)
    folder = Path(".demo").resolve()
    demo = Demo(
        folder=folder,
        home=(options.home or folder / "home").resolve(),
        tools=options.tools.resolve(),
    )
    try:
        prepare(demo, keep=options.keep)
    except MissionError as error:
        print(error, file=sys.stderr)
        return 2
    code = _run_mission(demo)
    return _tell(demo, code)


def prepare(demo: Demo, *, keep: bool) -> None:
    """Make target and mission file afresh; with `keep` go on with those of the last time.

    Raises:
        Refused: the tools are missing, or the state folder is not the demo's.
    """
    missing = [name for name in _NEEDED if not (demo.tools / name).exists()]
    if missing:
        raise Refused(f"{', '.join(missing)} not in {demo.tools}; `make demo` installs the tools")
    if keep and demo.mission_file.exists():
        return
    _clear(demo.home)
    shutil.rmtree(demo.target, ignore_errors=True)
    demo.home.mkdir(parents=True)
    (demo.home / _MARK).touch()
    make_target(demo.target)
    demo.mission_file.write_text(mission_text(demo), encoding="utf-8")


def mission_text(demo: Demo) -> str:
    """Write the mission file: the tools first, then the system's own commands."""
    path = [str(demo.tools), *(folder for folder in _SYSTEM if Path(folder).is_dir())]
    return _MISSION_FILE.format(
        name=NAME,
        target=_quoted(str(demo.target)),
        branch=BRANCH,
        path=", ".join(_quoted(folder) for folder in path),
    )


def as_expected(state: MissionState) -> bool:
    """Whether good fixes landed, and exactly the one that breaks a test was refused."""
    if state.finished is None or state.finished.exit_code not in {0, 1}:
        return False
    refused = [unit for unit in state.units.values() if unit.status not in SATISFIED]
    return (
        bool(state.by_status(Status.LANDED))
        and len(refused) == 1
        and BROKEN_RULE in refused[0].unit.title
    )


def describe(demo: Demo, records: Sequence[Record], state: MissionState) -> Iterator[str]:
    """Say what landed, what was refused and why, what is left, and how to look at it."""
    units = list(state.units.values())
    done = [unit for unit in units if unit.status in SATISFIED]
    yield f"\nLanded: {len(done)} of {len(units)} units"
    yield from (f"  {unit.unit.title}" for unit in done)
    for unit in units:
        if unit.status not in SATISFIED:
            yield f"Refused: {unit.unit.title}"
            yield from (f"  {line}" for line in _why(unit))
    notes = [note for record in records for note in _notes(record)]
    if notes:
        yield "For a person or an agent:"
        yield from (f"  {note}" for note in notes)
    target, green = _short(demo.target), _delivered(records)
    if green:
        yield f"The branch {green} in {target} has it all; {BRANCH} is as it was. Look:"
        yield f"  git -C {target} log --stat {BRANCH}..{green}"
        yield f"  git -C {target} diff {BRANCH} {green}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deployments.demo", description=__doc__)
    parser.add_argument("--home", type=Path, help="state folder (default: .demo/home)")
    parser.add_argument(
        "--tools", type=Path, default=TOOLS, help="folder with python3, pytest, ruff and mypy"
    )
    parser.add_argument(
        "--keep", action="store_true", help="go on with the last demo instead of starting over"
    )
    return parser


def _clear(home: Path) -> None:
    if not home.exists() or not any(home.iterdir()):
        shutil.rmtree(home, ignore_errors=True)
        return
    if not (home / _MARK).exists():
        raise Refused(f"{home} holds something else; name another folder for the demo")
    shutil.rmtree(home)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _run_mission(demo: Demo) -> int:
    """Run the command in this terminal, so that its live view shows."""
    script = Path(sys.executable).with_name("mission")
    inline = [sys.executable, "-c", "import sys; from flows.cli import main; sys.exit(main())"]
    argv = [*([str(script)] if script.exists() else inline), "run", str(demo.mission_file)]
    env = {key: value for key, value in os.environ.items() if not key.startswith("MISSION_")}
    with subprocess.Popen(argv, env=env | {"MISSION_HOME": str(demo.home)}) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue  # the mission has it too, and ends in its own time


def _tell(demo: Demo, code: int) -> int:
    ledgers = sorted(demo.home.glob("missions/*/ledger.jsonl"), key=lambda p: p.stat().st_mtime)
    if not ledgers:
        print(f"the mission did not begin (exit code {code})", file=sys.stderr)
        return 1
    records = read_ledger(ledgers[-1])
    state = fold(records)
    print("\n".join(describe(demo, records, state)))
    if code in {0, 1} and as_expected(state):
        return 0
    print(f"This is not how the demo should end (exit code {code}).", file=sys.stderr)
    return 1


def _why(unit: UnitState) -> Iterator[str]:
    """The reason, and of what the red verification printed the lines that tell the error."""
    reason, *output = (unit.cause or unit.status.value).splitlines()
    yield reason
    yield from (line for line in output if line.startswith("E "))


def _notes(record: Record) -> Sequence[str]:
    return record.event.notes if isinstance(record.event, PlanMade) else ()


def _delivered(records: Sequence[Record]) -> str:
    branches = [record.event.branch for record in records if isinstance(record.event, Delivered)]
    return branches[-1] if branches else ""


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


if __name__ == "__main__":
    sys.exit(main())
