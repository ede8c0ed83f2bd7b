"""Real pytest, unittest, ruff, mypy and node on tiny projects: what is read is what they did."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from blocks.commands import Finished, run
from blocks.readings import Reading, read_reports
from blocks.verifier import Judgement, Verdict, judge

BIN = Path(sys.executable).parent
PATH = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])

OUTCOMES = """
import pytest
def test_ok(): pass
def test_bad(): assert 1 == 2
@pytest.mark.skip(reason="later")
def test_skip(): pass
@pytest.mark.xfail
def test_xfail(): assert 0
@pytest.mark.xfail
def test_xpass(): pass
@pytest.mark.xfail(strict=True)
def test_xpass_strict(): pass
@pytest.fixture
def broken(): raise RuntimeError
@pytest.fixture
def breaks_after():
    yield
    raise RuntimeError
def test_setup(broken): pass
def test_teardown(breaks_after): pass
def test_both(breaks_after): assert 0
@pytest.mark.parametrize("x", ["a", "a/b::c", "é", "a"])
def test_p(x): pass
@pytest.mark.parametrize("x", [object()], ids=repr)
def test_address(x): pass
class TestC:
    def test_method(self): pass
"""
EXPECTED = {
    "test_a::test_ok": "passed",
    "test_a::test_bad": "failed",
    "test_a::test_skip": "skipped",
    "test_a::test_xfail": "xfailed",
    "test_a::test_xpass": "passed",
    "test_a::test_xpass_strict": "failed",
    "test_a::test_setup": "error",
    "test_a::test_teardown": "error",
    "test_a::test_both": "error",
    "test_a::test_p[a0]": "passed",
    "test_a::test_p[a/b::c]": "passed",
    "test_a::test_p[\\xe9]": "passed",
    "test_a::test_p[a1]": "passed",
    "test_a::test_address[<object object at 0x…>]": "passed",
    "test_a.TestC::test_method": "passed",
}


class Project:
    """A folder with files, and the commands that are run in it as a probe would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        self.report = folder / "outside" / "junit.xml"
        self.ended: Finished | None = None

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def read(self, command: str, *, with_report: bool = True) -> Reading:
        env = {"PATH": PATH, "HOME": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = (
            "1"  # this environment's plugins are not the project's
        )
        if with_report:
            env["PYTEST_ADDOPTS"] = f"--junitxml={self.report}"
        self.report.unlink(missing_ok=True)
        self.ended = run(
            ["sh", "-c", command], cwd=self.folder, env=env, check=False, timeout_seconds=100
        )
        return read_reports(
            output=self.output,
            junit=[self.report.read_bytes()] if self.report.exists() else [],
            command=command,
            root=str(self.folder),
        )

    @property
    def output(self) -> bytes:
        assert self.ended is not None
        return self.ended.stdout + self.ended.stderr

    def judge(
        self,
        command: str,
        *,
        baseline: Reading | None = None,
        allowed: frozenset[str] | None = None,
    ) -> Verdict:
        reading = self.read(command)
        assert self.ended is not None
        return judge(
            exit_code=self.ended.code, signal=None, ending="exited", detail="",
            timeout_seconds=100, output=self.output, reading=reading, expects_junit=False,
            baseline=baseline, may_remove_tests=False, allowed_failures=allowed,
        )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


PYTEST = "python -m pytest -q -p no:cacheprovider"


def test_every_outcome_of_pytest_is_read_from_its_report(project: Project) -> None:
    project.write("test_a.py", OUTCOMES)
    reading = project.read(PYTEST)
    assert reading.tests == EXPECTED
    assert reading.sources == ("junit",)


def test_the_same_tests_have_the_same_ids_in_another_run(project: Project) -> None:
    project.write("test_a.py", OUTCOMES)
    assert project.read(PYTEST).tests == project.read(f"{PYTEST} --tb=no -v").tests


def test_without_a_report_the_summary_line_gives_the_figures(project: Project) -> None:
    project.write("test_a.py", OUTCOMES)
    for options in ("", "-v", "--color=yes", "--tb=no -v"):
        reading = project.read(f"{PYTEST} {options}", with_report=False)
        assert reading.tests is None
        # pytest counts a test twice whose tear-down breaks: as what it was, and as an error.
        figures = {"passed": 9, "failed": 3, "error": 3, "skipped": 1, "xfailed": 1}
        assert reading.counts == figures


def test_a_collection_error_is_red_and_its_repair_loses_no_test(project: Project) -> None:
    project.write("test_a.py", "def test_ok(): pass\n")
    project.write("test_b.py", "import nothing_here\ndef test_other(): pass\n")
    command = f"{PYTEST} --continue-on-collection-errors"
    before = project.judge(command)
    assert before.judgement is Judgement.RED
    assert before.failing == ("::test_b",)
    project.write("test_b.py", "def test_other(): pass\n")
    after = project.judge(command, baseline=before.reading, allowed=frozenset(before.failing))
    assert (after.judgement, after.reason) == (Judgement.PASSED, "2 tests passed")


def test_nothing_collected_is_not_a_pass_even_when_the_exit_code_says_so(project: Project) -> None:
    project.write("test_a.py", "def test_ok(): pass\n")
    verdict = project.judge(f"{PYTEST} -k nope")
    assert "no tests were collected (exit code 5)" in verdict.reason
    verdict = project.judge(f"{PYTEST} -k nope || true")
    assert verdict.judgement is Judgement.RED


def test_a_swallowed_exit_code_is_found_out(project: Project) -> None:
    project.write("test_a.py", "def test_bad(): assert 0\n")
    project.write("test_b.py", "def test_ok(): pass\n")
    assert project.judge(f"{PYTEST} || true").judgement is Judgement.RED
    hidden = project.judge(f"{PYTEST} test_a.py; {PYTEST} test_b.py")
    assert hidden.reading.tests == {"test_b::test_ok": "passed"}
    assert hidden.judgement is Judgement.RED


def test_a_test_deleted_from_the_first_of_two_runs_is_missed(project: Project) -> None:
    project.write("test_a.py", "def test_1(): pass\ndef test_2(): pass\n")
    project.write("test_b.py", "def test_3(): pass\n")
    command = f"{PYTEST} test_a.py && {PYTEST} test_b.py"
    before = project.judge(command)
    assert before.judgement is Judgement.PASSED
    project.write("test_a.py", "def test_1(): pass\n")
    after = project.judge(command, baseline=before.reading)
    assert after.judgement is Judgement.RED
    assert "2 tests collected where green has 3" in after.reason


WORSE = (
    "",
    "def test_two(): pass\n",
    "import pytest\n@pytest.mark.skip\ndef test_2(): pass\n",
    "import pytest\n@pytest.mark.xfail(run=False)\ndef test_2(): assert 0\n",
)


def test_deleting_skipping_and_renaming_tests_is_noticed(project: Project) -> None:
    ok = "def test_1(): pass\n"
    project.write("test_a.py", ok + "def test_2(): pass\n")
    before = project.read(PYTEST)
    for worse in WORSE:
        project.write("test_a.py", ok + worse)
        verdict = project.judge(PYTEST, baseline=before)
        assert verdict.judgement is Judgement.RED, worse
        assert "test_a::test_2" in verdict.reason


def test_skipping_a_whole_module_is_noticed(project: Project) -> None:
    project.write("test_a.py", "def test_1(): pass\n")
    project.write("test_b.py", "def test_2(): pass\n")
    before = project.read(PYTEST)
    project.write("test_b.py", "import pytest\npytest.skip(allow_module_level=True)\n")
    verdict = project.judge(PYTEST, baseline=before)
    assert verdict.judgement is Judgement.RED
    assert "test_b::test_2" in verdict.reason


def test_a_pytest_that_dies_leaves_no_pass(project: Project) -> None:
    project.write("test_a.py", "import os\ndef test_1(): os._exit(0)\n")
    project.write("test_0.py", "def test_1(): pass\n")
    before = Reading(tests={"test_0::test_1": "passed", "test_a::test_1": "passed"})
    verdict = project.judge(PYTEST, baseline=before)
    assert verdict.judgement is Judgement.RED
    assert "missing report" in verdict.reason


def test_unittest_is_read_from_its_text(project: Project) -> None:
    project.write(
        "test_u.py",
        "import unittest\nclass T(unittest.TestCase):\n"
        "    def test_a(self): pass\n"
        "    def test_b(self): self.fail()\n"
        "    def test_c(self): raise RuntimeError\n"
        "    @unittest.skip('x')\n    def test_d(self): pass\n"
        "    @unittest.expectedFailure\n    def test_e(self): self.fail()\n",
    )
    counts = project.read("python -m unittest -q").counts
    assert counts == {"passed": 1, "failed": 1, "error": 1, "skipped": 1, "xfailed": 1}
    (project.folder / "test_u.py").unlink()
    verdict = project.judge("python -m unittest -q")
    assert verdict.judgement is Judgement.RED


def test_a_command_that_is_not_there_is_named(project: Project) -> None:
    for command in ("nosuchtool --check", "bash -c 'nosuchtool'", "env nosuchtool"):
        verdict = project.judge(command)
        assert verdict.reason.startswith("command not found: nosuchtool; put its folder"), command


SOURCE = """import os
import sys, json
def f(x):
  eval(x)
  assert x
"""
FOUND = [("E401", 2), ("F401", 1), ("F401", 2), ("F401", 2), ("S101", 5), ("S307", 4)]
FORMATS = ("full", "concise", "json", "json-lines", "sarif", "grouped", "github", "pylint")


@pytest.mark.parametrize("form", FORMATS)
def test_ruff_is_read_in_the_formats_it_writes(project: Project, form: str) -> None:
    project.write("m.py", SOURCE)
    command = f"ruff check --no-cache --isolated --select E401,F401,S --output-format {form} ."
    reading = project.read(command)
    assert sorted((f.rule, f.line) for f in reading.findings) == FOUND
    assert {f.path for f in reading.findings} == {"m.py"}
    assert (reading.n_lint, reading.n_security) == (4, 2)
    assert not reading.has_tests
    verdict = project.judge(command)
    assert verdict.reason.startswith("exit code 1: 6 findings: ")


def test_ruff_in_other_moods(project: Project) -> None:
    project.write("m.py", SOURCE)
    ruff = "ruff check --no-cache --isolated --select F401"
    assert project.read(f"{ruff} --preview .").n_lint == 3
    assert project.read(f"{ruff} --preview --output-format concise .").n_lint == 3
    assert project.read(f"{ruff} --statistics .").n_lint == 3
    assert project.read(f"{ruff} --fix .").n_lint == 0
    clean = project.judge(f"{ruff} .")
    assert (clean.judgement, clean.reason) == (
        Judgement.PASSED, "no test report; 0 lint findings",
    )  # fmt: skip
    project.write("m.py", "def f(:\n")
    assert project.read(f"{ruff} .").n_lint == 2


def test_mypy_is_read_as_text_and_json(project: Project) -> None:
    project.write("m.py", 'x: int = "a"\n\ny: str = 3\nreveal_type(x)\n')
    mypy = "mypy --no-incremental --cache-dir=/dev/null"
    for options in ("", "--show-column-numbers --show-error-end", "--pretty", "-O json"):
        reading = project.read(f"{mypy} {options} m.py")
        errors = [(f.line, f.level) for f in reading.findings if f.level == "error"]
        assert errors == [(1, "error"), (3, "error")], options
        assert reading.n_types == 2
        assert {f.path for f in reading.findings} == {"m.py"}
    project.write("m.py", "x: int = 1\n")
    assert project.judge(f"{mypy} m.py").reason == "no test report; 0 type findings"


def test_tests_and_lint_in_one_command_do_not_mix(project: Project) -> None:
    project.write("test_a.py", "import os\ndef test_ok(): pass\n")
    ruff = "ruff check --no-cache --isolated --select F401 --output-format json ."
    verdict = project.judge(f"{PYTEST} && {ruff}")
    assert verdict.reading.tests == {"test_a::test_ok": "passed"}
    assert verdict.reading.n_lint == 1
    assert verdict.reason == "exit code 1: 1 finding: F401 in test_a.py:1"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_report_of_nodes_test_runner_is_read(project: Project) -> None:
    project.write(
        "a.test.mjs",
        "import {test, describe, it} from 'node:test';\n"
        "test('top', () => {});\n"
        "test('sk', {skip: 'later'}, () => {});\n"
        "test('td', {todo: true}, () => { throw new Error('x') });\n"
        "describe('math', () => { it('adds', () => {}); it('subs', () => { throw 1 }) });\n",
    )
    project.read(f"node --test --test-reporter=junit a.test.mjs > {project.folder}/r.xml")
    report = (project.folder / "r.xml").read_bytes()
    reading = read_reports(output=b"", junit=[report])
    assert reading.tests == {
        "test::top": "passed",
        "test::sk": "skipped",
        "test::td": "xfailed",
        "math::adds": "passed",
        "math::subs": "failed",
    }


def test_a_reading_of_real_tools_survives_storage(project: Project) -> None:
    project.write("test_a.py", OUTCOMES)
    reading = project.read(f"{PYTEST}; ruff check --no-cache --isolated .")
    assert Reading.from_json(json.loads(json.dumps(reading.to_json()))) == reading
