"""What a repository itself tells agents: `AGENTS.md` and its like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flows.prompts.quoting import readable

INSTRUCTION_FILES = ("AGENTS.md", "CLAUDE.md", "GEMINI.md", ".github/copilot-instructions.md")
"""In the order in which they get room."""

INSTRUCTION_CHARACTERS = 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One file of a repository's instructions, or as much of it as there was room for."""

    path: str
    text: str
    is_whole: bool = True


def read_instructions(
    show: Callable[[str], bytes | None],
    documents: Sequence[str] = INSTRUCTION_FILES,
    *,
    limit: int = INSTRUCTION_CHARACTERS,
) -> tuple[Instruction, ...]:
    """Read the instructions that `show(path)` has, at most `limit` characters in all.

    A file that repeats another, or only points at one (a link, `@AGENTS.md`), is left out.
    """
    found: list[Instruction] = []
    room = limit
    for path in documents:
        text = readable((show(path) or b"").decode(errors="replace")).strip()
        if not text or room <= 0 or _is_a_pointer(text, documents) or _is_known(text, found):
            continue
        is_whole = len(text) <= room
        found.append(Instruction(path=path, text=text[:room], is_whole=is_whole))
        room -= len(text)
    return tuple(found)


def _is_a_pointer(text: str, documents: Sequence[str]) -> bool:
    return text.lstrip("@").removeprefix("./").removeprefix("../") in documents


def _is_known(text: str, found: Iterable[Instruction]) -> bool:
    return any(each.text == text for each in found)
