"""What a mission tells others of its money, also when its driver dies in between."""

from __future__ import annotations

import time
from pathlib import Path

from flows.ledger.events import AttemptEnded, MissionFinished
from flows.ledger.log import Ledger
from flows.ledger.state import fold
from tests.integration.test_watching import driver_in
from tests.stories import begun


def test_what_a_run_cost_counts_for_the_day_once_though_the_driver_died_when_it_was_recorded(
    tmp_path: Path,
) -> None:
    ended = AttemptEnded(unit="a", attempt=1, outcome="failed", cost_usd=2.5)
    over = MissionFinished(stop_reason="stopped", exit_code=130, green=None, counts={}, seconds=1.0)
    with Ledger(tmp_path / "ledger.jsonl", on_append=print) as ledger:
        ledger.append(ended)
        for _ in range(2):
            driver = driver_in(tmp_path, ledger)
            driver.state = fold(begun().tell(over).events)
            driver.run()
            driver.bench.repository.close()
            assert driver.purse.spent_today(time.time()) == 2.5
