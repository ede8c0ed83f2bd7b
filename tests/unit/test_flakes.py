"""Which failing tests are a candidate's own, by the ids that readings give them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.readings import read_reports
from flows.landing.flakes import own_tests

PYTEST = """<testsuites><testsuite name="pytest">
<testcase classname="" name="t.test_broken"><error message="collection failure"/></testcase>
<testcase classname="t.test_a.TestC" name="test_p[a/b::c]"><failure/></testcase>
<testcase classname="t.test_a" name="test_bad"><failure/></testcase>
<testcase classname="t.test_b" name="test_bad"><failure/></testcase>
</testsuite></testsuites>"""
SUREFIRE = """<testsuite name="com.acme.FooTest">
<testcase name="subs(int)[1]" classname="com.acme.FooTest"><failure/></testcase>
<testcase name="inner" classname="com.acme.FooTest$Deep"><failure/></testcase>
<testcase name="divs" classname="com.acme.BarTest"><error type="NPE"/></testcase></testsuite>"""
VITEST = """<testsuites><testsuite name="src/foo.test.ts">
<testcase classname="src/foo.test.ts" name="math &gt; adds"><failure/></testcase>
</testsuite></testsuites>"""
GOTESTSUM = """<testsuites><testsuite name="acme/pkg">
<testcase classname="acme/pkg" name="TestB"><failure/></testcase></testsuite></testsuites>"""
NEXTEST = """<testsuites name="nextest-run"><testsuite name="acme::basic">
<testcase name="tests::ok" classname="acme::basic"><failure/></testcase></testsuite></testsuites>"""
JEST = """<testsuites name="jest tests"><testsuite name="math">
<testcase classname="math subs" name="math subs"><failure/></testcase></testsuite></testsuites>"""
MOCHA = """<testsuites><testsuite name="Root Suite"/><testsuite name="math" file="/w/test/math.js">
<testcase name="math adds" classname="adds"><failure/></testcase></testsuite></testsuites>"""
NODE = """<testsuites><testcase name="top" classname="test"><failure/></testcase>
<testsuite name="math"><testcase name="adds" classname="test"><failure/></testcase></testsuite>
</testsuites>"""
GOOGLETEST = """<testsuites><testsuite name="Math">
<testcase name="Adds" classname="Math"><failure/></testcase></testsuite></testsuites>"""


def failing(report: str) -> tuple[str, ...]:
    found = read_reports(output=b"", junit=[report.encode()], root="").failing
    assert found
    return found


@pytest.mark.parametrize(
    ("report", "file", "own"),
    [
        (PYTEST, "t/test_a.py", ["t.test_a.TestC::test_p[a/b::c]", "t.test_a::test_bad"]),
        (PYTEST, "t/test_b.py", ["t.test_b::test_bad"]),
        (PYTEST, "t/test_broken.py", ["::t.test_broken"]),
        (SUREFIRE, "src/test/java/com/acme/FooTest.java",
         ["com.acme.FooTest$Deep::inner", "com.acme.FooTest::subs(int)[1]"]),
        (SUREFIRE, "core/src/test/kotlin/com/acme/BarTest.kt", ["com.acme.BarTest::divs"]),
        (SUREFIRE, "tests/com/acme/BarTest.java", ["com.acme.BarTest::divs"]),
        (VITEST, "src/foo.test.ts", ["src/foo.test.ts::math > adds"]),
    ],
)  # fmt: skip
def test_tests_in_a_file_that_a_candidate_changed_are_its_own(
    report: str, file: str, own: list[str]
) -> None:
    assert own_tests(failing(report), ["README.md", file]) == tuple(own)


@pytest.mark.parametrize(
    ("report", "files"),
    [
        (PYTEST, ["t/a.py", "test_a.py", "x/t/test_a.py", "t/test_a.txt", "t.py", "t/__init__.py"]),
        (SUREFIRE, ["src/test/java/com/acme/Foo.java", "src/test/java/org/acme/FooTest.java"]),
        (SUREFIRE, ["src/test/java/acme/FooTest.java", "FooTest.java", "com/acme.java"]),
        (VITEST, ["src/foo.ts", "foo.test.ts", "other/src/foo.test.ts", "src/foo.test.tsx"]),
        (GOTESTSUM, ["pkg/b_test.go", "acme/pkg/b_test.go"]),
        (NEXTEST, ["tests/basic.rs", "src/basic.rs"]),
        (JEST, ["math.test.js", "src/math.test.js"]),
        (MOCHA, ["test/math.js", "test/adds.js"]),
        (NODE, ["test/math.js", "math.test.js", "test.js", "test/test.js"]),
        (GOOGLETEST, ["Math.cc", "test/Math.cc", "Math.py", "Math"]),
    ],
)
def test_what_is_elsewhere_or_cannot_be_mapped_is_not_its_own(
    report: str, files: list[str]
) -> None:
    assert own_tests(failing(report), files) == ()


def test_a_title_that_names_the_file_under_test_is_no_place() -> None:
    assert own_tests(["src/foo.js::adds"], ["src/foo.js"]) == ()
    assert own_tests(["src/__tests__/foo.js::adds"], ["src/__tests__/foo.js"])


def test_a_class_in_a_module_is_told_from_a_module_in_a_package() -> None:
    assert own_tests(["tests.TestC::a"], ["tests.py"])
    assert not own_tests(["tests.test_c::a"], ["tests.py"])


def test_other_spellings_of_known_runners_are_mapped() -> None:
    assert own_tests(["test_a::test_ok"], ["test_a.py"])
    assert own_tests(["tests.TestC::test_ok"], ["tests.py"])
    assert own_tests(["spec.models.user_spec::is a user"], ["spec/models/user_spec.rb"])
    assert own_tests(["docs.guide.txt::guide.txt"], ["docs/guide.txt"]) == ()  # a doctest
    assert own_tests(["BTest::x"], ["src/test/java/BTest.java"])
    assert not own_tests(["BTest::x"], ["src/test/java/a/BTest.java"])


def test_in_a_project_below_the_root_the_tree_tells_which_file_is_meant() -> None:
    test, file, other = "tests.test_x::test_a", "sub/tests/test_x.py", "also/tests/test_x.py"
    assert own_tests([test], [file]) == ()
    assert own_tests([test], [file], [file, "README.md"]) == (test,)
    assert own_tests([test], [file], [file, other]) == ()
    assert own_tests([test], [file, other], [file, other]) == (test,)
    assert own_tests([test], [file], [file, "mytests/test_x.py"]) == (test,)


def test_an_id_without_a_place_is_nobodys() -> None:
    assert own_tests(["", "::", "test_a", "t.test_a", "::#2"], ["t/test_a.py", "", ".py"]) == ()


names = st.text("ab/.:#$T", max_size=12)


@given(failing=st.frozensets(names), files=st.frozensets(names), more=st.frozensets(names))
def test_more_files_of_others_make_no_test_ones_own(
    failing: frozenset[str], files: frozenset[str], more: frozenset[str]
) -> None:
    own = own_tests(failing, files, tree=files)
    assert {*own} <= failing
    assert {*own_tests(failing, files, tree=files | more)} <= {*own}
    assert not own_tests(failing, ())
