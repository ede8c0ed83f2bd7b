"""Patterns of repository paths: what a unit may write, and what nobody may."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import takewhile

_WILD = re.compile(r"[*?\[\\]")
_TOKEN = re.compile(r"\\.|\[[!^]?\]?[^\]]*\]|\*+|.", re.DOTALL)


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Say whether a repository path is one of the patterns or lies beneath one.

    As in a `.gitignore`: `*` and `?` stay within a folder, `**` crosses folders, `[a-z]` is a
    class, a leading `/` anchors, a pattern with wildcards and no `/` holds at any depth.
    Unlike there: a name without wildcards is anchored, so that an exact write set is exact,
    and there is no negation.
    """
    path = path.removeprefix("./")
    return any(path == each or _regex(each).fullmatch(path + "/") for each in patterns)


def may_meet(left: str, right: str) -> bool:
    """Say whether some path may match both patterns; when in doubt, yes."""
    return left == right or _segments_meet(_segments(left), _segments(right))


def names_a_place(pattern: str) -> bool:
    """Say whether a pattern can name anything inside the repository."""
    return bool(_segments(pattern)[:-1]) and ".." not in pattern.split("/")


def has_wildcards(pattern: str) -> bool:
    """Say whether a pattern names more than one path and what lies beneath it."""
    return bool(_WILD.search(pattern))


def fixed_folder(pattern: str) -> tuple[str, ...]:
    """The names before the first wildcard: all that a pattern matches is at or beneath them."""
    return tuple(takewhile(lambda name: not _WILD.search(name), _segments(pattern)[:-1]))


@lru_cache(maxsize=8_192)
def _segments(pattern: str) -> tuple[str, ...]:
    """Split a pattern into segments where `**` is any number of folders, as the last is."""
    parts = [part for part in pattern.split("/") if part not in {"", "."}]
    if parts and parts[-1] == "**":
        parts[-1] = "*"  # `folder/**` is what lies beneath, not the folder
    if "/" not in pattern.rstrip("/") and _WILD.search(pattern):
        parts.insert(0, "**")
    parts.append("**")
    repeated = zip(parts, [None, *parts], strict=False)
    return tuple(part for part, before in repeated if part != "**" or before != "**")


@lru_cache(maxsize=8_192)
def _regex(pattern: str) -> re.Pattern[str]:
    """Compile a pattern for paths that end with a slash."""
    if not (segments := _segments(pattern))[:-1]:
        return re.compile(r"(?!)")
    return re.compile(
        "".join("(?:[^/]+/)*" if part == "**" else f"{_segment_regex(part)}/" for part in segments),
        re.DOTALL,
    )


@lru_cache(maxsize=8_192)
def _name_regex(segment: str) -> re.Pattern[str]:
    return re.compile(_segment_regex(segment), re.DOTALL)


@lru_cache(maxsize=8_192)
def _segment_regex(segment: str) -> str:
    regex = "".join(_token_regex(token) for token in _TOKEN.findall(segment))
    try:
        re.compile(regex)
    except re.error:  # such as the class [z-a]
        return re.escape(segment)
    return regex


def _token_regex(token: str) -> str:
    kind, literal = token[0], len(token) == 1
    if kind in "*?":
        return "[^/]*" if kind == "*" else "[^/]"
    if literal or kind != "[":
        return re.escape(token if literal else token[1:])
    negated, body = ("^", token[2:-1]) if token[1] in "!^" else ("", token[1:-1])
    escaped = re.sub(r"([][&~|^\\])", r"\\\1", body)
    return f"(?!/)[{negated}{escaped}]"


@lru_cache(maxsize=65_536)
def _segments_meet(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    if not left or not right:
        return all(part == "**" for part in left + right)
    if left[0] == "**":
        return _segments_meet(left[1:], right) or _segments_meet(left, right[1:])
    if right[0] == "**":
        return _segments_meet(left, right[1:]) or _segments_meet(left[1:], right)
    return _names_meet(left[0], right[0]) and _segments_meet(left[1:], right[1:])


def _names_meet(left: str, right: str) -> bool:
    left_wild, right_wild = _WILD.search(left), _WILD.search(right)
    if left == right or not (left_wild or right_wild):
        return left == right
    if not right_wild:
        return _name_regex(left).fullmatch(right) is not None
    if not left_wild:
        return _name_regex(right).fullmatch(left) is not None
    if re.search(r"[\[\\]", left + right):
        return True
    return _ends_agree(re.split(r"[*?]+", left), re.split(r"[*?]+", right))


def _ends_agree(left: Sequence[str], right: Sequence[str]) -> bool:
    """Compare the literal beginnings and ends of two names with wildcards."""
    heads, tails = (left[0], right[0]), (left[-1], right[-1])
    return (heads[0].startswith(heads[1]) or heads[1].startswith(heads[0])) and (
        tails[0].endswith(tails[1]) or tails[1].endswith(tails[0])
    )
