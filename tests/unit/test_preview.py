from __future__ import annotations

import json
from pathlib import Path

import pytest

from blocks.errors import PlanInvalid
from flows.planning.preview import Preview, preview
from flows.settings_sources import load_settings

MISSION = """\
name = "tidy-acme"
objective = "Green."
repository = { url = "https://git.example.invalid/acme.git" }
verify = { command = "make check", timeout = "5m", slots = 2 }
plan = { file = "plan.toml" }
agents.default.argv = ["fix", "--unit", "{unit_id}", "--prompt", "{prompt_file}", "{files}"]
backend.slots = 3
"""
PLAN = """\
[[unit]]
id = "docs"
title = "Write docs"
depends_on = ["code", "base"]
writes = ["docs/a.md", "docs/b c.md"]

[[unit]]
id = "base"
title = "Lay the base"
timeout = "90s"
command = ["sh", "-c", "exit 0"]

[[unit]]
id = "code"
title = "Write code"
depends_on = ["base"]
writes = ["src/code.py"]
"""


def shown(folder: Path, mission: str = MISSION, plan: str = PLAN) -> Preview:
    (folder / "mission.toml").write_text(mission)
    (folder / "plan.toml").write_text(plan)
    return preview(load_settings(folder / "mission.toml", env={}))


def test_units_come_in_an_order_that_respects_the_edges(tmp_path: Path) -> None:
    seen = shown(tmp_path)
    assert [unit.id for unit in seen.units] == ["base", "code", "docs"]
    assert seen.path == ("base", "code", "docs")


def test_each_units_exact_command_is_shown(tmp_path: Path) -> None:
    seen = shown(tmp_path)
    assert seen.argv == {
        "base": ("sh", "-c", "exit 0"),
        "code": ("fix", "--unit", "code", "--prompt", "{prompt_file}", "src/code.py"),
        "docs": ("fix", "--unit", "docs", "--prompt", "{prompt_file}", "docs/a.md", "docs/b c.md"),
    }
    text = seen.as_text()
    assert "  base: sh -c 'exit 0'" in text
    assert "docs/a.md 'docs/b c.md'" in text


def test_the_text_says_what_would_be_used(tmp_path: Path) -> None:
    lines = shown(tmp_path).as_text().splitlines()
    rows = {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in lines}
    assert rows["plan"] == "3 units (file)"
    assert rows["critical path"] == "base → code → docs (3 in a row)"
    assert rows["verify"] == "make check (5m, 2 at once)"
    assert rows["backend"] == "local, 3 slots"
    assert rows["time"] == "unknown (no earlier mission of this repository)"
    assert rows["cost"] == "unknown (no earlier mission of this repository)"
    assert "worst overshoot of the budget" not in rows
    assert rows["base"].split() == ["-", "anywhere", "-", "1m30s"]
    assert rows["code"].split() == ["base", "src/code.py", "default", "45m"]


def test_who_mends_refused_work_is_shown_with_the_command(tmp_path: Path) -> None:
    more = 'agents.fixer.argv = ["mend", "it"]\nfixup = { agent = "fixer", candidates = 2 }\n'
    text = shown(tmp_path, MISSION + more).as_text()
    assert "fixer, at most 3 repairs, 2 at once" in text
    assert "  fixer, to repair (command; sandbox none)\n    mend it\n" in text


def test_json_is_json_with_all_of_it(tmp_path: Path) -> None:
    value = shown(tmp_path).as_json()
    assert json.loads(json.dumps(value)) == value
    base, code, docs = value["units"]
    assert (base["writes"], base["timeout_seconds"], base["argv"][0]) == (None, 90, "sh")
    assert docs["depends_on"] == ["code", "base"]
    assert code["agent"] == "default"
    assert value["critical_path"] == ["base", "code", "docs"]
    figures = ("seconds_low", "seconds_high", "cost_usd_low", "cost_usd_high", "overshoot_usd")
    assert [value[name] for name in figures] == [None] * 5
    assert (value["backend"]["slots"], value["verify"]["command"]) == (3, "make check")


def test_a_wrong_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanInvalid, match="there is no unit 'bose'; did you mean 'base'"):
        shown(tmp_path, plan=PLAN.replace('"code", "base"', '"code", "bose"'))


def test_an_agent_that_plans_is_shown_and_does_not_run_unasked(tmp_path: Path) -> None:
    text = shown(tmp_path, MISSION.replace('file = "plan.toml"', 'planner = "agent"')).as_text()
    assert "not made yet (agent)" in text
    assert "agent 'default' plans when the mission starts; --ask asks now" in text
    assert "default, to plan (command; sandbox none)" in text


def overshoot(seen: Preview) -> tuple[float | None, str]:
    (line,) = [line for line in seen.as_text().splitlines() if line.startswith("worst overshoot")]
    return seen.overshoot_usd, line.removeprefix("worst overshoot of the budget").strip()


def test_the_worst_overshoot_is_what_may_run_when_the_budget_is_spent(tmp_path: Path) -> None:
    limits = MISSION + "agents.default.max_usd = 1.5\n"
    assert overshoot(shown(tmp_path, limits)) == (4.5, "$4.50")
    fixer = 'agents.fixer.argv = ["mend"]\nfixup.agent = "fixer"\n'
    assert overshoot(shown(tmp_path, limits + fixer)) == (None, "no limit: no max_usd for fixer")
    fixer += "agents.fixer.max_usd = 4.0\n"
    assert overshoot(shown(tmp_path, limits + fixer)) == (12.0, "$12.00")


def test_planning_agents_do_not_run_beside_others(tmp_path: Path) -> None:
    text = MISSION.replace('file = "plan.toml"', 'planner = "agent", agent = "boss", slots = 10')
    text += 'agents.default.max_usd = 1.5\nagents.boss = { argv = ["b"], max_usd = 0.5 }\n'
    seen = shown(tmp_path, text)
    assert overshoot(seen) == (5.0, "$5.00")
    assert "not planned yet" in seen.as_text()


def test_on_several_hosts_each_has_its_slots(tmp_path: Path) -> None:
    hosts = 'backend = { kind = "ssh", hosts = ["one", "two"], slots = 3 }\n'
    text = MISSION.replace("backend.slots = 3\n", hosts) + "agents.default.max_usd = 1.5\n"
    assert overshoot(shown(tmp_path, text)) == (9.0, "$9.00")
