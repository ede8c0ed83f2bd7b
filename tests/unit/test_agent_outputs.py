"""What the readers take from agents' output: recorded transcripts, and lines made by hand."""

from __future__ import annotations

import json
import re
import tracemalloc
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.running.limits import DEFAULT_REST_SECONDS
from flows.running.outputs import (
    LINE_BYTES,
    MOST_LINES,
    SAID_CHARACTERS,
    TEXT_CHARACTERS,
    AgentReport,
    read_output,
)
from flows.running.result import find_result

TRANSCRIPTS = Path(__file__).parents[1] / "transcripts"
READERS = ("text", "claude", "codex", "opencode", "gemini", "aider")
NOW = datetime(2026, 11, 22, 23, 0, tzinfo=UTC).timestamp()
REST = NOW + DEFAULT_REST_SECONDS


def lines(*events: Any) -> bytes:
    texts = (each if isinstance(each, str) else json.dumps(each) for each in events)
    return "\n".join(texts).encode()


# -- recorded ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What a transcript tells; `tokens` are in, cached and out."""

    tokens: tuple[int | None, int | None, int | None]
    turns: int | None = None
    cost_usd: float | None = None
    error: str = ""
    limit: str = ""
    refused: bool = False


NONE = (None, None, None)
ZERO = (0, 0, 0)
ALL = (4500, 1200, 180)
CLAUDE = Told(ALL, turns=3, cost_usd=0.00852)
CODEX = Told(ALL)
OPENCODE = Told(ALL, turns=3, cost_usd=0.00366)
RECORDED = {
    "claude/good": CLAUDE,
    "claude/rate_limit": CLAUDE,
    "claude/dropped_once": CLAUDE,
    "claude/denied": CLAUDE,
    "claude/usage_limit": Told(ZERO, 1, 0.0, "hit your limit", limit="told"),
    "claude/key_limit": Told(ZERO, 1, 0.0, "Request rejected (429)", limit="default"),
    "claude/overloaded": Told(ZERO, 1, 0.0, "529 Overloaded", limit="default"),
    "claude/dropped": Told(ZERO, 1, 0.0, "Connection to the API was lost"),
    "claude/nonsense": Told(ZERO, 1, 0.0, "JSON Parse error"),
    "claude/max_turns": Told((1500, 400, 60), 2, 0.00284, "maximum number of turns (1)"),
    "claude/max_budget": Told((1500, 400, 60), 1, 0.00284, "maximum budget ($0.001)"),
    "claude/declined": Told((3000, 800, 120), 2, 0.00568, "flagged", refused=True),
    "claude/logged_out": Told(ZERO, 1, 0.0, "Not logged in"),
    "codex/good": CODEX,
    "codex/sandboxed": CODEX,
    "codex/logged_out": Told(NONE, error="Missing environment variable"),
    "codex/rate_limit": CODEX,
    "codex/dropped_once": CODEX,
    "codex/usage_limit": Told(NONE, error="hit your usage limit", limit="told"),
    "codex/overloaded": Told(NONE, error="at capacity", limit="default"),
    "codex/dropped": Told(NONE, error="stream disconnected"),
    "codex/nonsense": Told(NONE, error="stream disconnected"),
    "opencode/good": OPENCODE,
    "opencode/rate_limit": OPENCODE,
    "opencode/dropped_once": OPENCODE,
}
FOUND = sorted(
    f"{path.parent.name}/{path.stem}"
    for path in TRANSCRIPTS.glob("*/*.jsonl")
    if f"{path.parent.name}/{path.stem}" in RECORDED
)


def transcript(case: str) -> bytes:
    return (TRANSCRIPTS / f"{case}.jsonl").read_bytes()


def reset_in(text: str) -> float:
    """When the limit of a transcript ends, found by other means than the reader's."""
    if found := re.search(r'"resetsAt":(\d+)', text):
        return float(found[1])
    found = re.search(r"try again at (\w+ \d+)\w+, (\d{4} \d+:\d\d [AP]M)", text)
    assert found
    told = datetime.strptime(f"{found[1]} {found[2]}", "%b %d %Y %I:%M %p")  # noqa: DTZ007 next line
    return told.replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("case", FOUND)
def test_a_recorded_transcript_is_read(case: str) -> None:
    output, told = transcript(case), RECORDED[case]
    text = output.decode()
    until = reset_in(text) if told.limit == "told" else None
    now = until - 3_600 if until else NOW
    report = read_output(case.split("/", maxsplit=1)[0], output, now=now)

    session = re.search(r'"(?:session_id|thread_id|sessionID)":"([^"]+)"', text)
    assert session
    assert report.session_id == session[1]
    assert (report.input_tokens, report.cached_tokens, report.output_tokens) == told.tokens
    assert report.turns == told.turns
    assert report.cost_usd == (None if told.cost_usd is None else pytest.approx(told.cost_usd))
    assert told.error in report.error
    assert bool(report.error) == bool(told.error)
    assert report.rate_limited_until == {"": None, "default": REST, "told": until}[told.limit]
    assert report.refused == told.refused
    assert not report.is_partial


@pytest.mark.parametrize("case", [case for case in FOUND if not RECORDED[case].error])
def test_the_result_line_of_a_recorded_transcript_is_found(case: str) -> None:
    report = read_output(case.split("/", maxsplit=1)[0], transcript(case), now=NOW)
    assert report.text.startswith("Done.")
    assert find_result(report.said).summary == "added a note"


@pytest.mark.parametrize("case", [case for case in FOUND if case.endswith("/good")])
def test_the_result_line_is_found_in_a_stream_that_is_read_as_text(case: str) -> None:
    report = read_output("text", transcript(case), now=NOW)
    assert find_result(report.said).summary == "added a note"


@pytest.mark.parametrize("case", FOUND)
def test_a_transcript_may_be_cut_off_anywhere(case: str) -> None:
    output = transcript(case)
    for end in range(0, len(output), max(1, len(output) // 40)):
        for part in (output[:end], output[end:]):
            read_output(case.split("/", maxsplit=1)[0], part, now=NOW)


@pytest.mark.parametrize("case", [case for case in FOUND if case.endswith("/good")])
def test_lines_of_standard_error_between_the_events_change_nothing(case: str) -> None:
    reader, output = case.split("/", maxsplit=1)[0], transcript(case)
    noise = b"WARNING: {broken\n\xff\xfe\n{\n[1]\nnull\n{}\n"
    noisy = b"\n".join(noise + line for line in output.splitlines())
    assert read_output(reader, noisy, now=NOW) == read_output(reader, output, now=NOW)


# -- made by hand -----------------------------------------------------------------------------


def claude_message(text: str, own: str, *, out: int = 10, **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 100, "cache_read_input_tokens": 50, "output_tokens": out}
    message = {"id": own, "content": [{"type": "text", "text": text}], "usage": usage}
    return {"type": "assistant", "session_id": "s", "message": message, **more}


def test_handmade_claude_that_was_killed_counts_each_message_once() -> None:
    output = lines(
        claude_message("a", "1", out=2),
        claude_message("b", "1", out=10),
        claude_message("c", "2"),
        claude_message("of a sub-agent", "3", parent_tool_use_id="t"),
    )
    report = read_output("claude", output, now=NOW)
    assert (report.input_tokens, report.cached_tokens, report.output_tokens) == (300, 100, 20)
    assert (report.turns, report.cost_usd, report.text) == (2, None, "c")
    assert report.said == "a\nb\nc"


def test_handmade_claude_older_forms_of_a_limit_are_read() -> None:
    result = {"type": "result", "is_error": True, "result": "Claude AI usage limit reached|"}
    result["result"] = f"{result['result']}{int(NOW) + 7_200}"
    assert read_output("claude", lines(result), now=NOW).rate_limited_until == NOW + 7_200


def test_handmade_a_limit_after_which_the_agent_went_on_is_over() -> None:
    retry = {"type": "system", "subtype": "api_retry", "error_status": 529, "error": "overloaded"}
    limited = read_output("claude", lines(retry), now=NOW)
    assert (limited.rate_limited_until, limited.error) == (REST, "overloaded (529), it tries again")
    went_on = read_output("claude", lines(retry, claude_message("on", "1")), now=NOW)
    assert (went_on.rate_limited_until, went_on.error) == (None, "")


def test_handmade_an_allowed_rate_limit_event_is_no_limit() -> None:
    event = {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed_warning"}}
    assert read_output("claude", lines(event), now=NOW).rate_limited_until is None


def test_handmade_tool_output_about_limits_is_no_limit() -> None:
    tool = {"type": "user", "message": {"content": [{"content": "429 Too Many Requests"}]}}
    item = {"type": "item.completed", "item": {"type": "command_execution", "text": "HTTP 429"}}
    assert read_output("claude", lines(tool), now=NOW).rate_limited_until is None
    assert read_output("codex", lines(item), now=NOW).rate_limited_until is None


def test_handmade_codex_that_waits_for_a_limit_until_it_is_killed() -> None:
    output = lines({"type": "error", "message": "Reconnecting... 1/5 (last status: 429 Too Many)"})
    assert read_output("codex", output, now=NOW).rate_limited_until == REST


def test_handmade_codex_turns_add_up_and_a_refusal_is_told() -> None:
    usage = {"input_tokens": 10, "cached_input_tokens": 4, "output_tokens": 3}
    done = {"type": "turn.completed", "usage": usage}
    failed = {"type": "turn.failed", "error": {"message": "blocked by our usage policies"}}
    report = read_output("codex", lines(done, done, failed), now=NOW)
    assert (report.input_tokens, report.cached_tokens, report.output_tokens) == (20, 8, 6)
    assert report.refused


def test_handmade_opencode_error_with_headers_names_the_time() -> None:
    data = {"message": "slow down", "statusCode": 429, "responseHeaders": {"retry-after": "77"}}
    error = {"type": "error", "sessionID": "s", "error": {"name": "APIError", "data": data}}
    report = read_output("opencode", lines(error), now=NOW)
    assert (report.session_id, report.error) == ("s", "slow down")
    assert report.rate_limited_until == NOW + 77


def test_handmade_opencode_log_lines_tell_of_a_limit_that_its_events_do_not() -> None:
    log = 'level=ERROR error="AI_APICallError: This would exceed your account\'s rate limit."'
    assert read_output("opencode", log.encode(), now=NOW).rate_limited_until == REST


def test_handmade_opencode_content_filter_is_a_refusal() -> None:
    part = {"reason": "content-filter", "cost": 0.5, "tokens": {"input": 1, "output": 1}}
    report = read_output("opencode", lines({"type": "step_finish", "part": part}), now=NOW)
    assert (report.refused, report.cost_usd) == (True, 0.5)


def gemini(*pieces: str, **result: Any) -> bytes:
    said = [
        {"type": "message", "role": "assistant", "content": piece, "delta": True}
        if piece
        else {"type": "tool_use", "tool_name": "write_file"}
        for piece in pieces
    ]
    stats = {"input_tokens": 30, "cached": 10, "output_tokens": 5}
    end = {"type": "result", "status": "success", "stats": stats, **result}
    return lines("Ripgrep is not available.", {"type": "init", "session_id": "g"}, *said, end)


def test_handmade_gemini_pieces_make_one_message_until_a_tool_is_used() -> None:
    output = gemini("I ", "work.", "", "Done.\nMISSION_RES", 'ULT: {"summary": "s"}')
    report = read_output("gemini", output, now=NOW)
    assert report.text == 'Done.\nMISSION_RESULT: {"summary": "s"}'
    assert report.said.startswith("I work.\nDone.")
    assert find_result(report.said).summary == "s"
    assert (report.session_id, report.input_tokens, report.output_tokens) == ("g", 30, 5)
    assert (report.turns, report.cost_usd, report.error) == (None, None, "")


def test_handmade_gemini_quota_and_block_are_told() -> None:
    message = '[API Error: {"error":{"code":429,"status":"RESOURCE_EXHAUSTED","retryDelay":"18s"}}]'
    quota = gemini(status="error", error={"type": "x", "message": message})
    assert read_output("gemini", quota, now=NOW).rate_limited_until == NOW + 18
    blocked = gemini(status="error", error={"message": "The response was blocked: SAFETY"})
    assert read_output("gemini", blocked, now=NOW).refused


AIDER = """Added note.txt to the chat.\r

\x1b[32mDone.\x1b[0m MISSION_RESULT: {"summary": "s"}

Tokens: 1.5k sent, 400 cache hit, 60 received. Cost: $0.0043 message, $0.0043
session.
Tokens: 12k sent, 20 cache write, 3 cache hit, 1.2k received.
Cost: $0.04 message, $0.05 session.
"""


def test_handmade_aider_reports_add_up_and_its_session_cost_counts() -> None:
    report = read_output("aider", AIDER.encode(), now=NOW)
    assert (report.input_tokens, report.cached_tokens, report.output_tokens) == (13_500, 403, 1_260)
    assert (report.turns, report.cost_usd, report.session_id) == (2, 0.05, None)
    assert find_result(report.said).summary == "s"
    assert "\x1b" not in report.said


def test_handmade_aider_limit_counts_only_when_nothing_came_after_it() -> None:
    limit = "litellm.RateLimitError: retry after 30"
    assert read_output("aider", f"{AIDER}{limit}".encode(), now=NOW).rate_limited_until == NOW + 30
    assert read_output("aider", f"{limit}\n{AIDER}".encode(), now=NOW).rate_limited_until is None


def test_handmade_text_with_a_limit_in_its_last_words_is_limited() -> None:
    limit = f"Claude AI usage limit reached|{int(NOW) + 60}\n"
    report = read_output("text", f"working\n{limit}".encode(), now=NOW)
    assert (report.rate_limited_until, report.error) == (NOW + 60, limit.strip())
    early = read_output("text", (limit + "work\n" * 1_000).encode(), now=NOW)
    assert early.rate_limited_until is None


# -- hostile ----------------------------------------------------------------------------------

MAD: tuple[Any, ...] = (-1, 2**70, 1e308, True, "7", None, [1], {"a": 1}, 0.5)


@pytest.mark.parametrize("value", MAD, ids=repr)
def test_mad_figures_are_not_told(value: Any) -> None:
    output = lines(
        {"type": "result", "total_cost_usd": value, "num_turns": value, "usage": value},
        {"type": "turn.completed", "usage": {"input_tokens": value}},
        {"type": "step_finish", "part": {"cost": value, "tokens": {"input": value}}},
    )
    for reader in ("claude", "codex", "opencode", "gemini"):
        report = read_output(reader, output, now=NOW)
        assert report.cost_usd in {None, 0.5}
        assert report.input_tokens in {None, 0}
        assert report.turns in ({1} if reader == "opencode" else {None, 0})  # one step_finish


def test_figures_that_are_no_numbers_of_json_are_not_told() -> None:
    output = b'{"type": "result", "total_cost_usd": NaN, "num_turns": Infinity}\n'
    output += b'{"type": "result", "total_cost_usd": ' + b"9" * 5_000 + b"}\n"
    report = read_output("claude", output, now=NOW)
    assert (report.cost_usd, report.turns) == (None, None)


def test_a_line_of_10_megabytes_is_passed_over_and_said() -> None:
    end = lines(claude_message("end", "1"))
    output = b'{"type": "user", "x": "' + b"x" * 10 * LINE_BYTES + b'"}\n' + end
    report = read_output("claude", output, now=NOW)
    assert (report.text, report.is_partial) == ("end", True)


def test_what_the_supervisor_dropped_is_said() -> None:
    output = b"a\n[... 77 bytes of output dropped ...]\nb\n"
    assert all(read_output(reader, output, now=NOW).is_partial for reader in READERS)
    assert read_output("text", b"a", now=NOW, is_whole=False).is_partial
    assert not read_output("text", b"a", now=NOW).is_partial


def test_of_a_flood_of_lines_the_last_are_read() -> None:
    first, last = lines({"session_id": "first"}), lines({"session_id": "last"})
    report = read_output("claude", first + b"\n" * (MOST_LINES + 5) + last, now=NOW)
    assert (report.session_id, report.is_partial) == ("last", True)
    early = read_output("claude", first + b"\n" * (MOST_LINES + 5), now=NOW)
    assert early.session_id is None


def test_what_is_kept_is_bounded() -> None:
    message = lines(claude_message("x" * 50_000, "1"))
    output = b"\n".join([message] * 40)
    tracemalloc.start()
    report = read_output("claude", output, now=NOW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(report.said) <= SAID_CHARACTERS
    assert len(report.text) == TEXT_CHARACTERS
    assert peak < 4 * len(output)


def test_texts_that_no_file_can_hold_are_mended() -> None:
    output = (
        rb'{"type": "item.completed", "item": {"type": "agent_message", "text": "\ud800\u0000"}}'
    )
    output += b'\n{"type": "thread.started", "thread_id": "\\udfff"}'
    report = read_output("codex", output, now=NOW)
    assert report.text == "?\N{REPLACEMENT CHARACTER}"
    assert report.session_id == "?"


TYPES = ("system", "assistant", "result", "error", "turn.failed", "item.completed", "step_finish")
KEYS = ("type", "message", "error", "usage", "part", "content", "data", "item", "stats", "text")
JSON = st.recursive(
    st.sampled_from([*TYPES, *MAD, "rejected", 429]) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=8,
)
EVENTS = st.dictionaries(st.sampled_from(KEYS), JSON).flatmap(
    lambda event: st.sampled_from([{**event, "type": each} for each in TYPES])
)


@given(st.sampled_from(READERS), st.lists(EVENTS, max_size=4))
def test_events_of_any_shape_are_read(reader: str, events: list[dict[str, Any]]) -> None:
    assert isinstance(read_output(reader, lines(*events), now=NOW), AgentReport)


@given(st.sampled_from(READERS), st.binary(max_size=200))
def test_bytes_of_any_kind_are_read(reader: str, output: bytes) -> None:
    report = read_output(reader, output, now=NOW)
    (report.said + report.text + report.error).encode()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("line", [b'{"a":' * 100_000, b"[" * 200_000, b"\0" * 200_000, b"{" * 9])
def test_no_depth_of_nesting_makes_a_reader_raise(reader: str, line: bytes) -> None:
    read_output(reader, line, now=NOW)
