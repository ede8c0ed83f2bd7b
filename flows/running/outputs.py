"""What an agent's output tells: session, turns, tokens, cost, last words, limits.

A reader per output format; which one belongs to which agent says its profile. The output is the
job's log, standard output and error mixed: hostile, truncated, interleaved. Nothing raises here.

The end of the log is read, `READ_BYTES` of it (`Place.tail`); lines longer than `LINE_BYTES` are
passed over, and of a flood of short ones the last `MOST_LINES` are read. What tells of a whole run
(result, usage) is at the end in all formats but one: OpenCode tells its cost step by step. Where
something was left out the report `is_partial`: its sums are lower bounds then, and the session's id
may be missing.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flows.running.limits import LONGEST_REST_SECONDS, is_busy, is_limit, rest_until, seconds_of

READ_BYTES = 8 * 2**20
"""How much of the end of a log is to be read: some hundred turns of the most talkative format."""

LINE_BYTES = 2**20
MOST_LINES = 100_000
SAID_CHARACTERS = 2**18
TEXT_CHARACTERS = 16_384
ERROR_CHARACTERS = 2_000

_DROPPED = b"bytes of output dropped ...]"  # the supervisor's line between head and tail
_ANSI = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]|\x1b\][^\x07\x1b]{0,200}\x07|\r")
_LARGEST_COUNT = 2**53
_LIMIT_STATUS = frozenset({429, 529})
_REFUSALS = frozenset({"refusal", "content-filter", "content_filter"})
_BLOCKED = re.compile(r"\bblocked\b|\bSAFETY\b|\bPROHIBITED|usage polic", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReport:
    """What an agent's output told; None is not told.

    `input_tokens` are all that went in, `cached_tokens` those of them that came from a cache.
    `text` is the final message, `said` the end of all messages. `rate_limited_until` (unix seconds)
    is set when a limit was the last that happened; a run that went on after it has none.
    """

    session_id: str | None = None
    turns: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    text: str = ""
    said: str = ""
    error: str = ""
    refused: bool = False
    rate_limited_until: float | None = None
    is_partial: bool = False


def read_output(reader: str, output: bytes, *, now: float, is_whole: bool = True) -> AgentReport:
    """Read an agent's output by the reader of its profile; never raises for what is in it.

    `output` is the end of the log, `is_whole` whether that is all of it; `now` is when the agent
    ended (unix seconds), from which "in 5 minutes" counts.
    """
    tally = _Tally(now=now, is_partial=not is_whole or _DROPPED in output)
    events = _EVENTS.get(reader)
    if events is None:
        _read_text(output, tally, _aider if reader == "aider" else None)
    else:
        for line in _lines(output, tally):
            _read_line(line, tally, events)
    return tally.report()


@dataclass(slots=True, kw_only=True)
class _Tally:
    now: float
    is_partial: bool
    session_id: str | None = None
    turns: int | None = None
    tokens: dict[str, int] = field(default_factory=dict)
    cost_usd: float | None = None
    text: str = ""
    error: str = ""
    refused: bool = False
    until: float | None = None
    is_told: bool = False  # `until` is the service's own, not read from words
    is_open: bool = False  # the last message may go on
    steps: dict[str, int] = field(default_factory=dict)  # of the message that is being written
    step: str = ""
    _said: deque[str] = field(default_factory=deque)
    _size: int = 0

    def say(self, text: str, *, is_delta: bool = False) -> None:
        """Take a message, or a further piece of one; whoever speaks is not limited."""
        if not text:
            return
        goes_on = is_delta and self.is_open
        self.text = (self.text + text if goes_on else text)[-TEXT_CHARACTERS:]
        self._said.append(text if goes_on or not self._said else f"\n{text}")
        self._size += len(self._said[-1])
        while self._size > SAID_CHARACTERS and len(self._said) > 1:
            self._size -= len(self._said.popleft())
        self.is_open = is_delta
        self.go_on()

    def fail(self, message: str, *, is_limited: bool = False) -> None:
        """Take an error; of a limit also when it ends, unless that was told already."""
        self.error = message.strip()[:ERROR_CHARACTERS]
        if not self.is_told and (is_limited or is_limit(message) or is_busy(message)):
            self.until = rest_until(message, now=self.now)

    def rest(self, until: float | None, message: str) -> None:
        """Take a limit; `until` is when it ends, where that is told as a number."""
        self.fail(message, is_limited=True)
        if until is not None and until - self.now <= LONGEST_REST_SECONDS:
            self.until, self.is_told = max(until, self.now + 1.0), True

    def go_on(self) -> None:
        """Forget errors and limits: it works again."""
        self.until, self.error, self.is_told = None, "", False

    def name(self, session_id: Any) -> None:
        """Take the session's id."""
        if isinstance(session_id, str) and 0 < len(session_id) <= 200:  # noqa: PLR2004 of theirs
            self.session_id = session_id

    def count(self, **tokens: int | None) -> None:
        """Add tokens."""
        for kind, n in tokens.items():
            if n is not None:
                self.tokens[kind] = min(self.tokens.get(kind, 0) + n, _LARGEST_COUNT)

    def spend(self, cost_usd: float | None) -> None:
        """Add cost."""
        if cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + cost_usd

    def turn(self) -> None:
        """Count a turn."""
        self.turns = (self.turns or 0) + 1

    def report(self) -> AgentReport:
        """Close the tally."""
        self.count(**self.steps)
        return AgentReport(
            session_id=_clean(self.session_id) if self.session_id else None,
            turns=self.turns,
            input_tokens=self.tokens.get("input"),
            output_tokens=self.tokens.get("output"),
            cached_tokens=self.tokens.get("cached"),
            cost_usd=self.cost_usd,
            text=_clean(self.text),
            said=_clean("".join(self._said)[-SAID_CHARACTERS:]),
            error=_clean(self.error),
            refused=self.refused,
            rate_limited_until=self.until,
            is_partial=self.is_partial,
        )


_Event = Mapping[str, Any]


def _lines(output: bytes, tally: _Tally) -> Iterator[bytes]:
    lines = output.rsplit(b"\n", MOST_LINES)
    if len(lines) > MOST_LINES:
        del lines[0]  # all that is before them
        tally.is_partial = True
    return (line.strip() for line in lines)


def _read_line(line: bytes, tally: _Tally, read: Callable[[_Event, _Tally], None]) -> None:
    if len(line) > LINE_BYTES:
        tally.is_partial = True
        return
    if line.startswith(b"{"):
        try:
            event = json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return
        if isinstance(event, dict):
            read(event, tally)
        return
    text = line.decode("utf-8", "replace")
    if is_limit(text):
        tally.fail(text)


# -- claude: stream-json ----------------------------------------------------------------------


def _claude(event: _Event, tally: _Tally) -> None:
    tally.name(event.get("session_id"))
    match event.get("type"):
        case "system" if event.get("subtype") == "api_retry":
            _claude_retry(event, tally)
        case "rate_limit_event":
            info = _table(event.get("rate_limit_info"))
            if info.get("status") == "rejected":
                resets_at = _number(info.get("resetsAt"))
                kind = _text(info.get("rateLimitType"))
                tally.rest(seconds_of(resets_at) if resets_at else None, f"limit reached: {kind}")
        case "assistant" if event.get("parent_tool_use_id") is None:
            _claude_message(event, _table(event.get("message")), tally)
        case "result":
            _claude_result(event, tally)


def _claude_retry(event: _Event, tally: _Tally) -> None:
    status = _count(event.get("error_status"))
    if status in _LIMIT_STATUS:
        tally.fail(f"{_text(event.get('error'))} ({status}), it tries again", is_limited=True)


def _claude_message(event: _Event, message: _Event, tally: _Tally) -> None:
    said = "\n".join(_text(part.get("text")) for part in _tables(message.get("content")))
    if message.get("model") == "<synthetic>" or event.get("error"):
        tally.fail(said)
        return
    if message.get("stop_reason") == "refusal":
        tally.refused = True
    tally.say(said.strip())
    usage, own = _claude_usage(_table(message.get("usage"))), _text(message.get("id"))
    if own != tally.step:  # each part of a message comes with the usage of the whole
        tally.count(**tally.steps)
        tally.turn()
    tally.step, tally.steps = own, usage


def _claude_usage(usage: _Event) -> dict[str, int]:
    fresh, output = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    cached = _count(usage.get("cache_read_input_tokens")) or 0
    written = _count(usage.get("cache_creation_input_tokens")) or 0
    if fresh is None or output is None:
        return {}
    return {"input": fresh + cached + written, "output": output, "cached": cached}


def _claude_result(event: _Event, tally: _Tally) -> None:
    """The totals of the session; they are 0 where it was cut short, and what was seen counts."""
    tally.count(**tally.steps)
    tally.steps, tally.step = {}, ""
    for kind, n in _claude_usage(_table(event.get("usage"))).items():
        tally.tokens[kind] = max(n, tally.tokens.get(kind, 0))
    turns, cost = _count(event.get("num_turns")), _number(event.get("total_cost_usd"))
    tally.turns = tally.turns if turns is None else turns
    tally.cost_usd = tally.cost_usd if cost is None else cost
    tally.refused |= event.get("stop_reason") == "refusal"
    said = _text(event.get("result"))
    if not event.get("is_error"):
        if said.strip() != tally.text.strip():
            tally.say(said)
        tally.go_on()
        return
    errors = [_text(each) for each in _list(event.get("errors"))]
    message = "; ".join(filter(None, (said, *errors))) or _text(event.get("subtype"))
    tally.fail(message, is_limited=_count(event.get("api_error_status")) in _LIMIT_STATUS)


# -- codex: exec --json -----------------------------------------------------------------------


def _codex(event: _Event, tally: _Tally) -> None:
    match event.get("type"):
        case "thread.started":
            tally.name(event.get("thread_id"))
        case "item.completed":
            item = _table(event.get("item"))
            if item.get("type") == "agent_message":
                tally.say(_text(item.get("text")))
        case "turn.completed":
            usage = _table(event.get("usage"))
            tally.count(
                input=_count(usage.get("input_tokens")),
                cached=_count(usage.get("cached_input_tokens")),
                output=_count(usage.get("output_tokens")),
            )
            tally.go_on()
        case "error":
            _failed(event.get("message"), tally)
        case "turn.failed":
            _failed(_table(event.get("error")).get("message"), tally)


def _failed(message: Any, tally: _Tally) -> None:
    tally.fail(_text(message))
    tally.refused |= bool(
        re.search(r"usage polic|content.?polic|safety", tally.error, re.IGNORECASE)
    )


# -- opencode: run --format json --------------------------------------------------------------


def _opencode(event: _Event, tally: _Tally) -> None:
    tally.name(event.get("sessionID"))
    part = _table(event.get("part"))
    match event.get("type"):
        case "text":
            tally.say(_text(part.get("text")))
        case "step_finish":
            tokens = _table(part.get("tokens"))
            cache = _table(tokens.get("cache"))
            cached = _count(cache.get("read"))
            tally.turn()
            tally.spend(_number(part.get("cost")))
            tally.count(
                input=_sum(tokens.get("input"), cached, cache.get("write")),
                output=_sum(tokens.get("output"), tokens.get("reasoning")),
                cached=cached,
            )
            tally.refused |= _text(part.get("reason")) in _REFUSALS
        case "error":
            _opencode_error(_table(event.get("error")), tally)


def _opencode_error(error: _Event, tally: _Tally) -> None:
    data = _table(error.get("data"))
    headers = _table(data.get("responseHeaders"))
    message = _text(data.get("message")) or _text(error.get("name"))
    is_limited = _count(data.get("statusCode")) in _LIMIT_STATUS
    told = "\n".join(
        (
            message,
            *(f"{k}: {_text(v)}" for k, v in headers.items() if "retry" in k or "reset" in k),
            _text(data.get("responseBody"))[:ERROR_CHARACTERS],
        )
    )
    tally.fail(told, is_limited=is_limited)
    tally.error = message.strip()[:ERROR_CHARACTERS]


# -- gemini: --output-format stream-json ------------------------------------------------------


def _gemini(event: _Event, tally: _Tally) -> None:
    match event.get("type"):
        case "init":
            tally.name(event.get("session_id"))
        case "message" if event.get("role") == "assistant":
            tally.say(_text(event.get("content")), is_delta=event.get("delta") is True)
        case "error" if event.get("severity") != "warning":
            _gemini_error(_text(event.get("message")), tally)
        case "result":
            stats = _table(event.get("stats"))
            tally.tokens = {}
            tally.count(
                input=_count(stats.get("input_tokens")),
                cached=_count(stats.get("cached")),
                output=_count(stats.get("output_tokens")),
            )
            if event.get("status") != "success":
                error = _table(event.get("error"))
                _gemini_error(_text(error.get("message")) or tally.error or "error", tally)
    if event.get("type") != "message":
        tally.is_open = False


def _gemini_error(message: str, tally: _Tally) -> None:
    tally.fail(message)
    tally.refused |= bool(_BLOCKED.search(tally.error))


_EVENTS: Mapping[str, Callable[[_Event, _Tally], None]] = {
    "claude": _claude,
    "codex": _codex,
    "opencode": _opencode,
    "gemini": _gemini,
}


# -- plain text, and aider's ------------------------------------------------------------------

_USAGE = re.compile(
    r"Tokens: (?P<sent>[\d.]{1,12}k?) sent,(?:\s[\d.]{1,12}k? cache write,)?"
    r"(?:\s(?P<hit>[\d.]{1,12}k?) cache\shit,)?\s(?P<got>[\d.]{1,12}k?)\sreceived\.",
)
_SPENT = re.compile(r"Cost:\s\$[\d.]{1,20}\smessage,\s\$([\d.]{1,20})\s{1,2}session\.")


def _read_text(output: bytes, tally: _Tally, read: Callable[[str, _Tally], int] | None) -> None:
    text = _ANSI.sub("", output[-4 * SAID_CHARACTERS :].decode("utf-8", "replace"))
    end = read(text, tally) if read else 0
    tally.say(text[-SAID_CHARACTERS:])
    tally.text = tally.text.strip()
    last_words = text[max(end, len(text) - ERROR_CHARACTERS) :]
    limits = [line for line in last_words.splitlines() if is_limit(line)]
    if limits:
        tally.fail("\n".join(limits))


def _aider(text: str, tally: _Tally) -> int:
    """Read aider's reports, which are rounded; returns where the last of them ends."""
    end = 0
    for found in _USAGE.finditer(text):
        tally.turn()
        tally.count(
            input=_thousands(found["sent"]),
            cached=_thousands(found["hit"]),
            output=_thousands(found["got"]),
        )
        end = found.end()
    for cost in _SPENT.finditer(text):
        end = max(end, cost.end())
        tally.cost_usd = _parsed(cost[1])
    return end


def _thousands(text: str | None) -> int | None:
    number = _parsed(text.rstrip("k")) if text else None
    return None if text is None or number is None else int(number * (1_000 if "k" in text else 1))


def _parsed(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # 1.2.3
        return None


# -- JSON of any shape ------------------------------------------------------------------------


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _tables(value: Any) -> list[Mapping[str, Any]]:
    return [_table(each) for each in _list(value)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return float(value) if 0 <= value <= _LARGEST_COUNT else None
    return value if math.isfinite(value) and 0 <= value <= _LARGEST_COUNT else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _sum(*values: Any) -> int | None:
    counts = [n for n in map(_count, values) if n is not None]
    return sum(counts) if counts else None


def _clean(text: str) -> str:
    """Take out what no file or database holds: lone surrogates and zeros."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
