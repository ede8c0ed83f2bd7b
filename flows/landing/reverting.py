"""Where a unit landed, and whether that is taken out again: read from `green` itself.

What landed says so in the trailers of its commit (`Mission`, `Unit`); what takes a commit out says
`Reverts`. A message's title and text are other people's words and are never believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blocks.repository import IntegrationRepository, Trailers

KEYS = (MISSION, UNIT, REVERTS) = ("Mission", "Unit", "Reverts")
"""The trailers that are read here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitLanding:
    """The newest commit on `green` with which a unit landed."""

    unit: str
    mission: str
    commit: str
    taken_out_by: str | None = None
    """The commit that took it out again and was not taken out itself, `None` when it is in."""


def find_landing(
    repository: IntegrationRepository, unit: str, green: str, *, mission: str | None = None
) -> UnitLanding | None:
    """Find the newest landing of a unit in the first-parent history of `green`, of any mission.

    To take it out: merge `repository.undoing(commit)` as a head made from `commit`, with a trailer
    `Reverts: <commit>` and one for the mission. To put it back: the same with `taken_out_by`.
    """
    texts = (f"{UNIT}: {unit}", f"{REVERTS}: ")
    return newest_landing(repository.trailers(green, KEYS, mentioning=texts), unit, mission)


def newest_landing(
    history: Sequence[Trailers], unit: str, mission: str | None = None
) -> UnitLanding | None:
    """Find a unit's newest landing in what was read of `green`, newest first."""
    ours = [each for each in history if each.values[MISSION]]
    out = _taken_out(ours)
    own = {each.commit: each for each in ours if unit in each.values[UNIT]}
    for commit, each in own.items():
        if own.keys() & set(each.values[REVERTS]):
            continue  # it names the unit because it takes it out or puts it back
        if mission is None or mission in each.values[MISSION]:
            return UnitLanding(
                unit=unit,
                mission=each.values[MISSION][-1],
                commit=commit,
                taken_out_by=out.get(commit),
            )
    return None


def _taken_out(history: Sequence[Trailers]) -> dict[str, str]:
    """What is taken out, and by which commit: newest first, so all that undoes one is known."""
    out: dict[str, str] = {}
    for each in history:
        if each.commit not in out:
            out.update(
                {commit: each.commit for commit in each.values[REVERTS] if commit not in out}
            )
    return out
