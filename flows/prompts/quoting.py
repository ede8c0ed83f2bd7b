"""Text that others wrote, made fit to stand in a prompt as data.

Output of tests and agents, memory, names of files: none of it may look like a part of the prompt.
It stands in a code fence that is longer than any run of backticks in it, so that nothing in it can
end the fence; it is bounded; and what a reader does not see (control characters, text direction
marks, Unicode tags) is taken out, since a model does see it.
"""

from __future__ import annotations

import re

SHORTEST_FENCE = 3

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_LINE_ENDS = re.compile(r"\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
_UNSEEN = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    r"\U000e0000-\U000e007f]"
)
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_BACKTICKS = re.compile(r"`+")
_FENCE = re.compile(r" {0,3}(?P<run>`{3,}|~{3,})(?P<rest>.*)")
_MARK = re.compile(r"(?i)(MISSION_(?:RESULT|PLAN|EVALUATION|REVIEW)|MC_RESULT)")


def readable(text: str) -> str:
    """Take out what a person would not see; line ends become newlines."""
    shown = _LINE_ENDS.sub("\n", _ANSI.sub("", text))
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", _UNSEEN.sub("", shown))


def on_one_line(text: str, limit: int | None = None) -> str:
    """A text as one line of at most `limit` characters."""
    line = " ".join(readable(text).split())
    return line if limit is None or len(line) <= limit else f"{line[: limit - 1]}…"


def clipped(text: str, limit: int) -> str:
    """At most `limit` characters, and a line that says how many are left out.

    A quarter is kept of the beginning, where it says what it is, the rest of the end.
    """
    if len(text) <= limit:
        return text
    n_head = limit // 4
    n_out = len(text) - limit
    head, tail = text[:n_head], text[len(text) - (limit - n_head) :]
    return f"{head}\n[… {n_out} characters are left out here …]\n{tail}"


def quoted(text: str, limit: int | None = None) -> str:
    """A text of others as a fenced block of at most `limit` characters and a little.

    Marks with which agents hand in results are made unreadable as such: an agent that prints its
    prompt reports nothing by it.
    """
    shown = _MARK.sub(r"\1 (quoted)", readable(text)).strip("\n")
    if limit is not None:
        shown = clipped(shown, limit)
    fence = "`" * max(SHORTEST_FENCE, 1 + max(map(len, _BACKTICKS.findall(shown)), default=0))
    return f"{fence}text\n{shown}\n{fence}"


def closed(text: str) -> str:
    """A Markdown text that leaves no code fence open, which would swallow what follows it.

    Source: https://spec.commonmark.org/0.31.2/#fenced-code-blocks
    """
    fence = ""
    for line in text.splitlines():
        found = _FENCE.fullmatch(line)
        if found is None:
            continue
        run, rest = found["run"], found["rest"]
        if not fence:
            fence = "" if run[0] == "`" and "`" in rest else run
        elif run[0] == fence[0] and len(run) >= len(fence) and not rest.strip():
            fence = ""
    return f"{text}\n{fence}" if fence else text
