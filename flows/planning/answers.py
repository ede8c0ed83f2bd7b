"""What a planning agent answered: units, or parts that are planned further.

    MISSION_PLAN: {"units": [{"id": "…", "title": "…", "prompt": "…", "writes": ["…"], …}]}
    MISSION_PLAN: {"parts": [{"id": "…", "title": "…", "scope": "…", "depends_on": ["…"]}]}

Tolerant of how models write (other names of keys, a text for a list, any ids), strict in what a
plan rests on. How work is verified, run and limited is never read from an agent.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from blocks.errors import PlanInvalid
from flows.human_input import did_you_mean
from flows.planning.plan import (
    KINDS,
    Unit,
    UnitId,
    is_unit_id,
    plan_problems,
    unit_from_dict,
    unit_to_dict,
)
from flows.prompts.quoting import on_one_line, readable
from flows.running.marked import find_marked, why_unmarked

PLAN_MARKS = ("MISSION_PLAN",)
TITLE_CHARACTERS = 200
PROMPT_CHARACTERS = 32_000
PATTERN_CHARACTERS = 300
MOST_PATTERNS = 50
MOST_NEEDS = 100
MOST_WILDCARDS = 4
"""In a pattern of an agent: matching costs a name's length to the power of their number."""

_ID_CHARACTERS = 48
"""Of an id that is made of a text: whatever makes it unique has room behind it."""

_MOST_PROBLEMS = 20
_SHOWN_CHARACTERS = 80

_KEYS = {
    "units": ("units", "unit", "tasks"),
    "parts": ("parts", "part", "scopes", "areas"),
    "id": ("id", "key", "slug"),
    "title": ("title", "name", "summary"),
    "prompt": ("prompt", "description", "instructions", "details", "task"),
    "scope": ("scope", "description", "details", "prompt"),
    "depends_on": ("depends_on", "depends", "dependencies", "dependsOn", "after", "requires"),
    "writes": ("writes", "files", "paths", "write_set", "writeSet"),
    "kind": ("kind",),
}
_PATH_KEYS = ("path", "file", "pattern", "id", "name")
_NOTHING = frozenset({"", "none", "null", "n/a", "-", "…", "..."})
_REMARK = re.compile(r"[ \t]{1,9}\((?:new|new file|create|created|modify|modified|edit)\)$")
_COMMA = re.compile(r"[,\n]")
_SPACE = re.compile(r"[,\s]+")
_BRACES = re.compile(r"\{[^{}]*,[^{}]*\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a scope that another question plans; it depends on parts beside it."""

    id: str
    title: str
    scope: str
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAnswer:
    """Units or parts, never both; neither says that nothing is left to do."""

    units: tuple[Unit, ...] = ()
    parts: tuple[Part, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Turn it into plain JSON values."""
        parts = [{**asdict(part), "depends_on": list(part.depends_on)} for part in self.parts]
        return {"units": [unit_to_dict(unit) for unit in self.units], "parts": parts}


def answer_from_dict(record: Mapping[str, Any]) -> PlanAnswer:
    """Turn what `as_dict` made back into the answer."""
    parts = (Part(**{**part, "depends_on": tuple(part["depends_on"])}) for part in record["parts"])
    return PlanAnswer(units=tuple(map(unit_from_dict, record["units"])), parts=tuple(parts))


def read_plan_answer(text: str, *, agent: str, max_children: int, may_split: bool) -> PlanAnswer:
    """Read what a planning agent printed; its units are for `agent`.

    Linear in the text, of which the end is looked at.

    Raises:
        PlanInvalid: there is no answer, or every problem on a line of its own, for the agent.
    """
    found = find_marked(text, PLAN_MARKS)
    if found is None:
        raise PlanInvalid(why_unmarked(text, PLAN_MARKS))
    if isinstance(found.get("plan"), dict):
        found = found["plan"]
    key, written = _list_of_entries(found)
    _check_size(key, len(written), max_children, may_split=may_split)
    entries = [_Entry.read(key, position, each) for position, each in enumerate(written)]
    _resolve(entries)
    if key == "units":
        answer = PlanAnswer(units=tuple(entry.unit(agent) for entry in entries))
    else:
        answer = PlanAnswer(parts=tuple(entry.part() for entry in entries))
    problems = [problem for entry in entries for problem in entry.problems]
    _refuse([*problems, *_plan_problems(key, entries, agent)])
    return answer


def id_of(text: str) -> str:
    """Make a unit id of any text; an empty text where it has no letter or figure of ours."""
    if is_unit_id(text):
        return text
    plain = unicodedata.normalize("NFKD", text[: 4 * _ID_CHARACTERS].lower())
    plain = "".join(each for each in plain if not unicodedata.combining(each))
    slug = re.sub(r"\.*-\.*", "-", re.sub(r"[^a-z0-9._]+", "-", plain))
    slug = re.sub(r"\.{2,}", ".", slug)
    return re.sub(r"(?:\.lock)+$", "", slug.strip("-._")[:_ID_CHARACTERS].strip("-._"))


def _refuse(problems: Sequence[str]) -> None:
    if not problems:
        return
    shown = list(problems[:_MOST_PROBLEMS])
    if n_left := len(problems) - len(shown):
        shown.append(f"and {n_left} more problems")
    raise PlanInvalid("".join(f"\n{problem}" for problem in shown))


def _list_of_entries(answer: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Find what was answered, units or parts; an empty list beside a full one is passed over."""
    lists: dict[str, list[Any]] = {}
    for key in ("units", "parts"):
        value = _value(answer, key)
        if isinstance(value, dict):
            is_one = not all(isinstance(each, dict) for each in value.values())
            value = [value] if is_one else [{"id": name, **value[name]} for name in value]
        if isinstance(value, list):
            lists[key] = value
        elif value is not None:
            _refuse([f"{key}: expected a list, not {_shown(value)}"])
    full = [key for key in lists if lists[key]]
    if len(full) > 1:
        _refuse(["units, parts: both are there; give one of them"])
    if not full and "units" not in lists:
        mend = 'give one of them; {"units": []} says that nothing is left to do'
        _refuse([f"units, parts: neither is there; {mend}"])
    return (full[0], lists[full[0]]) if full else ("units", [])


def _check_size(key: str, n_entries: int, max_children: int, *, may_split: bool) -> None:
    if key == "parts" and not may_split:
        _refuse([f"parts: it is not divided further; give at most {max_children} units"])
    if n_entries > max_children:
        parts = ", or parts that are planned further" if key == "units" and may_split else ""
        _refuse([f"{key}: {n_entries} are too many; give at most {max_children}{parts}"])


@dataclass(slots=True, kw_only=True)
class _Entry:
    """A unit or part as it was understood, and what is wrong with it."""

    place: str
    written_id: str
    id: str
    title: str
    text: str
    needs: list[str] = field(default_factory=list)
    depends_on: tuple[str, ...] = ()
    writes: tuple[str, ...] | None = None
    kind: str = "objective"
    problems: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, key: str, position: int, written: Any) -> _Entry:
        """Understand an entry; a mere text is its title."""
        values = {"title": written} if isinstance(written, str) else written
        values = values if isinstance(values, dict) else {}
        said = "prompt" if key == "units" else "scope"
        title = on_one_line(_text(_value(values, "title")), TITLE_CHARACTERS)
        text = readable(_text(_value(values, said))).strip()
        written_id = _text(_value(values, "id"))
        number = f"{key.removesuffix('s')}-{position + 1}"
        entry = cls(
            place=f"{key}[{position}]",
            written_id=written_id,
            id=id_of(written_id) or id_of(title or text) or number,
            title=title or on_one_line(text[: 4 * TITLE_CHARACTERS], TITLE_CHARACTERS),
            text=text or title,
        )
        if not entry.text:
            entry.complain(said, f"it is empty, and so is the title; say what the {key[:-1]} is")
        if len(text) > PROMPT_CHARACTERS:
            entry.complain(said, f"{len(text)} characters; at most {PROMPT_CHARACTERS} are taken")
        entry.needs = entry.texts("depends_on", values, _SPACE)[:MOST_NEEDS]
        if key == "units":
            entry.read_work(values)
        return entry

    def read_work(self, values: Mapping[str, Any]) -> None:
        """Take what only units have."""
        patterns = [_path(each) for each in self.texts("writes", values, _COMMA)]
        self.writes = tuple(dict.fromkeys(each for each in patterns if each)) or None
        for problem in _pattern_problems(self.writes or ()):
            self.complain("writes", problem)
        kind = _value(values, "kind")
        self.kind = next((each for each in KINDS if each == kind), self.kind)

    def texts(self, key: str, values: Mapping[str, Any], separator: re.Pattern[str]) -> list[str]:
        """Take a list of texts, however it is written."""
        value = _value(values, key)
        if isinstance(value, str):
            value = separator.split(value)
        elif value is not None and not isinstance(value, list):
            value = [value]
        texts = [_text(_named(each)) for each in value or ()]
        for each, text in zip(value or (), texts, strict=True):
            if not text and not isinstance(each, str):
                self.complain(key, f"expected texts, not {_shown(each)}")
        return [text for text in texts if text]

    def complain(self, key: str, text: str) -> None:
        """Note what is wrong with a key."""
        self.problems.append(f"{self.place}.{key}: {text}")

    def unit(self, agent: str) -> Unit:
        """The unit as it will be planned."""
        return Unit(
            id=UnitId(self.id),
            title=self.title,
            prompt=self.text,
            depends_on=tuple(map(UnitId, self.depends_on)),
            writes=self.writes,
            agent=agent,
            kind=self.kind,
        )

    def part(self) -> Part:
        """The part as it will be asked about."""
        return Part(id=self.id, title=self.title, scope=self.text, depends_on=self.depends_on)


def _resolve(entries: Sequence[_Entry]) -> None:
    """Find the entries that others depend on, by id or title, as written or as made."""
    names: dict[str, str] = {}
    for entry in entries:
        for alias in filter(None, (entry.written_id, entry.id, entry.title)):
            names.setdefault(alias, entry.id)
    for entry in entries:
        found = [(need, names.get(need) or names.get(id_of(need))) for need in entry.needs]
        for need, name in found:
            if name is None:
                known = sorted({each.id for each in entries} - {entry.id})
                hint = did_you_mean(need, known) or f"; there are {', '.join(known) or 'no others'}"
                entry.complain("depends_on", f"there is no {_shown(need)}{hint}")
            elif name == entry.id:
                entry.complain("depends_on", "it depends on itself; take its id out")
        kept = (name for _, name in found if name is not None and name != entry.id)
        entry.depends_on = tuple(dict.fromkeys(kept))


def _plan_problems(key: str, entries: Sequence[_Entry], agent: str) -> Iterator[str]:
    """What keeps units, or parts taken for units, from being a plan."""
    units = [entry.unit(agent) for entry in entries]
    for problem in plan_problems(units, agents=[agent]) if units else ():
        text = problem.text if key == "units" else problem.text.replace("unit", "part", 1)
        yield f"{key}[{problem.position}].{problem.key}: {text}"


def _pattern_problems(patterns: Sequence[str]) -> Iterator[str]:
    """What an agent may not name, beyond what no plan may."""
    if len(patterns) > MOST_PATTERNS:
        yield f"{len(patterns)} are too many; name folders, or at most {MOST_PATTERNS} paths"
    for pattern in patterns[:MOST_PATTERNS]:
        shown = _shown(pattern)
        if len(pattern) > PATTERN_CHARACTERS:
            yield f"{shown} is longer than {PATTERN_CHARACTERS} characters"
        elif pattern.startswith(("/", "~")) or re.match(r"[A-Za-z]:[\\/]", pattern):
            yield f"{shown} is absolute; name it from the repository's root"
        elif "\\" in pattern:
            yield f"{shown}: write / between folders, and [*] for a literal *"
        elif pattern.startswith("!"):
            yield f"{shown}: nothing can be excluded; name what may be written"
        elif _BRACES.search(pattern) or pattern.count("{") != pattern.count("}"):
            yield f"{shown}: braces are not expanded; name each path"
        elif len(re.findall(r"\*+|\?", pattern)) > MOST_WILDCARDS:
            yield f"{shown} has more than {MOST_WILDCARDS} wildcards; name folders"


def _value(values: Mapping[str, Any], key: str) -> Any:
    """The value of a key under the first of its names that says anything."""
    return next((values[name] for name in _KEYS[key] if values.get(name) is not None), None)


def _named(value: Any) -> Any:
    """The text that a table in a list of texts stands for."""
    if not isinstance(value, dict):
        return value
    return next((value[key] for key in _PATH_KEYS if isinstance(value.get(key), str)), None)


def _text(value: Any) -> str:
    """A text or whole number; what only stands for one is empty."""
    text = str(value) if type(value) is int else value
    text = text.strip() if isinstance(text, str) else ""
    return "" if text.lower() in _NOTHING else text


def _path(text: str) -> str:
    path = _REMARK.sub("", text.strip("`'\" \t"))
    return on_one_line(path.strip("`'\" \t")).removeprefix("./")


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"'{on_one_line(value[:1_000], _SHOWN_CHARACTERS)}'"
    return "a table" if isinstance(value, dict) else on_one_line(repr(value)[:99])
