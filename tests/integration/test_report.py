from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from blocks.metrics import MemoryStore, MetricsStore
from flows.ledger.events import (
    AskEnded,
    AttemptEnded,
    FlakeSeen,
    MissionStarted,
    PlanMade,
    RoundJudged,
)
from flows.reporting.report import (
    MAX_NODES,
    MAX_PROBES,
    MAX_REMAINS,
    UnknownMission,
    duration,
    report,
)
from flows.reporting.sync import rows_of, sync
from tests.ledgers import (
    Timed,
    busy_mission,
    node,
    records_of,
    sha,
    small_mission,
    two_rounds,
    write_ledger,
)


def told(tmp_path: Path, events: list[Timed], mission: str = "m1") -> str:
    write_ledger(tmp_path / "missions", mission, events)
    return report(tmp_path / "metrics.duckdb", mission)


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title} in {text}"
    return found[1]


def cells(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return told(tmp_path_factory.mktemp("home"), small_mission())


def test_it_begins_with_the_objective_and_how_it_ended(small: str) -> None:
    assert small.startswith(
        "# Mission tidy-acme (m1)\n\n"
        "> No lint findings, typed public functions, tests stay green.\n\n"
        "**Finished: nothing left to do** (exit code 1).\n"
        "3 of 6 units landed; 1 needed no change, 1 failed, 1 blocked.\n"
    )


def test_what_landed_has_commit_attempts_time_and_cost(small: str) -> None:
    assert cells(section(small, "Landed")) == [
        ["`a`", "Tidy a", f"`{sha('ca1')[:10]}`", "1", "20 s", "$0.50"],
        ["`c`", "Tidy c", f"`{sha('cc2')[:10]}`", "1", "1 min 10 s", "$0.30"],
        ["`b`", "Tidy b", f"`{sha('cb3')[:10]}`", "3", "1 min 20 s", "$0.60"],
    ]


def test_what_did_not_land_says_why(small: str) -> None:
    assert cells(section(small, "Not landed")) == [
        ["`d`", "no change", "1", ""],
        ["`e`", "failed", "2", "rejected: 1 failed"],
        ["`f`", "blocked", "0", "depends on e"],
    ]


def test_what_was_refused_says_why_and_whether_it_used_up_an_attempt(small: str) -> None:
    assert cells(section(small, "Refused and why")) == [
        ["`b` · 1", "failed", "yes", "exit code 1: no module \\| acme"],
        ["`b` · 2", "conflicted", "no", "in src/x.py, src/y.py"],
        ["`e` · 1", "infrastructure", "no", "host lost"],
        ["`e` · 2", "rejected", "yes", "1 failed"],
    ]


def test_the_train_is_told_probe_by_probe(small: str) -> None:
    rows = cells(section(small, "The train"))
    assert [[row[0], *row[2:5], row[6]] for row in rows] == [
        ["1", "base", "none", "passed", "green begins"],
        ["2", "stack", "`a`", "passed", "landed"],
        ["3", "stack", "`c`", "red", "flake: `t::one`"],
        ["4", "confirm", "`c`", "passed", "flake"],
        ["5", "stack", "`c`", "passed", "landed"],
        ["6", "stack", "`b`", "passed", "landed"],
        ["7", "stack", "`e`", "red", "culprit found: `t::two`"],
        ["8", "confirm", "`e`", "red", "rejected: `t::two`"],
    ]


def test_flaky_tests_are_told_with_how_often_where_and_by_which_probes(tmp_path: Path) -> None:
    events = small_mission()
    (at, seen) = next((at, e) for at, e in events if isinstance(e, FlakeSeen))
    more = [
        replace(seen, tree=sha("again"), red_probe=5, green_probe=6, failing=["t::one", "t::two"]),
        replace(seen, failing=[]),
    ]
    where = events.index((at, seen)) + 1
    events[where:where] = [(at, each) for each in more]
    table = section(told(tmp_path, events), "Flaky tests")
    again = f"`{sha('again')[:10]}`"
    assert cells(table) == [
        ["`t::one`", "2", again, "3, 4; 5, 6"],
        ["`t::two`", "1", again, "5, 6"],
    ]


def test_a_mission_without_flakes_says_nothing_of_them(tmp_path: Path) -> None:
    events = [(at, e) for at, e in small_mission() if not isinstance(e, FlakeSeen)]
    text = told(tmp_path, events)
    assert "## The train" in text
    assert "Flaky" not in text


def test_time_and_cost_are_the_views_figures(small: str) -> None:
    figures = dict(cells(section(small, "Time and cost")))
    assert figures["cost"] == "$1.60 (2 of 8 attempts did not say)"
    assert figures["cost a landed unit"] == "$0.53"
    assert figures["first time right"] == "50%"
    assert figures["slots used"] == "34% of 4"
    assert figures["drivers at work"] == "2 min 12 s"


@pytest.fixture(scope="module")
def agentic(tmp_path_factory: pytest.TempPathFactory) -> str:
    return told(tmp_path_factory.mktemp("home"), two_rounds(), "m2")


def test_rounds_are_told_with_their_phases_scores_and_findings(agentic: str) -> None:
    rounds, findings = re.findall(r"(?:^\| .*\n)+", section(agentic, "Rounds"), re.MULTILINE)
    assert cells(rounds) == [
        [
            *("1", "0.55", "0.40", "not met", "3 of 5"),
            *("44 s", "1 min 12 s", "34 s", "14 s", "2 min 10 s"),
        ],
        ["2", "0.97", "0.90", "met", "1 of 1", "26 s", "26 s", "-", "8.0 s", "1 min 0 s"],
    ]
    assert cells(findings) == [
        ["lint", "12", "2", "-10"],
        ["security", "0", "1", "+1"],
        ["types", "3", "0", "-3"],
    ]
    assert "The word after round 2: Done but for trifles." in agentic
    assert "What remains" not in agentic


def test_what_remains_is_told_after_the_last_round_that_was_judged(tmp_path: Path) -> None:
    text = section(told(tmp_path, [e for e in two_rounds() if e[0] <= 166], "m2"), "Rounds")
    assert "What remains after round 1:\n\n- types in zones.py\n- weights have no tests\n" in text
    assert "| lint     | 12 |" in text
    assert "after the last" not in text


def test_an_agents_plan_is_drawn_as_a_tree_replans_included(agentic: str) -> None:
    assert section(agentic, "Plan") == (
        "Round 1:\n\n"
        "- 0 Tidy everything\n"
        "  - 0.1 Lint (2 units)\n"
        "  - 0.2 Types\n"
        "    - 0.2.1 Types of zones (1 unit)\n"
        "    - 0.2.2 Types of weights (1 unit; its answers were unusable)\n\n"
        "Round 1, planned anew (1):\n\n"
        "- 0 Tidy the rest (2 units)\n\n"
        "Round 2:\n\n"
        "- 0 Tidy the rest (1 unit)\n\n"
    )


def test_a_large_plan_and_a_long_list_are_shortened_and_say_so(tmp_path: Path) -> None:
    nodes = [node("0", "parts", "All")]
    nodes += [node(f"0.{i}", "units", f"Part {i}", 1) for i in range(1, 200)]
    remains = [f"thing {i}" for i in range(50)]
    events = [
        (at, replace(e, nodes=nodes) if isinstance(e, PlanMade) else e)
        for at, e in two_rounds()
        if at <= 140
    ]
    events = [
        (at, replace(e, remains=remains) if isinstance(e, RoundJudged) else e) for at, e in events
    ]
    text = told(tmp_path, events, "m2")
    plan = section(text, "Plan")
    assert plan.startswith("Earlier plans are left out.\n\nRound 1, planned anew (1):")
    assert len(re.findall(r"^ *- \d", plan, re.MULTILINE)) == MAX_NODES + 1
    assert f"- {200 - MAX_NODES} more parts" in plan
    assert len(re.findall(r"^- thing", text, re.MULTILINE)) == MAX_REMAINS
    assert "- and 40 more" in text


def test_questions_without_an_answer_say_why(agentic: str) -> None:
    assert cells(section(agentic, "Questions without an answer")) == [
        ["2", "1", "plan 0.1", "`architect`", "unusable", "no line starts with MISSION_PLAN:"],
        ["6", "1", "plan 0.2.2", "`architect`", "unusable", "no JSON"],
        ["7", "1", "plan 0.2.2", "`architect`", "timed out", ""],
        ["10", "2", "plan 0", "`architect`", "rate limited", ""],
    ]


def test_costs_are_told_by_agent_and_purpose(agentic: str) -> None:
    assert cells(section(agentic, "Cost by agent")) == [
        ["`architect`", "plan", "10", "1 min 7 s", "$0.55", "6,600", "2,800", "530", "9"],
        ["`default`", "work", "8", "50 s", "$1.70", "5,000", "4,000", "600", "6"],
        ["`judge`", "evaluate", "2", "20 s", "$0.20", "6,000", "4,500", "270", "6"],
        ["`mender`", "fixup", "3", "32 s", "$0.40", "-", "-", "-", "-"],
    ]
    figures = dict(cells(section(agentic, "Time and cost")))
    assert figures["cost"] == "$2.85 (3 of 11 attempts, 4 of 12 questions did not say)"


def test_rate_limits_are_told_with_how_long_they_lasted(agentic: str) -> None:
    assert section(agentic, "Rate limits") == (
        "- `default` (work): 2023-11-14 22:14:12 to 2023-11-14 22:14:42 UTC (30 s)\n"
        "- `architect` (plan): 2023-11-14 22:15:46 to 2023-11-14 22:15:56 UTC (10 s)\n\n"
    )


def test_a_mission_without_agents_plans_or_judgements_says_nothing_of_them(small: str) -> None:
    assert re.findall(r"^## (.*)", small, re.MULTILINE) == [
        "Landed",
        "Not landed",
        "Refused and why",
        "The train",
        "Time and cost",
        "Conflicts by file",
        "Flaky tests",
        "Remarks",
        "Where it is",
    ]


def test_what_agents_answer_starts_no_markup(tmp_path: Path) -> None:
    hostile = "a | b\n# Title\n<script>alert(1)</script> ```fence"
    events: list[Timed] = []
    for at, e in two_rounds():
        if isinstance(e, AskEnded):
            events.append((at, replace(e, problem=hostile)))
        elif isinstance(e, RoundJudged):
            events.append((at, replace(e, summary=hostile, remains=[hostile])))
        elif isinstance(e, PlanMade):
            events.append((at, replace(e, nodes=[node("0", "units", hostile)])))
        else:
            events.append((at, e))
    text = told(tmp_path, events, "m2")
    assert "<script>" not in text
    assert not re.search(r"^\s*# Title", text, re.MULTILINE)
    assert "```fence" not in text


@pytest.mark.parametrize("which", ["small", "agentic"])
def test_tables_are_aligned_for_people_who_read_them_as_text(
    which: str, request: pytest.FixtureRequest
) -> None:
    for table in re.findall(r"(?:^\| .*\n)+", request.getfixturevalue(which), re.MULTILINE):
        assert len({len(line) for line in table.splitlines()}) == 1, table


def git(*argv: str, cwd: Path) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(
        ["git", *identity, *argv], cwd=cwd, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("remote", [False, True])
def test_the_commands_it_names_show_the_branch(tmp_path: Path, remote: bool) -> None:
    target = tmp_path / "it's a target"
    target.mkdir()
    git("init", "-q", "-b", "main", cwd=target)
    git("commit", "-q", "--allow-empty", "-m", "base", cwd=target)
    base = git("rev-parse", "HEAD", cwd=target)
    git("checkout", "-q", "-b", "mission/green", cwd=target)
    git("commit", "-q", "--allow-empty", "-m", "landed work", cwd=target)
    events = small_mission()
    started = events[0][1]
    assert isinstance(started, MissionStarted)
    url = f"file://{target}" if remote else str(target)
    events[0] = (0, replace(started, repository=url, base=base))
    where = section(told(tmp_path, events), "Where it is")
    commands = re.search(r"```sh\n(.*)\n```", where, re.DOTALL)
    assert commands
    shown = subprocess.run(
        ["sh", "-ec", commands[1]], cwd=target, check=True, capture_output=True, text=True
    )
    assert "landed work" in shown.stdout
    assert " base" not in shown.stdout


def test_undelivered_work_is_said_to_be_undelivered_and_why(tmp_path: Path) -> None:
    before_resume = [(at, event) for at, event in small_mission() if at <= 100]
    text = told(tmp_path, before_resume)
    assert "**Interrupted**" in text
    assert "no route to host" in section(text, "Where it is")
    assert "```sh" not in text


@pytest.mark.parametrize("events", [small_mission(), two_rounds("m1")], ids=["small", "rounds"])
def test_a_mission_can_be_reported_at_any_moment(events: list[Timed]) -> None:
    with MemoryStore() as store, store.writing() as writer:
        for record in records_of(events)[:-1]:
            writer.add(rows_of("m1", record, writer.columns))
            if record.seq % 7 != 1:
                continue
            text = report(store.connection, "m1")
            assert "units landed" in text
            assert "None" not in text
            assert "nan" not in text


def test_what_agents_write_starts_no_markup(tmp_path: Path) -> None:
    hostile = "a | b\n# Title\n<script>alert(1)</script> `code` ```fence"
    events = [
        (at, replace(e, detail=hostile) if isinstance(e, AttemptEnded) else e)
        for at, e in small_mission()
    ]
    text = told(tmp_path, events)
    assert "<script>" not in text
    assert not re.search(r"^# Title", text, re.MULTILINE)
    assert "```fence" not in text
    assert len(cells(section(text, "Refused and why"))) == 4


def test_a_long_history_is_shortened_and_says_so(tmp_path: Path) -> None:
    text = told(tmp_path, busy_mission(n_units=90), "busy")
    train = section(text, "The train")
    assert len(cells(train)) == MAX_PROBES
    assert re.match(r"\d+ earlier probes are left out", train)


def test_an_unknown_mission_is_refused_and_known_ones_named(tmp_path: Path) -> None:
    write_ledger(tmp_path / "missions", "m1", small_mission())
    sync(MetricsStore(tmp_path / "metrics.duckdb"), tmp_path / "missions")
    with pytest.raises(UnknownMission, match="m7; known: m1"):
        report(tmp_path / "metrics.duckdb", "m7")


def test_a_report_needs_no_file_and_holds_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.duckdb"
    without = told(tmp_path, small_mission())
    sync(MetricsStore(path), tmp_path / "missions")
    assert report(path, "m1") == without
    with duckdb.connect(str(path)):
        assert report(path, "m1") == without


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "-"),
        (0, "0 s"),
        (7.25, "7.2 s"),
        (59.4, "59 s"),
        (59.7, "60 s"),
        (132, "2 min 12 s"),
        (11_100, "3 h 5 min"),
    ],
)
def test_a_duration_is_said_as_people_do(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said
