"""Plan documents: TOML, JSON and Markdown that people write and read, to plans and back.

TOML has a `[[unit]]` table for each unit, JSON `{"unit": [...]}` with the same keys. In Markdown a
unit is a heading (`##` or deeper) with a fenced `toml` block of its fields; the prose is its
prompt. A heading without an id that has units under it is a phase: the fields of its block hold
for all of them that do not say otherwise, and its prose is for people.
"""

from __future__ import annotations

import errno
import json
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from blocks.errors import PlanInvalid
from flows.human_input import (
    did_you_mean,
    format_duration,
    one_of,
    parse_duration,
    toml_lines,
    toml_syntax_problem,
    toml_text,
)
from flows.planning.plan import Plan, Problem, Unit, plan_problems

FORMATS = {".toml": "toml", ".json": "json", ".md": "markdown", ".markdown": "markdown"}
"""The format of a plan document by the end of its name."""

_HEADING = re.compile(r"(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([^`]*?)[ \t]*")
_JSON_SPACE = re.compile(r"[ \t\n\r]*")
_PHASE_LEVEL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A unit as written: its fields, and the lines of the document where they stand."""

    fields: Mapping[str, Any]
    line: int
    lines: Mapping[str, int] = field(default_factory=dict)


class _UnreadableError(Exception):
    """The document as a whole cannot be read; raised with a line and what is wrong there."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def read_plan(path: Path, *, agents: Collection[str], commandless: Collection[str] = ()) -> Plan:
    """Read a plan document; the end of its name tells the format.

    Raises:
        PlanInvalid: it cannot be read, or every problem with file, line, unit, key and mend.
    """
    if path.suffix not in FORMATS:
        raise PlanInvalid(f"{path}: a plan document's name ends in {one_of(FORMATS)}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PlanInvalid(f"{path}: {why}") from error
    return parse_plan(
        text, FORMATS[path.suffix], source=str(path), agents=agents, commandless=commandless
    )


def parse_plan(
    text: str,
    document_format: str,
    *,
    source: str,
    agents: Collection[str],
    commandless: Collection[str] = (),
) -> Plan:
    """Read the text of a plan document in the format `toml`, `json` or `markdown`.

    Raises:
        PlanInvalid: every problem on a line of its own: source and line, unit, key, mend.
    """
    try:
        entries = _READERS[document_format](text)
    except _UnreadableError as error:
        raise PlanInvalid(f"{source}:{error.line}: {error}") from error
    problems: list[Problem] = []
    units = tuple(
        unit for place, each in enumerate(entries) for unit in _unit(place, each, problems)
    )
    if len(units) == len(entries):
        problems += plan_problems(units, agents=agents, commandless=commandless)
    if problems:
        ordered = sorted(problems, key=lambda problem: problem.position)
        raise PlanInvalid("".join(f"\n{_place(each, entries, source)}: {each}" for each in ordered))
    return Plan(units=units)


def render_plan(plan: Plan, document_format: str) -> str:
    """Write a plan as `toml`, `json` or `markdown`, so that `parse_plan` gives the same plan."""
    return _WRITERS[document_format]([_fields(unit) for unit in plan.units])


def check_new(path: Path) -> None:
    """See that a plan document could be written there.

    Raises:
        PlanInvalid: the name says no format, there is such a file, or no such folder.
    """
    if path.suffix not in FORMATS:
        raise PlanInvalid(f"{path}: a plan document's name ends in {one_of(FORMATS)}")
    if path.exists():
        raise PlanInvalid(f"{path}: {os.strerror(errno.EEXIST)}")
    if not path.parent.is_dir():
        raise PlanInvalid(f"{path}: {os.strerror(errno.ENOENT)}")


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan document; its name says the format. A file that is there is not overwritten.

    Raises:
        PlanInvalid: the name says no format, or there is such a file.
    """
    check_new(path)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(render_plan(plan, FORMATS[path.suffix]))
    except OSError as error:
        raise PlanInvalid(f"{path}: {error.strerror}") from error


# Fields: what may stand in a unit, whatever the format.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, not {_described(value)}")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"expected a list of strings, not {_described(value)}")
    return tuple(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, not {_described(value)}")
    return value


def _described(value: object) -> str:
    if isinstance(value, list):
        odd = next((each for each in value if not isinstance(each, str)), None)
        return "a list" if odd is None else f"a list with {_described(odd)}"
    if isinstance(value, dict):
        return "a table"
    return json.dumps(value, default=str, ensure_ascii=False)


_FIELDS: dict[str, tuple[str, Callable[[object], object]]] = {
    "id": ("id", _text),
    "title": ("title", _text),
    "prompt": ("prompt", _text),
    "depends_on": ("depends_on", _texts),
    "writes": ("writes", _texts),
    "agent": ("agent", _text),
    "timeout": ("timeout_seconds", parse_duration),
    "verify": ("verify", _text),
    "checkpoint": ("checkpoint", _flag),
    "may_remove_tests": ("may_remove_tests", _flag),
    "command": ("command", _texts),
    "kind": ("kind", _text),
}


def _unit(position: int, entry: _Entry, problems: list[Problem]) -> Iterator[Unit]:
    """Yield the unit of an entry, without the fields that are wrong; nothing if it has no id."""
    written_id = entry.fields.get("id")
    name = written_id if isinstance(written_id, str) else ""
    found: dict[str, str] = {} if "id" in entry.fields else {"id": "it is missing"}
    values: dict[str, Any] = {}
    for key, value in entry.fields.items():
        try:
            attribute, read = _FIELDS[key]
            values[attribute] = read(value)
        except KeyError:
            found[key] = f"unknown key{did_you_mean(key, _FIELDS)}"
        except (TypeError, ValueError) as error:
            found[key] = str(error)
    unit = name or f"number {position + 1}"
    problems += [Problem(position=position, unit=unit, key=key, text=found[key]) for key in found]
    if "id" in values:
        yield Unit(**{"title": name, **values})


def _place(problem: Problem, entries: Sequence[_Entry], source: str) -> str:
    if problem.position < 0:
        return source
    entry = entries[problem.position]
    return f"{source}:{entry.lines.get(problem.key, entry.line)}"


def _fields(unit: Unit) -> dict[str, Any]:
    """Say in document keys what differs from the defaults; id and title always."""
    plain = Unit(id=unit.id, title="")
    written: dict[str, Any] = {"id": unit.id, "title": unit.title}
    for key, (attribute, _) in _FIELDS.items():
        value = getattr(unit, attribute)
        if value != getattr(plain, attribute):
            written[key] = list(value) if isinstance(value, tuple) else value
    if unit.timeout_seconds is not None:
        written["timeout"] = format_duration(unit.timeout_seconds)
    return written


def _unit_tables(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    for key in document:
        if key != "unit":
            hint = did_you_mean(key, ["unit"]) or "; a plan has units and nothing else"
            raise KeyError(key, f"unknown key '{key}'{hint}")
    units = document.get("unit", [])
    if not isinstance(units, list) or not all(isinstance(each, dict) for each in units):
        raise KeyError("unit", "expected a list of units, each a table of fields")
    return units


# TOML


def _read_toml(text: str) -> list[_Entry]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _UnreadableError(*toml_syntax_problem(error, text)) from error
    lines = toml_lines(text)
    try:
        tables = _unit_tables(document)
    except KeyError as error:
        key, why = error.args
        raise _UnreadableError(lines.get((key,), 1), why) from error
    whole = lines.get(("unit",), 1)
    return [
        _Entry(
            fields=table,
            line=lines.get(("unit", place), whole),
            lines={key: lines[path] for key in table if (path := ("unit", place, key)) in lines},
        )
        for place, table in enumerate(tables)
    ]


def _write_toml(units: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(
        "[[unit]]\n" + "".join(f"{key} = {_toml_value(value)}\n" for key, value in unit.items())
        for unit in units
    )


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(toml_text(each) for each in value)}]"
    text = str(value)
    return _toml_paragraphs(text) if "\n" in text else toml_text(text)


def _toml_paragraphs(text: str) -> str:
    pieces = re.split(r'([\n"])', text)
    plain = "".join(piece if piece in {"\n", '"'} else toml_text(piece)[1:-1] for piece in pieces)
    return '"""\n' + plain.replace('"""', '""\\"') + '"""'


# JSON


def _read_json(text: str) -> list[_Entry]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise _UnreadableError(error.lineno, error.msg) from error
    if not isinstance(document, dict):
        raise _UnreadableError(1, 'expected an object {"unit": [...]}')
    positions = dict(_json_members(text, _after_space(text, 0)))
    try:
        tables = _unit_tables(document)
    except KeyError as error:
        key, why = error.args
        raise _UnreadableError(_line_at(text, positions[key]), why) from error
    starts = _json_elements(text, positions["unit"]) if tables else ()
    return [_json_entry(text, start, table) for start, table in zip(starts, tables, strict=True)]


def _json_entry(text: str, start: int, table: Mapping[str, Any]) -> _Entry:
    lines = {key: _line_at(text, place) for key, place in _json_members(text, start)}
    return _Entry(fields=table, line=_line_at(text, start), lines=lines)


def _json_members(text: str, start: int) -> Iterator[tuple[str, int]]:
    """Yield the keys of the valid JSON object at `start`, with the positions of their values."""
    decoder = json.JSONDecoder()
    position = _after_space(text, start + 1)
    while text[position] != "}":
        key, position = decoder.raw_decode(text, position)
        value = _after_space(text, _after_space(text, position) + 1)
        yield key, value
        position = _after_value(text, decoder.raw_decode(text, value)[1])


def _json_elements(text: str, start: int) -> Iterator[int]:
    """Yield the positions of the elements of the valid JSON array at `start`."""
    decoder = json.JSONDecoder()
    position = _after_space(text, start + 1)
    while text[position] != "]":
        yield position
        position = _after_value(text, decoder.raw_decode(text, position)[1])


def _after_space(text: str, position: int) -> int:
    found = _JSON_SPACE.match(text, position)
    return found.end() if found else position


def _after_value(text: str, position: int) -> int:
    position = _after_space(text, position)
    return _after_space(text, position + 1) if text[position] == "," else position


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _write_json(units: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"unit": units}, indent=2, ensure_ascii=False) + "\n"


# Markdown


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """A heading with what stands under it, up to the next heading."""

    level: int
    title: str
    line: int
    block: str | None
    block_line: int
    prose: str


def _read_markdown(text: str) -> list[_Entry]:
    sections = list(_sections(text.split("\n")))
    if sections and sections[0].level < _PHASE_LEVEL:
        del sections[0]  # the document's title
    entries: list[_Entry] = []
    phases: list[tuple[int, _Entry]] = []
    for section, following in zip_longest(sections, sections[1:]):
        entry = _markdown_entry(section)
        phases = [each for each in phases if each[0] < section.level]
        if "id" in entry.fields:
            entries.append(_with_defaults(_with_prose(entry, section), phases))
        elif section.level >= _PHASE_LEVEL and following and following.level > section.level:
            phases.append((section.level, entry))
        else:
            why = "give it a ```toml block with an id, or units under it, or put it in a fence"
            raise _UnreadableError(section.line, f"heading '{section.title}' is no unit: {why}")
    return entries


def _sections(lines: Sequence[str]) -> Iterator[_Section]:
    """Cut a document at its headings; those within fences are none."""
    starts: list[tuple[int, re.Match[str]]] = []
    fence, opened = "", 0
    for number, line in enumerate(lines):
        mark = _FENCE.fullmatch(line)
        if fence:
            fence = "" if _closes(mark, fence) else fence
        elif mark:
            fence, opened = mark[1], number
        elif heading := _HEADING.fullmatch(line):
            starts.append((number, heading))
    if fence:
        raise _UnreadableError(opened + 1, f"the fence {fence} is never closed")
    ends = [number for number, _ in starts[1:]] + [len(lines)]
    for (start, heading), end in zip(starts, ends, strict=True):
        yield _section(heading, start, lines[start + 1 : end])


def _closes(mark: re.Match[str] | None, fence: str) -> bool:
    return mark is not None and mark[1].startswith(fence) and not mark[2]


def _section(heading: re.Match[str], start: int, body: Sequence[str]) -> _Section:
    """Take the first `toml` block out of a section; the rest is its prose."""
    fence, first, last = "", -1, len(body)
    for number, line in enumerate(body):
        mark = _FENCE.fullmatch(line)
        if fence and _closes(mark, fence):
            fence = ""
            if first >= 0:
                last = number
                break
        elif not fence and mark:
            fence = mark[1]
            first = number if mark[2] == "toml" else -1
    found = first >= 0
    rest = [*body[:first], *body[last + 1 :]] if found else body
    return _Section(
        level=len(heading[1]),
        title=heading[2] or "",
        line=start + 1,
        block="\n".join(body[first + 1 : last]) if found else None,
        block_line=start + first + 2,
        prose="\n".join(rest).strip(),
    )


def _markdown_entry(section: _Section) -> _Entry:
    block = section.block or ""
    try:
        values = tomllib.loads(block)
    except tomllib.TOMLDecodeError as error:
        line, why = toml_syntax_problem(error, block)
        raise _UnreadableError(section.block_line + line, why) from error
    lines = {
        str(path[0]): section.block_line + line
        for path, line in toml_lines(block).items()
        if len(path) == 1
    }
    return _Entry(fields=values, line=section.line, lines=lines)


def _with_prose(entry: _Entry, section: _Section) -> _Entry:
    if section.prose and "prompt" in entry.fields:
        why = "the prompt stands in the block and below it; keep one of them"
        raise _UnreadableError(entry.lines["prompt"], why)
    prose = {"prompt": section.prose} if section.prose else {}
    return replace(entry, fields={"title": section.title, **prose, **entry.fields})


def _with_defaults(entry: _Entry, phases: Sequence[tuple[int, _Entry]]) -> _Entry:
    fields: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for layer in (*(phase for _, phase in phases), entry):
        fields |= layer.fields
        lines |= layer.lines
    return replace(entry, fields=fields, lines=lines)


def _write_markdown(units: Sequence[Mapping[str, Any]]) -> str:
    return "# Plan\n\n## Units\n\n" + "\n".join(_markdown_unit(unit) for unit in units)


def _markdown_unit(unit: Mapping[str, Any]) -> str:
    """Write title and prompt as heading and prose where they read back the same, else as fields."""
    shown = _markdown_section(unit, in_block=set())
    read = _read_or_none(shown)
    if read is not None and len(read) == 1:
        in_block = {key for key in ("title", "prompt") if read[0].fields.get(key) != unit.get(key)}
    else:
        in_block = {"title", "prompt"}
    return _markdown_section(unit, in_block=in_block) if in_block else shown


def _markdown_section(unit: Mapping[str, Any], *, in_block: Collection[str]) -> str:
    shown = {"title", "prompt"}.difference(in_block)
    heading = unit["title"] if "title" in shown else unit["id"]
    fields = {key: value for key, value in unit.items() if key not in shown}
    block = "".join(f"{key} = {_one_line_toml(value)}\n" for key, value in fields.items())
    prose = f"\n{unit['prompt']}\n" if "prompt" in shown and "prompt" in unit else ""
    return f"### {heading}\n\n```toml\n{block}```\n{prose}"


def _one_line_toml(value: object) -> str:
    return toml_text(value) if isinstance(value, str) else _toml_value(value)


def _read_or_none(text: str) -> list[_Entry] | None:
    try:
        return _read_markdown(text)
    except _UnreadableError:
        return None


_READERS: dict[str, Callable[[str], list[_Entry]]] = {
    "toml": _read_toml,
    "json": _read_json,
    "markdown": _read_markdown,
}
_WRITERS: dict[str, Callable[[Sequence[Mapping[str, Any]]], str]] = {
    "toml": _write_toml,
    "json": _write_json,
    "markdown": _write_markdown,
}
