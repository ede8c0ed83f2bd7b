"""`mission revert`: landed work is taken out again, through the train."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.server import ServerAddress
from tests.missions import (
    GREEN,
    Site,
    assert_promises,
    ended,
    events,
    git,
    held_by,
    ledger,
    make_site,
    mission,
    on_green,
    started,
    statuses,
    unit,
    wait_for_event,
    write,
    write_plan,
)

pytestmark = pytest.mark.needs_server

NEEDS_BOTH = 'test ! -e user.txt || test -e used.txt || { echo "user.txt needs used.txt"; exit 1; }'


@pytest.fixture
def site(prefect_address: ServerAddress, tmp_path: Path) -> Site:
    """A target whose `user.txt` cannot be without its `used.txt`."""
    site = make_site(
        tmp_path, api_url=prefect_address.api_url, check=f"echo checked\n{NEEDS_BOTH}\n"
    )
    write_plan(
        site,
        unit("used", write("used.txt")),
        unit("user", write("user.txt"), depends_on=["used"]),
        unit("other", write("other.txt")),
    )
    return site


def test_a_unit_that_landed_long_ago_is_taken_out_and_can_be_put_back(site: Site) -> None:
    assert mission(site, "run", "mission.toml").code == 0
    ran = mission(site, "revert", "other")
    assert ran.code == 0, ran.err
    assert on_green(site, "other.txt") is None
    assert on_green(site, "user.txt") == "done"
    assert statuses(ledger(site)) == {"revert-other": "landed"}
    assert_promises(site)
    message = git(site.target, "log", "-1", "--format=%B", GREEN)
    assert "Reverts: " in message
    assert mission(site, "revert", "revert-other").code == 0
    assert on_green(site, "other.txt") == "done"
    assert_promises(site)


def test_what_others_need_stays_and_it_is_said_why(site: Site) -> None:
    assert mission(site, "run", "mission.toml").code == 0
    ran = mission(site, "revert", "used")
    assert ran.code == 1
    assert "user.txt needs used.txt" in ran.out + ran.err
    assert on_green(site, "used.txt") == "done"
    assert statuses(ledger(site)) == {"revert-used": "failed"}
    assert_promises(site)


def test_a_name_that_never_landed_is_wrong_input(site: Site) -> None:
    assert mission(site, "run", "mission.toml").code == 0
    before = git(site.target, "rev-parse", GREEN)
    ran = mission(site, "revert", "nobody")
    assert ran.code == 2
    assert "no unit of this name landed" in ran.out + ran.err
    assert git(site.target, "rev-parse", GREEN) == before
    assert mission(site, "revert", "other").code == 0
    again = mission(site, "revert", "other")
    assert again.code == 2
    assert "took it out" in again.out + again.err


def test_a_running_mission_takes_a_unit_out_itself(site: Site) -> None:
    gate = held_by(site.notes / "gate")
    write_plan(
        site, unit("first", write("first.txt")), unit("long", f"{gate}; {write('long.txt')}")
    )
    with started(site, "run", "mission.toml") as process:
        wait_for_event(site, "landed", units=["first"])
        asked = mission(site, "revert", "first")
        assert asked.code == 0
        wait_for_event(site, "landed", units=["revert-first"])
        (site.notes / "gate").touch()
        assert ended(process).code == 0
    records = ledger(site)
    assert statuses(records)["revert-first"] == "landed"
    assert on_green(site, "first.txt") is None
    assert on_green(site, "long.txt") == "done"
    (requested,) = events(records, "revert.requested")
    assert requested["by"] == "mission revert"
    assert_promises(site)
