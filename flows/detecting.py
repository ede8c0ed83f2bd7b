"""How a repository is verified, guessed from its files: language, package manager, commands.

Pure: file names and contents come in, candidates go out, the most likely first. Whether a guess is
right is found by running it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

Read = Callable[[str], str]
"""Gives the text of a file of the repository; nothing for one that is not there."""
Has = Callable[[str], bool]
"""Says whether a program is on the user's `PATH`."""

_NPM_PLACEHOLDER = "no test specified"
_MAKE_TARGET = re.compile(r"^(?P<name>[A-Za-z0-9_-]+)\s*:(?!=)", re.MULTILINE)
_MAKE_TESTS = ("test", "tests", "check")
_PYTHON_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "requirements.txt")
_REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "requirements-test.txt")
_PROJECT = ("pyproject.toml", "setup.py", "setup.cfg")
_PYTEST_FILES = ("test_*.py", "*_test.py", "conftest.py")
_SAYS_PYTEST = ("pyproject.toml", "setup.cfg", "tox.ini", "requirements*.txt", "pytest.ini")
_PYTHON_SET = {"PYTHONDONTWRITEBYTECODE": "1"}
"""Or else byte code would be taken for an agent's work where it is not ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to verify a repository; `programs` are what must be found on the `PATH`.

    `passes` names variables of the user's own environment that it needs; `checks` are other
    commands that the repository seems to be checked with: linters, types.
    """

    language: str
    manager: str
    command: str
    programs: tuple[str, ...]
    setup: str = ""
    setup_inputs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    passes: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    junit: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()


def detect(files: Collection[str], read: Read, has: Has) -> list[Candidate]:
    """Guess how a repository is verified: all ways that may do, the most likely first."""
    found: list[Candidate] = []
    for language in (_python, _node, _go, _rust, _java, _make):
        found += language(files, read, has)
    return found


def uses_ruff(files: Collection[str], read: Read) -> bool:
    """Whether the repository configures ruff."""
    if {"ruff.toml", ".ruff.toml"} & set(files):
        return True
    return "[tool.ruff" in read("pyproject.toml")


def is_python(files: Collection[str]) -> bool:
    """Whether there is Python in the repository."""
    return any(path in _PYTHON_FILES or path.endswith(".py") for path in files)


def _python(files: Collection[str], read: Read, has: Has) -> Iterator[Candidate]:
    if not is_python(files):
        return
    tests = "pytest -q" if _wants_pytest(files, read) else "unittest discover"
    runner = tests if tests.startswith("pytest") else f"python -m {tests}"
    checks = tuple(_python_checks(files, read))
    if "uv.lock" in files and has("uv"):
        yield _python_way("uv", f"uv run {runner}", ("uv",), checks, setup="uv sync")
    if "poetry.lock" in files and has("poetry"):
        setup = "poetry install --no-interaction"
        in_project = {"POETRY_VIRTUALENVS_IN_PROJECT": "true"}
        command, programs = f"poetry run {runner}", ("poetry", "python3")
        yield _python_way("poetry", command, programs, checks, setup=setup, environment=in_project)
    yield _python_way("python3", f"python3 -m {tests}", ("python3",), checks)
    if install := _pip_install(files, read):
        pytest = " pytest" if tests.startswith("pytest") else ""
        setup = f"python3 -m venv .venv && .venv/bin/python -m pip install -q {install}{pytest}"
        command = f".venv/bin/python -m {tests}"
        inputs = tuple(name for name in (*_REQUIREMENTS, *_PROJECT) if name in files)
        yield _python_way("pip", command, ("python3",), checks, setup=setup, setup_inputs=inputs)
    if "tox.ini" in files and has("tox"):
        yield _python_way("tox", "tox -q", ("tox", "python3"), checks)


def _python_way(
    manager: str,
    command: str,
    programs: tuple[str, ...],
    checks: tuple[str, ...],
    *,
    setup: str = "",
    setup_inputs: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> Candidate:
    return Candidate(
        language="Python",
        manager=manager,
        command=command,
        programs=programs,
        setup=setup,
        setup_inputs=setup_inputs,
        environment={**_PYTHON_SET, **(environment or {})},
        checks=checks,
    )


def _wants_pytest(files: Collection[str], read: Read) -> bool:
    """Pytest runs unittest's tests too, so it is the guess unless nothing speaks of it."""
    names = {path.rpartition("/")[2] for path in files}
    if "conftest.py" in names or "pytest.ini" in names:
        return True
    settings = [path for path in files if any(fnmatchcase(path, each) for each in _SAYS_PYTEST)]
    if any("pytest" in read(path) for path in settings):
        return True
    tests = [path for path in files if any(fnmatchcase(_name(path), p) for p in _PYTEST_FILES)]
    return not any("import unittest" in read(path) for path in tests[:20])


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _python_checks(files: Collection[str], read: Read) -> Iterator[str]:
    settings = "".join(read(name) for name in ("pyproject.toml", "setup.cfg", "tox.ini"))
    if uses_ruff(files, read):
        yield "ruff check ."
    if ".flake8" in files or "[flake8]" in settings:
        yield "flake8"
    if "mypy.ini" in files or "[tool.mypy" in settings or "[mypy]" in settings:
        yield "mypy"
    if "pyrightconfig.json" in files or "[tool.pyright" in settings:
        yield "pyright"


def _pip_install(files: Collection[str], read: Read) -> str:
    """What pip is told to install; nothing when the repository needs nothing."""
    parts = [f"-r {name}" for name in _REQUIREMENTS if name in files]
    if "[project]" in read("pyproject.toml") or "setup.py" in files:
        parts.append("-e .")
    return " ".join(parts)


def _node(files: Collection[str], read: Read, has: Has) -> Iterator[Candidate]:
    package = _json(read("package.json")) if "package.json" in files else {}
    scripts = package.get("scripts")
    scripts = scripts if isinstance(scripts, dict) else {}
    if not scripts.get("test") or _NPM_PLACEHOLDER in str(scripts["test"]):
        return
    manager, lock, setup = next(
        (way for way in _NODE_MANAGERS if way[1] in files and has(way[0])),
        ("npm", "", "npm install --no-audit --no-fund"),
    )
    needs = any(package.get(key) for key in ("dependencies", "devDependencies"))
    checks = [name for name in ("lint", "typecheck", "type-check", "types") if name in scripts]
    yield Candidate(
        language="JavaScript",
        manager=manager,
        command=f"{manager} test",
        programs=(manager, "node"),
        setup=setup if needs or lock else "",
        setup_inputs=("package.json", lock) if lock else ("package.json",),
        environment={"CI": "1"},  # or else some runners wait for changes for ever
        checks=tuple(f"{manager} run {name}" for name in checks),
    )


_NODE_MANAGERS = (
    ("pnpm", "pnpm-lock.yaml", "pnpm install --frozen-lockfile"),
    ("yarn", "yarn.lock", "yarn install --frozen-lockfile"),
    ("npm", "package-lock.json", "npm ci --no-audit --no-fund"),
)


def _go(files: Collection[str], _read: Read, _has: Has) -> Iterator[Candidate]:
    if "go.mod" in files:
        yield Candidate(
            language="Go",
            manager="go",
            command="go test ./...",
            programs=("go",),
            environment={"GOFLAGS": "-modcacherw"},  # workspaces' homes are removed again
            checks=("go vet ./...",),
        )


def _rust(files: Collection[str], _read: Read, _has: Has) -> Iterator[Candidate]:
    if "Cargo.toml" in files:
        yield Candidate(
            language="Rust",
            manager="cargo",
            command="cargo test --quiet",
            programs=("cargo",),
            keep=("target",),
            checks=("cargo clippy -- -D warnings", "cargo fmt --check"),
        )


def _java(files: Collection[str], _read: Read, _has: Has) -> Iterator[Candidate]:
    if "pom.xml" in files:
        wrapper = "./mvnw" if "mvnw" in files else "mvn"
        yield Candidate(
            language="Java",
            manager="maven",
            command=f"{wrapper} -q -B test",
            programs=("java",) if wrapper.startswith(".") else ("mvn", "java"),
            passes=("JAVA_HOME",),
            junit=("**/target/surefire-reports/*.xml",),
        )
    elif {"build.gradle", "build.gradle.kts"} & set(files):
        wrapper = "./gradlew" if "gradlew" in files else "gradle"
        yield Candidate(
            language="Java",
            manager="gradle",
            command=f"{wrapper} --no-daemon -q test",
            programs=("java",) if wrapper.startswith(".") else ("gradle", "java"),
            passes=("JAVA_HOME",),
            junit=("**/build/test-results/**/*.xml",),
        )


def _make(files: Collection[str], read: Read, _has: Has) -> Iterator[Candidate]:
    names = ("GNUmakefile", "makefile", "Makefile")
    makefile = next((name for name in names if name in files), None)
    if makefile is None:
        return
    targets = {match["name"] for match in _MAKE_TARGET.finditer(read(makefile))}
    test = next((name for name in _MAKE_TESTS if name in targets), None)
    if test is not None:
        checks = tuple(f"make {name}" for name in ("lint", "types", "typecheck") if name in targets)
        yield Candidate(
            language="Make",
            manager="make",
            command=f"make {test}",
            programs=("make",),
            checks=checks,
        )


def _json(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
