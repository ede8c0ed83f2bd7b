"""A mission that is interrupted, stopped from elsewhere, or in the way of another."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from deployments.server import ServerAddress
from tests.leaks import jobs_below
from tests.missions import (
    CHECK,
    GREEN,
    Site,
    assert_promises,
    ended,
    events,
    held_by,
    ledger,
    make_site,
    mission,
    missions_of,
    on_green,
    outcomes,
    started,
    statuses,
    unit,
    wait_for_event,
    wait_until,
    write,
    write_plan,
)

pytestmark = pytest.mark.needs_server


@pytest.fixture
def held(prefect_address: ServerAddress, tmp_path: Path) -> Site:
    """A site where one unit lands and then one is held until `open` is noted."""
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    held_script = f"echo x >> $NOTES/held; {held_by(site.notes / 'open')}; {write('held.txt')}"
    write_plan(
        site, unit("quick", write("quick.txt")), unit("held", held_script, depends_on=["quick"])
    )
    return site


def test_ctrl_c_ends_the_agents_and_running_again_goes_on(held: Site) -> None:
    with started(held) as driver:
        wait_until(lambda: held.note("held"))
        driver.send_signal(signal.SIGINT)
        ran = ended(driver, timeout_seconds=30)
    assert ran.code == 130, ran.text
    assert "Traceback" not in ran.text
    assert jobs_below(held.folder) == {}
    before = ledger(held)
    assert before[-1]["type"] == "mission.interrupted"
    assert outcomes(before, "held") == ["stopped"]
    assert_promises(held)
    (held.notes / "open").touch()
    ran = mission(held)
    assert ran.code == 0, ran.text
    assert "resuming mission" in ran.err
    assert_promises(held)
    records = ledger(held)
    assert records[: len(before)] == before
    assert outcomes(records, "held") == ["stopped", "collected"]
    assert on_green(held, "held.txt") == "done"
    assert len(events(records, "attempt.started", unit="quick")) == 1


def test_mission_stop_from_another_process_ends_it_and_resume_goes_on(held: Site) -> None:
    with started(held) as driver:
        wait_until(lambda: held.note("held"))
        stopped = mission(held, "stop", "--reason", "lunch")
        ran = ended(driver, timeout_seconds=30)
    assert stopped.code == 0, stopped.text
    assert "has stopped" in stopped.out
    assert ran.code == 130, ran.text
    assert jobs_below(held.folder) == {}
    finished = ledger(held)[-1]
    assert (finished["stop_reason"], finished["detail"]) == ("stopped", "lunch")
    assert_promises(held)
    (held.notes / "open").touch()
    ran = mission(held, "resume")
    assert ran.code == 0, ran.text
    assert_promises(held)
    assert statuses(ledger(held)) == {"quick": "landed", "held": "landed"}
    again = mission(held, "stop")
    assert again.code == 0
    assert "nothing to stop" in again.out


def test_a_second_mission_of_the_same_green_is_refused_with_the_holder_named(held: Site) -> None:
    with started(held) as driver:
        wait_until(lambda: held.note("held"))
        (holder,) = missions_of(held)
        second = mission(held, "run", str(held.mission_file), "--new")
        (held.notes / "open").touch()
        first = ended(driver)
    assert second.code == 2, second.text
    assert holder in second.err
    assert str(driver.pid) in second.err
    assert GREEN in second.err
    assert f"mission stop {holder}" in second.err
    assert "Traceback" not in second.text
    assert first.code == 0, first.text
    assert missions_of(held) == [holder]
    assert_promises(held)


def test_running_a_mission_that_runs_already_is_refused(held: Site) -> None:
    with started(held) as driver:
        wait_until(lambda: held.note("held"))
        second = mission(held)
        (held.notes / "open").touch()
        first = ended(driver)
    assert second.code == 2, second.text
    assert str(driver.pid) in second.err
    assert first.code == 0, first.text
    assert outcomes(ledger(held), "held") == ["collected"]


def test_an_interrupt_while_the_base_is_probed_is_no_verdict_on_it(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    check = f"{held_by(gate)}\n{CHECK}"
    site = make_site(tmp_path / "site", api_url=prefect_address.api_url, check=check)
    write_plan(site, unit("only", write("only.txt")))
    with started(site) as process:
        wait_for_event(site, "probe.started", kind="base")
        process.send_signal(signal.SIGINT)
        ran = ended(process)
    assert ran.code == 130, ran.text
    gate.touch()
    assert mission(site).code == 0
    assert statuses(ledger(site)) == {"only": "landed"}
    assert_promises(site)


def test_an_interrupt_ends_a_setup_too(prefect_address: ServerAddress, tmp_path: Path) -> None:
    gate, reached = tmp_path / "gate", tmp_path / "reached"
    site = make_site(
        tmp_path / "site",
        api_url=prefect_address.api_url,
        verify={"setup": f"touch {reached}; {held_by(gate)}"},
    )
    write_plan(site, unit("only", write("only.txt")))
    with started(site) as process:
        wait_until(reached.exists)
        process.send_signal(signal.SIGINT)
        ran = ended(process)
    assert ran.code == 130, ran.text
    gate.touch()
    assert mission(site).code == 0
    assert_promises(site)
