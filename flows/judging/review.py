"""What a reviewing agent says of a unit's work: it can refuse it, and nothing else.

MISSION_REVIEW: {"verdict": "refuse", "findings": [{"file": "…", "line": 7, "text": "…"}]}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flows.prompts.quoting import on_one_line
from flows.running.marked import as_words, find_marked

REVIEW_MARKS = ("MISSION_REVIEW",)
MOST_FINDINGS = 30
TEXT_CHARACTERS = 500

_REFUSALS = frozenset({"refuse", "refused", "reject", "rejected"})
_ACCEPTANCES = frozenset({"accept", "accepted", "approve", "approved"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewVerdict:
    """Whether work is refused, and why; findings are a line each, with their place."""

    is_refused: bool
    findings: tuple[str, ...] = ()
    summary: str = ""

    def __str__(self) -> str:
        """Tell all of it to whoever does the work again."""
        return "\n".join((self.summary, *(f"- {finding}" for finding in self.findings))).strip()


def read_review(text: str) -> ReviewVerdict | None:
    """Read what a reviewing agent printed; None where there is no verdict in it."""
    found = find_marked(text, REVIEW_MARKS)
    word = as_words((found or {}).get("verdict")).strip().lower()
    if found is None or word not in _REFUSALS | _ACCEPTANCES:
        return None
    return ReviewVerdict(
        is_refused=word in _REFUSALS,
        findings=tuple(_findings(found.get("findings"))),
        summary=on_one_line(as_words(found.get("summary")), TEXT_CHARACTERS),
    )


def _findings(value: Any) -> Iterator[str]:
    entries = value if isinstance(value, list) else []
    for each in entries[:MOST_FINDINGS]:
        if isinstance(each, Mapping):
            file, line = as_words(each.get("file")), each.get("line")
            place = f"{file}:{line}" if file and isinstance(line, int) else file
            told = ": ".join(part for part in (place, as_words(each.get("text"))) if part)
        else:
            told = as_words(each)
        if told.strip():
            yield on_one_line(told, TEXT_CHARACTERS)
