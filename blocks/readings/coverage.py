"""Coverage as the share of lines: Cobertura and JaCoCo XML, lcov, coverage.py's JSON and text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from blocks.readings.documents import (
    MAX_DOCUMENT_BYTES,
    Unreadable,
    as_mapping,
    as_number,
    load_json,
    walk_xml,
)

_TOTAL = re.compile(r"TOTAL\s+(?P<valid>\d{1,9})\s+(?P<missed>\d{1,9})(?:\s+\d+\s+\d+)?\s+[\d.]+%")
_LCOV = re.compile(rb"^(LF|LH):(\d{1,9})[ \t\r]*$", re.MULTILINE)


class Lines(NamedTuple):
    """How many lines ran, of how many that could; a bare rate stands as a share of one line."""

    covered: float
    valid: float


def read(document: bytes) -> Lines:
    """Return the lines covered according to one report, whatever its format.

    Raises:
        Unreadable: the format is unknown or the report is damaged.
    """
    beginning = document[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if beginning.startswith(b"{"):
        return _from_json(document)
    if beginning.startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
        return _from_xml(document)
    return _from_lcov(document)


def read_lines(lines: Sequence[str]) -> Lines | None:
    """Return the last `TOTAL` row that coverage.py or pytest-cov printed; None: there is none."""
    for line in reversed(lines):
        if match := _TOTAL.fullmatch(line):
            valid = int(match["valid"])
            return Lines(max(0, valid - int(match["missed"])), valid)
    return None


def rate(parts: Iterable[Lines]) -> float | None:
    """Return the share of lines that ran over all reports, in [0, 1]; None: there is no line."""
    kept = list(parts)
    valid = sum(part.valid for part in kept)
    return min(1.0, sum(part.covered for part in kept) / valid) if valid else None


def _from_json(document: bytes) -> Lines:
    totals = as_mapping(as_mapping(load_json(document)).get("totals"))
    if not {"covered_lines", "num_statements"} <= totals.keys():
        raise Unreadable("no report of coverage.py: it has no totals")
    return _checked(as_number(totals["covered_lines"]), as_number(totals["num_statements"]))


def _from_xml(document: bytes) -> Lines:
    roots: list[tuple[str, Mapping[str, str]]] = []
    counters: dict[int, Mapping[str, str]] = {}
    depth = 0

    def start(tag: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth == 1:
            roots.append((tag, attributes))
        elif tag == "counter" and attributes.get("type") == "LINE":
            counters[depth] = attributes

    def end(_tag: str) -> None:
        nonlocal depth
        depth -= 1

    walk_xml(document, start=start, end=end, allow_doctype=True)
    tag, attributes = roots[0]
    if tag == "coverage" and "line-rate" in attributes:
        return _cobertura(attributes)
    if tag == "report" and 2 in counters:  # noqa: PLR2004 - JaCoCo's totals are the root's children
        covered, missed = (_number(counters[2].get(key, "")) for key in ("covered", "missed"))
        return _checked(covered, covered + missed)
    raise Unreadable("neither Cobertura nor JaCoCo")


def _cobertura(attributes: Mapping[str, str]) -> Lines:
    if "lines-valid" in attributes and "lines-covered" in attributes:
        covered, valid = _number(attributes["lines-covered"]), _number(attributes["lines-valid"])
        if valid:
            return _checked(covered, valid)
    return _checked(_number(attributes["line-rate"]), 1)


def _from_lcov(document: bytes) -> Lines:
    if len(document) > MAX_DOCUMENT_BYTES:
        raise Unreadable(f"larger than {MAX_DOCUMENT_BYTES >> 20} MiB")
    sums = {b"LF": 0, b"LH": 0}
    n_found = 0
    for key, value in _LCOV.findall(document):
        sums[key] += int(value)
        n_found += 1
    if not n_found:
        raise Unreadable("neither Cobertura, JaCoCo, lcov nor coverage.py")
    return _checked(sums[b"LH"], sums[b"LF"])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise Unreadable(f"not a number: {text[:40]!r}") from error


def _checked(covered: float, valid: float) -> Lines:
    if not (math.isfinite(covered) and math.isfinite(valid) and 0 <= covered <= valid):
        raise Unreadable(f"{covered} of {valid} lines cannot be")
    return Lines(covered, valid)
