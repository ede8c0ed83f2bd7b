from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.errors import PlanInvalid
from flows.planning.documents import parse_plan, read_plan, render_plan
from flows.planning.plan import KINDS, Plan, Unit, UnitId

AGENTS = ("default", "claude")
FORMATS = ("toml", "json", "markdown")


def parse(text: str, document_format: str = "toml") -> Plan:
    return parse_plan(text, document_format, source="plan", agents=AGENTS)


def problems(text: str, document_format: str = "toml") -> list[str]:
    with pytest.raises(PlanInvalid) as refusal:
        parse(text, document_format)
    return str(refusal.value).removeprefix("The plan is not right: ").strip().splitlines()


PROSE = st.text() | st.lists(
    st.sampled_from(
        [
            "## Heading", "# Title", "```toml", "```", 'id = "x"', "~~~", "    code", "",
            'Say """this""" twice', "back\\slash", " lead", "trail ", "[[unit]]", "- point",
        ]
    )
).map("\n".join)  # fmt: skip
PATTERNS = st.sampled_from(["src/a.py", "src/**", "*.lock", "docs", 'od"d', "[id].tsx"])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    names = draw(
        st.lists(
            st.from_regex(r"[a-z0-9][a-z0-9_-]{0,9}", fullmatch=True),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    units = []
    for place, name in enumerate(names):
        needed = draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else []
        units.append(
            Unit(
                id=UnitId(name),
                title=draw(PROSE),
                prompt=draw(PROSE),
                depends_on=tuple(map(UnitId, needed)),
                writes=draw(st.none() | st.lists(PATTERNS).map(tuple)),
                agent=draw(st.sampled_from(AGENTS)),
                timeout_seconds=draw(
                    st.none()
                    | st.floats(min_value=1e-9, max_value=1e300)
                    | st.integers(1, 10**8).map(float)
                ),
                verify=draw(st.none() | st.text()),
                checkpoint=draw(st.booleans()),
                may_remove_tests=draw(st.booleans()),
                command=draw(st.none() | st.lists(st.text(), min_size=1).map(tuple)),
                kind=draw(st.sampled_from(KINDS)),
            )
        )
    return Plan(units=tuple(units))


@settings(deadline=None)  # the machine may be busy
@given(plans())
def test_a_plan_written_as_toml_reads_back_the_same(plan: Plan) -> None:
    assert parse(render_plan(plan, "toml"), "toml") == plan


@settings(deadline=None)  # the machine may be busy
@given(plans())
def test_a_plan_written_as_json_reads_back_the_same(plan: Plan) -> None:
    assert parse(render_plan(plan, "json"), "json") == plan


@settings(deadline=None)  # the machine may be busy
@given(plans())
def test_a_plan_written_as_markdown_reads_back_the_same(plan: Plan) -> None:
    assert parse(render_plan(plan, "markdown"), "markdown") == plan


def test_toml_as_people_write_it_is_understood() -> None:
    plan = parse(
        """
        [[unit]]
        id = "settings"
        title = "Read settings"
        prompt = "Do it"
        depends_on = []
        writes = ["src/acme/settings.py"]
        agent = "claude"
        timeout = "1h30m"
        verify = "pytest -q"
        checkpoint = true
        [[unit]]
        id = "next"
        depends_on = ["settings"]
        timeout = 45
        """
    )

    assert plan.units == (
        Unit(
            id=UnitId("settings"),
            title="Read settings",
            prompt="Do it",
            writes=("src/acme/settings.py",),
            agent="claude",
            timeout_seconds=5_400,
            verify="pytest -q",
            checkpoint=True,
        ),
        Unit(
            id=UnitId("next"),
            title="next",
            depends_on=(UnitId("settings"),),
            timeout_seconds=45,
        ),
    )


def test_toml_problems_name_line_unit_and_key() -> None:
    text = """# plan
[[unit]]
id = "a"
prompt = \"\"\"
[[unit]]
id = "not me"
\"\"\"
depends_on = ["b", "lexr"]

[[unit]] # second
id = "lexer"
tiemout = "5m"
timeout = "5 parsecs"
writes = [
    "a",
    3,
]
checkpoint = "yes"
agent = "cluade"
[[unit]]
title = "nameless"
"""
    assert problems(text) == [
        "plan:12: unit 'lexer': tiemout: unknown key; did you mean 'timeout'?",
        (
            "plan:13: unit 'lexer': timeout: '5 parsecs' is no duration; "
            'write e.g. "5m" or "1h30m"'
        ),
        "plan:14: unit 'lexer': writes: expected a list of strings, not a list with 3",
        "plan:18: unit 'lexer': checkpoint: expected true or false, not \"yes\"",
        "plan:20: unit 'number 3': id: it is missing",
    ]


def test_problems_between_units_have_lines_too() -> None:
    text = (
        '[[unit]]\nid = "a"\ndepends_on = [\n"b",\n"lexr"]\n[[unit]]\nid = "lexer"\nagent = "x"\n'
    )

    assert problems(text) == [
        "plan:3: unit 'a': depends_on: there is no unit 'b'",
        "plan:3: unit 'a': depends_on: there is no unit 'lexr'; did you mean 'lexer'?",
        "plan:8: unit 'lexer': agent: there is no agent 'x'; add [agents.x] to the mission file",
    ]


@pytest.mark.parametrize(
    ("document_format", "text", "expected"),
    [
        ("toml", '[[unit]]\nid = "a"\nid = "b"\n', "plan:3: Cannot overwrite a value"),
        ("toml", "[[unit]]\nid =", "plan:2: Invalid value"),
        ("toml", '\n[[units]]\nid = "a"\n', "plan:2: unknown key 'units'; did you mean 'unit'?"),
        ("toml", 'unit = "a"', "plan:1: expected a list of units, each a table of fields"),
        ("toml", "", "plan: the plan has no units"),
        ("toml", '[[unit]]\nid = ""\n', "plan:2: id: it becomes part of a branch and a folder: "),
        ("json", '{\n"unit": [{]}', "plan:2: Expecting property name"),
        ("json", "[]", 'plan:1: expected an object {"unit": [...]}'),
        ("json", '{\n"units": []}', "plan:2: unknown key 'units'; did you mean 'unit'?"),
        ("json", "{}", "plan: the plan has no units"),
        ("markdown", "# Plan\n\nprose\n", "plan: the plan has no units"),
        ("markdown", "## Notes\n\nprose\n", "plan:1: heading 'Notes' is no unit: give it"),
        ("markdown", "## A\n```toml\nid = 'a'\n```\n# B\n", "plan:5: heading 'B' is no unit: "),
        ("markdown", "## A\n```toml\nid = 'a'\n", "plan:2: the fence ``` is never closed"),
        ("markdown", "## A\n\n```toml\nid = 'a'\nx\n```\n", "plan:5: Expected '=' after a key"),
        ("markdown", "## A\n```toml\nid = 'a'\nprompt = 'b'\n```\nc\n", "plan:4: the prompt stand"),
    ],
)
def test_a_document_that_cannot_be_read_names_the_line(
    document_format: str, text: str, expected: str
) -> None:
    found = problems(text, document_format)

    assert len(found) == 1
    assert found[0].startswith(expected)


def test_json_problems_name_the_line_of_the_key() -> None:
    text = """{
      "unit": [
        {"id": "a", "title": "x\\n}]"},
        {
          "id": "b",
          "depends_on":
            ["c"],
          "checkpoint": null
        }
      ]
    }"""

    assert problems(text, "json") == [
        "plan:8: unit 'b': checkpoint: expected true or false, not null",
        "plan:7: unit 'b': depends_on: there is no unit 'c'",
    ]


MARKDOWN = """# A plan

What it is about.

## Groundwork

Prose of a phase is for people.

```toml
checkpoint = true
agent = "claude"
```

### Settings

Read them from the environment.

```toml
id = "settings"
writes = ["src/settings.py"]
```

Such as:

```python
# no heading
```

```toml
id = "belongs to the prompt"
```

#### Deeper

```toml
id = "deeper"
agent = "default"
```

## Then

### Docs #

```toml
id = "docs"
depends_on = ["settings"]
```
"""


def test_markdown_headings_are_phases_and_units_in_the_order_of_the_text() -> None:
    settings, deeper, docs = parse(MARKDOWN, "markdown").units

    assert (settings.id, settings.title, settings.writes) == (
        "settings",
        "Settings",
        ("src/settings.py",),
    )
    assert settings.prompt == (
        "Read them from the environment.\n\n\nSuch as:\n\n```python\n# no heading\n```\n\n"
        '```toml\nid = "belongs to the prompt"\n```'
    )
    assert (settings.checkpoint, settings.agent) == (True, "claude")
    assert (deeper.id, deeper.checkpoint, deeper.agent) == ("deeper", True, "default")
    assert (docs.title, docs.checkpoint, docs.agent) == ("Docs", False, "default")
    assert docs.depends_on == ("settings",)


def test_markdown_problems_name_the_line_of_the_key_even_in_the_phase() -> None:
    wrong = MARKDOWN.replace("checkpoint = true", "checkpoint = 1").replace(
        'depends_on = ["settings"]', 'dependson = ["settings"]'
    )

    assert problems(wrong, "markdown") == [
        "plan:10: unit 'settings': checkpoint: expected true or false, not 1",
        "plan:10: unit 'deeper': checkpoint: expected true or false, not 1",
        "plan:46: unit 'docs': dependson: unknown key; did you mean 'depends_on'?",
    ]


def test_the_rendered_prompt_is_prose_where_it_can_be() -> None:
    plain = Unit(id=UnitId("a"), title="Do it", prompt="First.\n\n- then\n")
    prose = Unit(id=UnitId("b"), title="Do it", prompt="First.\n\n- then")

    text = render_plan(Plan(units=(plain, prose)), "markdown")

    assert 'prompt = "First.\\n\\n- then\\n"' in text
    assert '### Do it\n\n```toml\nid = "b"\n```\n\nFirst.\n\n- then\n' in text


def test_the_rendered_toml_shows_paragraphs_as_paragraphs() -> None:
    text = render_plan(
        Plan(units=(Unit(id=UnitId("a"), title="A", prompt='One "1".\nTwo.'),)), "toml"
    )

    assert 'prompt = """\nOne "1".\nTwo."""\n' in text


@pytest.mark.parametrize(
    ("name", "document_format"),
    [("p.toml", "toml"), ("p.json", "json"), ("p.md", "markdown"), ("p.markdown", "markdown")],
)
def test_the_end_of_the_name_tells_the_format(
    tmp_path: Path, name: str, document_format: str
) -> None:
    plan = Plan(units=(Unit(id=UnitId("a"), title="Ä"),))
    (tmp_path / name).write_text(render_plan(plan, document_format), encoding="utf-8")

    assert read_plan(tmp_path / name, agents=AGENTS) == plan


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    for name, why in [
        ("none.toml", "No such file"),
        ("bytes.toml", "not UTF-8"),
        ("plan.yaml", "ends in '.toml', '.json', '.md' or '.markdown'"),
    ]:
        with pytest.raises(PlanInvalid, match=why):
            read_plan(tmp_path / name, agents=AGENTS)


def test_the_documents_are_what_other_tools_read() -> None:
    plan = Plan(units=(Unit(id=UnitId("a"), title="A", timeout_seconds=90),))

    assert json.loads(render_plan(plan, "json")) == {
        "unit": [{"id": "a", "title": "A", "timeout": "1m30s"}]
    }
