"""What agents say when their account or the service has no more for them, and until when."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

DEFAULT_REST_SECONDS = 300.0
"""How long an agent rests whose limit names no time."""

LONGEST_REST_SECONDS = 32 * 86_400.0
"""Limits are at most monthly; a time farther off is nonsense."""

_READ_CHARACTERS = 4_000
_JUST_NOW = timedelta(minutes=10)  # a limit that ended while the agent did
_MILLISECONDS = 10**11  # as seconds this were the year 5138

_LIMITED = re.compile(
    r"(?:usage|rate|session|weekly|daily|monthly|spend(?:ing)?|token|request|hour|fast|opus|sonnet)"
    r"[ -]limit (?:\w+ ){0,2}(?:reached|exceeded|hit)"
    r"|(?:hit|reached|exceeded|exhausted) (?:your|the) (?:[\w'-]+ ){0,3}(?:limit|quota|capacity)"
    r"|rate_limit_e(?:rror|xceeded)|RateLimitError|rate[- ]limited|would exceed your .{0,20}limit"
    r"|insufficient_quota|RESOURCE_EXHAUSTED|(?<!disk )quota exceeded"
    r"|too many requests|overloaded_error|\b(?:status|code|error|http)\W{0,3}(?:429|529)\b"
    r"|rejected \((?:429|529)\)",
    re.IGNORECASE,
)
_BUSY = re.compile(r"overloaded|at capacity|no capacity", re.IGNORECASE)
_EPOCH = re.compile(
    r"(?:limit[^|\n]{0,80}\|\s{0,3}|resets?[_-]?(?:at)?[\"']?\s{0,3}[:=]\s{0,3}[\"']?)(\d{10,13})\b",
    re.IGNORECASE,
)
_ISO = re.compile(
    r"reset[a-z_ -]{0,12}[\"']?\s{0,3}[:=]?\s{0,3}[\"']?"
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)?)",
    re.IGNORECASE,
)
_SECONDS = re.compile(
    r"(?:retry[-_ ]?after|resets?_in_seconds)[\"']?\s{0,3}[:=]?\s{0,3}[\"']?(\d{1,9}(?:\.\d{1,6})?)"
    r"(?![\d.]|\s{0,3}[a-z])",
    re.IGNORECASE,
)
_PIECE = (
    r"(\d{1,9}(?:\.\d{1,9})?)\s{0,2}"
    r"(days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s|ms)(?![a-z])"
)
_PIECES = re.compile(_PIECE, re.IGNORECASE)
_DURATION = re.compile(
    r"(?:again|retry|resets?|available|wait|retryDelay|retry[-_ ]?after)[\"']?\s{0,3}"
    rf"(?:in|after|for|:|=)?\s{{0,3}}[\"']?(?=\d)((?:{_PIECE}(?:[\s,]|and){{0,5}}){{1,5}})",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(?:resets?|again|available|until)\s{1,3}(?:at |on |after ){0,2}"
    r"(?:(?P<month>[A-Z][a-z]{2})[a-z]{0,6}\.? (?P<day>\d{1,2})(?:st|nd|rd|th)?,?"
    r"(?: (?P<year>\d{4}),?)?(?: at)? )?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?(?::\d\d)?\s{0,2}(?P<half>[ap]\.?m\b)?"
    r"(?:\.?\s{0,2}\((?P<zone>[\w+/-]{1,40})\))?",
    re.IGNORECASE,
)
_UNIT_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def is_limit(text: str) -> bool:
    """Whether a text is about a used-up account or too many requests."""
    return bool(_LIMITED.search(text[-_READ_CHARACTERS:]))


def is_busy(text: str) -> bool:
    """Whether an error is about a service without room; too loose for texts that are no errors."""
    return bool(_BUSY.search(text[-_READ_CHARACTERS:]))


def rest_until(
    text: str, *, now: float, zone: tzinfo = UTC, default_seconds: float = DEFAULT_REST_SECONDS
) -> float:
    """When a limit ends (unix seconds), by what its text says; after a default rest otherwise.

    Clock times without a zone are in `zone`; the next such time is meant.
    """
    text = text[-_READ_CHARACTERS:]
    for read in _FORMS:
        until = read(text, now, zone)
        if until is not None and until - now <= LONGEST_REST_SECONDS:
            return max(until, now + 1.0)
    return now + default_seconds


def _epoch(text: str, _now: float, _zone: tzinfo) -> float | None:
    found = _EPOCH.search(text)
    return seconds_of(int(found[1])) if found else None


def seconds_of(epoch: float) -> float:
    """Unix seconds of a time that may be in milliseconds."""
    return epoch / 1_000 if epoch >= _MILLISECONDS else float(epoch)


def _iso(text: str, _now: float, _zone: tzinfo) -> float | None:
    found = _ISO.search(text)
    if not found:
        return None
    try:
        moment = datetime.fromisoformat(found[1].upper())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _seconds(text: str, now: float, _zone: tzinfo) -> float | None:
    found = _SECONDS.search(text)
    return now + float(found[1]) if found else None


def _duration(text: str, now: float, _zone: tzinfo) -> float | None:
    found = _DURATION.search(text)
    if not found:
        return None
    return now + sum(
        float(number) * (0.001 if unit.lower() == "ms" else _UNIT_SECONDS[unit[0].lower()])
        for number, unit in _PIECES.findall(found[1])
    )


def _clock(text: str, now: float, zone: tzinfo) -> float | None:
    for found in _CLOCK.finditer(text):
        if found["half"] or found["minute"]:
            try:
                return _next(found, now, _zone_named(found["zone"], zone))
            except (ValueError, OverflowError):  # the 99th of March
                continue
    return None


def _next(found: re.Match[str], now: float, zone: tzinfo) -> float:
    here = datetime.fromtimestamp(now, zone)
    hour = int(found["hour"])
    if half := (found["half"] or "").lower():
        hour = hour % 12 + (12 if half.startswith("p") else 0)
    moment = here.replace(hour=hour, minute=int(found["minute"] or 0), second=0, microsecond=0)
    if found["month"] is None:
        is_over = moment < here - _JUST_NOW
        return (moment + timedelta(days=1) if is_over else moment).timestamp()
    month = _MONTHS.index(found["month"].lower()) + 1
    moment = moment.replace(
        year=int(found["year"] or here.year), month=month, day=int(found["day"])
    )
    if not found["year"] and moment < here - timedelta(days=1):
        moment = moment.replace(year=here.year + 1)
    return moment.timestamp()


def _zone_named(name: str | None, default: tzinfo) -> tzinfo:
    try:
        return ZoneInfo(name) if name else default
    except (KeyError, ValueError, OSError):  # unknown, a path, a folder
        return default


_FORMS: tuple[Callable[[str, float, tzinfo], float | None], ...] = (
    _epoch,
    _iso,
    _seconds,
    _duration,
    _clock,
)
