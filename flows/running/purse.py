"""What a mission shares with others on this machine: what was spent today, and agents' quota."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flows.ledger.backoff import spread
from flows.ledger.events import AskEnded, AttemptEnded
from flows.ledger.log import Record
from flows.running.accounts import Accounts, account_key
from flows.settings import MissionSettings

SPREAD_SECONDS = 5.0
"""Over so long missions come back that waited for the same account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """A mission's view of the accounts that its agents use."""

    mission: str
    settings: MissionSettings
    accounts: Accounts

    def take_in(self, record: Record, agent: str) -> None:
        """Tell the others what a run of an agent cost, and whether its account is used up."""
        event = record.event
        if not isinstance(event, AskEnded | AttemptEnded):
            return
        if event.cost_usd:
            self.accounts.spend(self.mission, record.seq, event.cost_usd, record.at)
        account = self._account(agent)
        if event.limited_until is not None and account:
            why = f"agent {agent}"
            self.accounts.rest(account, event.limited_until, mission=self.mission, why=why)

    def spent_today(self, now: float) -> float:
        """What all missions on this machine spent on this day, in USD."""
        return self.accounts.spent_on_day_of(now)

    def limited(self, now: float) -> Mapping[str, float]:
        """The agents of this mission whose account another mission found used up; until when."""
        resting = self.accounts.resting(now - SPREAD_SECONDS)
        if not resting:
            return {}
        names = {name: self._account(name) for name in self.settings.agents}
        own = {name: SPREAD_SECONDS * spread(f"{self.mission}/{name}") for name in names}
        return {name: resting[key] + own[name] for name, key in names.items() if key in resting}

    def _account(self, agent: str) -> str:
        """The account of an agent; what any command uses is not known."""
        known = self.settings.agents.get(agent)
        if known is None or known.profile == "command":
            return ""
        return account_key(known.profile, known.base_url, tuple(known.secrets.values()))
