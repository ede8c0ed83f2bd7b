"""What is remembered of a repository: once each, the newest first, whole whoever writes or dies."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.errors import StorageFailed
from flows.running.memory import (
    ENTRY_CHARACTERS,
    FROM_ONE_REPORT,
    Entry,
    Memory,
    entries_of,
)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory.beside(tmp_path / "repositories" / "acme.js-0123.git")


def entry(text: str, kind: str = "learning", unit: str = "u") -> Entry:
    return Entry(kind=kind, text=text, unit=unit, mission="m", at=1_000.0)


def texts(memory: Memory) -> list[str]:
    return [e.text for e in memory.entries()]


def test_what_was_reported_is_found_again_the_newest_first(memory: Memory) -> None:
    assert memory.entries() == []
    memory.add([entry("a"), entry("b")])
    memory.add([entry("c")])
    assert memory.entries() == [entry("c"), entry("b"), entry("a")]
    assert memory.path.name == "acme.js-0123.memory.jsonl"


def test_what_is_reported_again_is_kept_once_and_moves_to_the_front(memory: Memory) -> None:
    memory.add([entry("Tests need TZ=UTC."), entry("b")])
    memory.add([entry("tests  need tz=utc", unit="later")])
    assert memory.entries() == [entry("tests  need tz=utc", unit="later"), entry("b")]


def test_only_as_many_as_there_is_room_for_are_given_to_a_prompt(memory: Memory) -> None:
    memory.add([entry("old"), entry("x" * 50), entry("new")])
    room = len(entry("new").line)
    assert memory.newest(room) == [entry("new")]
    assert memory.newest(room - 1) == []
    assert len(memory.newest(1_000)) == 3


def test_workers_are_not_told_what_is_for_planners(memory: Memory) -> None:
    memory.add([entry("a", "discovery"), entry("b", "decision"), entry("c", "concern")])
    assert [e.text for e in memory.newest(1_000)] == ["b"]
    assert [e.text for e in memory.newest(1_000, {"discovery", "concern"})] == ["c", "a"]


def test_the_oldest_go_when_there_are_too_many_or_they_are_too_long(tmp_path: Path) -> None:
    memory = Memory(path=tmp_path / "m.jsonl", max_entries=3, max_characters=100)
    memory.add([entry(str(n)) for n in range(5)])
    assert texts(memory) == ["4", "3", "2"]
    memory.add([entry("y" * 75)])
    assert texts(memory) == ["y" * 75]


def test_what_a_person_removed_is_gone_and_does_not_come_back(memory: Memory) -> None:
    memory.add([entry("The password is hunter2"), entry("b")])
    (wrong,) = [e for e in memory.entries() if "hunter2" in e.text]
    assert memory.forget(wrong.id) == wrong
    memory.add([entry("the password is HUNTER2.")])
    assert texts(memory) == ["b"]
    assert b"hunter2" not in memory.path.read_bytes().lower()
    assert memory.forget(wrong.id) is None


def test_what_a_person_changed_stands_where_it_stood_and_the_old_one_is_gone(
    memory: Memory,
) -> None:
    memory.add([entry("a"), entry("b"), entry("c")])
    changed = memory.edit(entry("b").id, "B is\nbetter")
    assert changed is not None
    assert (changed.text, changed.unit) == ("B is better", "a person")
    memory.add([entry("b")])
    assert texts(memory) == ["c", "B is better", "a"]
    assert memory.edit(entry("b").id, "x") is None


def test_a_change_of_case_alone_loses_nothing(memory: Memory) -> None:
    memory.add([entry("use tz=utc")])
    memory.edit(entry("use tz=utc").id, "Use TZ=UTC.")
    assert texts(memory) == ["Use TZ=UTC."]


def test_lines_that_are_none_of_ours_are_passed_over(memory: Memory) -> None:
    memory.add([entry("a")])
    whole = memory.path.read_bytes()
    junk = [b"{", b"[]", b"3", b'{"kind": 1, "text": 2}', b"\xff", b'"x"', b"[" * 100_000]
    junk.append(json.dumps({"kind": "learning", "text": "x", "at": 1e300}).encode())
    memory.path.write_bytes(b"\n".join([*junk, whole]) + b'{"kind": "learning", "te')
    assert texts(memory) == ["a"]
    memory.add([entry("b")])
    assert texts(memory) == ["b", "a"]


def test_it_is_for_its_owner_alone(memory: Memory) -> None:
    memory.add([entry("a")])
    assert stat.S_IMODE(memory.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(memory.path.parent.stat().st_mode) == 0o700


def test_what_cannot_be_kept_stops_no_mission_but_is_told_to_a_person(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    memory = Memory(path=tmp_path / "file" / "m.jsonl")
    assert memory.add([entry("a")]) is False
    assert memory.entries() == []
    with pytest.raises(StorageFailed):
        memory.forget("0")


WRITER = """
import sys
from pathlib import Path
from flows.running.memory import Entry, Memory
memory = Memory(path=Path(sys.argv[1]), max_entries=10_000)
for n in range(int(sys.argv[3])):
    memory.add([Entry(kind="learning", text=f"{sys.argv[2]} {n}")])
"""


def writer(path: Path, name: str, n: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    argv = [sys.executable, "-c", WRITER, str(path), name, str(n)]
    return subprocess.Popen(argv, env=environment)


def test_of_writers_at_once_none_loses_what_another_wrote(memory: Memory) -> None:
    writers = [writer(memory.path, name, 25) for name in ("a", "b", "c")]
    assert [w.wait() for w in writers] == [0, 0, 0]
    assert {*texts(memory)} == {f"{name} {n}" for name in "abc" for n in range(25)}


def test_a_writer_that_is_killed_leaves_a_whole_file_and_no_lock(memory: Memory) -> None:
    memory.add([entry("first")])
    running = writer(memory.path, "a", 100_000)
    deadline = time.monotonic() + 20
    while len(memory.entries()) < 10:
        assert time.monotonic() < deadline
    running.send_signal(signal.SIGKILL)
    running.wait()
    first, *_ = [json.loads(line) for line in memory.path.read_text().splitlines()]
    assert first["text"] == "first"
    assert memory.add([entry("last")])
    assert texts(memory)[0] == "last"


def test_a_report_gives_a_few_entries_of_each_kind() -> None:
    report = {
        "decisions": ["one\nline", ""],
        "gotchas": [f"g{n}" for n in range(50)],
        "learnings": ["x" * 10_000, 3, None],
        "concerns": ["c"],
        "summary": "no entry",
    }
    found = entries_of(report, unit="u", mission="m", at=5.0)
    assert found[0] == Entry(kind="decision", text="one line", unit="u", mission="m", at=5.0)
    assert [e.kind for e in found].count("gotcha") == FROM_ONE_REPORT
    (long,) = [e for e in found if e.kind == "learning"]
    assert len(long.text) == ENTRY_CHARACTERS
    assert found[-1].kind == "concern"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(report=st.dictionaries(st.sampled_from(["decisions", "gotchas", "discoveries"]), JSON))
def test_no_report_is_too_odd_to_be_read(report: dict[str, object]) -> None:
    for found in entries_of(report, unit="u", mission="m", at=0.0):
        assert found.text.strip()
        assert "\n" not in found.line
