"""What missions of one machine tell each other of money and quota."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.ledger.events import AttemptEnded
from flows.ledger.log import Record
from flows.running.accounts import Accounts
from flows.running.purse import SPREAD_SECONDS, Purse
from flows.settings import MissionSettings

NOW = 1_800_000_000.0
CLAUDE = {"profile": "claude", "secrets": {"ANTHROPIC_API_KEY": "env/KEY"}}


def purse(folder: Path, mission: str, **agents: Any) -> Purse:
    settings = {
        "name": "m",
        "repository": {"url": "/target"},
        "verify": {"command": "true"},
        "plan": {"file": "/plan.toml"},
        "agents": agents,
    }
    return Purse(
        mission=mission,
        settings=MissionSettings.model_validate(settings),
        accounts=Accounts(folder),
    )


def ended(seq: int, **values: Any) -> Record:
    return Record(seq, NOW, AttemptEnded(unit="u", attempt=1, outcome="failed", **values))


def test_what_runs_cost_is_counted_once_for_all_missions_of_the_day(tmp_path: Path) -> None:
    one, other = (purse(tmp_path, name, default=CLAUDE) for name in ("one", "other"))
    for _ in range(2):
        one.take_in(ended(7, cost_usd=1.5), "default")
    other.take_in(ended(7, cost_usd=2.0), "default")
    assert one.spent_today(NOW) == other.spent_today(NOW) == pytest.approx(3.5)
    assert one.spent_today(NOW + 3 * 86_400) == 0.0


def test_a_limit_reaches_agents_of_the_same_account_and_each_comes_back_a_little_apart(
    tmp_path: Path,
) -> None:
    one = purse(tmp_path, "one", default=CLAUDE)
    named_otherwise = purse(
        tmp_path, "other", coder=CLAUDE, cheap={**CLAUDE, "base_url": "http://x"}
    )
    one.take_in(ended(1, limited_until=NOW + 60.0), "default")
    (mine,) = one.limited(NOW).values()
    limited = named_otherwise.limited(NOW)
    assert {*limited} == {"coder"}, "another address is another account"
    for until in (mine, limited["coder"]):
        assert NOW + 60.0 <= until <= NOW + 60.0 + SPREAD_SECONDS
    assert mine != limited["coder"]
    assert one.limited(mine - 0.01) == {"default": mine}, "until its own time, not the account's"
    assert one.limited(NOW + 60.0 + SPREAD_SECONDS + 1) == {}


def test_nothing_is_known_of_the_accounts_of_any_command(tmp_path: Path) -> None:
    one = purse(tmp_path, "one", default={"argv": ["x"]})
    one.take_in(ended(1, limited_until=NOW + 60.0), "default")
    assert one.limited(NOW) == {}
