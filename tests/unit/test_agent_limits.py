"""Until when an agent rests, read from what it says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.running.limits import (
    DEFAULT_REST_SECONDS,
    LONGEST_REST_SECONDS,
    is_busy,
    is_limit,
    rest_until,
)

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
NOW = NOON.timestamp()


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("Claude AI usage limit reached|1773500000", 1773500000.0),
        ("limit reached | 1773500000000", 1773500000.0),
        ('{"rate_limit": {"resetsAt": 1773500000}}', 1773500000.0),
        ('{"resets_at": "2026-03-14T13:30:00Z"}', at("2026-03-14T13:30:00+00:00")),
        ("x-ratelimit-reset: 2026-03-14T13:30:00", at("2026-03-14T13:30:00+00:00")),
        ('{"resets_in_seconds": 90}', NOW + 90),
        ("retry-after: 42", NOW + 42),
        ("Retry-After: 1.5", NOW + 1.5),
        ("Please try again in 1.898s.", NOW + 1.898),
        ("try again in 3 days 4 hours 5 minutes.", NOW + 3 * 86400 + 4 * 3600 + 300),
        ("Please retry in 18.5s", NOW + 18.5),
        ('"retryDelay": "21s"', NOW + 21),
        ("Your quota will reset after 4h3m2s.", NOW + 4 * 3600 + 182),
        ("retry after 1500 ms", NOW + 1.5),
        ("rate limited, wait 2 minutes and 30 seconds", NOW + 150),
        ("You've hit your limit · resets 3pm (UTC)", at("2026-03-14T15:00:00+00:00")),
        ("You've hit your limit · resets 3am", at("2026-03-15T03:00:00+00:00")),
        ("resets 12:26am (UTC)", at("2026-03-15T00:26:00+00:00")),
        ("resets at 10:30pm (America/New_York)", at("2026-03-14T22:30:00-04:00")),
        ("resets at 15:45", at("2026-03-14T15:45:00+00:00")),
        ("resets 2pm (Nowhere/Here)", at("2026-03-14T14:00:00+00:00")),
        ("resets 2pm (../../etc/passwd)", at("2026-03-14T14:00:00+00:00")),
        ("resets 2pm (/etc/passwd)", at("2026-03-14T14:00:00+00:00")),
        ("resets 2pm (America)", at("2026-03-14T14:00:00+00:00")),
        ("resets Mar 16, 1pm (UTC)", at("2026-03-16T13:00:00+00:00")),
        ("resets Mar 16 at 1:05 p.m. (UTC)", at("2026-03-16T13:05:00+00:00")),
        ("or try again at Mar 15th, 2026 12:26 AM.", at("2026-03-15T00:26:00+00:00")),
        ("or try again at 3:05 PM.", at("2026-03-14T15:05:00+00:00")),
    ],
)
def test_the_time_that_a_limit_names_is_read(text: str, until: float) -> None:
    assert rest_until(text, now=NOW) == pytest.approx(until)


@pytest.mark.parametrize(
    "text",
    [
        "429 Too Many Requests",
        "resets soon",
        "resets Foo 99, 25:99pm",
        "resets Feb 30, 1pm",
        "limit reached|99999999999999",
        "limit reached|9999999999",
        "try again in 4000 days",
        "",
    ],
)
def test_a_limit_without_a_time_or_with_a_mad_one_gets_the_default_rest(text: str) -> None:
    assert rest_until(text, now=NOW) == NOW + DEFAULT_REST_SECONDS


def test_a_limit_that_has_just_ended_costs_no_day() -> None:
    assert rest_until("resets 11:55am", now=NOW) == NOW + 1.0
    assert rest_until("limit reached|1700000000", now=NOW) == NOW + 1.0


def test_a_date_early_next_year_is_read_in_december() -> None:
    december = at("2026-12-31T22:00:00+00:00")
    assert rest_until("resets Jan 1, 6am", now=december) == at("2027-01-01T06:00:00+00:00")


@pytest.mark.parametrize(
    "text",
    [
        "Claude AI usage limit reached|1773500000",
        "You've hit your session limit · resets 3pm",
        "You\N{RIGHT SINGLE QUOTATION MARK}ve hit your usage limit. Upgrade to Pro",
        "Rate limit reached for gpt-5",
        'API Error: 429 {"type":"error","error":{"type":"rate_limit_error"}}',
        "exceeded retry limit, last status: 429 Too Many Requests",
        "litellm.RateLimitError: AnthropicException",
        "You exceeded your current quota, please check your plan",
        '{"status": "RESOURCE_EXHAUSTED"}',
        "HTTP 529",
    ],
)
def test_limits_are_known_by_their_words(text: str) -> None:
    assert is_limit(text)


@pytest.mark.parametrize(
    "text",
    [
        "FAILED tests/test_limits.py::test_429 - assert 200 == 201",
        "write error: Disk quota exceeded",
        "time limit for the request: 30 s",
        "line 429: unexpected indent",
        "recursion limit set",
    ],
)
def test_what_only_looks_like_a_limit_is_none(text: str) -> None:
    assert not is_limit(text)


def test_a_service_without_room_is_told_from_a_limit() -> None:
    assert is_busy("Selected model is at capacity. Please try a different model.")
    assert not is_limit("Selected model is at capacity. Please try a different model.")


WORDS = ("resets ", "try again ", "in ", "at ", "limit reached|", "retry-after: ", "99", "1", ":")
MORE = ("pm", "d ", "h", "ms", "Mar ", "2026-03-14T99:00:00", "(UTC)", "(A/B)", "é", "\0", "٣")


@given(st.lists(st.sampled_from(WORDS + MORE) | st.text(max_size=5), max_size=30).map("".join))
def test_any_words_give_a_time_within_bounds(text: str) -> None:
    is_limit(text)
    assert NOW < rest_until(text, now=NOW) <= NOW + LONGEST_REST_SECONDS
