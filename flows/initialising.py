"""`mission init`: a first mission file for a repository, whose verification was tried before.

The commands run on a clean copy of the checked-out branch's commit, in a workspace as missions
have them; the user's own checkout gets two new files and no other change.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blocks.commands import run
from blocks.errors import CommandFailed, RepositoryUnusable, SettingsInvalid
from blocks.places.workspaces import SYSTEM_PATH
from flows.detecting import Candidate, detect, is_python, uses_ruff
from flows.human_input import format_duration, toml_text
from flows.landing.probing import ProbeOrder, run_probe
from flows.ledger.events import ProbeEnded
from flows.reporting.narration import count, first_line
from flows.running.rehearsal import Rehearsal, rehearsed
from flows.settings import MissionSettings, load_settings

MISSION_FILE, PLAN_FILE = "mission.toml", "plan.toml"

TRIAL_SECONDS = 900.0
"""How long one try of a verification may take."""

_LEAST_TIMEOUT_SECONDS = 300.0
_TIMEOUT_FACTOR = 5
_MOST_SLOTS = 4
_SHORT_SHA = 12
_EDITABLE = ("__editable__*", "*.egg-link", "_editable_impl_*")

_UNKNOWN = Candidate(
    language="unknown",
    manager="",
    command="echo 'say in mission.toml how a tree is verified' >&2; exit 1",
    programs=(),
)
"""Stands where a command has to be written: it is red, since what passes always proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checkout:
    """The user's checkout: its top folder, what is checked out there."""

    folder: Path
    top: Path
    branch: str
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """A candidate, and what its run on the base said."""

    candidate: Candidate
    ended: ProbeEnded | None = None

    @property
    def passed(self) -> bool:
        """Whether the base is green."""
        return self.ended is not None and self.ended.verdict == "passed"

    @property
    def worth(self) -> tuple[bool, int]:
        """What makes one trial better than another."""
        tests = self.ended.tests if self.ended else {}
        return self.passed, tests.get("passed", 0) + tests.get("failed", 0)

    @property
    def is_final(self) -> bool:
        """Whether its tests ran, so that another way of running them would say the same."""
        tests = self.ended.tests if self.ended else {}
        return self.passed or (tests.get("failed", 0) > 0 and not tests.get("errors", 0))


def initialise(folder: Path) -> Iterator[str]:
    """Write a mission file for the repository of a folder; yields lines that tell how it goes.

    Raises:
        SettingsInvalid: a file that would be written is there already.
        RepositoryUnusable: the folder is no checkout of a branch with a commit.
    """
    checkout = _checkout(folder)
    _refuse_existing(checkout.folder, MISSION_FILE)
    yield f"target    {checkout.top}, {checkout.branch} at {checkout.commit[:_SHORT_SHA]}"
    with rehearsed(_rehearsal_settings(checkout)) as rehearsal:
        files = rehearsal.repository.files(rehearsal.target.base)
        draft = _draft(checkout, rehearsal, files)
        if draft.planner == "file":
            _refuse_existing(checkout.folder, PLAN_FILE)
        best = yield from _best_trial(draft, rehearsal, files)
    yield from _baseline(best)
    yield from _write(draft, best)


def _checkout(folder: Path) -> _Checkout:
    folder = folder.resolve()
    try:
        top = run(["git", "-C", str(folder), "rev-parse", "--show-toplevel"]).text
        branch = run(["git", "-C", top, "symbolic-ref", "--quiet", "--short", "HEAD"], check=False)
        head = run(["git", "-C", top, "rev-parse", "--verify", "--quiet", "HEAD"], check=False)
    except CommandFailed as failed:
        why = failed.stderr.decode(errors="replace").strip() or str(failed)
        raise RepositoryUnusable(f"{folder}: {why}") from failed
    if head.code != 0:
        raise RepositoryUnusable(f"{top} has no commit yet; make one first")
    if branch.code != 0:
        raise RepositoryUnusable(f"{top} has no branch checked out; `git switch` to one first")
    return _Checkout(folder=folder, top=Path(top), branch=branch.text, commit=head.text)


def _refuse_existing(folder: Path, name: str) -> None:
    if os.path.lexists(folder / name):
        raise SettingsInvalid(f"{folder / name} is there already; it is not overwritten")


def _rehearsal_settings(checkout: _Checkout) -> MissionSettings:
    values = {
        "name": "init",
        # An earlier mission's green must not stand in for what is checked out.
        "repository": {
            "url": str(checkout.top),
            "base": checkout.branch,
            "green": "mission/init-compares-with-nothing",
        },
        "verify": {"command": _UNKNOWN.command},
        "plan": {"planner": "tidy"},
    }
    return load_settings(None, overrides=values, env={})


# -- trying -----------------------------------------------------------------------------------


def _best_trial(
    draft: _Draft, rehearsal: Rehearsal, files: Mapping[str, str]
) -> Iterator[str]:
    raise NotImplementedError
