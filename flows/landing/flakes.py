"""Which failing tests are a candidate's own: they live in files that it added or changed.

A test that flakes is nobody's fault, but for whoever wrote it. The ids of readings mostly name a
file or module: `tests.test_x.TestC::test_a` (pytest, unittest, also `::tests.test_x` for a module
that could not be collected), `spec.models.user_spec::…` (rspec), `src/foo.test.js::…` (vitest,
Playwright, jest where it is told to), `com.acme.FooTest::…` (JUnit of any JVM language). What only
carries titles or packages (mocha, node, Go, Rust, googletest) cannot be mapped, and what cannot be
mapped is not the candidate's own: to be wrong here rejects somebody's good work.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from blocks.readings.junit import COLLECTION

_SEPARATOR = "::"
_DOTTED = frozenset({".py", ".rb"})
_JVM = frozenset({".java", ".kt", ".groovy", ".scala"})
_JVM_ROOT = re.compile(r"(.*/)?src/\w+/(java|kotlin|groovy|scala)/")
_TEST_MODULE = re.compile(r"test_\w+|\w+_test|tests")
_TESTS_BY_NAME = re.compile(r"(.*[._-])?(test|spec|e2e|cy)s?\.\w+", re.IGNORECASE)
_TESTS_BY_FOLDER = frozenset({"test", "tests", "__tests__", "spec", "specs", "e2e"})


def own_tests(
    failing: Collection[str], files: Collection[str], tree: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the failing tests that live in `files`, those a candidate added or changed; sorted.

    Paths are of the repository, with `/`. With `tree`, all its files, also ids of a project below
    the repository's root are mapped: where several files may be meant, all have to be its own.
    """
    own = frozenset(files)
    return tuple(sorted(test for test in {*failing} if _is_own(test, own, tree)))


def _is_own(test: str, own: frozenset[str], tree: Collection[str]) -> bool:
    group = _group(test)
    if not group:
        return False
    if not tree:
        return any(_is_in(group, path, anywhere=False) for path in own)
    meant = {path for path in tree if _is_in(group, path, anywhere=True)}
    return bool(meant) and meant <= own


def _group(test: str) -> str:
    """Return what an id says of where its test is; empty when it says nothing."""
    if test.startswith(COLLECTION):
        return re.sub(r"#\d+$", "", test.removeprefix(COLLECTION))
    group, separator, _ = test.partition(_SEPARATOR)
    return group if separator else ""


def _is_in(group: str, path: str, *, anywhere: bool) -> bool:
    """Whether a test of this group is in this file; `anywhere`: in a project below the root."""
    suffix = PurePosixPath(path).suffix
    if suffix in _JVM:
        return _is_jvm_class(group, path.removesuffix(suffix))
    if suffix in _DOTTED:
        module = path.removesuffix(suffix).replace("/", ".")
        if "." not in group and not _TEST_MODULE.fullmatch(group):
            return False  # a title as likely as a module
        return any(_ends(module, name, ".", anywhere) for name in _modules(group))
    if "/" not in group and "." not in group:
        return False  # a title
    return _is_test_file(path) and (
        _ends(path, group, "/", anywhere) or _ends(path.replace("/", "."), group, ".", anywhere)
    )


def _ends(whole: str, end: str, separator: str, anywhere: bool) -> bool:
    return whole == end or (anywhere and whole.endswith(separator + end))


def _modules(group: str) -> list[str]:
    """Return the modules that a dotted name may begin with, where the rest are classes."""
    parts = group.split(".")
    cuts = [len(parts)]
    while (cut := cuts[-1] - 1) and parts[cut][:1].isupper():
        cuts.append(cut)
    return [".".join(parts[:cut]) for cut in cuts]


def _is_jvm_class(group: str, stem: str) -> bool:
    """Whether a class, or one nested in it, is in the file of its name and package."""
    if root := _JVM_ROOT.match(stem):
        whole, is_root = stem[root.end() :].replace("/", "."), True
    else:
        whole, is_root = stem.replace("/", "."), False
    return any(
        _ends(whole, name, ".", anywhere=not is_root and "." in name)
        for name in _modules(group.partition("$")[0])
        if name.rpartition(".")[2][:1].isupper()
    )


def _is_test_file(path: str) -> bool:
    """Whether a file holds tests by its name: titles often name the file that is tested."""
    folders, name = path.split("/")[:-1], path.rpartition("/")[2]
    return bool(_TESTS_BY_NAME.fullmatch(name)) or not _TESTS_BY_FOLDER.isdisjoint(folders)
