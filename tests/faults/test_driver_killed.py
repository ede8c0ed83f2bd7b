"""`kill -9` of the driver at its worst moments, then `mission run` again."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.server import ServerAddress
from tests.missions import (
    COMMIT,
    GREEN,
    Site,
    assert_promises,
    ended,
    events,
    git,
    held_by,
    integration_repository,
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

HELD_CHECK = """\
[ ! -e a.txt ] || until [ -e "$NOTES/judge" ]; do echo x >> "$NOTES/judging"; sleep 0.05; done
"""
"""A verification that waits once there is work of a unit's in the tree."""

DEADLY_GIT = """\
#!/bin/sh
# The real git, but the driver that moves green to its second value dies on the way.
case " $* " in
*" update-ref refs/heads/{green} "*)
    if [ -e {armed} ]; then
        rm {armed}
        {after} || /usr/bin/env PATH={path} git "$@"
        kill -9 $PPID
        exit 1
    fi ;;
esac
exec /usr/bin/env PATH={path} git "$@"
"""


def killed(process: subprocess.Popen[str]) -> None:
    """Kill a driver without a word and see it gone."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)


def test_agents_that_ran_when_the_driver_was_killed_are_found_again_and_run_once(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    gate = site.notes / "open"
    script = f"echo x >> $NOTES/{{unit_id}}; {held_by(gate)}; {write('{unit_id}.txt')}; {COMMIT}"
    write_plan(site, unit("a", script), unit("b", script), unit("c", "true", verify="true"))
    with started(site) as driver:
        wait_until(lambda: site.note("a") and site.note("b"))
        killed(driver)
    with started(site) as driver:
        wait_for_event(site, "mission.resumed")
        gate.touch()
        ran = ended(driver)
    assert ran.code == 0, ran.text
    assert "resuming mission" in ran.err
    records = ledger(site)
    assert_promises(site)
    assert len(missions_of(site)) == 1
    for name in ("a", "b"):
        assert site.note(name) == "x\n", "the agent ran twice"
        assert outcomes(records, name) == ["collected"]
        assert on_green(site, f"{name}.txt") == "done"


def test_an_agent_that_ended_while_no_driver_ran_is_collected(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url)
    gate = site.notes / "open"
    script = f"echo x >> $NOTES/a; {held_by(gate)}; {write('a.txt')}"
    write_plan(site, unit("a", script))
    with started(site) as driver:
        wait_until(lambda: site.note("a"))
        killed(driver)
    gate.touch()
    wait_until(lambda: [*site.home.glob("places/local/jobs/*/a/1/result.json")])
    ran = mission(site)
    assert ran.code == 0, ran.text
    assert_promises(site)
    assert site.note("a") == "x\n"
    assert outcomes(ledger(site), "a") == ["collected"]


def test_a_probe_that_ran_when_the_driver_was_killed_counts_for_nothing(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    site = make_site(tmp_path, api_url=prefect_address.api_url, check=HELD_CHECK)
    write_plan(site, unit("a", f"echo x >> $NOTES/a; {write('a.txt')}"))
    with started(site) as driver:
        wait_until(lambda: site.note("judging"))
        killed(driver)
    (before,) = events(ledger(site), "probe.started", kind="stack")
    with started(site) as driver:
        wait_for_event(site, "probe.ended", probe=before["probe"])
        (site.notes / "judge").touch()
        ran = ended(driver)
    assert ran.code == 0, ran.text
    assert_promises(site)
    records = ledger(site)
    (cancelled,) = events(records, "probe.ended", probe=before["probe"])
    assert cancelled["verdict"] == "cancelled"
    (landed,) = [r for r in events(records, "landed") if r["units"]]
    assert landed["probe"] != before["probe"]
    assert site.note("a") == "x\n"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_driver_killed_around_the_move_of_green_lands_the_unit_exactly_once(
    prefect_address: ServerAddress, tmp_path: Path, moment: str
) -> None:
    site = with_deadly_git(make_site(tmp_path, api_url=prefect_address.api_url), moment)
    armed = site.notes / "armed"
    write_plan(
        site,
        unit("a", f"touch {armed}; {write('a.txt')}"),
        unit("b", "cat a.txt > b.txt", depends_on=["a"]),
    )
    ran = mission(site)
    assert ran.code == -signal.SIGKILL, ran.text
    last = ledger(site)[-1]
    assert (last["type"], last["units"]) == ("landing.intended", ["a"])
    green = git(integration_repository(site), "rev-parse", f"refs/heads/{GREEN}")
    assert green == (last["old"] if moment == "before" else last["new"])
    ran = mission(site)
    assert ran.code == 0, ran.text
    assert_promises(site)
    records = ledger(site)
    assert statuses(records) == {"a": "landed", "b": "landed"}
    (landed,) = [r for r in events(records, "landed") if "a" in r["units"]]
    assert landed["new"] == last["new"]
    assert landed["probe"] == last["probe"]


def with_deadly_git(site: Site, moment: str) -> Site:
    """Put a git before the real one on the driver's PATH that kills it at one moment."""
    tool = site.folder / "tools" / "git"
    tool.parent.mkdir()
    path = os.environ["PATH"]
    after = "true" if moment == "before" else "false"
    armed = site.notes / "armed"
    tool.write_text(DEADLY_GIT.format(green=GREEN, armed=armed, path=path, after=after))
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    return replace(
        site, environment={**site.environment, "PATH": f"{tool.parent}{os.pathsep}{path}"}
    )
