from __future__ import annotations

from collections.abc import Mapping

import pytest

from flows.detecting import Candidate, detect, is_python, uses_ruff

NPM = '{"scripts": {"test": "jest", "lint": "eslint ."}, "devDependencies": {"jest": "1"}}'


def candidates(files: Mapping[str, str], *programs: str) -> list[Candidate]:
    return detect(list(files), lambda path: files.get(path, ""), lambda name: name in programs)


@pytest.mark.parametrize(
    ("files", "programs", "setup", "command"),
    [
        ({"acme.py": "", "tests/test_acme.py": ""}, "python3", "", "python3 -m pytest -q"),
        (
            {"acme.py": "", "test_acme.py": "import unittest\n"},
            "python3",
            "",
            "python3 -m unittest discover",
        ),
        (
            {"test_acme.py": "import unittest\n", "setup.cfg": "[tool:pytest]\n"},
            "python3",
            "",
            "python3 -m pytest -q",
        ),
        ({"pyproject.toml": "", "uv.lock": ""}, "uv", "uv sync", "uv run pytest -q"),
        ({"pyproject.toml": "", "uv.lock": ""}, "python3", "", "python3 -m pytest -q"),
        (
            {"pyproject.toml": "", "poetry.lock": ""},
            "poetry",
            "poetry install --no-interaction",
            "poetry run pytest -q",
        ),
        ({"package.json": NPM}, "npm", "npm install --no-audit --no-fund", "npm test"),
        (
            {"package.json": NPM, "package-lock.json": ""},
            "npm",
            "npm ci --no-audit --no-fund",
            "npm test",
        ),
        (
            {"package.json": NPM, "pnpm-lock.yaml": ""},
            "pnpm",
            "pnpm install --frozen-lockfile",
            "pnpm test",
        ),
        (
            {"package.json": NPM, "yarn.lock": ""},
            "yarn",
            "yarn install --frozen-lockfile",
            "yarn test",
        ),
        ({"package.json": '{"scripts": {"test": "node t.js"}}'}, "npm", "", "npm test"),
        ({"go.mod": ""}, "go", "", "go test ./..."),
        ({"Cargo.toml": ""}, "cargo", "", "cargo test --quiet"),
        ({"pom.xml": ""}, "mvn", "", "mvn -q -B test"),
        ({"pom.xml": "", "mvnw": ""}, "java", "", "./mvnw -q -B test"),
        ({"build.gradle.kts": "", "gradlew": ""}, "java", "", "./gradlew --no-daemon -q test"),
        ({"Makefile": "all: x\nx:\n\ntest: x\n\ttrue\n"}, "make", "", "make test"),
        ({"Makefile": "check : all\n"}, "make", "", "make check"),
    ],
)
def test_the_first_guess(files: Mapping[str, str], programs: str, setup: str, command: str) -> None:
    first = candidates(files, programs)[0]
    assert (first.setup, first.command) == (setup, command)


@pytest.mark.parametrize(
    "files",
    [
        {"README.md": ""},
        {"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'},
        {"package.json": "not json"},
        {"package.json": '{"scripts": ["test"]}'},
        {"Makefile": "test := 1\nbuild:\n"},
    ],
)
def test_what_has_no_tests_gets_no_guess(files: Mapping[str, str]) -> None:
    assert candidates(files, "python3", "npm", "make") == []


def test_requirements_are_installed_where_the_users_python_does_not_do() -> None:
    files = {"requirements.txt": "attrs", "requirements-dev.txt": "pytest", "test_a.py": ""}
    direct, installed = candidates(files, "python3")
    assert not direct.setup
    assert installed.setup == (
        "python3 -m venv .venv && .venv/bin/python -m pip install -q "
        "-r requirements.txt -r requirements-dev.txt pytest"
    )
    assert installed.command == ".venv/bin/python -m pytest -q"
    assert installed.setup_inputs == ("requirements.txt", "requirements-dev.txt")


def test_other_checks_are_found() -> None:
    pyproject = "[tool.ruff.lint]\n[tool.mypy]\nstrict = true\n"
    assert candidates({"pyproject.toml": pyproject})[0].checks == ("ruff check .", "mypy")
    assert candidates({"package.json": NPM}, "npm")[0].checks == ("npm run lint",)


def test_all_languages_of_a_repository_are_found() -> None:
    files = {"setup.py": "", "package.json": NPM, "go.mod": "", "Makefile": "test:\n"}
    languages = [each.language for each in candidates(files, "python3")]
    assert list(dict.fromkeys(languages)) == ["Python", "JavaScript", "Go", "Make"]


def test_python_and_ruff_are_noticed() -> None:
    assert is_python(["src/a/b.py"])
    assert not is_python(["b.pyx"])
    assert uses_ruff(["ruff.toml"], lambda _: "")
    assert uses_ruff([], lambda _: "[tool.ruff]\n")
    assert not uses_ruff(["a.py"], lambda _: "")
