"""The result line: what an agent says of its own work, on a line that it is asked for.

    MISSION_RESULT: {"status": "done", "summary": "…", "discoveries": ["…"]}

Never trusted over git; read as tolerantly as possible, and whatever is broken is as if absent.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from flows.running.marked import as_items, as_words, find_marked

RESULT_MARKS = ("MISSION_RESULT", "MC_RESULT")

_Words = Annotated[str, BeforeValidator(as_words)]
_Items = Annotated[tuple[str, ...], BeforeValidator(as_items)]


def _list(*names: str) -> Any:
    return Field(default=(), validation_alias=AliasChoices(*names))


class MissionResult(BaseModel):
    """What an agent says that it did; fields of other names are kept as they came."""

    model_config = ConfigDict(frozen=True, extra="allow")

    status: _Words = ""
    summary: _Words = Field(default="", validation_alias=AliasChoices("summary", "message"))
    commits: _Items = _list("commits", "commit_shas", "commitShas")
    files_changed: _Items = _list("files_changed", "filesChanged", "changed_files", "files")
    discoveries: _Items = _list("discoveries", "discovered", "findings")
    concerns: _Items = _list("concerns", "warnings", "risks")
    decisions: _Items = _list("decisions", "decided")
    gotchas: _Items = _list("gotchas", "pitfalls")
    learnings: _Items = _list("learnings", "learned", "lessons")

    def __bool__(self) -> bool:
        """Whether anything was said."""
        return any(self.as_dict().values())

    def as_dict(self) -> dict[str, Any]:
        """Give all fields to the ledger, the unknown ones too."""
        return self.model_dump(mode="json")


def find_result(text: str) -> MissionResult:
    """Find the last whole result in what an agent said; an empty one when there is none."""
    return MissionResult.model_validate(find_marked(text, RESULT_MARKS) or {})
