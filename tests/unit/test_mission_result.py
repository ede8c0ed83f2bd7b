"""The result line, found in whatever surrounds it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.running.result import READ_CHARACTERS, MissionResult, find_result

SAID = {
    "status": "done",
    "summary": 'Moved {settings} to a "file" } MISSION_RESULT: {"summary": "no"}',
    "commits": ["abc"],
    "discoveries": ["a } brace", "b"],
}
LISTS = (
    "commits",
    "files_changed",
    "discoveries",
    "concerns",
    "decisions",
    "gotchas",
    "learnings",
)


def line(said: object, mark: str = "MISSION_RESULT") -> str:
    return f"{mark}: {json.dumps(said)}"


@pytest.mark.parametrize(
    "text",
    [
        line(SAID),
        line(SAID, "MC_RESULT"),
        f"MISSION_RESULT:\n{json.dumps(SAID, indent=2)}\nand that is all {{",
        f"MISSION_RESULT:\n```json\n{json.dumps(SAID, indent=2)}\n```\n",
        f"```\n{line(SAID)}\n```",
        f"**MISSION_RESULT:** `{json.dumps(SAID)}`",
        f"{line({'summary': 'the first'})}\nthen\n{line(SAID)}",
        f"{line(SAID)}\nI printed MISSION_RESULT: {{broken",
        f"MISSION_RESULT: nothing yet\n{line(SAID)}",
        json.dumps({"type": "text", "part": {"text": f"Done.\n{line(SAID)}"}}),
        json.dumps({"a": [1, {"b": f"MISSION_RESULT:\n```json\n{json.dumps(SAID)}\n```"}]}) + "\n}",
    ],
)
def test_the_last_whole_result_is_found(text: str) -> None:
    result = find_result(text)
    assert result.summary == SAID["summary"]
    assert result.status == "done"
    assert result.discoveries == ("a } brace", "b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no result",
        "MISSION_RESULT",
        "MISSION_RESULT: ",
        "MISSION_RESULT: {",
        'MISSION_RESULT: {"summary": "cut o',
        'MISSION_RESULT: ["summary"]',
        "MISSION_RESULT: {'summary': 'single quotes'}",
        "MY_MISSION_RESULTS: {}",
        "MISSION_RESULT: " + '{"a":' * 40_000,
        '{"text": "MISSION_RESULT: ' + "[" * 200_000,
        'MISSION_RESULT: {"a": ' + "9" * 5_000 + "}",
    ],
)
def test_without_a_whole_result_there_is_an_empty_one(text: str) -> None:
    result = find_result(text)
    assert not result
    assert result == MissionResult()


def test_wrong_types_become_empty_and_unknown_fields_are_kept() -> None:
    result = find_result(
        line({"summary": ["x"], "commits": "abc", "concerns": {"a": 1}, "mood": [1, None]})
    )
    assert (result.summary, result.commits, result.concerns) == ("", (), ())
    assert result.as_dict()["mood"] == [1, None]


def test_other_names_of_fields_are_understood() -> None:
    result = find_result(
        line({"message": "m", "filesChanged": ["a.py"], "lessons": ["l"], "pitfalls": ["p"]})
    )
    assert (result.summary, result.files_changed) == ("m", ("a.py",))
    assert (result.learnings, result.gotchas) == (("l",), ("p",))


def test_items_that_are_no_texts_become_texts() -> None:
    result = find_result(line({"discoveries": [{"title": "é"}, 3, None, "  ", "plain "]}))
    assert result.discoveries == ('{"title": "é"}', "3", "plain")


def test_what_no_file_can_hold_is_replaced() -> None:
    text = r'MISSION_RESULT: {"summary": "a\ud800b\u0000", "x\udc00": [1e999, NaN], "commits": []}'
    result = find_result(text)
    json.dumps(result.as_dict(), allow_nan=False, ensure_ascii=False).encode()
    assert result.summary == "a?b\N{REPLACEMENT CHARACTER}"


def test_names_of_methods_are_only_data() -> None:
    result = find_result(line({"as_dict": 1, "model_dump": 2, "__class__": 3, "summary": "s"}))
    assert result.as_dict()["as_dict"] == 1
    assert result.summary == "s"


def test_long_results_are_bounded() -> None:
    result = find_result(line({"summary": "x" * 9_000, "concerns": ["y" * 9_000] * 5}))
    assert len(result.summary) == 4_000
    assert {len(concern) for concern in result.concerns} == {2_000}
    assert len(find_result(line({"concerns": ["y"] * 900})).concerns) == 200


TEXTS = st.text(max_size=20) | st.sampled_from(["}", "{", '"', "MISSION_RESULT: {}", "\\", "```"])
RESULTS = st.fixed_dictionaries(
    {"status": TEXTS},
    optional={"summary": TEXTS, **dict.fromkeys(LISTS, st.lists(TEXTS, max_size=3))},
)
NOISE = st.text(max_size=60).filter(lambda text: "_RESULT" not in text)


@given(said=RESULTS, before=NOISE, after=NOISE, indent=st.none() | st.integers(0, 3))
def test_a_result_comes_back_from_within_noise(
    said: dict[str, Any], before: str, after: str, indent: int | None
) -> None:
    text = f"{before}\nMISSION_RESULT: {json.dumps(said, indent=indent)}\n{after}"
    expected = MissionResult.model_validate(said)
    if not any("\0" in each for each in _texts(said)):
        assert find_result(text) == expected
    if not any("_RESULT" in each for each in _texts(said)):  # one mark in a line of JSON
        assert find_result(json.dumps({"text": text})) == find_result(text)


def _texts(said: dict[str, Any]) -> list[str]:
    return [t for v in said.values() for t in (v if isinstance(v, list) else [v])]


@given(st.lists(st.sampled_from(["MISSION_RESULT", ":", "{", "}", '"', "a", "\\", "[", "\n"])))
def test_no_text_makes_it_raise(parts: list[str]) -> None:
    find_result("".join(parts))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*LISTS, "status", "summary", "x"]), JSON))
def test_any_object_is_read_and_can_be_kept(said: dict[str, Any]) -> None:
    result = find_result(f"MISSION_RESULT: {json.dumps(said)}")
    json.dumps(result.as_dict(), allow_nan=False).encode()
    assert all(isinstance(item, str) for name in LISTS for item in getattr(result, name))


@pytest.mark.parametrize(
    "piece",
    ['MC_RESULT:{"x"y ', 'MC_RESULT:{"a":"', "MC_RESULT: ", '{"MC_RESULT:{\\"', "MC_RESULT:{[`"],
)
def test_hostile_texts_take_time_in_proportion_to_their_length(piece: str) -> None:
    def seconds(length: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length]
        began = time.process_time()
        find_result(text)
        return time.process_time() - began

    short = min(seconds(READ_CHARACTERS // 8) for _ in range(3))
    long = min(seconds(READ_CHARACTERS) for _ in range(3))
    assert long <= 8 * 4 * short + 0.05
