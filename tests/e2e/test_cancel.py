"""Stopping from the Prefect UI: a run of this process that is set to Cancelling ends in order."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from deployments.server import ServerAddress
from tests.missions import (
    assert_promises,
    ended,
    events,
    held_by,
    ledger,
    make_site,
    started,
    unit,
    wait_for_event,
    write,
    write_plan,
)

pytestmark = pytest.mark.needs_server


def call(url: str, body: object) -> Any:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_cancel_in_the_ui_ends_agents_and_keeps_what_landed(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = make_site(tmp_path / "site", api_url=prefect_address.api_url)
    write_plan(
        site,
        unit("quick", write("quick.txt")),
        unit("endless", held_by(tmp_path / "never"), depends_on=["quick"]),
    )
    with started(site) as process:
        wait_for_event(site, "attempt.started", unit="endless")
        mission = events(ledger(site), "mission.started")[0]["mission"]
        name = {"flow_runs": {"name": {"any_": [mission]}}}
        (run,) = call(f"{prefect_address.api_url}/flow_runs/filter", name)
        cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        call(f"{prefect_address.api_url}/flow_runs/{run['id']}/set_state", cancelling)
        ran = ended(process)
    assert ran.code == 130, ran.text
    records = ledger(site)
    assert events(records, "stop.requested")[0]["by"] == "the Prefect UI"
    assert events(records, "mission.finished")[0]["stop_reason"] == "stopped"
    assert_promises(site)
    (run,) = call(f"{prefect_address.api_url}/flow_runs/filter", name)
    assert run["state"]["type"] == "CANCELLED"
