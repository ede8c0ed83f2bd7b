"""Money, quota and keys: what is spent is counted for all missions, what is secret stays so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from deployments.server import ServerAddress
from tests.missions import (
    Site,
    assert_promises,
    events,
    ledger,
    make_site,
    mission,
    missions_of,
    outcomes,
    statuses,
    write_mission,
    write_plan,
)

pytestmark = pytest.mark.needs_server

TELLS_COST = "echo 'MISSION_RESULT: {\"cost_usd\": 0.5}'; echo done > $MISSION_UNIT_ID.txt"


def units(*names: str) -> list[dict[str, Any]]:
    return [{"id": name, "title": f"Do {name}"} for name in names]


def stop_reason(site: Site, name: str) -> str:
    (end,) = events(ledger(site, name), "mission.finished")
    return str(end["stop_reason"])


def test_what_one_mission_spends_of_the_day_the_next_one_cannot(
    tmp_path: Path, prefect_address: ServerAddress
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    agents = {"default": {"argv": ["sh", "-c", TELLS_COST]}}
    write_plan(site, *units("a", "b"))
    write_mission(site, agents=agents, limits={"budget_usd_per_day": 1.0})
    assert mission(site).code == 0
    (first,) = missions_of(site)
    (end,) = events(ledger(site, first), "mission.finished")
    assert end["cost_usd"] == 1.0
    write_plan(site, *units("c", "d"))
    ran = mission(site)
    assert ran.code == 1, ran.text
    (second,) = {*missions_of(site)} - {first}
    assert stop_reason(site, second) == "budget spent"
    assert events(ledger(site, second), "attempt.started") == []


def test_a_budget_of_tokens_holds_for_agents_that_tell_no_cost(
    tmp_path: Path, prefect_address: ServerAddress
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    usage = '{"type":"turn.completed","usage":{"input_tokens":900,"output_tokens":100}}'
    script = f"cat > /dev/null; echo '{usage}'; echo done > $MISSION_UNIT_ID.txt"
    agent = {"profile": "codex", "argv": ["sh", "-c", script], "env": {"CODEX_API_KEY": "x"}}
    write_plan(site, *units("a", "b", "c", "d"))
    write_mission(
        site, agents={"default": agent}, backend={"slots": 1}, limits={"budget_tokens": 2_000}
    )
    ran = mission(site)
    assert ran.code == 1, ran.text
    (name,) = missions_of(site)
    assert stop_reason(site, name) == "budget spent"
    assert len(events(ledger(site), "attempt.ended")) == 2
    write_mission(site, agents={"default": agent}, limits={"budget_usd": 1.0})
    refused = mission(site, "run", str(site.mission_file), "--new")
    assert refused.code == 2
    assert "agent 'default' (codex) tells no cost" in refused.err


def test_a_limit_of_an_account_rests_all_missions_that_use_it_until_it_is_over(
    tmp_path: Path, prefect_address: ServerAddress
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    rejected = '{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":%d}}'
    failed = '{"type":"result","is_error":true,"result":"limit reached","api_error_status":429}'
    gate = site.notes / "limited"
    until = int(time.time()) + 12
    script = (
        f"cat > /dev/null; if mkdir {gate}; then echo '{rejected % until}'; echo '{failed}';"
        " exit 1; fi; echo done > $MISSION_UNIT_ID.txt"
    )
    agent = {"profile": "claude", "argv": ["sh", "-c", script], "env": {"ANTHROPIC_API_KEY": "x"}}
    write_plan(site, *units("a"))
    write_mission(site, agents={"default": agent}, limits={"deadline": "2s", "max_rounds": 1})
    assert mission(site).code == 1, "the deadline passes while its agent is out of quota"
    (first,) = missions_of(site)
    assert outcomes(ledger(site, first), "a") == ["rate limited"]
    write_mission(site, agents={"default": agent}, repository={"green": "other/green"})
    ran = mission(site, "run", str(site.mission_file), "--new")
    assert ran.code == 0, ran.text
    (second,) = {*missions_of(site)} - {first}
    (began,) = events(ledger(site, second), "attempt.started")
    assert began["at"] >= until
    assert statuses(ledger(site, second)) == {"a": "landed"}


def test_an_agent_that_commits_its_secret_is_refused(
    tmp_path: Path, prefect_address: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "kept-to-itself-4711"
    monkeypatch.setenv("KEY_OF_TESTS", secret)
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    leak = {"argv": ["sh", "-c", 'echo "key = $KEY" > leak.txt; echo $KEY']}
    write_plan(site, *units("u"))
    agents = {"default": {**leak, "secrets": {"KEY": "env/KEY_OF_TESTS"}}}
    write_mission(site, agents=agents, limits={"max_attempts": 1})
    ran = mission(site)
    assert ran.code == 1, ran.text
    (end,) = events(ledger(site), "attempt.ended")
    assert (end["outcome"], end["detail"]) == (
        "refused",
        "a secret of this mission's agents is in: leak.txt",
    )
    assert secret not in ran.text


def test_a_secret_reaches_its_agent_and_nothing_that_is_kept(
    tmp_path: Path, prefect_address: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "kept-to-itself-4711"
    monkeypatch.setenv("KEY_OF_TESTS", secret)
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    look = "printenv KEY > $NOTES/$MISSION_UNIT_ID || :; echo done > $MISSION_UNIT_ID.txt"
    agents = {
        "default": {"argv": ["sh", "-c", look]},
        "trusted": {"argv": ["sh", "-c", look], "secrets": {"KEY": "env/KEY_OF_TESTS"}},
    }
    one, other, mere = units("one", "other", "mere")
    trusted = {"agent": "trusted"}
    write_plan(site, one, {**other, **trusted}, {**mere, **trusted, "command": ["sh", "-c", look]})
    write_mission(site, agents=agents)
    shown = mission(site, "plan", str(site.mission_file))
    ran = mission(site)
    assert ran.code == 0, ran.text
    seen = [site.note(name).strip() for name in ("one", "other", "mere")]
    assert seen == ["", secret, ""], "a unit's own command is not the agent"
    assert secret not in shown.text + ran.text
    kept = [path for path in (site.home / "missions").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if secret.encode() in path.read_bytes()]
    monkeypatch.delenv("KEY_OF_TESTS")
    refused = mission(site, "run", str(site.mission_file), "--new")
    assert refused.code == 2
    assert "the variable KEY_OF_TESTS is not set" in refused.err
    assert_promises(site)
