"""What an agent judged of a round: read tolerantly, kept beside the signals, never believed alone.

MISSION_EVALUATION: {"score": 0.7, "met": false, "remains": ["…"], "summary": "…"}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flows.prompts.quoting import on_one_line, readable
from flows.running.marked import as_items, as_words, find_marked

EVALUATION_MARKS = ("MISSION_EVALUATION",)
MOST_REMAINING = 50
REMAINING_CHARACTERS = 500

_KEYS = {
    "score": ("score",),
    "met": ("met", "objective_met", "done"),
    "remains": ("remains", "remaining", "todo"),
    "summary": ("summary", "message"),
}
_FLAGS = {"true": True, "yes": True, "false": False, "no": False}
_NOTHING = frozenset({"", "none", "nothing", "n/a", "-", "…", "..."})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What an agent says of the objective; None is no answer, which is neither 0 nor "no".

    `remains` has a line an entry, the most important first.
    """

    score: float | None = None
    met: bool | None = None
    remains: tuple[str, ...] = ()
    summary: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Turn it into plain JSON values."""
        return {**asdict(self), "remains": list(self.remains)}


def judgement_from_dict(record: Mapping[str, Any]) -> Judgement:
    """Turn what `as_dict` made back into the judgement."""
    return Judgement(**{**record, "remains": tuple(record["remains"])})


def read_evaluation(text: str) -> Judgement | None:
    """Read what an evaluating agent printed; None where it gives no answer at all.

    Linear in the text, of which the end is looked at.
    """
    found = find_marked(text, EVALUATION_MARKS)
    if found is None:
        return None
    judgement = Judgement(
        score=_score(_value(found, "score")),
        met=_flag(_value(found, "met")),
        remains=_remains(_value(found, "remains")),
        summary=readable(as_words(_value(found, "summary"))).strip(),
    )
    return None if judgement == Judgement() else judgement


def is_met(*, are_units_satisfied: bool, judgement: Judgement | None) -> bool:
    """Say whether the objective is met.

    An agent's flag alone never suffices: nothing may remain by its own word, and all units that
    the round planned are satisfied.
    """
    return (
        are_units_satisfied
        and judgement is not None
        and judgement.met is True
        and not judgement.remains
    )


def _value(found: Mapping[str, Any], key: str) -> Any:
    return next((found[name] for name in _KEYS[key] if found.get(name) is not None), None)


def _score(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and 0 <= number <= 1 else None


def _flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return _FLAGS.get(value.strip().lower()) if isinstance(value, str) else None


def _remains(value: Any) -> tuple[str, ...]:
    """What remains, a line each; in whatever form it is said, it is not lost."""
    entries: Sequence[Any] = value if isinstance(value, list) else [value]
    lines = (on_one_line(each, REMAINING_CHARACTERS) for each in as_items(entries))
    kept = (each for each in lines if each.lower().rstrip(".") not in _NOTHING)
    return tuple(dict.fromkeys(kept))[:MOST_REMAINING]
