"""An agent that says what a test wrote for it: for missions whose agents plan and judge.

`NOTES/answers.json` maps what is asked (`plan-1-0`, `evaluate-1`, the id of a unit) to what is said
the first time, the second, …; the last is repeated. Prompts are kept as `NOTES/<asked>.<n>.md`. To
work on a unit without answers is to write a file of its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.missions import Site

SCRIPT = """\
import json, os, sys
asked, notes = os.environ["MISSION_UNIT_ID"], os.environ["NOTES"]
number = 1
while os.path.exists(f"{notes}/{asked}.{number}.md"):
    number += 1
with open(f"{notes}/{asked}.{number}.md", "w") as file:
    file.write(sys.stdin.read())
said = json.load(open(f"{notes}/answers.json")).get(asked)
if said is None:
    with open(f"{asked}.txt", "w") as file:
        file.write("done\\n")
    said = [""]
answer = said[min(number, len(said)) - 1]
if answer.startswith("sh: "):
    os.execvp("sh", ["sh", "-c", answer[4:]])
print(answer)
"""


def ask_oracle(site: Site, answers: Mapping[str, Sequence[str]]) -> list[str]:
    """Write what agents of a site say; returns their argv."""
    (site.notes / "answers.json").write_text(json.dumps(answers))
    script = site.folder / "oracle.py"
    script.write_text(SCRIPT)
    return ["python3", "-I", str(script)]


def parts(*names: str) -> str:
    """A planner's answer that divides its scope."""
    entries = [{"id": name, "title": f"Part {name}", "scope": f"all of {name}"} for name in names]
    return f"I divide it.\nMISSION_PLAN: {json.dumps({'parts': entries})}"


def units(*names: str, **fields: Any) -> str:
    """A planner's answer with units that write a file of their own each."""
    entries = [
        {"id": name, "title": f"Do {name}", "prompt": f"Do {name}.", "writes": [f"{name}.txt"]}
        for name in names
    ]
    return f"MISSION_PLAN: {json.dumps({'units': [{**each, **fields} for each in entries]})}"


def judged(score: float, *remains: str, met: bool = False) -> str:
    """An evaluator's answer."""
    said = {"score": score, "met": met, "remains": remains, "summary": "looked at it"}
    return f"MISSION_EVALUATION: {json.dumps(said)}"


def prompts(site: Site, asked: str) -> list[str]:
    """The prompts of all times that something was asked, in order."""
    found: dict[int, str] = {}
    for path in site.notes.glob("*.md"):
        if name := re.fullmatch(rf"{re.escape(asked)}\.(\d+)\.md", path.name):
            found[int(name[1])] = path.read_text()
    return [found[number] for number in sorted(found)]
