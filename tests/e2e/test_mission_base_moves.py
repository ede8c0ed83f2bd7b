"""Somebody pushes to the base branch during a mission: it is merged in, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.server import ServerAddress
from tests.missions import (
    Site,
    assert_promises,
    commit_files,
    ended,
    events,
    git,
    held_by,
    ledger,
    make_site,
    mission,
    missions_of,
    on_green,
    started,
    statuses,
    unit,
    wait_for_event,
    write,
    write_plan,
)

pytestmark = pytest.mark.needs_server


@pytest.fixture
def site(prefect_address: ServerAddress, tmp_path: Path) -> Site:
    """A mission of two units, the second of which waits for a gate, and one that looks often."""
    site = make_site(
        tmp_path,
        api_url=prefect_address.api_url,
        repository={"poll": "0.2s"},
        limits={"max_attempts": 1},
    )
    gate = held_by(site.notes / "gate")
    write_plan(
        site,
        unit("first", write("first.txt")),
        unit("second", f"{gate}; {write('second.txt')}"),
    )
    return site


def open_gate(site: Site) -> None:
    (site.notes / "gate").touch()


def test_what_is_pushed_meanwhile_is_merged_verified_and_delivered(site: Site) -> None:
    with started(site, "run", "mission.toml") as process:
        wait_for_event(site, "landed", units=["first"])
        pushed = commit_files(site.target, {"theirs.txt": "theirs\n"}, "by somebody")
        wait_for_event(site, "landed", units=["@base"])
        open_gate(site)
        assert ended(process).code == 0
    records = ledger(site)
    assert statuses(records) == {"first": "landed", "second": "landed"}
    assert on_green(site, "theirs.txt") == "theirs"
    git(site.target, "merge-base", "--is-ancestor", pushed, "mission/green")
    assert_promises(site)


def test_a_base_that_conflicts_stops_the_mission_with_the_files_named(site: Site) -> None:
    with started(site, "run", "mission.toml") as process:
        wait_for_event(site, "landed", units=["first"])
        commit_files(site.target, {"first.txt": "theirs\n"}, "by somebody")
        wait_for_event(site, "candidate.conflicted", unit="@base")
        open_gate(site)
        ran = ended(process)
    records = ledger(site)
    (finished,) = events(records, "mission.finished")
    assert finished["stop_reason"] == "base conflict"
    assert "first.txt" in finished["detail"]
    assert "first.txt" in ran.out + ran.err
    assert statuses(records)["second"] == "landed", "what runs still lands"
    assert on_green(site, "first.txt") == "done"
    assert_promises(site)


def test_a_base_that_is_red_with_what_landed_is_left_out_and_told(site: Site) -> None:
    with started(site, "run", "mission.toml") as process:
        wait_for_event(site, "landed", units=["first"])
        commit_files(site.target, {"theirs.txt": "BROKEN\n"}, "by somebody")
        wait_for_event(site, "base.refused")
        open_gate(site)
        assert ended(process).code == 0
    (finished,) = events(ledger(site), "mission.finished")
    assert "left out" in finished["detail"]
    assert on_green(site, "theirs.txt") is None
    assert on_green(site, "second.txt") == "done"
    assert_promises(site)


def test_a_person_who_merges_green_into_the_base_causes_no_work(site: Site) -> None:
    with started(site, "run", "mission.toml") as process:
        wait_for_event(site, "delivered")
        wait_for_event(site, "landed", units=["first"])
        green = events(ledger(site), "landed")[-1]["new"]
        wait_for_event(site, "delivered", commit=green)
        git(site.target, "merge", "--quiet", "--ff-only", "mission/green")
        open_gate(site)
        assert ended(process).code == 0
    assert not events(ledger(site), "base.moved")


def test_a_mission_goes_on_from_where_another_moved_green_meanwhile(site: Site) -> None:
    with started(site, "run", "mission.toml") as process:
        wait_for_event(site, "landed", units=["first"])
        assert mission(site, "stop").code == 0
        ended(process)
    (earlier,) = missions_of(site)
    write_plan(site, unit("other", write("other.txt")))
    assert mission(site, "run", "mission.toml", "--new").code == 0
    open_gate(site)
    ran = mission(site, "resume", earlier)
    assert ran.code == 0, ran.out + ran.err
    records = ledger(site, earlier)
    (adopted,) = events(records, "green.adopted")
    after = [r for r in records if r["seq"] > adopted["seq"]]
    assert events(after, "probe.started")[0]["kind"] == "control", "nothing of it was seen here"
    assert {on_green(site, f"{name}.txt") for name in ("first", "other", "second")} == {"done"}
    assert_promises(site, earlier)


def test_the_next_mission_takes_a_kept_pass_of_the_same_tree_for_its_base(site: Site) -> None:
    """And not when it is verified in another way."""
    open_gate(site)
    assert mission(site, "run", "mission.toml").code == 0
    write_plan(site, unit("third", write("third.txt")))
    assert mission(site, "run", "mission.toml", "--new").code == 0
    records = ledger(site)
    first = events(records, "probe.ended")[0]
    assert first["cached"]
    assert first["verdict"] == "passed"
    assert not events(records, "probe.ended")[1]["cached"]
    assert_promises(site)
    text = site.mission_file.read_text().replace("sh check.sh", "sh ./check.sh")
    site.mission_file.write_text(text)
    write_plan(site, unit("fourth", write("fourth.txt")))
    assert mission(site, "run", "mission.toml", "--new").code == 0
    assert not events(ledger(site), "probe.ended")[0]["cached"]
