"""Unattended missions whose agents are the real CLIs, with a scripted model and no account."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from deployments.server import ServerAddress
from tests.agent_clis import CLAUDE, CODEX, OPENCODE, Cli
from tests.missions import (
    Site,
    assert_promises,
    events,
    integration_repository,
    ledger,
    make_site,
    mission,
    on_green,
    outcomes,
    statuses,
    write_mission,
    write_plan,
)
from tests.model_server import ModelServer, Say, Shell, Turn, UsageLimit, Write, scripted_models
from tests.oracle import judged, parts, units

pytestmark = pytest.mark.needs_server

CHECK = """\
if grep -l broken *.txt; then echo 'a file is broken'; exit 1; fi
echo '12 passed in 0.1s'
"""
_KEY = "not-a-key"
_PLAN_TOKEN = (
    "sk-ant-oat01-not-a-token"  # its form says that a plan pays: then a reset time is told
)
OBJECTIVE = "Build the shop."
LIMIT_SECONDS = 20


def needed(*clis: Cli) -> list[str]:
    """The folders in which CLIs and node are; skips where one is missing."""
    folders: list[str] = []
    for cli in clis:
        path = cli.path()
        if path is None:
            pytest.skip(cli.skip_reason)
        folders.append(str(path.parent))
    node = shutil.which("node")
    return [*dict.fromkeys([*folders, *([str(Path(node).parent)] if node else [])])]


def agents_at(models: ModelServer) -> dict[str, Any]:
    """One agent of each CLI, all of which ask this server."""
    sonnet = "claude-sonnet-4-5"
    return {
        "default": {
            "profile": "claude",
            "argv": [],  # not that of other tests, but the profile's own
            "model": sonnet,
            "base_url": models.url,
            "max_usd": 1.0,
            "env": {"CLAUDE_CODE_OAUTH_TOKEN": _PLAN_TOKEN, "CLAUDE_CODE_MAX_RETRIES": "0"},
        },
        "planner": {
            "profile": "codex",
            "model": "gpt-5",
            "base_url": f"{models.url}/v1",
            "env": {"CODEX_API_KEY": _KEY},
        },
        "mender": {
            "profile": "opencode",
            "model": f"anthropic/{sonnet}",
            "base_url": f"{models.url}/v1",
            "env": {"ANTHROPIC_API_KEY": _KEY},
        },
    }


def surroundings(site: Site, models: ModelServer, folders: Sequence[str]) -> dict[str, Any]:
    """What commands of the mission get; whatever wants out asks the model server as its proxy."""
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), models.url)
    return {
        "path": [*folders],
        "set": {"NOTES": str(site.notes), "NO_PROXY": "127.0.0.1,localhost", **proxies},
    }


def makes(name: str, text: str = "done") -> list[Turn]:
    """A model that writes the unit's file and says so."""
    result = f'MISSION_RESULT: {{"summary": "made {name}", "discoveries": ["{name} was easy"]}}'
    return [Write(f"{name}.txt", f"{text}\n"), Say(f"Done.\n{result}")]


def shop() -> dict[str, Sequence[Turn]]:
    """The models' scripts by what their prompts begin with: see `tests.oracle` for the answers."""
    limit = UsageLimit(int(time.time()) + LIMIT_SECONDS)
    names = ("cart1", "cart2", "pay1", "pay2", "pay3", "list1", "list2", "help1")
    workers = {f"# Do {name}": makes(name) for name in names}
    return {
        f"# Plan: {OBJECTIVE}": [Say(parts("buying", "looking")), Say(units("index"))],
        "# Plan: Part buying": [Say(parts("cart", "pay"))],
        "# Plan: Part cart": [Say(units("cart1", "cart2"))],
        "# Plan: Part pay": [Say("Hm."), Say(units("pay1", "pay2", "pay3"))],
        "# Plan: Part looking": [Say(units("list1", "list2", "help1"))],
        **workers,
        "# Do cart2": [Say("I did not get to it."), *makes("cart2")],  # the second time it works
        "# Do pay1": makes("pay1", "broken"),
        "# Do list1": [limit, *makes("list1")],
        "# Do index": [Shell("echo done > index.txt"), Say("Done.")],
        "# Repair: Do pay1": [Write("pay1.txt", "mended\n"), Say("Mended.")],
        "# Evaluate": [Say(judged(0.7, "an index")), Say(judged(1.0, met=True))],
    }


def test_an_objective_is_met_unattended_by_real_clis(
    tmp_path: Path, prefect_address: ServerAddress
) -> None:
    folders = needed(CLAUDE, CODEX, OPENCODE)
    site = make_site(tmp_path, api_url=prefect_address.api_url, check=CHECK)
    with scripted_models(shop()) as models:
        write_mission(
            site,
            objective=OBJECTIVE,
            environment=surroundings(site, models, folders),
            plan={"planner": "agent", "agent": "planner"},
            agents=agents_at(models),
            fixup={"agent": "mender"},
            evaluate={"agent": "mender"},
            limits={"max_rounds": 4, "max_attempts": 2, "unit_timeout": "90s"},
        )
        ran = mission(site, timeout_seconds=300)
        outside = models.outside
    assert ran.code == 0, ran.text
    assert outside == []
    records = ledger(site)
    (end,) = events(records, "mission.finished")
    assert end["stop_reason"] == "objective met"
    made, again = events(records, "plan.made")
    assert {node["depth"] for node in made["nodes"]} == {0, 1, 2}
    assert len(made["units"]) == 8
    assert [unit["id"] for unit in again["units"]] == ["index"]
    assert {*statuses(records).values()} == {"landed"}
    assert outcomes(records, "cart2") == ["no change", "collected"]
    assert outcomes(records, "list1") == ["rate limited", "collected"]
    assert [e["winner"] != "" for e in events(records, "repair.ended")] == [True]
    assert on_green(site, "pay1.txt") == "mended"
    assert_rested(records)
    assert_counted(records)
    assert_promises(site)


def assert_rested(records: Sequence[Any]) -> None:
    """After the limit no agent of that account began before it had quota again."""
    (limited,) = events(records, "attempt.ended", outcome="rate limited")
    told = events(records, "attempt.started", agent="default")
    began = [each["at"] for each in told if each["at"] > limited["at"]]
    assert limited["limited_until"] > limited["at"]
    assert min(began) >= limited["limited_until"]


def assert_counted(records: Sequence[Any]) -> None:
    """What the CLIs told of themselves is in the ledger."""
    worked = events(records, "attempt.ended", outcome="collected")
    assert all(e["input_tokens"] and e["output_tokens"] and e["session"] for e in worked)
    told = [e["cost_usd"] for e in (*worked, *events(records, "ask.ended")) if e["cost_usd"]]
    (end,) = events(records, "mission.finished")
    assert sum(told) <= end["cost_usd"]
    assert worked[0]["report"]["summary"].startswith("made ")


def test_no_more_is_spent_than_the_budget_and_one_attempt_a_slot(
    tmp_path: Path, prefect_address: ServerAddress
) -> None:
    folders = needed(CLAUDE)
    site = make_site(tmp_path, api_url=prefect_address.api_url, check=CHECK)
    names = [f"u{number}" for number in range(8)]
    write_plan(site, *({"id": n, "title": f"Do {n}", "writes": [f"{n}.txt"]} for n in names))
    budget, slots = 0.03, 2
    with scripted_models({f"# Do {name}": makes(name) for name in names}) as models:
        write_mission(
            site,
            environment=surroundings(site, models, folders),
            agents={"default": agents_at(models)["default"]},
            backend={"slots": slots},
            limits={"budget_usd": budget},
        )
        ran = mission(site)
    assert ran.code == 1, ran.text
    (end,) = events(ledger(site), "mission.finished")
    assert end["stop_reason"] == "budget spent"
    costs = [e["cost_usd"] for e in events(ledger(site), "attempt.ended")]
    assert 0 < len(costs) < len(names)
    assert budget <= sum(costs) <= budget + slots * max(costs)
    assert_promises(site)


def test_nothing_of_the_machine_reaches_an_agent(
    tmp_path: Path, prefect_address: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = needed(CLAUDE)
    planted: Mapping[str, str] = {
        "ANTHROPIC_API_KEY": "planted-key",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:9/planted",
        "CLAUDE_CONFIG_DIR": str(tmp_path / "planted"),
        "AWS_SECRET_ACCESS_KEY": "planted-secret",
    }
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    site = make_site(tmp_path, api_url=prefect_address.api_url, check=CHECK)
    write_plan(site, {"id": "u", "title": "Do u", "writes": ["u.txt"]})
    look = Shell(f"env > {site.notes}/env; ls -A ~ > {site.notes}/home")
    with scripted_models([look, *makes("u")]) as models:
        write_mission(
            site,
            environment=surroundings(site, models, folders),
            agents={"default": agents_at(models)["default"]},
        )
        ran = mission(site)
        keys = {asked.headers.get("x-api-key") for asked in models.asked}
    assert ran.code == 0, ran.text
    seen = site.note("env")
    assert "planted" not in seen
    assert f"HOME={integration_repository(site).parents[1]}" in seen
    assert keys == {None}, "headers with keys are not recorded"
    assert not (tmp_path / "planted").exists()
    assert os.environ["ANTHROPIC_API_KEY"] == "planted-key"
