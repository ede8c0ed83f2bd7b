"""The append-only log: durable, gapless, one writer, tolerant of nothing but a torn last line."""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from pydantic import ValidationError

from blocks.errors import LedgerDamaged, MissionActive, MissionError
from flows.ledger.events import EVENT_TYPES, Delivered, Event, UnitEnded, Warned
from flows.ledger.log import Ledger, Record, encode, read_ledger

SAMPLES: Mapping[Any, Any] = {
    str: 'text ünïcödé\n"quoted"',
    int: 7,
    float: 0.1,
    bool: True,
    Sequence[str]: ["a", "b"],
    Sequence[Mapping[str, Any]]: [{"id": "u", "writes": None}],
    Mapping[str, Any]: {"deep": {"list": [1, 2.5, None]}},
    Mapping[str, int]: {"landed": 2},
    Mapping[str, float]: {"tests": 0.5},
    str | None: None,
    int | None: 3,
    float | None: 1.5,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "missions" / "m-1" / "ledger.jsonl"


def sample(kind: type[Event], *, whole: bool) -> Event:
    """An event with all its fields, or only those without default."""
    hints = get_type_hints(kind)
    names = [
        f.name
        for f in fields(kind)
        if whole or (f.default is MISSING and f.default_factory is MISSING)
    ]
    return kind(**{name: SAMPLES[hints[name]] for name in names})


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=lambda kind: kind.type)
def test_what_is_appended_is_read_back(path: Path, kind: type[Event], whole: bool) -> None:
    event = sample(kind, whole=whole)
    with Ledger(path) as ledger:
        ledger.append(event)
    (record,) = read_ledger(path)
    assert encode(record) == path.read_bytes()
    assert type(record.event) is kind
    for each in fields(kind):
        told, kept = (getattr(e, each.name) for e in (event, record.event))
        assert (list(told) if isinstance(told, tuple) else told) == kept


def test_lines_are_numbered_from_one_without_gaps_across_writers(path: Path) -> None:
    for text in ("a", "b", "c"):
        with Ledger(path) as ledger:
            ledger.append(Warned(text=text), Warned(text=text * 2))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["text"] for line in lines] == ["a", "aa", "b", "bb", "c", "cc"]
    assert {line["type"] for line in lines} == {"warning"}


def test_events_appended_together_share_their_time(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append(Warned(text="a"), Warned(text="b"))
    one, two = read_ledger(path)
    assert one.at == two.at


def test_a_listener_is_told_when_the_line_is_in_the_file(path: Path) -> None:
    seen: list[tuple[Record, int]] = []
    with Ledger(path, on_append=lambda r: seen.append((r, len(read_ledger(path))))) as ledger:
        ledger.append(Warned(text="a"))
        ledger.append(Warned(text="b"), Warned(text="c"))
        assert [record for record, _ in seen] == ledger.records
    assert [(record.seq, lines) for record, lines in seen] == [(1, 1), (2, 3), (3, 3)]


@pytest.mark.parametrize("torn", [b"{", b'{"seq":3,"at":1.0,"type":"warning","text":"c"}', b"\xff"])
def test_a_torn_last_line_is_dropped_and_overwritten(path: Path, torn: bytes) -> None:
    with Ledger(path) as ledger:
        ledger.append(Warned(text="a"), Warned(text="b"))
    path.write_bytes(path.read_bytes() + torn)
    assert len(read_ledger(path)) == 2
    with Ledger(path) as ledger:
        assert len(ledger.records) == 2
        ledger.append(Warned(text="d"))
    assert [r.seq for r in read_ledger(path)] == [1, 2, 3]
    assert b"".join(map(encode, read_ledger(path))) == path.read_bytes()


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_wherever_the_last_write_was_torn_the_rest_is_whole(path: Path, cut: int) -> None:
    with Ledger(path) as ledger:
        ledger.append(Warned(text="a"))
        whole = path.read_bytes()
        ledger.append(Warned(text="b"))
    path.write_bytes(path.read_bytes()[:-cut])
    assert b"".join(map(encode, read_ledger(path))) == whole


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (b"garbage\n", "Expecting value"),
        (b'{"seq":2,"at":1.0,"type":"no.such","text":"x"}\n', "no.such"),
        (b'{"seq":2,"at":1.0,"type":"warning"}\n', "text"),
        (b'{"seq":4,"at":1.0,"type":"warning","text":"x"}\n', "seq is 4, expected 2"),
        (b"\n", "Expecting value"),
        (b"[1]\n", ""),
    ],
)
def test_damage_in_the_middle_is_an_error_that_names_the_line(
    path: Path, damage: bytes, why: str
) -> None:
    with Ledger(path) as ledger:
        ledger.append(Warned(text="a"), Warned(text="b"), Warned(text="c"))
    first, _, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage + third)
    damaged = path.read_bytes()
    with pytest.raises(LedgerDamaged, match=f"ledger.jsonl:2: .*{why}"):
        read_ledger(path)
    with pytest.raises(LedgerDamaged), Ledger(path):
        pass
    assert path.read_bytes() == damaged, "a damaged ledger is evidence"


def test_fields_of_a_later_version_are_passed_over(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text('{"seq":1,"at":1.0,"type":"warning","text":"x","colour":"red"}\n')
    assert read_ledger(path) == [Record(1, 1.0, Warned(text="x"))]


def test_a_second_writer_is_refused_until_the_first_has_ended(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append(Warned(text="a"))
        with pytest.raises(MissionActive, match="m-1"), Ledger(path):
            pass
        assert len(read_ledger(path)) == 1
    with Ledger(path) as ledger:
        ledger.append(Warned(text="b"))
    assert len(read_ledger(path)) == 2


def test_a_field_of_the_wrong_type_is_never_written(path: Path) -> None:
    wrong: Any = 7
    with Ledger(path) as ledger:
        ledger.append(Warned(text="a"))
        with pytest.raises(ValidationError):
            ledger.append(Delivered(branch="b", commit="c"), UnitEnded(unit=wrong, status="x"))
        ledger.append(Warned(text="b"))
    assert [r.event for r in read_ledger(path)] == [Warned(text="a"), Warned(text="b")]


def test_of_an_append_that_does_not_fit_nothing_is_kept(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append(Warned(text="a"))
        before = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10_000, hard))
        try:
            with pytest.raises(MissionError, match="free some space"):
                ledger.append(Warned(text="b"), Warned(text="x" * 20_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        assert len(ledger.records) == 1
        ledger.append(Warned(text="c"))
    assert [r.seq for r in read_ledger(path)] == [1, 2]


def test_only_its_owner_may_read_it(path: Path) -> None:
    """It holds prompts and the output of agents."""
    with Ledger(path) as ledger:
        ledger.append(Warned(text="a"))
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
