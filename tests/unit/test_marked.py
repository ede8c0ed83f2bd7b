"""Answers of agents: found under any mark, and what is said when there is none."""

from __future__ import annotations

import json
import time

import pytest

from flows.prompts.prompts import EVALUATION_MARK, PLAN_MARK, RESULT_MARK
from flows.running.marked import READ_CHARACTERS, find_marked, why_unmarked
from flows.running.result import RESULT_MARKS

MARKS = ("MISSION_PLAN", "PLAN")


def test_only_the_marks_that_are_asked_for_count() -> None:
    text = 'MISSION_RESULT: {"a": 1}\nMISSION_PLAN: {"b": 2}\nMISSION_RESULT: {"c": 3}'
    assert find_marked(text, MARKS) == {"b": 2}
    assert find_marked(text, RESULT_MARKS) == {"c": 3}
    assert find_marked(text, ["REVIEW"]) is None


def test_an_empty_object_is_an_answer() -> None:
    assert find_marked("PLAN: {}", MARKS) == {}


def test_a_mark_may_follow_an_escaped_line_end_in_a_stream_of_json() -> None:
    event = json.dumps({"said": ['so:\nMISSION_PLAN: {\n  "units": []\n}\n']})
    assert find_marked(f"started\n{event}\n", MARKS) == {"units": []}


@pytest.mark.parametrize("mark", [RESULT_MARK, PLAN_MARK, EVALUATION_MARK])
def test_what_prompts_ask_for_is_what_is_looked_for(mark: str) -> None:
    assert find_marked(f'{mark} {{"a": 1}}', [mark.rstrip(":")]) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nothing", "there is no line `MISSION_PLAN: "),
        ("MISSION_PLAN: later", "no JSON object follows the last MISSION_PLAN"),
        ('MISSION_PLAN: {"a": 1,\n"b" 2}', "no JSON: Expecting ':' delimiter in its line 2"),
        ('MISSION_PLAN: {"a": ' + "[" * 9_000, "no JSON"),
    ],
)
def test_it_is_said_why_there_is_none(text: str, why: str) -> None:
    assert find_marked(text, MARKS) is None
    assert why in why_unmarked(text, MARKS)


@pytest.mark.parametrize("piece", ["PLAN: {", 'PLAN: {"a":', "PLAN: " + "`" * 70, "PLAN:{[[["])
def test_a_hostile_text_takes_no_time(piece: str) -> None:
    text = piece * (2 * READ_CHARACTERS // len(piece))
    began = time.process_time()
    assert find_marked(text, MARKS) is None
    why_unmarked(text, MARKS)
    assert time.process_time() - began < 2
