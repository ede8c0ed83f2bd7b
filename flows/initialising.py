"""`mission init`: a first mission file for a repository, whose verification was tried before.

The commands run on a clean copy of the checked-out branch's commit, in a workspace as missions
have them; the user's own checkout gets two new files and no other change.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blocks.commands import run
from blocks.errors import CommandFailed, RepositoryUnusable, SettingsInvalid
from blocks.places.workspaces import SYSTEM_PATH
from flows.detecting import Candidate, detect, is_python
from flows.human_input import format_duration, toml_text
from flows.landing.probing import ProbeOrder, run_probe
from flows.ledger.events import ProbeEnded
from flows.reporting.tables import shortened
from flows.running.rehearsal import Rehearsal, rehearsed
from flows.settings import MissionSettings
from flows.settings_sources import load_settings

MISSION_FILE, PLAN_FILE = "mission.toml", "plan.toml"

TRIAL_SECONDS = 900.0
"""How long one try of a verification may take."""

_LEAST_TIMEOUT_SECONDS = 300.0
_TIMEOUT_FACTOR = 5
_MOST_SLOTS = 4
_SHORT_SHA = 12
_SHOWN_CHARACTERS = 160
_SHOWN_FAILING = 10
_EDITABLE = ("__editable__*", "*.egg-link", "*.pth")

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

    Nothing is written until the last lines: whoever stops listening gets no files.

    Raises:
        SettingsInvalid: a file that would be written is there already.
        RepositoryUnusable: the folder is no checkout of a branch with a commit.
    """
    checkout = _checkout(folder)
    _refuse_existing(checkout.folder, MISSION_FILE)
    yield f"target    {checkout.top}, {checkout.branch} at {checkout.commit[:_SHORT_SHA]}"
    with rehearsed(_rehearsal_settings(checkout)) as rehearsal:
        draft = _draft(checkout, rehearsal)
        if draft.planner == "file":
            _refuse_existing(checkout.folder, PLAN_FILE)
        yield from _found(draft)
        best = yield from _best_trial(draft, rehearsal)
    yield from _baseline(best)
    yield from _warnings(checkout, best.candidate)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """What the mission file will say, but for the verification that proves best."""

    checkout: _Checkout
    planner: str
    candidates: tuple[Candidate, ...]

    @property
    def name(self) -> str:
        """The mission's name: the folder's, in the letters that names are made of."""
        return (
            re.sub(r"[^A-Za-z0-9._-]+", "-", self.checkout.top.name).strip("-._")[:64] or "mission"
        )


def _draft(checkout: _Checkout, rehearsal: Rehearsal) -> _Draft:
    base = rehearsal.target.base
    files = rehearsal.repository.files(base)

    def read(path: str) -> str:
        return (rehearsal.repository.show(base, path) or b"").decode(errors="replace")

    def has(program: str) -> bool:
        return shutil.which(program) is not None

    return _Draft(
        checkout=checkout,
        planner="tidy" if is_python(files) and has("ruff") else "file",
        candidates=tuple(detect(files, read, has)),
    )


def _found(draft: _Draft) -> Iterator[str]:
    languages = dict.fromkeys(f"{each.language} ({each.manager})" for each in draft.candidates)
    yield f"found     {', '.join(languages) or 'nothing that looks like tests'}"
    if checks := _checks(draft):
        yield f"checks    {', '.join(checks)}"


def _checks(draft: _Draft) -> list[str]:
    return [*dict.fromkeys(check for each in draft.candidates for check in each.checks)]


def _best_trial(draft: _Draft, rehearsal: Rehearsal) -> Generator[str, None, _Trial]:
    """Try candidates until the tests of one of them really ran; gives the best."""
    trials = []
    for number, candidate in enumerate(draft.candidates, start=1):
        if missing := [name for name in candidate.programs if shutil.which(name) is None]:
            yield f"skipped   {candidate.command}: {', '.join(missing)} is not on your PATH"
            continue
        yield f"trying    {_both(candidate)}"
        ended = _try(draft, candidate, rehearsal, number)
        trials.append(_Trial(candidate=candidate, ended=ended))
        if trials[-1].is_final:
            break
        yield f"          {shortened(ended.reason, _SHOWN_CHARACTERS)}"
    untried = (_Trial(candidate=each) for each in (*draft.candidates, _UNKNOWN))
    return max(trials, key=lambda trial: trial.worth) if trials else next(untried)


def _both(candidate: Candidate) -> str:
    return " && ".join(part for part in (candidate.setup, candidate.command) if part)


def _try(draft: _Draft, candidate: Candidate, rehearsal: Rehearsal, number: int) -> ProbeEnded:
    """Verify the base exactly as a mission with this file would."""
    path = rehearsal.folder / f"{number}.toml"
    path.write_text(mission_text(draft, candidate, TRIAL_SECONDS), encoding="utf-8")
    url = {"url": str(draft.checkout.top)}
    settings = load_settings(path, overrides={"repository": url}, env={})
    order = ProbeOrder(
        probe=number,
        commit=rehearsal.target.base,
        place=rehearsal.place.name,
        slot=number,
        baseline=None,
    )
    return run_probe(order, rehearsal.bench(settings))


def _baseline(trial: _Trial) -> Iterator[str]:
    ended = trial.ended
    if ended is None:
        yield "baseline  not tried: nothing could be run; mend [verify] command in the mission file"
    elif trial.passed:
        yield f"baseline  passed in {ended.seconds:.1f} s: {ended.reason}"
    else:
        yield f"baseline  RED after {ended.seconds:.1f} s: {shortened(ended.reason, 400)}"
        yield from (f"            {test}" for test in ended.failing[:_SHOWN_FAILING])
        yield "          a mission starts only from a base that passes: repair it first"
        if ended.tests.get("passed"):
            yield "          (or `mission run --allow-red-base`: these may fail, no others)"


def _warnings(checkout: _Checkout, candidate: Candidate) -> Iterator[str]:
    for folder in _folders(candidate.programs):
        if _installs(Path(folder), checkout.top):
            yield f"warning   the environment of {folder} has {checkout.top} installed as editable:"
            yield "          tests may import that checkout and not the tree that is verified"


def _installs(folder: Path, top: Path) -> bool:
    """Whether the Python environment of a `bin` folder imports from a checkout."""
    packages = folder.parent.glob("lib/python*/site-packages")
    hints = (path for place in packages for each in _EDITABLE for path in place.glob(each))
    return any(str(top) in path.read_text(errors="replace") for path in hints)


# -- where programs are -----------------------------------------------------------------------


def _folders(programs: Sequence[str]) -> list[str]:
    """The folders that workspaces need on their `PATH`, in the order of the user's own."""
    needed = {folder for name in programs if (folder := _folder_of(name))}
    own = [folder for folder in os.get_exec_path() if folder in needed]
    return [*dict.fromkeys([*own, *sorted(needed)])]


def _folder_of(program: str) -> str | None:
    """Where the user's program is, unless workspaces find the same one by themselves."""
    found = shutil.which(program)
    if found is None or found == shutil.which(program, path=SYSTEM_PATH):
        return None
    folder = Path(found).absolute().parent
    if folder.name == "shims":  # these ask the home folder and its settings what they stand for
        real = _python_folder()
        if real is not None and (real / program).exists():
            return str(real)
    return str(folder)


def _python_folder() -> Path | None:
    asked = run(["python3", "-I", "-c", "import sys; print(sys.executable)"], check=False)
    return Path(asked.text).parent if asked.code == 0 and asked.text else None


# -- writing ----------------------------------------------------------------------------------


def mission_text(draft: _Draft, candidate: Candidate, timeout_seconds: float) -> str:
    """Write the mission file for a way of verifying."""
    parts = (
        _head_text(draft),
        _environment_text(draft, candidate),
        _verify_text(draft, candidate, timeout_seconds),
        _plan_text(draft),
        _rest_text(),
    )
    return "\n".join(parts)


def _head_text(draft: _Draft) -> str:
    checkout = draft.checkout
    url = os.path.relpath(checkout.top, checkout.folder)
    objective = _OBJECTIVES[draft.planner]
    return f"""\
name = {toml_text(draft.name)}
objective = {toml_text(objective)}

[repository]
url = {toml_text(url)}  # from this file's folder
base = {toml_text(checkout.branch)}  # missions start from its commits and never write it
green = "mission/green"  # where verified work is delivered
"""


def _environment_text(draft: _Draft, candidate: Candidate) -> str:
    programs = (*candidate.programs, *(("ruff",) if draft.planner == "tidy" else ()))
    variables = {**candidate.environment, **_rustup(candidate)}
    shown = ", ".join(f"{name} = {toml_text(value)}" for name, value in variables.items())
    passed = ("LANG", *(name for name in candidate.passes if name in os.environ))
    return f"""\
[environment]  # all that commands in workspaces get; nothing else is inherited
path = {_toml_list(_folders(programs))}  # folders before the system's own on PATH
pass = {_toml_list(passed)}
set = {f"{{ {shown} }}" if shown else "{}"}
"""


def _rustup(candidate: Candidate) -> dict[str, str]:
    """Rustup's programs look for the tool chain in the home folder, which workspaces have not."""
    folder = Path(os.environ.get("RUSTUP_HOME") or Path.home() / ".rustup")
    return {"RUSTUP_HOME": str(folder)} if "cargo" in candidate.programs and folder.is_dir() else {}


def _verify_text(draft: _Draft, candidate: Candidate, timeout_seconds: float) -> str:
    lines = ["[verify]  # the judge of every tree; agents never are"]
    lines.append(f"command = {toml_text(candidate.command)}")
    if candidate.setup:
        lines.append(f"setup = {toml_text(candidate.setup)}  # prepares a workspace")
    if candidate.setup_inputs:
        lines.append(f"setup_inputs = {_toml_list(candidate.setup_inputs)}")
    lines.append(f"timeout = {toml_text(format_duration(timeout_seconds))}")
    if candidate.keep:
        lines.append(f"keep = {_toml_list(candidate.keep)}  # ignored folders that stay")
    if candidate.junit:
        lines.append(f"junit = {_toml_list(candidate.junit)}")
    others = [each.command for each in draft.candidates if each.language != candidate.language]
    if found := [*_checks(draft), *others]:
        lines.append(f"# found too, join with && what must hold: {'; '.join(found)}")
    return "\n".join(lines) + "\n"


def _plan_text(draft: _Draft) -> str:
    if draft.planner == "tidy":
        what = 'planner = "tidy"  # what ruff can mend becomes units; "file" reads a plan of yours'
    else:
        what = f'planner = "file"\nfile = "{PLAN_FILE}"'
    return f"[plan]\n{what}\n\n{_AGENTS}"


def _rest_text() -> str:
    slots = min(os.cpu_count() or 1, _MOST_SLOTS)
    return f"""\
[backend]
kind = "local"
slots = {slots}  # agents at once

[limits]
max_rounds = 1
max_attempts = 3
unit_timeout = "45m"
deadline = "8h"
"""


def _toml_list(values: Sequence[str]) -> str:
    return f"[{', '.join(map(toml_text, values))}]"


def _write(draft: _Draft, best: _Trial) -> Iterator[str]:
    folder = draft.checkout.folder
    took = best.ended.seconds if best.ended else 0.0
    timeout = max(_LEAST_TIMEOUT_SECONDS, float(round(took * _TIMEOUT_FACTOR)))
    texts = {MISSION_FILE: mission_text(draft, best.candidate, timeout)}
    if draft.planner == "file":
        texts = {PLAN_FILE: _PLAN, **texts}
    for name, text in texts.items():
        try:
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            _refuse_existing(folder, name)
        yield f"wrote     {folder / name}"
    file_name = shlex.quote(os.path.relpath(folder / MISSION_FILE))
    yield f"next      mission plan {file_name}; then mission run {file_name}"


_OBJECTIVES = {
    "tidy": "No lint findings that a tool can mend; the tests stay green.",
    "file": "Say here, in a sentence, what is to be reached.",
}

_AGENTS = """\
[agents.default]
profile = "command"  # any program; the unit's prompt is on its stdin, its folder is the workspace
argv = []  # e.g. ["ruff", "check", "--fix", "{files}"]
# A coding agent in its place, which can plan as well ([plan] planner = "agent"):
# profile = "claude"  # or codex, gemini, opencode, aider
# secrets = { ANTHROPIC_API_KEY = "env/ANTHROPIC_API_KEY" }
# max_usd = 2.0  # an attempt
"""

_PLAN = """\
# Units run side by side unless one depends on another or their `writes` meet. This one is an
# example: `mission run` runs its command, verifies the result, and delivers it on mission/green.

[[unit]]
id = "example"
title = "Note that missions run here"
prompt = "What an agent is asked to do; it gets this on its stdin."
depends_on = []
writes = ["MISSION-EXAMPLE.md"]
timeout = "10m"
command = ["sh", "-c", "echo 'Missions run here.' > MISSION-EXAMPLE.md"]  # in place of the agent
"""
