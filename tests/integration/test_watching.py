"""What runs beside a driver: commands in the inbox reach it, or the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.repository import IntegrationRepository
from flows.driver import Driver
from flows.hands import PrefectHands
from flows.landing.delivery import Deliverer
from flows.ledger.events import ReviewAnswered
from flows.ledger.log import Ledger
from flows.missions import receive, send
from flows.running.accounts import Accounts
from flows.running.bench import Bench
from flows.running.purse import Purse
from flows.watching import watched
from tests.missions import wait_until
from tests.stories import green, settings


def driver_in(folder: Path, ledger: Ledger) -> Driver:
    """A driver that does not drive, of a mission without places."""
    chosen = settings(repository={"url": str(folder / "nowhere")})
    repository = IntegrationRepository(folder / "target.git")
    bench = Bench(
        mission="m", folder=folder, repository=repository, places={}, settings=chosen, key="k"
    )
    return Driver(
        ledger=ledger,
        state=green().state,
        settings=chosen,
        bench=bench,
        deliverer=Deliverer(
            repository=repository,
            url=str(folder / "nowhere"),
            branch="mission/green",
            fallback="mission/green-m",
            report=print,
            also=(),
        ),
        hands=PrefectHands(bench),
        slots={},
        green_ref="refs/heads/mission/green",
        green_before=None,
        start_tree="",
        purse=Purse(mission="m", settings=chosen, accounts=Accounts(folder / "accounts")),
    )


@pytest.mark.parametrize("command", ["review", "revert"])
def test_what_comes_when_a_driver_has_ended_is_kept_for_the_next_one(
    command: str, tmp_path: Path
) -> None:
    folder = tmp_path / "missions" / "m"
    folder.mkdir(parents=True)
    message = {"command": command, "review": "canary", "answer": "approved", "note": "fine"}
    message = message if command == "review" else {"command": command, "unit": "a"}
    with Ledger(folder / "ledger.jsonl", on_append=print) as ledger:
        driver = driver_in(tmp_path, ledger)
        with watched(driver, folder):
            send(tmp_path, "m", {**message, "by": "me"})
            wait_until(lambda: not [*(folder / "inbox").glob("[!.]*.json")])
        driver.bench.repository.close()
    assert [*receive(folder)] == [{**message, "by": "me"}]


def test_what_a_driver_took_is_not_given_back(tmp_path: Path) -> None:
    folder = tmp_path / "missions" / "m"
    folder.mkdir(parents=True)
    with Ledger(folder / "ledger.jsonl", on_append=print) as ledger:
        driver = driver_in(tmp_path, ledger)
        with watched(driver, folder):
            send(tmp_path, "m", {"command": "review", "review": "canary", "answer": "approved"})
            assert isinstance(driver.inbox.get(timeout=30.0), ReviewAnswered)
        driver.bench.repository.close()
    assert [*receive(folder)] == []
