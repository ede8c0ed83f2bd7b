"""The same mission, unchanged, on a host that is reached over SSH: a real sshd on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.places.backends import SSHBackend
from deployments.server import ServerAddress
from tests.missions import (
    assert_promises,
    events,
    ledger,
    make_site,
    mission,
    on_green,
    statuses,
    unit,
    write,
    write_mission,
    write_plan,
)
from tests.oracle import ask_oracle, judged, parts, units
from tests.sshd import HOST, SKIP_REASON, find_sshd, running_sshd

pytestmark = [
    pytest.mark.needs_server,
    pytest.mark.needs_sshd,
    pytest.mark.skipif(find_sshd() is None, reason=SKIP_REASON),
]


def test_two_dependent_units_run_and_land_over_ssh(
    prefect_address: ServerAddress, tmp_path: Path
) -> None:
    folder = tmp_path / "sshd"
    folder.mkdir()
    with running_sshd(folder) as sshd:
        site = make_site(
            tmp_path / "site",
            api_url=prefect_address.api_url,
            backend={"kind": "ssh", "hosts": [HOST], "config": str(sshd.config), "slots": 2},
        )
        write_plan(
            site,
            unit("first", write("first.txt", "from afar")),
            unit("second", "cat first.txt > second.txt", depends_on=["first"]),
            unit("bad", write("bad.txt", "BROKEN")),
        )
        ran = mission(site)
    assert ran.code == 1, ran.text
    records = ledger(site)
    assert statuses(records) == {"first": "landed", "second": "landed", "bad": "failed"}
    assert on_green(site, "second.txt") == "from afar"
    assert {event["place"] for event in events(records, "attempt.started")} == {HOST}
    assert_promises(site)


def test_agents_plan_and_judge_over_ssh_too(prefect_address: ServerAddress, tmp_path: Path) -> None:
    folder = tmp_path / "sshd"
    folder.mkdir()
    answers = {
        "plan-1-0": [parts("a", "b")],
        "plan-1-0.1": [units("a1")],
        "plan-1-0.2": [units("b1")],
        "evaluate-1": [judged(1.0, met=True)],
    }
    with running_sshd(folder) as sshd:
        site = make_site(tmp_path / "site", api_url=prefect_address.api_url)
        write_mission(
            site,
            objective="All of it.",
            plan={"planner": "agent"},
            evaluate={"agent": "default"},
            agents={"default": {"argv": ask_oracle(site, answers)}},
            backend={"kind": "ssh", "hosts": [HOST], "config": str(sshd.config), "slots": 2},
            limits={"max_rounds": 2},
        )
        ran = mission(site)
    assert ran.code == 0, ran.text
    records = ledger(site)
    assert statuses(records) == {"a1": "landed", "b1": "landed"}
    assert {event["place"] for event in events(records, "ask.started")} == {HOST}
    assert_promises(site)


def test_a_host_that_does_not_answer_is_named_before_anything_runs(tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text("Host nowhere\n  HostName 127.0.0.1\n  Port 9\n  StrictHostKeyChecking no\n")
    site = make_site(
        tmp_path / "site",
        backend={"kind": "ssh", "hosts": ["nowhere"], "config": str(config), "slots": 2},
    )
    write_plan(site, unit("first", write("first.txt")))
    ran = mission(site)
    assert ran.code == 3, ran.text
    assert "nowhere" in ran.text
    assert "Traceback" not in ran.text
    assert not (site.home / "missions").exists()


def test_a_backend_checks_its_hosts(tmp_path: Path) -> None:
    with running_sshd(tmp_path) as sshd:
        backend = SSHBackend(hosts=[HOST], slots=1, config_file=sshd.config)
        checks = backend.check()
    assert [ok for _, ok, _ in checks[HOST]] == [True] * len(checks[HOST])
