"""What planning by agents costs: 31 questions of half a second each, in a tree of five by five."""

from __future__ import annotations

import json
import subprocess
import sys
from math import ceil
from pathlib import Path

from flows.ledger.events import AskStarted, PlanMade
from flows.ledger.log import read_ledger
from flows.settings_sources import load_settings
from tests.benchmarks.missions import BenchmarkBroken, environment
from tests.benchmarks.workload import Workload

CHILDREN = 5
QUESTION_SECONDS = 0.5
N_QUESTIONS = 1 + CHILDREN + CHILDREN**2

_AGENT = f"""\
sleep {QUESTION_SECONDS}
case $MISSION_UNIT_ID in
plan-*-0.*.*) echo 'MISSION_PLAN: {{"units": []}}' ;;
*) echo 'MISSION_PLAN: {{"parts": [{{parts}}]}}' ;;
esac
"""
_PARTS = ", ".join(
    f'{{"id": "p{n}", "title": "Part {n}", "scope": "Part {n} of it."}}' for n in range(CHILDREN)
)


def planning_seconds(folder: Path) -> tuple[float, float]:
    """Plan once; returns the time from the first question to the plan, and the least it can be.

    Raises:
        BenchmarkBroken: the mission did not plan as it should.
    """
    workload = Workload(folder=folder, works=(), slots=4)
    workload.write()
    script = folder / "planner.sh"
    script.write_text(_AGENT.replace("{parts}", _PARTS))
    text = workload.mission_file.read_text()
    text = text.replace('planner = "file"\nfile = "plan.json"', 'planner = "agent"')
    argv = f"argv = {json.dumps(['sh', str(script)])}"
    lines = [argv if line.startswith("argv = ") else line for line in text.splitlines()]
    workload.mission_file.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-c", "from flows.cli import main; main()", "run"]
    done = subprocess.run(
        [*command, str(workload.mission_file)],
        env=environment(workload),
        capture_output=True,
        text=True,
        check=False,
    )
    records = [
        r for path in workload.home.glob("missions/*/ledger.jsonl") for r in read_ledger(path)
    ]
    asked = [record.at for record in records if isinstance(record.event, AskStarted)]
    made = [record.at for record in records if isinstance(record.event, PlanMade)]
    if len(asked) != N_QUESTIONS or not made:
        raise BenchmarkBroken(
            f"{len(asked)} questions:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    slots = load_settings(workload.mission_file, env={}).plan.slots
    least = QUESTION_SECONDS * (2 + ceil(CHILDREN**2 / slots))
    return made[0] - asked[0], least
