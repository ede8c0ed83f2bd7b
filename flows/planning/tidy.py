"""The planner that needs no model and no account: tools say what is untidy, and often mend it.

What ruff can fix by itself becomes units whose agent is ruff: exact files, exact command. What
needs thought (failing tests, type errors, findings without a fix, to-dos) becomes units for an
agent where there is one, and notes where there is none.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from flows.planning.findings import (
    Finding,
    Findings,
    Kind,
    Ruff,
    Runner,
    find_failing_tests,
    find_todo_comments,
    find_type_errors,
    target_ruff,
)
from flows.planning.globs import matches
from flows.planning.plan import DEFAULT_AGENT, KINDS, Unit, UnitId
from flows.planning.sources import own_sources

MAX_UNITS = 50
FILES_PER_UNIT = 25
"""A fix that breaks something takes all of its unit down with it, so units stay small."""

_URGENCY = {kind: place for place, kind in enumerate(KINDS)}
_FORMATTED_SHARE = 5
"""A target is mostly formatted when at most one file in five is not."""

_FAMILIES = {
    "C4": "comprehensions",
    "UP006": "modern-types",
    "UP007": "modern-types",
    "UP035": "modern-types",
    "UP045": "modern-types",
}
"""Rules (by the start of their code) whose fixes belong together; all others stand alone."""

_LEFT_BEHIND = {"modern-types": ("F401", "I001")}
"""What the fixes of a family leave untidy; cleaned up with it in files that had none before."""

_FORMATTING = ("E1", "E2", "E3", "E501", "W")
"""Findings that go away when the formatter runs."""

_TITLES = {
    "comprehensions": "Simplify comprehensions",
    "modern-types": "Write types the modern way",
    "E711": "Compare with None by identity",
    "E713": "Write not in as one test",
    "F401": "Remove unused imports",
    "F541": "Drop the f of strings without placeholders",
    "I001": "Sort imports",
    "RET505": "Drop needless else after return",
    "SIM118": "Look keys up in the dict itself",
    "UP004": "Drop object as a base class",
    "UP015": "Drop redundant open modes",
    "UP032": "Use f-strings instead of format",
}

_ASKED: Mapping[Kind, tuple[str, str]] = {
    "test": ("Make the failing tests pass", "Mend the cause; do not weaken or remove a test."),
    "security": ("Close the security findings", "Do not silence the rule."),
    "types": ("Mend the type errors", "Do not silence the type checker."),
    "lint": ("Resolve the lint findings", "Do not silence the rules."),
    "objective": ("Do what the to-do comments ask", "Remove each comment once it is done."),
}
_NOUNS: Mapping[Kind, str] = {
    "test": "failing test",
    "security": "security finding",
    "types": "type error",
    "lint": "lint finding",
    "objective": "to-do",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TidyPlan:
    """Units, most urgent first, and what was seen but is nobody's unit, one line each."""

    units: tuple[Unit, ...]
    notes: tuple[str, ...] = ()


def plan_tidy(
    workspace: Path,
    run: Runner,
    *,
    verify_command: str,
    agent_available: bool = False,
    agent: str = DEFAULT_AGENT,
    protected: Sequence[str] = (),
    max_units: int = MAX_UNITS,
) -> TidyPlan:
    """Plan the tidying of the checkout in `workspace`, in which `run` runs commands.

    Asks ruff, the type checker (where the target configures it), one run of the verification, and
    to-do comments; what is not installed is skipped with a note. Files that match a `protected`
    glob get no unit. The same tree gives the same plan.
    """
    ruff = target_ruff(workspace, run)
    sources = own_sources(workspace)
    read = (
        ruff.lint(workspace),
        find_failing_tests(run, verify_command),
        find_type_errors(workspace, run),
        find_todo_comments(workspace, sources),
    )
    open_files = {path for path in sources if not matches(path, protected)}
    findings = [finding for part in read for finding in part.found if finding.path in sources]
    reachable = [finding for finding in findings if finding.path in open_files]
    fixes = _Fixes(ruff=ruff, agent=agent, clean=_clean_files(ruff, workspace, open_files))
    format_units = fixes.format_units(sorted(open_files))
    formatted = {path for unit in format_units for path in unit.writes or ()}
    rest = [f for f in reachable if not (f.fix or _goes_away(f, reachable, formatted, fixes.clean))]
    units = [*fixes.lint_units([f for f in reachable if f.fix]), *format_units]
    notes = [note for part in read for note in part.notes]
    notes += _protected_notes(findings, open_files)
    if agent_available:
        units += _agent_units(rest, agent)
    else:
        notes += _agent_notes(rest)
    return _bounded(units, notes, max_units)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fixes:
    """Makes the units that ruff itself carries out; `clean` maps rules to files without them."""

    ruff: Ruff
    agent: str
    clean: Mapping[str, frozenset[str]]

    def lint_units(self, findings: Sequence[Finding]) -> Iterator[Unit]:
        """One unit a rule or family, in files that need the same command."""
        groups: defaultdict[tuple[str, tuple[str, ...]], list[Finding]] = defaultdict(list)
        for finding in findings:
            family = family_of(finding.rule)
            extra = _cleaned_up(family, finding.path, self.clean)
            groups[family, extra].append(finding)
        made: Counter[str] = Counter()
        for (family, extra), group in sorted(groups.items(), key=lambda item: item[0]):
            for files in _chunks(sorted({finding.path for finding in group})):
                made[family] += 1
                here = [finding for finding in group if finding.path in files]
                yield self._lint_unit(family, extra, here, files, made[family])

    def _lint_unit(
        self,
        family: str,
        extra: Sequence[str],
        group: Sequence[Finding],
        files: Sequence[str],
        number: int,
    ) -> Unit:
        rules = sorted({finding.rule for finding in group})
        title = f"{_title(family, group[0])} ({', '.join(rules)}) in {_files(files)}"
        select = ("--select", ",".join(sorted({*rules, *extra})))
        argv = ("ruff", "check", "--fix", *select, "--exit-zero", *self.ruff.flags, "--", *files)
        slug = f"lint-{slug_of(family)}" + (f"-{number}" if number > 1 else "")
        kind: Kind = "security" if any(f.kind == "security" for f in group) else "lint"
        return self._unit(slug, title, argv, files, kind)

    def format_units(self, files: Sequence[str]) -> list[Unit]:
        """Units that format, if the target asks for it or is mostly formatted already."""
        unformatted = sorted(set(self.ruff.unformatted()) & set(files))
        if not (self.ruff.formats or len(unformatted) * _FORMATTED_SHARE <= len(files)):
            return []
        units = []
        for number, chunk in enumerate(_chunks(unformatted), start=1):
            argv = ("ruff", "format", *self.ruff.flags, "--", *chunk)
            slug = "lint-format" + (f"-{number}" if number > 1 else "")
            units.append(self._unit(slug, f"Format {_files(chunk)}", argv, chunk, "lint"))
        return units

    def _unit(
        self, slug: str, title: str, argv: tuple[str, ...], files: Sequence[str], kind: Kind
    ) -> Unit:
        return Unit(
            id=UnitId(slug),
            title=title,
            prompt=f"{title}.\n",
            writes=tuple(escape(path) for path in files),
            agent=self.agent,
            command=argv,
            kind=kind,
        )


def family_of(rule: str) -> str:
    """Name the family that a rule's fix belongs to, or give the rule itself."""
    return next((name for start, name in _FAMILIES.items() if rule.startswith(start)), rule)


def slug_of(text: str) -> str:
    """Write a text with the letters that unit ids are made of, at most 48 of them."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[-48:].strip("-") or "x"


def _clean_files(ruff: Ruff, folder: Path, files: Iterable[str]) -> Mapping[str, frozenset[str]]:
    rules = sorted({rule for left in _LEFT_BEHIND.values() for rule in left})
    read: Findings = ruff.lint(folder, ",".join(rules))
    if read.notes:
        return {}
    dirty = {(finding.rule, finding.path) for finding in read.found}
    paths = list(files)
    return {rule: frozenset(p for p in paths if (rule, p) not in dirty) for rule in rules}


def _cleaned_up(family: str, path: str, clean: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    return tuple(
        rule for rule in _LEFT_BEHIND.get(family, ()) if path in clean.get(rule, frozenset())
    )


def _goes_away(
    finding: Finding,
    findings: Sequence[Finding],
    formatted: Collection[str],
    clean: Mapping[str, frozenset[str]],
) -> bool:
    """Whether another unit takes a finding without a fix of its own away."""
    if finding.path in formatted and finding.rule.startswith(_FORMATTING):
        return True
    family = family_of(finding.rule)
    return "F401" in _cleaned_up(family, finding.path, clean) and any(
        other.fix and other.path == finding.path and family_of(other.rule) == family
        for other in findings
    )


def _agent_units(findings: Sequence[Finding], agent: str) -> list[Unit]:
    """One unit a kind and file; where the cause may lie elsewhere, nothing limits its writes."""
    units, made = [], Counter[str]()
    for (kind, path), group in _by_file(findings).items():
        title, rule = _ASKED[kind]
        slug = f"{kind}-{slug_of(path)}"
        made[slug] += 1
        listed = "\n".join(f"- {finding}" for finding in group)
        details = group[0].details
        said = f"\n\nWhat the run said:\n\n{details}" if details else ""
        units.append(
            Unit(
                id=UnitId(slug + (f"-{made[slug]}" if made[slug] > 1 else "")),
                title=f"{title} in {path}",
                prompt=f"{title} in {path}. {rule}\n\n{listed}{said}\n",
                writes=(escape(path),) if kind == "lint" else None,
                agent=agent,
                kind=kind,
            )
        )
    return units


def _agent_notes(findings: Sequence[Finding]) -> list[str]:
    return [
        f"needs an agent: {_count(len(group), _NOUNS[kind])}{_rules(group)} in {path}"
        for (kind, path), group in _by_file(findings).items()
    ]


def _by_file(findings: Iterable[Finding]) -> dict[tuple[Kind, str], list[Finding]]:
    groups: defaultdict[tuple[Kind, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.kind, finding.path].append(finding)
    return dict(sorted(groups.items(), key=lambda item: (_URGENCY[item[0][0]], item[0][1])))


def _protected_notes(findings: Iterable[Finding], open_files: Collection[str]) -> list[str]:
    shut = Counter(finding.path for finding in findings if finding.path not in open_files)
    return [f"protected: {_count(n, 'finding')} in {path}" for path, n in sorted(shut.items())]


def _bounded(units: Sequence[Unit], notes: Sequence[str], max_units: int) -> TidyPlan:
    ordered = sorted(units, key=lambda unit: _URGENCY[unit.kind])
    left = ordered[max_units:]
    more = [f"left for another round: {', '.join(unit.id for unit in left)}"] if left else []
    return TidyPlan(units=tuple(ordered[:max_units]), notes=(*notes, *more))


def _title(family: str, finding: Finding) -> str:
    return _TITLES.get(family) or f"Fix {finding.name or finding.message}"


def _files(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{len(files)} files"


def _rules(findings: Iterable[Finding]) -> str:
    rules = sorted({finding.rule for finding in findings if finding.rule})
    return f" ({', '.join(rules)})" if rules else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _chunks(files: Sequence[str]) -> Iterator[Sequence[str]]:
    return (files[n : n + FILES_PER_UNIT] for n in range(0, len(files), FILES_PER_UNIT))
