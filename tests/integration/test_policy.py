"""What is refused in a collected commit, on real git: what agents did, and what they are told."""

from __future__ import annotations

import base64
import os
import random
import string
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blocks.places.local import LocalPlace
from blocks.places.workspaces import Collected, Workspace
from blocks.repository import IntegrationRepository
from flows.ledger.events import Outcome
from flows.planning.plan import Unit, UnitId
from flows.running.attempt import AttemptOrder, run_attempt
from flows.running.bench import Bench
from flows.running.policy import check_claims, refuse
from flows.settings import MissionSettings
from tests.missions import commit_files, git, make_repository

LUCK = random.Random(11)
KEY = "ghp_" + "".join(LUCK.choices(string.ascii_letters + string.digits, k=36))
KNOWN = "ghp_" + "".join(LUCK.choices(string.ascii_letters + string.digits, k=36))
BODY = ["".join(LUCK.choices(string.ascii_letters + string.digits, k=64)) for _ in range(6)]
MIB = 2**20
FILES = {
    "app.py": "one = 1\ntwo = 2\nthree = 3\n",
    "old.py": f"import os\ntoken = '{KNOWN}'\n\n\n\n\n\n\n\nlast = 1\n",
    "key.pem": "\n".join(["-----BEGIN PRIVATE KEY-----", *BODY[:3], "-----END PRIVATE KEY-----\n"]),
    "logs.txt": "long ago\n" * 200_000,
}


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A workspace that agents leave things in, and the store that it is collected to."""

    workspace: Workspace
    store: IntegrationRepository
    base: str

    @property
    def tree(self) -> Path:
        return Path(self.workspace.tree)

    def write(self, name: str | bytes, content: str | bytes) -> None:
        path = os.path.join(os.fsencode(self.tree), os.fsencode(name))  # noqa: PTH118 - bytes
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(content.encode() if isinstance(content, str) else content)

    def collect(self) -> Collected:
        return self.workspace.collect(base=self.base, ref="refs/missions/m/u/1", message="t")

    def refusal(
        self, writes: tuple[str, ...] | None = None, commit: str = "squash", **review: Any
    ) -> str:
        """What is said of what is in the workspace now."""
        settings = settings_with(review={"protected": [], **review}, landing={"commit": commit})
        unit = Unit(id=UnitId("u"), title="Do u", writes=writes)
        return refuse(self.collect(), self.base, unit, settings, self.store)


def settings_with(**tables: Any) -> MissionSettings:
    usual = {
        "name": "m",
        "repository": {"url": "/target"},
        "verify": {"command": "true"},
        "plan": {"planner": "tidy"},
    }
    return MissionSettings.model_validate({**usual, **tables})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    target = make_repository(tmp_path / "target", FILES)
    store = IntegrationRepository(tmp_path / "store.git")
    store.fetch(str(target), ["main"])
    place = LocalPlace(tmp_path / "place")
    directory = f"{place.root}/workspaces/0"
    workspace = Workspace(place=place, directory=directory, store=str(store.path))
    base = git(target, "rev-parse", "main")
    workspace.reset(base)
    yield Desk(workspace=workspace, store=store, base=base)
    place.close()
    store.close()


# -- paths -----------------------------------------------------------------------------------------


def test_what_a_path_alone_forbids_is_told_at_once(desk: Desk) -> None:
    desk.write("ci.yml", "x\n")
    desk.write("b.py", "x\n")
    git(desk.tree, "init", "-q", "inner")
    git(desk.tree / "inner", "commit", "-q", "--allow-empty", "-m", "x")
    assert desk.refusal(writes=("app.py", "inner"), protected=["ci.yml"]) == (
        "repositories inside the repository are not taken: inner; "
        "protected paths were changed: ci.yml; "
        "outside its write set (app.py, inner): b.py, ci.yml"
    )


# -- size and kind ---------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"line\n" * MIB, b"x" * (5 * MIB), b"\0" * (5 * MIB)])
def test_a_large_file_is_refused_with_its_size(desk: Desk, content: bytes) -> None:
    desk.write("big.dat", content)
    assert desk.refusal() == (
        f"larger than the 1048576 bytes of `review.max_file_bytes`: big.dat ({len(content)} bytes)"
    )
    assert desk.refusal(max_file_bytes=len(content), allow_binary=True) == ""


def test_a_file_as_large_as_may_be_is_taken(desk: Desk) -> None:
    desk.write("full.txt", b"x" * MIB)
    assert desk.refusal() == ""
    desk.write("full.txt", b"x" * (MIB + 1))
    assert "full.txt (1048577 bytes)" in desk.refusal()


def test_a_large_file_that_was_there_may_shrink_or_go(desk: Desk) -> None:
    desk.write("logs.txt", "short\n")
    assert desk.refusal() == ""
    desk.write("logs.txt", f"short\n{KEY}\n")
    assert desk.refusal() == "credentials were added: logs.txt:2 (GitHub token)"
    (desk.tree / "logs.txt").unlink()
    assert desk.refusal() == ""


def test_a_binary_file_is_refused_unless_it_is_named_or_allowed(desk: Desk) -> None:
    desk.write("img/logo.png", b"\x89PNG\r\n\0\0")
    told = "binary files that the write set does not name: img/logo.png"
    assert desk.refusal() == told
    assert desk.refusal(writes=("img/*.png",)) == told
    assert desk.refusal(writes=("img",)) == told
    assert desk.refusal(writes=("img/logo.png",)) == ""
    assert desk.refusal(allow_binary=True) == ""


def test_nobodys_attributes_say_what_is_binary(desk: Desk) -> None:
    desk.write(".gitattributes", "*.png diff\n*.py -diff\n*.txt binary\n")
    desk.write("logo.png", b"\x89PNG\0")
    desk.write("app.py", f"one = '{KEY}'\n")
    assert desk.refusal() == (
        "binary files that the write set does not name: logo.png; "
        "credentials were added: app.py:1 (GitHub token)"
    )


def test_a_link_is_what_it_names_and_never_followed(desk: Desk, tmp_path: Path) -> None:
    (desk.tree / "app.py").unlink()
    (desk.tree / "app.py").symlink_to("old.py")
    assert desk.refusal() == ""
    (tmp_path / "outside").write_text(KEY)
    (desk.tree / "link").symlink_to(tmp_path / "outside")
    out = f"links that lead out of the repository are not taken: link -> {tmp_path / 'outside'}"
    assert desk.refusal() == out


def test_a_zero_far_inside_makes_no_binary(desk: Desk) -> None:
    desk.write("far.txt", b"x\n" * 4_100 + b"\0\n" + KEY.encode())
    assert desk.refusal() == "credentials were added: far.txt:4102 (GitHub token)"


# -- credentials -----------------------------------------------------------------------------------


def test_a_credential_is_told_by_path_line_and_kind_alone(desk: Desk) -> None:
    desk.write("app.py", f"one = 1\ntwo = 2\nkey = '{KEY}'  # pragma: allowlist secret\n")
    assert desk.refusal() == "credentials were added: app.py:3 (GitHub token)"
    assert desk.refusal(allow_secrets=["tests/**"])
    assert desk.refusal(allow_secrets=["*.py"]) == ""


def test_lines_that_were_there_are_nobodys_fault(desk: Desk) -> None:
    desk.write("old.py", f"import os\ntoken = '{KNOWN}'\nmore = 1\n")
    assert desk.refusal() == ""


def test_a_credential_that_moves_is_not_new(desk: Desk) -> None:
    far = "# far\n" * 30
    desk.write("old.py", f"import os\n{far}again = '{KNOWN}'\ntoken = '{KNOWN}'\n")
    assert desk.refusal() == ""
    (desk.tree / "old.py").rename(desk.tree / "renamed.py")
    assert desk.refusal() == ""
    desk.write("renamed.py", f"token = '{KNOWN}'\nother = '{KEY}'\n")
    assert desk.refusal() == "credentials were added: renamed.py:2 (GitHub token)"


def test_one_that_is_in_a_file_that_nobody_touched_is_new_elsewhere(desk: Desk) -> None:
    desk.write("app.py", f"token = '{KNOWN}'\n")
    assert desk.refusal() == "credentials were added: app.py:1 (GitHub token)"


def test_a_private_key_that_is_exchanged_is_new(desk: Desk) -> None:
    lines = ["-----BEGIN PRIVATE KEY-----", *BODY[3:], "-----END PRIVATE KEY-----\n"]
    desk.write("key.pem", "\n".join(lines))
    assert desk.refusal() == "credentials were added: key.pem:2 (private key)"


def test_line_ends_and_names_of_any_kind_are_told_right(desk: Desk) -> None:
    desk.write(b"caf\xe9 \xc3\xa4\t1.py", f"a = 1\r\nb = 2\r\nc = '{KEY}'\r\n")
    desk.write("a b/b c.py", f"'{KEY}'")
    assert desk.refusal() == (
        "credentials were added: a b/b c.py:1 (GitHub token), caf\\xe9 ä\t1.py:3 (GitHub token)"
    )
    assert [f.path for f in desk.store.patch(desk.base, desk.collect().head, max_bytes=MIB)] == [
        *desk.collect().files
    ]


def test_a_huge_line_is_looked_through(desk: Desk) -> None:
    filler = base64.b64encode(LUCK.randbytes(300_000)).decode()
    desk.write("data.json", f'{{"a": "{filler}", "b": "{KEY}", "c": "{filler[:-100]}"}}')
    assert desk.refusal() == "credentials were added: data.json:1 (GitHub token)"
    desk.write("data.json", f'{{"a": "{filler}", "c": "{filler[:-100]}"}}')
    assert desk.refusal() == ""


def test_many_are_told_in_few_words(desk: Desk) -> None:
    desk.write("app.py", "".join(f"'{KEY}'\n" for _ in range(50)))
    told = desk.refusal()
    assert told.count("GitHub token") == 20
    assert told.endswith("app.py:20 (GitHub token), and 30 more")


def test_with_its_history_each_commit_counts(desk: Desk) -> None:
    for text in (f"'{KEY}'\n", "one = 1\n"):
        desk.write("app.py", text)
        commit_files(desk.tree, {}, "by the agent")
    assert desk.refusal() == ""
    assert desk.refusal(commit="merge") == "credentials were added: app.py:1 (GitHub token)"


def test_with_its_history_a_renamed_file_is_told_by_its_new_name(desk: Desk) -> None:
    (desk.tree / "old.py").rename(desk.tree / "new.py")
    desk.write("new.py", f"{(desk.tree / 'new.py').read_text()}key = '{KEY}'\n")
    commit_files(desk.tree, {}, "by the agent")
    assert desk.refusal(commit="merge") == "credentials were added: new.py:11 (GitHub token)"


def test_a_look_leaves_nothing_behind(desk: Desk) -> None:
    before = {*desk.store.path.iterdir()}
    desk.write("app.py", f"'{KEY}'\n")
    assert desk.refusal()
    assert {*desk.store.path.iterdir()} == before


# -- how much it costs -----------------------------------------------------------------------------


def test_a_usual_change_costs_one_process(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected, calls = None, tmp_path / "calls"
    desk.write("app.py", "one = 2\n")
    desk.write("new.py", "x = 1\n")
    collected = desk.collect()
    unit, settings = Unit(id=UnitId("u"), title="Do u"), settings_with()
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(calls))
    assert refuse(collected, desk.base, unit, settings, desk.store) == ""
    assert calls.read_text().count('"event":"start"') == 1


# -- claims ----------------------------------------------------------------------------------------


def test_claims_are_held_against_the_commits_between_base_and_head(desk: Desk) -> None:
    desk.write("app.py", "one = 2\n")
    own = commit_files(desk.tree, {}, "by the agent")
    desk.write("left.py", "x = 1\n")
    collected = desk.collect()
    assert collected.head != own
    report = {"commits": [own[:10], collected.head, desk.base, "f" * 40]}
    told = check_claims(report, collected, desk.base, desk.store)
    assert told == (desk.base, "f" * 40)
    assert check_claims({}, collected, desk.base, desk.store) == ()


def test_where_nothing_changed_every_claim_is_unfounded(desk: Desk) -> None:
    assert check_claims({"commits": ["abcdef1"]}, desk.collect(), desk.base, desk.store) == (
        "abcdef1",
    )


# -- a whole attempt -------------------------------------------------------------------------------


def test_an_attempt_that_adds_a_credential_is_refused_and_the_ledger_does_not_have_it(
    desk: Desk, tmp_path: Path
) -> None:
    place = LocalPlace(tmp_path / "another")
    bench = Bench(
        mission="m",
        folder=tmp_path,
        repository=desk.store,
        places={place.name: place},
        settings=settings_with(),
        key="k",
    )
    write = f"open('app.py', 'a').write('key = ' + repr({KEY[:9]!r} + {KEY[9:]!r}))"
    unit = Unit(id=UnitId("u"), title="Do u", command=(sys.executable, "-c", write))
    place.write(bench.lease(place), b"1")
    order = AttemptOrder(unit=unit, attempt=1, base=desk.base, place="local", slot=0)
    ended = run_attempt(order, bench)
    place.close()
    assert ended.outcome == Outcome.REFUSED
    assert ended.detail == "credentials were added: app.py:4 (GitHub token)"
    assert KEY not in repr(ended)
