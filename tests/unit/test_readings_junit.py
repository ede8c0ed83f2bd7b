"""JUnit XML in the dialects of its writers, and in hands that mean harm."""

from __future__ import annotations

import time

import pytest

from blocks.readings import Reading, read_reports
from blocks.readings.documents import MAX_DOCUMENT_BYTES
from blocks.readings.junit import MAX_ID_CHARACTERS


def read(*documents: str | bytes, root: str = "") -> Reading:
    reports = [d.encode() if isinstance(d, str) else d for d in documents]
    return read_reports(output=b"", junit=reports, root=root)


PYTEST = """<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests">
<testsuite name="pytest" errors="3" failures="2" skipped="2" tests="10" timestamp="2026-01-01">
<testcase classname="" name="t.test_broken"><error message="collection failure"/></testcase>
<testcase classname="" name="t.test_gone"><skipped message="collection skipped"/></testcase>
<testcase classname="t.test_a" name="test_ok" time="0.1"/>
<testcase classname="t.test_a.TestC" name="test_p[a/b::c]"><system-out/></testcase>
<testcase classname="t.test_a" name="test_bad"><failure message="assert">E</failure></testcase>
<testcase classname="t.test_a" name="test_skip"><skipped type="pytest.skip"/></testcase>
<testcase classname="t.test_a" name="test_xf"><skipped type="pytest.xfail"/></testcase>
<testcase classname="t.test_a" name="test_err"><error message="failed on setup with"/></testcase>
<testcase classname="t.test_a" name="test_both"><failure message="assert 0">E</failure></testcase>
<testcase classname="t.test_a" name="test_both"><error message="failed on teardown"/></testcase>
</testsuite></testsuites>"""

SUREFIRE = """<testsuite name="com.acme.FooTest" tests="4"><properties/>
<testcase name="adds" classname="com.acme.FooTest"><flakyFailure message="once"/></testcase>
<testcase name="subs(int)[1]" classname="com.acme.FooTest"><failure/><rerunFailure/></testcase>
<testcase name="muls" classname="com.acme.FooTest"><skipped message="later"/></testcase>
<testcase name="divs" classname="com.acme.FooTest"><error type="NPE"/></testcase></testsuite>"""

NESTED = """<testsuites><testsuite name="outer"><testsuite name="inner">
<testcase name="a"/></testsuite><testcase name="b"/></testsuite></testsuites>"""

GOTESTSUM = """<testsuites tests="3" failures="1"><testsuite name="acme/pkg" tests="3" failures="1">
<testcase classname="acme/pkg" name="TestA"/><testcase classname="acme/pkg" name="TestA/sub_1"/>
<testcase classname="acme/pkg" name="TestB"><failure message="Failed">x</failure></testcase>
</testsuite></testsuites>"""

NEXTEST = """<testsuites name="nextest-run" tests="2" uuid="45c50042"><testsuite name="acme::basic">
<testcase name="tests::ok" classname="acme::basic" timestamp="2026-01-01T00:00:00Z"/>
<testcase name="tests::flaky" classname="acme::basic"><flakyFailure type="x"/></testcase>
</testsuite></testsuites>"""

JEST = """<testsuites name="jest tests"><testsuite name="math" errors="0">
<testcase classname="math adds" name="math adds" time="0.01"/>
<testcase classname="math subs" name="math subs"><failure>Error</failure></testcase>
</testsuite></testsuites>"""

NODE = """<testsuites><testcase name="top" classname="test"/>
<testcase name="td" classname="test" failure="x"><skipped type="todo"/><failure/></testcase>
<testsuite name="math"><testcase name="adds" classname="test"/>
<testsuite name="deep"><testcase name="adds" classname="test"><failure/></testcase></testsuite>
</testsuite><testsuite name="parent"><testcase name="child" classname="test"/><failure/></testsuite>
</testsuites>"""

GOOGLETEST = """<testsuites><testsuite name="Math">
<testcase name="Adds" status="run" result="completed" classname="Math"/>
<testcase name="DISABLED_Subs" status="notrun" result="suppressed" classname="Math"/>
</testsuite></testsuites>"""

DIALECTS: dict[str, tuple[str, dict[str, str]]] = {
    "pytest": (
        PYTEST,
        {
            "::t.test_broken": "error",
            "::t.test_gone": "skipped",
            "t.test_a::test_ok": "passed",
            "t.test_a.TestC::test_p[a/b::c]": "passed",
            "t.test_a::test_bad": "failed",
            "t.test_a::test_skip": "skipped",
            "t.test_a::test_xf": "xfailed",
            "t.test_a::test_err": "error",
            "t.test_a::test_both": "error",
        },
    ),
    "surefire": (
        SUREFIRE,
        {
            "com.acme.FooTest::adds": "passed",
            "com.acme.FooTest::subs(int)[1]": "failed",
            "com.acme.FooTest::muls": "skipped",
            "com.acme.FooTest::divs": "error",
        },
    ),
    "nested suites": (NESTED, {"outer > inner::a": "passed", "outer::b": "passed"}),
    "gotestsum": (
        GOTESTSUM,
        {
            "acme/pkg::TestA": "passed",
            "acme/pkg::TestA/sub_1": "passed",
            "acme/pkg::TestB": "failed",
        },
    ),
    "nextest": (
        NEXTEST,
        {"acme::basic::tests::ok": "passed", "acme::basic::tests::flaky": "passed"},
    ),
    "jest": (
        JEST,
        {"math adds::math adds": "passed", "math subs::math subs": "failed"},
    ),
    "node": (
        NODE,
        {
            "test::top": "passed",
            "test::td": "xfailed",
            "math::adds": "passed",
            "math > deep::adds": "failed",
            "parent::child": "passed",
            "parent::(suite)": "failed",
        },
    ),
    "googletest": (GOOGLETEST, {"Math::Adds": "passed", "Math::DISABLED_Subs": "skipped"}),
}


@pytest.mark.parametrize(("document", "expected"), DIALECTS.values(), ids=DIALECTS.keys())
def test_each_dialect_is_read(document: str, expected: dict[str, str]) -> None:
    reading = read(document)
    assert reading.tests == expected
    assert reading.sources == ("junit",)


def test_figures_are_those_of_the_outcomes() -> None:
    reading = read(PYTEST)
    figures = (reading.n_collected, reading.n_passed, reading.n_failed, reading.n_errors)
    assert figures == (9, 2, 1, 3)
    assert (reading.n_skipped, reading.n_xfailed) == (2, 1)
    assert reading.skipped == ("::t.test_gone", "t.test_a::test_skip")
    assert reading.failing == (
        "::t.test_broken",
        "t.test_a::test_bad",
        "t.test_a::test_both",
        "t.test_a::test_err",
    )


def test_an_empty_report_is_a_report_without_tests() -> None:
    reading = read('<testsuites><testsuite name="pytest" tests="0"/></testsuites>')
    assert reading.tests == {}
    assert reading.n_collected == 0


def test_several_reports_are_joined_and_the_same_one_twice_counts_once() -> None:
    reading = read(SUREFIRE, GOTESTSUM, SUREFIRE)
    assert reading.n_collected == 7


def test_equal_ids_are_told_apart_and_their_order_does_not_matter() -> None:
    one = '<testcase classname="a" name="t"/>'
    two = '<testcase classname="a" name="t"><skipped/></testcase>'
    expected = {"a::t": "passed", "a::t#2": "skipped"}
    assert read(f"<testsuite>{one}{two}</testsuite>").tests == expected
    assert read(f"<testsuite>{two}{one}</testsuite>").tests == expected


def test_a_duplicate_does_not_take_the_name_of_another_test() -> None:
    names = ["t", "t#2", "t"]
    cases = "".join(f'<testcase classname="a" name="{name}"/>' for name in names)
    assert set(read(f"<testsuite>{cases}</testsuite>").tests or {}) == {"a::t", "a::t#2", "a::t#3"}


def test_addresses_and_the_workspace_are_no_part_of_an_id() -> None:
    def ids(address: str, workspace: str) -> set[str]:
        name = f"t[&lt;Foo at {address}&gt;-{workspace}/data.txt]"
        document = f'<testsuite><testcase classname="a" name="{name}"/></testsuite>'
        return set(read(document, root=workspace).tests or {})

    first = ids("0x7f3ac0ffee10", "/home/one/ws-1")
    assert first == ids("0x7f3ac0ffee99", "/home/two/ws-2") == {"a::t[<Foo at 0x…>-data.txt]"}


def test_a_long_id_is_cut_and_stays_apart_from_its_neighbour() -> None:
    cases = "".join(f'<testcase classname="a" name="{"x" * 5_000}{n}"/>' for n in range(2))
    tests = read(f"<testsuite>{cases}</testsuite>").tests or {}
    assert len(tests) == 2
    assert all(len(test) <= MAX_ID_CHARACTERS for test in tests)
    assert not any("#" in test for test in tests)


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + ']><testsuite name="&j;"/>'
)
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no element found"),
    "no xml": (b"3 passed in 0.1s", "not well-formed"),
    "cut off": (PYTEST[:700].encode(), "not well-formed"),
    "billion laughs": (LAUGHS.encode(), "document type"),
    "laughs in utf-16": (LAUGHS.encode("utf-16"), "document type"),
    "external entity": (
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><testsuite><testcase name="a"/></testsuite>',
        "document type",
    ),
    "too large": (b"<testsuite>" + b" " * MAX_DOCUMENT_BYTES, "larger than 64 MiB"),
    "unknown encoding": (b'<?xml version="1.0" encoding="klingon"?><testsuite/>', "encoding"),
    "another format": (b"<coverage line-rate='1'/>", "no test report"),
}


@pytest.mark.parametrize(("document", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_read_is_a_missing_report_with_its_reason(
    document: bytes, reason: str
) -> None:
    reading = read(document)
    assert reading.tests is None
    assert len(reading.unreadable) == 1
    assert reason in reading.unreadable[0]


def test_a_damaged_report_does_not_hide_a_good_one() -> None:
    reading = read(b"<", GOTESTSUM)
    assert reading.n_collected == 3
    assert reading.unreadable


@pytest.mark.parametrize(
    "document",
    [
        "<a>" * 20_000 + "<testcase/>" * 20_000,
        "<testsuite>" + "<testcase>" * 20_000,
        '<testsuite name="s">' * 20_000 + '<testcase name="t"/>' * 20_000,
        f'<testsuite name="{"s" * 200_000}">' + '<testcase name="t"/>' * 20_000,
        "<testsuite>" + '<testcase name="t"><error/></testcase>' * 20_000 + "</testsuite>",
    ],
    ids=["deep", "deep cases", "deep suites", "long suite", "one id often"],
)
def test_hostile_shapes_take_linear_time(document: str) -> None:
    if not document.startswith(("<a>", "<testsuite>")) or not document.endswith("</testsuite>"):
        document = _closed(document)
    began = time.process_time()
    read(document)
    assert time.process_time() - began < 2


def _closed(document: str) -> str:
    """Close what a document opens, so that all of it is read."""
    ends = [tag for tag in ("testcase", "testsuite", "a") for _ in range(_left_open(document, tag))]
    return document + "".join(f"</{tag}>" for tag in ends)


def _left_open(document: str, tag: str) -> int:
    opened = document.count(f"<{tag}>") + document.count(f"<{tag} ")
    closed = document.count(f"</{tag}>") + document.count("/>") * (tag == "testcase")
    return max(0, opened - closed)


def test_twenty_thousand_tests_are_read_quickly() -> None:
    cases = "".join(
        f'<testcase classname="tests.test_{n % 200}" name="test_{n}[p]" time="0.001"/>'
        for n in range(20_000)
    )
    document = f"<testsuite>{cases}</testsuite>".encode()
    began = time.process_time()
    assert read(document).n_collected == 20_000
    assert time.process_time() - began < 1
