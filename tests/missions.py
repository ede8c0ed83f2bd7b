"""Real missions for tests: a target repository, its mission files, `mission` as a child process.

Agents are shell scripts in the plan. What they should tell a test (how often they ran, what they
were prompted) they write beside the target, where no workspace is ever cleaned.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

MISSION = (str(Path(sys.executable).with_name("mission")),)
"""The command under test."""

GREEN = "mission/green"

CHECK = """\
echo "checking"
for f in *.txt; do
    if grep -n BROKEN "$f"; then echo "$f is broken"; exit 1; fi
done
"""
"""A verification of milliseconds: no text file may say BROKEN."""

RUN_SECONDS = 90.0

Record = dict[str, Any]


# -- repositories ------------------------------------------------------------------------------


def git(repository: Path, *args: str) -> str:
    """Run git on a repository as its owner would; returns what it prints."""
    author = ("-c", "user.name=Owner", "-c", "user.email=owner@localhost.invalid")
    done = subprocess.run(
        ["git", "-C", str(repository), *author, *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"git {args}: {done.stderr}"
    return done.stdout.strip()


def make_repository(path: Path, files: Mapping[str, str]) -> Path:
    """Make a repository with one commit on `main`, nothing checked out that is not committed."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    commit_files(path, files, "Begin")
    return path


def commit_files(repository: Path, files: Mapping[str, str], message: str) -> str:
    """Commit files to what is checked out; returns the commit."""
    for name, text in files.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text)
    git(repository, "add", "-A")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(repository, "rev-parse", "HEAD")


# -- mission files -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A target repository with its mission files, and the MISSION_HOME of its missions."""

    folder: Path
    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def target(self) -> Path:
        """The target repository, with a checkout of `main`."""
        return self.folder / "target"

    @property
    def mission_file(self) -> Path:
        """The mission file."""
        return self.folder / "mission.toml"

    @property
    def notes(self) -> Path:
        """Where agents leave what tests want to know; `$NOTES` for them."""
        return self.folder / "notes"

    def note(self, name: str) -> str:
        """What agents noted under a name; empty when they did not."""
        path = self.notes / name
        return path.read_text() if path.exists() else ""


def make_site(
    folder: Path,
    *,
    api_url: str = "",
    check: str = CHECK,
    files: Mapping[str, str] | None = None,
    **tables: Any,
) -> Site:
    """Make a target that `check` verifies, a mission file for it, and an empty plan.

    `tables` are merged into the mission file, e.g. `limits={"max_attempts": 2}`.
    """
    environment = {"PREFECT_API_URL": api_url} if api_url else {}
    site = Site(folder=folder, home=folder / "home", environment=environment)
    make_repository(site.target, {"check.sh": check, "shared.txt": "one\n", **(files or {})})
    site.notes.mkdir()
    write_mission(site, **tables)
    return site


def write_mission(site: Site, **tables: Any) -> None:
    """Write the site's mission file; `tables` replace single keys of what is usual in tests."""
    usual: dict[str, Any] = {
        "name": "trial",
        "repository": {"url": "target", "green": GREEN},
        "environment": {"set": {"NOTES": str(site.notes)}},
        "verify": {"command": "sh check.sh", "timeout": "20s"},
        "plan": {"planner": "file", "file": "plan.toml"},
        "agents": {"default": {"argv": ["sh", "-c", "exit 0"]}},
        # The agents of tests leave notes outside their workspaces.
        "backend": {"slots": 4, "sandbox": "none"},
        "limits": {"max_rounds": 1, "max_attempts": 2, "unit_timeout": "30s"},
    }
    site.mission_file.write_text(_toml(_merged(usual, tables)))


def write_plan(site: Site, *units: Mapping[str, Any]) -> None:
    """Write the site's plan."""
    blocks = ("[[unit]]\n" + _keys(unit) for unit in units)
    (site.folder / "plan.toml").write_text("\n".join(blocks))


def unit(name: str, script: str, **fields: Any) -> dict[str, Any]:
    """Describe a unit whose agent is a shell script."""
    return {"id": name, "title": f"Do {name}", "command": ["sh", "-c", script], **fields}


def write(path: str, text: str = "done") -> str:
    """A script that writes a line to a file and leaves it uncommitted."""
    return f"echo '{text}' > {path}"


COMMIT = "git add -A && git commit --quiet -m 'by the agent'"
"""A script that commits all as careful agents do."""


def held_by(gate: Path) -> str:
    """A script that goes on as soon as a file is there; two minutes later it gives up."""
    return f"n=0; until [ -e {gate} ]; do sleep 0.05; n=$((n+1)); [ $n -lt 2400 ] || exit 99; done"


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in more.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(old, value)
        else:
            merged[key] = value
    return merged


def _toml(tables: Mapping[str, Any], prefix: str = "") -> str:
    plain = {k: v for k, v in tables.items() if not isinstance(v, Mapping)}
    inner = {k: v for k, v in tables.items() if isinstance(v, Mapping)}
    head = f"[{prefix[:-1]}]\n" if prefix and plain else ""
    return head + _keys(plain) + "".join(_toml(v, f"{prefix}{k}.") for k, v in inner.items())


def _keys(values: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


# -- running -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a `mission` command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that it said."""
        return self.out + self.err


def mission(site: Site, *args: str, timeout_seconds: float = RUN_SECONDS) -> Ran:
    """Run the `mission` command to its end; without arguments `run` on the site's file."""
    with started(site, *args) as process:
        return ended(process, timeout_seconds=timeout_seconds)


@contextmanager
def started(site: Site, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Start the `mission` command; what still runs at the end is killed."""
    process = subprocess.Popen(
        [*MISSION, *(args or ("run", str(site.mission_file)))],
        cwd=site.folder,
        env={**os.environ, "MISSION_HOME": str(site.home), **site.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], *, timeout_seconds: float = RUN_SECONDS) -> Ran:
    """Wait for a command's end."""
    out, err = process.communicate(timeout=timeout_seconds)
    return Ran(code=process.returncode, out=out, err=err)


def wait_until(is_true: Callable[[], object], *, timeout_seconds: float = 60.0) -> None:
    """Return as soon as something is true; fail the test when it does not become so."""
    deadline = time.monotonic() + timeout_seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not true within {timeout_seconds} s"
        time.sleep(0.02)


def wait_for_event(site: Site, kind: str, /, **wanted: Any) -> None:
    """Return as soon as the ledger of the newest mission tells of such an event."""
    wait_until(lambda: missions_of(site) and events(ledger(site), kind, **wanted))


# -- reading -----------------------------------------------------------------------------------


def missions_of(site: Site) -> list[str]:
    """The ids of the site's missions, oldest first."""
    paths = (site.home / "missions").glob("*/ledger.jsonl")
    return [p.parent.name for p in sorted(paths, key=lambda p: p.stat().st_ctime_ns)]


def ledger(site: Site, name: str | None = None) -> list[Record]:
    """The whole lines of a mission's ledger; absent a name, of the one that began last."""
    path = site.home / "missions" / (name or missions_of(site)[-1]) / "ledger.jsonl"
    data = path.read_bytes()
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def events(records: Sequence[Record], kind: str, /, **wanted: Any) -> list[Record]:
    """The records of one type whose fields are as wanted."""
    return [
        r for r in records if r["type"] == kind and all(r.get(k) == v for k, v in wanted.items())
    ]


def outcomes(records: Sequence[Record], name: str) -> list[str]:
    """How the attempts at a unit ended, in order."""
    return [r["outcome"] for r in events(records, "attempt.ended", unit=name)]


def statuses(records: Sequence[Record]) -> dict[str, str]:
    """How each unit ended."""
    return {r["unit"]: r["status"] for r in events(records, "unit.ended")}


def integration_repository(site: Site) -> Path:
    """The one repository of the site's target in its MISSION_HOME."""
    (path,) = (site.home / "repositories").glob("*.git")
    return path


def on_green(site: Site, path: str, branch: str = GREEN) -> str | None:
    """A file's content on the delivered branch of the target; `None` when it is not there."""
    tree = git(site.target, "ls-tree", "-r", "--name-only", branch).splitlines()
    return git(site.target, "show", f"{branch}:{path}") if path in tree else None


# -- promises ----------------------------------------------------------------------------------


def assert_promises(site: Site, name: str | None = None, *, rerun: slice = slice(None)) -> None:
    """Hold a mission's ledger and repositories against what is promised (see each check).

    `rerun` are the values of green on which the verification is run once more, by us.
    """
    records, repository = ledger(site, name), integration_repository(site)
    assert [r["seq"] for r in records] == [*range(1, len(records) + 1)]
    _assert_attempts_in_order(records)
    _assert_landed_as_probed(records, repository)
    _assert_green_only_forward(records, repository, site)
    _assert_collected_is_kept(records, repository)
    _assert_ejected_stayed_out(records, repository)
    _assert_dependents_came_after(records)
    _assert_green_is_good(records, repository, site, rerun)
    if events(records, "mission.finished"):
        _assert_nothing_open(records)


def _assert_attempts_in_order(records: Sequence[Record]) -> None:
    """Numbers without gaps; one attempt at a time in a unit and in a slot; each ended once."""
    running: dict[str, Record] = {}
    numbers: dict[str, int] = {}
    for r in records:
        if r["type"] == "attempt.started":
            assert r["unit"] not in running, f"two attempts at {r['unit']} at once"
            slots = [(o["place"], o["slot"]) for o in running.values()]
            assert (r["place"], r["slot"]) not in slots, "two agents in one workspace"
            assert r["attempt"] == numbers.get(r["unit"], 0) + 1
            numbers[r["unit"]] = r["attempt"]
            running[r["unit"]] = r
        elif r["type"] == "attempt.ended":
            assert running.pop(r["unit"])["attempt"] == r["attempt"]
        elif r["type"] == "repair.ended" and r["winner"]:  # goes on as the next attempt
            assert r["attempt"] == numbers.get(r["unit"], 0) + 1
            numbers[r["unit"]] = r["attempt"]


def _assert_landed_as_probed(records: Sequence[Record], repository: Path) -> None:
    """I1 and I3: the landed tree is one that passed before, id for id."""
    passed = {r["probe"]: r["seq"] for r in events(records, "probe.ended", verdict="passed")}
    trees = {r["probe"]: r["tree"] for r in events(records, "probe.started")}
    for intended in events(records, "landing.intended"):
        assert passed.get(intended["probe"], intended["seq"]) < intended["seq"], "no pass before"
        assert trees[intended["probe"]] == intended["tree"]
    for landed in events(records, "landed"):
        assert git(repository, "rev-parse", f"{landed['new']}^{{tree}}") == landed["tree"]
        what = {key: landed[key] for key in ("old", "new", "tree", "probe", "units")}
        intents = [r["seq"] for r in events(records, "landing.intended", **what)]
        assert any(seq < landed["seq"] for seq in intents), "landed without an intent"


def _assert_green_only_forward(records: Sequence[Record], repository: Path, site: Site) -> None:
    """I2: each value of green contains the one before; what is delivered was green."""
    landed = events(records, "landed")
    moves = [r for r in records if r["type"] in {"landed", "green.adopted"}]
    for before, after in pairwise(moves):
        assert after["old"] == before["new"]
        assert _contains(repository, after["new"], before["new"])
    values = [r["new"] for r in moves]
    landed_units = [u for r in landed for u in r["units"] if u != "@base"]
    assert len(landed_units) == len({*landed_units}), "a unit landed twice"
    places = [values.index(r["commit"]) for r in events(records, "delivered")]
    assert places == sorted(places)
    if values and events(records, "mission.finished"):
        ref = f"refs/heads/{events(records, 'mission.started')[0]['green_branch']}"
        assert git(repository, "rev-parse", ref) == values[-1]
    if places and events(records, "mission.finished"):
        last = events(records, "delivered")[-1]
        assert last["commit"] == values[-1]
        assert git(site.target, "rev-parse", f"refs/heads/{last['branch']}") == values[-1]


def _assert_collected_is_kept(records: Sequence[Record], repository: Path) -> None:
    """I6: every collected head is what its ref holds."""
    mission_id = events(records, "mission.started")[0]["mission"]
    for r in events(records, "attempt.ended"):
        if r["head"]:
            ref = f"refs/missions/{mission_id}/{r['unit']}/{r['attempt']}"
            assert git(repository, "rev-parse", ref) == r["head"]
            tree = git(repository, "rev-parse", f"{ref}^{{tree}}")
            assert r["tree"] in {tree, None}  # None: the agent left the line of its base


def _assert_ejected_stayed_out(records: Sequence[Record], repository: Path) -> None:
    """I9: no value of green contains an ejected head, a commit made of it, or its trailers."""
    heads = {(r["unit"], r["attempt"]): r["head"] for r in events(records, "attempt.ended")}
    heads |= {(r["revert"], 1): r["head"] for r in events(records, "revert.made")}
    for r in events(records, "repair.ended"):
        if r["winner"]:
            heads[r["unit"], r["attempt"]] = heads[r["winner"], 1]
    for ejected in events(records, "candidate.ejected"):
        key = {"unit": ejected["unit"], "attempt": ejected["attempt"]}
        made = [r["commit"] for r in events(records, "candidate.stacked", **key)]
        for landed in events(records, "landed"):
            for commit in (heads[ejected["unit"], ejected["attempt"]], *made):
                assert not _contains(repository, landed["new"], commit)
            pattern = f"Unit: {ejected['unit']}\nAttempt: {ejected['attempt']}\n"
            assert pattern not in git(repository, "log", "--format=%B", landed["new"])


def _assert_dependents_came_after(records: Sequence[Record]) -> None:
    """An attempt starts from green as it is, when all that its unit depends on is satisfied."""
    needs = {u["id"]: u["depends_on"] for r in events(records, "plan.made") for u in r["units"]}
    green, satisfied = None, set[str]()
    for r in records:
        if r["type"] in {"landed", "green.adopted"}:
            green = r["new"]
        elif r["type"] == "unit.ended" and r["status"] in {"landed", "no change"}:
            satisfied.add(r["unit"])
        elif r["type"] == "attempt.started" and "@" not in r["unit"]:
            assert r["base"] == green
            assert satisfied.issuperset(needs[r["unit"]])


def _assert_green_is_good(
    records: Sequence[Record], repository: Path, site: Site, rerun: slice
) -> None:
    """The values that green took pass the verification when we run it ourselves."""
    settings = events(records, "mission.started")[0]["settings"]
    command, first = settings["verify"]["command"], settings["environment"]["path"]
    path = os.pathsep.join([*first, os.environ["PATH"]])
    for number, landed in enumerate(events(records, "landed")[rerun]):
        folder = site.folder / "judged" / landed["tree"]
        if folder.exists():
            continue
        archive = subprocess.run(
            ["git", "-C", str(repository), "archive", landed["new"]],
            capture_output=True,
            check=True,
        )
        folder.mkdir(parents=True)
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env={**os.environ, "PATH": path, "NOTES": str(site.notes)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, f"value {number} of green is red: {done.stdout!r}"


def _assert_nothing_open(records: Sequence[Record]) -> None:
    """A finished mission leaves no attempt, probe or landing behind, and says so."""
    for start, end, key in (
        ("attempt.started", "attempt.ended", "unit"),
        ("probe.started", "probe.ended", "probe"),
        ("landing.intended", "landed", "new"),
    ):
        begun = [r[key] for r in events(records, start)]
        over = [r[key] for r in events(records, end)]
        assert sorted({*begun}) == sorted({*over}), f"{start} without {end}"
    last = records[-1]
    assert last["type"] == "mission.finished"
    landed = {u for r in events(records, "landed") for u in r["units"]} - {"@base"}
    assert landed == {u for u, s in statuses(records).items() if s == "landed"}
    assert last["counts"].get("landed", 0) == len(landed)


def _contains(repository: Path, commit: str, ancestor: str) -> bool:
    argv = ["git", "-C", str(repository), "merge-base", "--is-ancestor", ancestor, commit]
    code = subprocess.run(argv, check=False, capture_output=True).returncode
    assert code in {0, 1}
    return code == 0


def without_server(site: Site) -> Site:
    """The same site where no Prefect server can be reached: for what must not need one."""
    return replace(site, environment={"PREFECT_API_URL": "http://127.0.0.1:9/api"})
