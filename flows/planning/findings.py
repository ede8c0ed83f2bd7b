"""What is untidy in a checkout, as its own tools and its to-do comments say."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blocks.commands import NOT_FOUND, Finished
from blocks.errors import CommandFailed
from blocks.readings import mypy, ruff
from blocks.readings.documents import (
    as_list,
    as_mapping,
    as_path,
    as_text,
    lines_of,
    load_json,
    text_of,
)
from flows.planning.sources import mypy_arguments, oldest_python, ruff_settings
from flows.planning.todos import find_todos

Runner = Callable[[Sequence[str]], Finished]
"""Runs a command in a clean checkout of the base tree, whatever its exit code."""

Kind = Literal["test", "security", "types", "lint", "objective"]

DEFAULT_RULES = "E4,E7,E9,F,I,UP,B,SIM,C4,RET"
"""What a target without ruff settings is read for: rules that hardly anybody disputes."""

_CANNOT_EXECUTE = 126
_TAIL_CHARACTERS = 4_000
_NOT_INSTALLED = frozenset({"import-not-found", "import-untyped", "import"})
_FAILED_TEST = re.compile(r"^(?:FAILED|ERROR) (?P<id>\S+?\.py(?:::.*?)?)(?: - .*)?$", re.MULTILINE)
_UNFORMATTED = re.compile(r"^--- (?P<path>.+)\n\+\+\+ (?P=path)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something untidy at a place; `fix` means that its tool can safely mend it.

    `rule` is "" for a finding that has none, `line` is 0 for one that concerns the file; `details`
    is text for whoever mends it.
    """

    kind: Kind
    path: str
    message: str
    rule: str = ""
    name: str = ""
    line: int = 0
    fix: bool = False
    details: str = ""

    def __str__(self) -> str:
        """Render as compilers do: place, message, rule."""
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {self.message}" + (f" [{self.rule}]" if self.rule else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one source found, and notes on what it could not look at."""

    found: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruff:
    """Ruff, as the target wants it run; without settings of its own it is shut off from others'."""

    run: Runner
    flags: tuple[str, ...]
    rules: str | None
    formats: bool

    def lint(self, folder: Path, rules: str | None = None) -> Findings:
        """Find what the rules (default: the target's own selection) complain about."""
        select = rules or self.rules
        selected = ("--select", select) if select else ()
        argv = ("ruff", "check", "--output-format", "json", "--exit-zero", *self.flags, *selected)
        done = _attempt(self.run, (*argv, "."))
        if isinstance(done, str):
            return Findings(notes=(done,))
        if done.code != 0:
            return Findings(notes=(_does_not_run(done),))
        return Findings(found=tuple(_lint_findings(folder, done.stdout)))

    def unformatted(self) -> tuple[str, ...]:
        """Give the files that the formatter would change."""
        done = _attempt(self.run, ("ruff", "format", "--diff", *self.flags, "."))
        if isinstance(done, str):
            return ()
        diff = done.stdout.decode(errors="replace")
        return tuple(Path(path).as_posix() for path in _UNFORMATTED.findall(diff))


def target_ruff(folder: Path, run: Runner) -> Ruff:
    """Set ruff up for a target."""
    settings = ruff_settings(folder)
    if settings is not None:
        return Ruff(run=run, flags=("--no-cache",), rules=None, formats="format" in settings)
    minor = oldest_python(folder)
    version = ("--target-version", f"py3{minor}") if minor is not None else ()
    flags = ("--no-cache", "--isolated", *version)
    return Ruff(run=run, flags=flags, rules=DEFAULT_RULES, formats=False)


def find_type_errors(folder: Path, run: Runner) -> Findings:
    """Find type errors with mypy, if the target configures it."""
    arguments = mypy_arguments(folder)
    if arguments is None:
        return Findings()
    argv = ("mypy", "--cache-dir=/dev/null", "--no-pretty", "--show-error-codes", *arguments)
    done = _attempt(run, argv)
    if isinstance(done, str):
        return Findings(notes=(done,))
    read = mypy.read_lines(lines_of(text_of(done.stdout)), root=str(folder)) or ()
    errors = [error for error in read if error.level == "error" and error.path]
    if done.code != 0 and not errors:
        return Findings(notes=(_does_not_run(done),))
    return Findings(
        found=tuple(
            Finding(
                kind="types",
                path=error.path,
                line=error.line,
                message=error.message,
                rule=error.rule,
            )
            for error in errors
            if error.rule not in _NOT_INSTALLED
        )
    )


def find_failing_tests(run: Runner, verify_command: str) -> Findings:
    """Find failing tests in what a run of the whole verification says (pytest's summary)."""
    done = _attempt(run, ("sh", "-c", verify_command), "the verification's command")
    if isinstance(done, str):
        return Findings(notes=(done,))
    if done.code == 0:
        return Findings()
    text = text_of(done.stdout)
    ids = list(dict.fromkeys(match["id"] for match in _FAILED_TEST.finditer(text)))
    if not ids:
        return Findings(
            notes=(f"the verification is red and names no failing test: {_tail(done)}",)
        )
    tail = _tail(done)
    return Findings(
        found=tuple(
            Finding(kind="test", path=test.partition("::")[0], message=test, details=tail)
            for test in ids
        )
    )


def find_todo_comments(folder: Path, sources: Collection[str]) -> Findings:
    """Find the to-do comments of a target's own files."""
    todos = find_todos(folder, sources)
    return Findings(
        found=tuple(
            Finding(kind="objective", path=todo.path, line=todo.line, message=todo.text)
            for todo in todos
        )
    )


def _lint_findings(folder: Path, output: bytes) -> Iterator[Finding]:
    entries = as_list(load_json(output))
    # Ruff gives real paths; the checkout may be reached through a link.
    read = ruff.read_json(entries, root=str(folder.resolve())) or ()
    for entry, finding in zip(entries, read, strict=False):
        fields = as_mapping(entry)
        yield Finding(
            kind="security" if finding.kind == "security" else "lint",
            path=as_path(finding.path, str(folder)),
            line=finding.line,
            message=finding.message,
            rule=finding.rule,
            name=as_text(fields.get("url")).rstrip("/").rpartition("/")[2],
            fix=as_mapping(fields.get("fix")).get("applicability") == "safe",
        )


def _attempt(run: Runner, argv: Sequence[str], name: str = "") -> Finished | str:
    """Run a tool; where it is not there or does not end, say so."""
    try:
        done = run(argv)
    except CommandFailed as failed:
        code = failed.code
    else:
        code = done.code
        if code not in (NOT_FOUND, _CANNOT_EXECUTE):
            return done
    why = "does not come to an end" if code is None else "is not there"
    return f"{name or argv[0]} {why}, so it was not asked"


def _does_not_run(done: Finished) -> str:
    return f"{done.argv[0]} does not run (exit code {done.code}): {_tail(done)}"


def _tail(done: Finished) -> str:
    text = (done.stdout + done.stderr).decode(errors="replace").strip()
    return text[-_TAIL_CHARACTERS:] or "(it says nothing)"
