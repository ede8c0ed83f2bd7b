"""The result line: found in whatever an agent printed around it, and never an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.running.result import find_result

texts = st.text(max_size=40)
items = st.lists(st.text(min_size=1, max_size=20).filter(str.strip), max_size=4)
noise = st.text(max_size=200).filter(lambda text: "_RESULT" not in text)


def line(mark: str = "MISSION_RESULT", **fields: Any) -> str:
    return f"{mark}: {json.dumps(fields)}"


@pytest.mark.parametrize("mark", ["MISSION_RESULT", "MC_RESULT"])
def test_it_is_found_under_either_name(mark: str) -> None:
    found = find_result(f"work\n{line(mark, status='done', learnings=['a'])}\nbye\n")
    assert (found.status, found.learnings) == ("done", ("a",))


def test_the_last_one_counts() -> None:
    assert find_result(f"{line(summary='first')}\n{line(summary='last')}").summary == "last"


def test_a_broken_last_one_leaves_the_one_before() -> None:
    assert find_result(f"{line(summary='whole')}\nMISSION_RESULT: {{oops").summary == "whole"


def test_it_may_be_fenced_and_over_several_lines() -> None:
    body = json.dumps({"summary": "it has } and { in it", "gotchas": ["x"]}, indent=2)
    for text in (f"MISSION_RESULT:\n```json\n{body}\n```", f"**MISSION_RESULT**: {body}"):
        found = find_result(text)
        assert (found.summary, found.gotchas) == ("it has } and { in it", ("x",))


def test_it_is_found_inside_a_stream_of_json() -> None:
    said = f"Done.\n{line(decisions=['tabs'])}\n"
    event = {"type": "assistant", "message": {"content": [{"type": "text", "text": said}]}}
    assert find_result(f'{{"type": "init"}}\n{json.dumps(event)}\n').decisions == ("tabs",)


def test_wrong_types_are_empty_and_unknown_fields_are_kept() -> None:
    found = find_result(line(commits="abc", concerns={"a": 1}, summary=7, mood="good"))
    assert (found.commits, found.concerns, found.summary) == ((), (), "")
    assert found.as_dict()["mood"] == "good"


def test_other_spellings_are_understood() -> None:
    assert find_result(line(filesChanged=["a.py"], lessons=["b"])).files_changed == ("a.py",)


@pytest.mark.parametrize("text", ["", "MISSION_RESULT", "MISSION_RESULT: 7", "MISSION_RESULT: []"])
def test_without_one_the_result_is_empty(text: str) -> None:
    assert not find_result(text)


@given(before=noise, after=noise, summary=texts, learnings=items)
def test_it_comes_back_out_of_any_noise(
    before: str, after: str, summary: str, learnings: list[str]
) -> None:
    found = find_result(f"{before}\n{line(summary=summary, learnings=learnings)}\n{after}")
    assert found.summary == summary.replace("\0", "\N{REPLACEMENT CHARACTER}")
    assert len(found.learnings) == len(learnings)


@given(st.lists(st.sampled_from(["MISSION_RESULT: ", "{", "}", '"', "[", "\\", "a", "\n"])))
def test_nothing_that_an_agent_prints_is_an_error(parts: list[str]) -> None:
    find_result("".join(parts))
