"""Coverage, whatever writes it."""

from __future__ import annotations

import pytest

from blocks.readings import describe, read_reports

COBERTURA = (
    b'<?xml version="1.0"?><!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/c.dtd">'
    b'<coverage line-rate="0.9" lines-valid="10" lines-covered="9"><packages/></coverage>'
)
JACOCO = (
    b'<!DOCTYPE report PUBLIC "-//JACOCO//DTD Report 1.1//EN" "report.dtd"><report name="a">'
    b'<package name="p"><counter type="LINE" missed="9" covered="9"/></package>'
    b'<counter type="BRANCH" missed="1" covered="1"/><counter type="LINE" missed="1" covered="3"/>'
    b"</report>"
)
LCOV = (
    b"TN:\nSF:a.js\nDA:1,1\nLF:4\nLH:3\nend_of_record\nSF:b.js\r\nLF:4\r\nLH:1\r\nend_of_record\n"
)
REPORTS = {
    "cobertura": ([COBERTURA], 0.9),
    "cobertura without lines": ([b'<coverage line-rate="0.25"/>'], 0.25),
    "cobertura of nothing": ([b'<coverage line-rate="1" lines-valid="0" lines-covered="0"/>'], 1.0),
    "jacoco": ([JACOCO], 0.75),
    "lcov": ([LCOV], 0.5),
    "coverage.py": ([b'{"totals": {"covered_lines": 3, "num_statements": 4}}'], 0.75),
    "two reports weigh by lines": ([COBERTURA, LCOV], 13 / 18),
    "the same report twice": ([LCOV, LCOV], 0.5),
}


@pytest.mark.parametrize(("documents", "expected"), REPORTS.values(), ids=REPORTS.keys())
def test_each_format_gives_the_share_of_lines(documents: list[bytes], expected: float) -> None:
    reading = read_reports(output=b"", coverage=documents)
    assert reading.coverage == pytest.approx(expected)
    assert reading.sources == ("coverage",)


BROKEN = [
    b"",
    b"hello",
    b"{}",
    b'{"totals": 3}',
    b"<coverage/>",
    b'<coverage line-rate="many"/>',
    b'<coverage line-rate="nan"/>',
    b'<coverage line-rate="7"/>',
    b"<report/>",
    b'<report><counter type="LINE" missed="-4" covered="1"/></report>',
    b'<!DOCTYPE coverage [<!ENTITY a "b">]><coverage line-rate="1"/>',
    b'<!DOCTYPE coverage [<!ATTLIST coverage line-rate CDATA "1">]><coverage/>',
    b'{"totals": {"covered_lines": 5, "num_statements": 4}}',
    b"LF:1\nLH:2\n",
]


@pytest.mark.parametrize("document", BROKEN)
def test_a_damaged_report_is_named_and_gives_no_figure(document: bytes) -> None:
    reading = read_reports(output=b"", coverage=[document])
    assert reading.coverage is None
    assert reading.unreadable
    assert reading.unreadable[0].startswith("coverage: ")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("TOTAL                 200     20    90%", 0.9),
        ("TOTAL                 200     20     50     5    87.5%", 0.9),
    ],
)
def test_a_printed_total_is_read_where_there_is_no_report(row: str, expected: float) -> None:
    reading = read_reports(output=f"Name Stmts Miss Cover\n{row}\n1 passed in 0.1s\n".encode())
    assert reading.coverage == pytest.approx(expected)
    assert "coverage text" in reading.sources
    assert describe(reading) == "1 test passed; coverage 90 %"


def test_a_report_is_preferred_to_the_printed_total() -> None:
    reading = read_reports(output=b"TOTAL 10 9 10%\n", coverage=[COBERTURA])
    assert reading.coverage == pytest.approx(0.9)


def test_no_coverage_is_not_zero_coverage() -> None:
    assert read_reports(output=b"1 passed in 0.1s\n").coverage is None
