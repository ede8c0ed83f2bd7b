"""The scripted model server itself: three APIs, whole and streamed, by plain HTTP."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any

import pytest

from tests.model_server import (
    Decline,
    Dropped,
    ModelServer,
    Nonsense,
    Overloaded,
    RateLimit,
    Say,
    Shell,
    Turn,
    UsageLimit,
    Write,
    scripted_models,
)

SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/messages": {"tools": [{"name": "Bash", "input_schema": SCHEMA}]},
    "/v1/responses": {"tools": [{"type": "function", "name": "shell", "parameters": SCHEMA}]},
    "/v1/chat/completions": {
        "tools": [{"type": "function", "function": {"name": "bash", "parameters": SCHEMA}}]
    },
}
PATHS = list(REQUESTS)
ALL_FAULTS: list[Turn] = [UsageLimit(4_102_444_800), RateLimit(3), Overloaded(), Nonsense()]


def ask(models: ModelServer, path: str, **body: Any) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(models.url.removeprefix("http://"), timeout=5)
    try:
        headers = {"Authorization": "Bearer secret", "X-Api-Key": "secret"}
        text = json.dumps({"model": "m", **REQUESTS.get(path, {}), **body})
        connection.request("POST", path, text, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def data_of(stream: str) -> list[Any]:
    lines = [line[6:] for line in stream.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize("path", PATHS)
def test_a_command_is_called_by_the_tool_that_the_client_has_whole_or_streamed(path: str) -> None:
    with scripted_models([Shell("git status")]) as models:
        whole = json.loads(ask(models, path)[2])
        streamed = data_of(ask(models, path, stream=True)[2])
    command = json.dumps(json.dumps({"command": "git status"}))
    if path == "/v1/messages":
        assert whole["content"][0]["input"] == {"command": "git status"}
        parts = [e["delta"]["partial_json"] for e in streamed if e["type"] == "content_block_delta"]
        assert json.loads("".join(parts)) == {"command": "git status"}
        assert whole["stop_reason"] == "tool_use"
    else:
        assert command in json.dumps(whole)
        assert command in json.dumps(streamed)
    assert "60" in json.dumps(whole["usage"])


@pytest.mark.parametrize("path", PATHS)
def test_a_script_is_played_in_order_and_its_last_turn_again_and_again(path: str) -> None:
    with scripted_models([Say("one"), Say("two")]) as models:
        answers = [ask(models, path)[2] for _ in range(3)]
        assert models.turns_left() == 0
    assert ["one" in answer for answer in answers] == [True, False, False]
    assert ["two" in answer for answer in answers] == [False, True, True]


@pytest.mark.parametrize("path", PATHS)
def test_a_request_without_tools_takes_no_turn(path: str) -> None:
    with scripted_models([Shell("ls"), Say("done")]) as models:
        assert "A scripted run" in ask(models, path, tools=[])[2]
        assert models.turns_left() == 1


@pytest.mark.parametrize("path", PATHS)
def test_a_file_is_written_by_the_shell_where_there_is_no_better_tool(path: str) -> None:
    with scripted_models([Write("it's.txt", "a\n")]) as models:
        assert "printf" in ask(models, path)[2]


@pytest.mark.parametrize("path", PATHS)
def test_faults_are_what_the_services_answer(path: str) -> None:
    with scripted_models(ALL_FAULTS) as models:
        limit, rate, overloaded, nonsense = (ask(models, path, stream=True) for _ in ALL_FAULTS)
    assert [limit[0], rate[0], nonsense[0]] == [429, 429, 200]
    assert "4102444800" in limit[2] + json.dumps(limit[1])
    assert rate[1]["retry-after"] == "3"
    assert overloaded[0] == (529 if path == "/v1/messages" else 503)
    with pytest.raises(json.JSONDecodeError):
        json.loads(nonsense[2])


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize("path", PATHS)
def test_a_dropped_answer_breaks_in_the_middle(path: str, *, is_streamed: bool) -> None:
    with scripted_models([Dropped()]) as models, pytest.raises(http.client.IncompleteRead):
        ask(models, path, stream=is_streamed)


@pytest.mark.parametrize("path", PATHS)
def test_a_refusal_is_marked_as_one(path: str) -> None:
    with scripted_models([Decline("no")]) as models:
        answer = ask(models, path, stream=True)[2]
    assert "refusal" in answer or "content_filter" in answer


def test_each_of_several_agents_has_the_script_of_its_mark() -> None:
    with scripted_models({"unit-a": [Say("for a")], "unit-b": [Say("for b")]}) as models:
        answers = [
            ask(models, "/v1/messages", messages=[{"role": "user", "content": name}])[2]
            for name in ("unit-b", "unit-a")
        ]
    assert "for b" in answers[0]
    assert "for a" in answers[1]


def test_a_tool_that_runs_javascript_gets_the_command_in_javascript() -> None:
    tools = [{"type": "custom", "name": "exec"}]
    item = {"type": "additional_tools", "tools": [{"type": "namespace", "tools": tools}]}
    with scripted_models([Shell("ls"), Write("a", "b\n")]) as models:
        shell, patch = (
            json.loads(ask(models, "/v1/responses", tools=[], input=[item])[2])["output"][0]
            for _ in range(2)
        )
    assert shell["input"].startswith('const ran = await tools.exec_command({"cmd": "ls"});')
    assert "+b" in patch["input"]


def test_keys_are_not_kept_and_strangers_and_hosts_outside_are() -> None:
    with scripted_models([Say("hello")]) as models:
        ask(models, "/v1/messages")
        ask(models, "/v1/messages/count_tokens")
        ask(models, "/v1/embeddings")
        connection = http.client.HTTPConnection(models.url.removeprefix("http://"), timeout=5)
        connection.set_tunnel("example.invalid", 443)
        with pytest.raises(OSError, match="403"):
            connection.connect()
        connection.close()
    assert "secret" not in json.dumps(dict(models.asked[0].headers))
    assert models.asked[0].tools == ("Bash",)
    assert models.strangers == ["POST /v1/embeddings"]
    assert models.outside == ["example.invalid:443"]


def test_nothing_of_the_server_is_left_when_it_ends() -> None:
    before = threading.active_count()
    with scripted_models([Say("hello")]) as models:
        ask(models, "/v1/messages", stream=True)
        url = models.url
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(url.removeprefix("http://"), timeout=5).connect()
