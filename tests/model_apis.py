"""What a scripted model says, in the words of three model APIs: Messages, Responses, Chat.

An `Api` reads which tools a request offers and writes an answer, whole or as server-sent events.
Source: https://docs.claude.com/en/api/messages-streaming,
https://platform.openai.com/docs/api-reference/responses-streaming and .../chat-streaming.
"""

from __future__ import annotations

import json
import shlex
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Event = tuple[str | None, Any]
"""Name and data of a server-sent event; data that is a string is sent as it is."""

INPUT_TOKENS = 1500
"""Tokens that each answer says it has read, `CACHED_TOKENS` of them from a cache."""
CACHED_TOKENS = 400
OUTPUT_TOKENS = 60

_SHELLS = (
    "Bash",
    "bash",
    "exec_command",
    "shell_command",
    "shell",
    "local_shell",
    "run_shell_command",
)
_WRITERS = ("Write", "write", "write_file", "create_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool that a client offers; `properties` and `required` are of its JSON schema."""

    name: str
    kind: Literal["function", "custom", "local_shell"] = "function"
    properties: Mapping[str, Any] = field(default_factory=dict)
    required: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a tool: arguments of a function, text for a custom tool, argv for a shell."""

    name: str
    kind: Literal["function", "custom", "local_shell"] = "function"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:20]}")


class Refusal(str):
    """Text of a model that declines to go on."""

    __slots__ = ()


def shell_call(tools: Sequence[Tool], command: str) -> Call:
    """Call the client's shell, by whatever name and with whatever arguments it has."""
    tool = _first(tools, _SHELLS)
    if tool is None and (code := _first(tools, ("exec",))):
        script = f"const ran = await tools.exec_command({json.dumps({'cmd': command})});"
        return Call(name=code.name, kind="custom", text=f"{script}\ntext(ran.output);")
    assert tool is not None, f"no shell among {[tool.name for tool in tools]}"
    if tool.kind == "local_shell":
        argv = ["bash", "-c", command]
        return Call(name=tool.name, kind="local_shell", arguments={"command": argv})
    name = "cmd" if "cmd" in tool.properties else "command"
    is_argv = tool.properties.get(name, {}).get("type") == "array"
    value = ["bash", "-c", command] if is_argv else command
    return Call(name=tool.name, arguments=_complete(tool, {name: value}))


def write_call(tools: Sequence[Tool], path: str, text: str) -> Call:
    """Write a file by the client's own tool, else by a patch, else by its shell."""
    if tool := _first(tools, _WRITERS):
        names = {
            name: value
            for names, value in ((("file_path", "filePath", "path"), path), (("content",), text))
            for name in names
            if name in tool.properties
        }
        return Call(name=tool.name, arguments=_complete(tool, names))
    if tool := _first(tools, ("apply_patch",)):
        patch = _patch(path, text)
        if tool.kind == "custom":
            return Call(name=tool.name, kind="custom", text=patch)
        return Call(name=tool.name, arguments=_complete(tool, {"input": patch}))
    if code := _first(tools, ("exec",)):
        script = f"text(await tools.apply_patch({json.dumps(_patch(path, text))}));"
        return Call(name=code.name, kind="custom", text=script)
    return shell_call(tools, f"printf %s {shlex.quote(text)} > {shlex.quote(path)}")


def _patch(path: str, text: str) -> str:
    lines = "".join(f"+{line}\n" for line in text.splitlines())
    return f"*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch"


def _first(tools: Sequence[Tool], names: Sequence[str]) -> Tool | None:
    by_name = {tool.name: tool for tool in tools}
    return next((by_name[name] for name in names if name in by_name), None)


def _complete(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Add what the schema demands besides: a sentence for each text."""
    more = {
        name: "as the script says"
        for name in tool.required
        if name not in arguments and tool.properties.get(name, {}).get("type") == "string"
    }
    return {**arguments, **more}


class Api(ABC):
    """How one model API offers tools and shapes answers."""

    @abstractmethod
    def tools(self, body: Mapping[str, Any]) -> list[Tool]:
        """Return the tools that a request offers."""

    @abstractmethod
    def whole(self, model: str, said: str | Call) -> dict[str, Any]:
        """Return the answer to a request that does not stream."""

    @abstractmethod
    def events(self, model: str, said: str | Call) -> Iterator[Event]:
        """Yield the answer to a request that streams."""

    @abstractmethod
    def refusal(self, kind: str, message: str, **more: Any) -> dict[str, Any]:
        """Return the body of an answer that is an error."""


class Messages(Api):
    """Anthropic's Messages API."""

    def tools(self, body: Mapping[str, Any]) -> list[Tool]:
        """Return the tools with a schema; those that the server runs itself are left out."""
        offered = [tool for tool in body.get("tools") or () if "input_schema" in tool]
        return [_tool(tool["name"], tool["input_schema"]) for tool in offered]

    def whole(self, model: str, said: str | Call) -> dict[str, Any]:
        """Return a message."""
        message = self._message(model)
        block = (
            {"type": "text", "text": said}
            if isinstance(said, str)
            else {"type": "tool_use", "id": said.id, "name": said.name, "input": said.arguments}
        )
        return {**message, "content": [block], "stop_reason": _stop_reason(said)}

    def events(self, model: str, said: str | Call) -> Iterator[Event]:
        """Yield a message of one block in two deltas."""
        for event in self._events(model, said):
            yield event["type"], event

    def _events(self, model: str, said: str | Call) -> Iterator[dict[str, Any]]:
        message = self._message(model)
        yield {"type": "message_start", "message": message}
        if isinstance(said, str):
            block: dict[str, Any] = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": part} for part in _halves(said)]
        else:
            block = {"type": "tool_use", "id": said.id, "name": said.name, "input": {}}
            parts = _halves(json.dumps(said.arguments))
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        yield {"type": "content_block_start", "index": 0, "content_block": block}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": 0, "delta": delta}
        yield {"type": "content_block_stop", "index": 0}
        end = {"stop_reason": _stop_reason(said), "stop_sequence": None}
        yield {"type": "message_delta", "delta": end, "usage": {"output_tokens": OUTPUT_TOKENS}}
        yield {"type": "message_stop"}

    def refusal(self, kind: str, message: str, **more: Any) -> dict[str, Any]:
        """Return an error and the id of the request."""
        request = f"req_{uuid.uuid4().hex[:24]}"
        error = {"type": kind, "message": message, **more}
        return {"type": "error", "error": error, "request_id": request}

    def _message(self, model: str) -> dict[str, Any]:
        return {
            "id": f"msg_{uuid.uuid4().hex[:24]}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": INPUT_TOKENS - CACHED_TOKENS,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": CACHED_TOKENS,
                "output_tokens": OUTPUT_TOKENS,
            },
        }


class Responses(Api):
    """OpenAI's Responses API."""

    def tools(self, body: Mapping[str, Any]) -> list[Tool]:
        """Return functions, custom tools and the local shell, those in namespaces too.

        Newer models of Codex are offered one tool, `exec`, that runs JavaScript; it is announced
        in the input, not in `tools`.
        """
        asked = body.get("input")
        items = asked if isinstance(asked, list) else ()
        given = [*(body.get("tools") or ())]
        for item in items:
            given += item["tools"] if item.get("type") == "additional_tools" else ()
        flat = [tool for space in given for tool in space.get("tools") or (space,)]
        offered = []
        for tool in flat:
            match tool["type"]:
                case "function":
                    offered.append(_tool(tool["name"], tool.get("parameters") or {}))
                case "custom":
                    offered.append(Tool(name=tool["name"], kind="custom"))
                case "local_shell":
                    offered.append(Tool(name="local_shell", kind="local_shell"))
        return offered

    def whole(self, model: str, said: str | Call) -> dict[str, Any]:
        """Return a response of one item."""
        return self._response(f"resp_{uuid.uuid4().hex}", model, self._item(said))

    def events(self, model: str, said: str | Call) -> Iterator[Event]:
        """Yield a response of one item; its text in two deltas."""
        for number, event in enumerate(self._events(model, said)):
            yield event["type"], {**event, "sequence_number": number}

    def _events(self, model: str, said: str | Call) -> Iterator[dict[str, Any]]:
        response_id, item = f"resp_{uuid.uuid4().hex}", self._item(said)
        begun = self._response(response_id, model)
        yield {"type": "response.created", "response": begun}
        where = {"output_index": 0, "item_id": item["id"]}
        if isinstance(said, str):
            empty = {**item, "status": "in_progress", "content": []}
            yield {"type": "response.output_item.added", "output_index": 0, "item": empty}
            for part in _halves(said):
                yield {
                    "type": "response.output_text.delta",
                    "content_index": 0,
                    "delta": part,
                    **where,
                }
        else:
            yield {"type": "response.output_item.added", "output_index": 0, "item": item}
        yield {"type": "response.output_item.done", "output_index": 0, "item": item}
        done = self._response(response_id, model, item)
        yield {"type": "response.completed", "response": done}

    def refusal(self, kind: str, message: str, **more: Any) -> dict[str, Any]:
        """Return an error."""
        return {"error": {"type": kind, "code": kind, "message": message, "param": None, **more}}

    def _item(self, said: str | Call) -> dict[str, Any]:
        state = {"id": f"item_{uuid.uuid4().hex}", "status": "completed"}
        if isinstance(said, Refusal):
            content: list[dict[str, Any]] = [{"type": "refusal", "refusal": said}]
            return {**state, "type": "message", "role": "assistant", "content": content}
        if isinstance(said, str):
            content = [{"type": "output_text", "text": said, "annotations": []}]
            return {**state, "type": "message", "role": "assistant", "content": content}
        call = {**state, "call_id": said.id, "name": said.name}
        match said.kind:
            case "function":
                arguments = json.dumps(said.arguments)
                return {**call, "type": "function_call", "arguments": arguments}
            case "custom":
                return {**call, "type": "custom_tool_call", "input": said.text}
            case "local_shell":
                action = {"type": "exec", "env": {}, **said.arguments}
                return {**call, "type": "local_shell_call", "action": action}

    def _response(
        self, response_id: str, model: str, item: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        usage = {
            "input_tokens": INPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
            "output_tokens": OUTPUT_TOKENS,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        }
        return {
            "id": response_id,
            "object": "response",
            "model": model,
            "status": "completed" if item else "in_progress",
            "output": [item] if item else [],
            "usage": usage if item else None,
        }


class Chat(Api):
    """OpenAI's Chat Completions API, which many other servers speak."""

    def tools(self, body: Mapping[str, Any]) -> list[Tool]:
        """Return the functions."""
        offered = [tool["function"] for tool in body.get("tools") or ()]
        return [_tool(tool["name"], tool.get("parameters") or {}) for tool in offered]

    def whole(self, model: str, said: str | Call) -> dict[str, Any]:
        """Return a completion."""
        message: dict[str, Any] = {"role": "assistant", "content": None}
        message |= {"content": said} if isinstance(said, str) else self._calls(said)
        choice = {"index": 0, "message": message, "finish_reason": self._finish(said)}
        completion = self._completion(model, "chat.completion")
        return {**completion, "choices": [choice], "usage": self._usage()}

    def events(self, model: str, said: str | Call) -> Iterator[Event]:
        """Yield chunks: role, what is said, the reason of the end, usage, `[DONE]`."""
        chunk = self._completion(model, "chat.completion.chunk")
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        if isinstance(said, str):
            deltas += [{"content": part} for part in _halves(said)]
        else:
            deltas.append(self._calls(said))
        for delta in deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            yield None, {**chunk, "choices": [choice]}
        end = {"index": 0, "delta": {}, "finish_reason": self._finish(said)}
        yield None, {**chunk, "choices": [end]}
        yield None, {**chunk, "choices": [], "usage": self._usage()}
        yield None, "[DONE]"

    def refusal(self, kind: str, message: str, **more: Any) -> dict[str, Any]:
        """Return an error."""
        return {"error": {"type": kind, "code": kind, "message": message, "param": None, **more}}

    def _calls(self, said: Call) -> dict[str, Any]:
        function = {"name": said.name, "arguments": json.dumps(said.arguments)}
        call = {"index": 0, "id": said.id, "type": "function", "function": function}
        return {"tool_calls": [call]}

    def _finish(self, said: str | Call) -> str:
        if isinstance(said, Refusal):
            return "content_filter"
        return "stop" if isinstance(said, str) else "tool_calls"

    def _completion(self, model: str, kind: str) -> dict[str, Any]:
        name = f"chatcmpl-{uuid.uuid4().hex}"
        return {"id": name, "object": kind, "created": 1_700_000_000, "model": model}

    def _usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": INPUT_TOKENS,
            "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
            "completion_tokens": OUTPUT_TOKENS,
            "completion_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        }


def _tool(name: str, schema: Mapping[str, Any]) -> Tool:
    return Tool(
        name=name,
        properties=schema.get("properties") or {},
        required=schema.get("required") or (),
    )


def _stop_reason(said: str | Call) -> str:
    if isinstance(said, Refusal):
        return "refusal"
    return "end_turn" if isinstance(said, str) else "tool_use"


def _halves(text: str) -> tuple[str, str]:
    middle = len(text) // 2
    return text[:middle], text[middle:]
