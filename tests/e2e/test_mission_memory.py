"""What an agent reports of a repository is told to those that come after it, as data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.server import ServerAddress
from tests.missions import (
    assert_promises,
    events,
    ledger,
    make_site,
    mission,
    statuses,
    unit,
    write,
    write_plan,
)

pytestmark = pytest.mark.needs_server


def test_what_one_agent_learned_is_in_the_prompt_of_the_next(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    result = {
        "summary": "done",
        "learnings": ["Tests want the C locale."],
        "commits": ["not-one-of-git"],
    }
    said = f"MISSION_RESULT: {json.dumps(result)}"
    write_plan(
        site,
        unit("first", f"echo '{said}'; {write('first.txt')}"),
        unit("second", f'cat > "$NOTES/told"; {write("second.txt")}', depends_on=["first"]),
    )
    ran = mission(site, "run", "mission.toml")
    assert ran.code == 0, ran.err
    told = site.note("told")
    assert "Tests want the C locale." in told
    assert "Do first" in told, "what its dependency landed"
    records = ledger(site)
    assert statuses(records) == {"first": "landed", "second": "landed"}
    (ended,) = events(records, "attempt.ended", unit="first")
    assert ended["report"]["summary"] == "done"
    assert not events(records, "attempt.ended", unit="second")[0]["report"], "nothing said"
    assert_promises(site)
    assert "Tests want the C locale." in mission(site, "memory", "mission.toml").out
