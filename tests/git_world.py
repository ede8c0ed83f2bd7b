"""A mission on real git repositories with a real driver, and everything else by chance.

What stands in for agents and verifications says at once what they would say in the end, so that a
mission takes as long as its git commands. The world decides what is good, when it is told, and
where a driver dies; all that is checked is read from the ledger's file and from git.
"""

from __future__ import annotations

import queue
import random
import shutil
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha1
from pathlib import Path
from typing import Any

from blocks.repository import IntegrationRepository, remote_branches
from flows.decisions import Action, Circumstances, decide
from flows.driver import Driver, Happening, Interrupt, crashed_attempt
from flows.landing.delivery import Deliverer
from flows.landing.probing import ProbeOrder
from flows.ledger.events import (
    AttemptEnded,
    BaseMoved,
    LandingIntended,
    MissionResumed,
    MissionStarted,
    Outcome,
    PlanMade,
    ProbeEnded,
    StopReason,
    StopRequested,
)
from flows.ledger.log import Ledger, Record, read_ledger
from flows.ledger.state import MissionState, fold
from flows.planning.plan import Unit, UnitId, unit_to_dict
from flows.running.accounts import Accounts
from flows.running.asking import AskOrder
from flows.running.attempt import AttemptOrder
from flows.running.bench import Bench
from flows.running.purse import Purse
from flows.settings import MissionSettings

MISSION = "m-1"
GREEN = "mission/green"
GREEN_REF = f"refs/heads/{GREEN}"
SHARED = "shared.txt"
N_PLACES_TO_EDIT = 3
MAX_LIVES, MAX_RECORDS = 60, 4_000
LONGEST_REST_SECONDS = 400.0

Files = dict[str, bytes]
Told = tuple[int, Circumstances, list[Action]]


class Objects:
    """The objects of a repository, read and written without a process: here they are all loose."""

    def __init__(self, git_dir: Path) -> None:
        self.git_dir = git_dir
        self._read: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        """An object's content."""
        if name not in self._read:
            path = self.git_dir / "objects" / name[:2] / name[2:]
            self._read[name] = zlib.decompress(path.read_bytes()).partition(b"\0")[2]
        return self._read[name]

    def write(self, kind: str, content: bytes) -> str:
        """Store an object; returns its name."""
        whole = b"%s %d\0" % (kind.encode(), len(content)) + content
        name = sha1(whole, usedforsecurity=False).hexdigest()
        path = self.git_dir / "objects" / name[:2] / name[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(zlib.compress(whole, 1))
        return name

    def commit(self, files: Mapping[str, bytes], parents: Sequence[str], message: str) -> str:
        """Commit a tree of files, all of them at the top."""
        entries = (
            b"100644 %s\0" % path.encode() + bytes.fromhex(self.write("blob", text))
            for path, text in sorted(files.items())
        )
        tree = self.write("tree", b"".join(entries))
        who = "Agent <agent@localhost.invalid> 1 +0000"
        lines = [f"tree {tree}", *(f"parent {p}" for p in parents), f"author {who}"]
        return self.write("commit", "\n".join([*lines, f"committer {who}", "", message]).encode())

    def tree_of(self, commit: str) -> str:
        return self.read(commit)[5:45].decode()

    def parents(self, commit: str) -> list[str]:
        head = self.read(commit).partition(b"\n\n")[0].decode()
        return [line[7:] for line in head.splitlines() if line.startswith("parent ")]

    def message(self, commit: str) -> str:
        return self.read(commit).partition(b"\n\n")[2].decode()

    def files(self, commit: str) -> Files:
        """What the files of a commit hold."""
        rest, found = self.read(self.tree_of(commit)), Files()
        while rest:
            meta, _, rest = rest.partition(b"\0")
            found[meta.partition(b" ")[2].decode()] = self.read(rest[:20].hex())
            rest = rest[20:]
        return found

    def ancestors(self, commit: str) -> set[str]:
        """A commit and all that it contains."""
        seen, waiting = set[str](), [commit]
        while waiting:
            if (one := waiting.pop()) not in seen:
                seen.add(one)
                waiting += self.parents(one)
        return seen


class Crash(Exception):
    """The driver is dead."""


@dataclass(frozen=True, kw_only=True)
class Odds:
    """How likely what is in a world; counts where they are whole."""

    n_units: int = 4
    probes: int = 1
    agents: int = 2
    bad: float = 0.0  # of a unit: its first attempts are bad
    pairs: int = 0
    same_line: float = 0.0
    twins: float = 0.0  # of a unit: it does what its like do
    writes: float = 0.0  # of a unit: it promises a write set, which others share
    edges: float = 0.2
    flake: float = 0.0
    faults: float = 0.0  # of attempts and probes: they end in another way
    off_line: float = 0.0  # of an attempt: it moved to an older commit
    base_moves: int = 0
    base_trouble: float = 0.0
    red_base: bool = False
    crashes: int = 0
    stops: int = 0
    resumes: int = 0  # of a mission that was finished
    candidates: int = 0  # 0: no fix-up
    mends: float = 0.6
    merge: bool = False  # landing.commit
    tight: bool = False  # limits
    prompt: float = 0.3  # of what is asked: it is answered at once
    rounds: int = 1


class Inbox(queue.SimpleQueue[Happening]):
    """Where a driver waits; when there is nothing, the world goes on."""

    tick: Callable[[float | None], None]

    def get(self, block: bool = True, timeout: float | None = None) -> Happening:
        if self.empty():
            self.tick(timeout)
        return self.get_nowait()


class Fragile(IntegrationRepository):
    """Its driver may die before or after a ref moves."""

    may_crash: Callable[[], None]

    def move_ref(self, ref: str, new: str, old: str | None) -> None:
        self.may_crash()
        super().move_ref(ref, new, old)
        self.may_crash()


class Postman(Deliverer):
    """Delivers when it is closed; one that is `at_once` as soon as it is asked to."""

    at_once: bool

    def deliver(self, commit: str) -> None:
        if not self.at_once:
            super().deliver(commit)
            return
        one = Deliverer(
            repository=self.repository,
            url=self.url,
            branch=self.branch,
            fallback=self.fallback,
            report=self.report,
        )
        one.deliver(commit)
        one.start()
        one.close()

    def close(self) -> None:
        if self._thread is None:
            self.start()
        super().close()


class Watched(Driver):
    """Keeps what was decided, and on what."""

    told: list[Told]

    def _circumstances(self) -> Circumstances:
        around = super()._circumstances()
        self.told.append((self.state.seq, around, [*decide(self.state, self.settings, around)]))
        return around


def template(folder: Path) -> Path:
    """Make what every world begins with: a target, and an integration repository beside it."""
    for name in ("target.git", "broken.git"):
        IntegrationRepository(folder / name).close()
        objects = Objects(folder / name)
        shared = "".join(f"place {i}\n" + "-\n" * 6 for i in range(N_PLACES_TO_EDIT)).encode()
        base = b"BROKEN base\n" if name == "broken.git" else b"base\n"
        begin = objects.commit({SHARED: shared, "base.txt": base}, (), "Begin\n")
        _write_ref(folder / name, "refs/heads/main", begin)
        ours = IntegrationRepository(folder / f"of-{name}")
        ours.fetch(str(folder / name), ["main"])
        ours.close()
    return folder


def _write_ref(git_dir: Path, ref: str, commit: str) -> None:
    (git_dir / ref).parent.mkdir(parents=True, exist_ok=True)
    (git_dir / ref).write_text(f"{commit}\n")


def read_ref(git_dir: Path, ref: str) -> str | None:
    """What a ref holds; git writes them as files here."""
    path = git_dir / ref
    return path.read_text().strip() if path.is_file() else None


@dataclass(kw_only=True)
class World:
    """One mission; it implements the driver's hands."""

    folder: Path
    model: Path
    odds: Odds
    seed: int
    told: list[Told] = field(default_factory=list)
    lives: int = 0
    n_flakes: int = 0
    n_faults: int = 0
    offset: float = 0.0
    heads: dict[tuple[str, int], AttemptEnded] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.luck = random.Random(self.seed)
        name = "broken.git" if self.odds.red_base else "target.git"
        self.target, self.ours = self.folder / "target.git", self.folder / "ours.git"
        shutil.copytree(self.model / name, self.target)
        shutil.copytree(self.model / f"of-{name}", self.ours)
        self.objects = Objects(self.ours)
        self.ledger_file = self.folder / "missions" / MISSION / "ledger.jsonl"
        self.start = read_ref(self.target, "refs/heads/main") or ""
        self.settings = self._settings()
        self.units = [self._unit(i) for i in range(self.odds.n_units)]
        ids = [u.id for u in self.units]
        self.bad_first = {u: self.luck.choice([1, 1, 2, 9]) for u in ids if self._by(self.odds.bad)}
        self.pairs = self._pairs(ids)
        self.edits = {
            u: self.luck.randrange(N_PLACES_TO_EDIT) for u in ids if self._by(self.odds.same_line)
        }
        self.twins = {u for u in ids if self._by(self.odds.twins)}
        self.n_made: dict[str, int] = {}
        self.orders: dict[tuple[str, int], AttemptOrder] = {}
        self.running: dict[tuple[str, int], tuple[str, int]] = {}
        self.probing: dict[int, tuple[str, int]] = {}
        self.passed: set[str] = set()
        self.pending: list[Callable[[], None]] = []
        self.bases: list[str] = []  # the moves of the base branch
        self.crash_in: int | None = None
        self.torn_at = 0
        self.stops_left, self.resumes_left = self.odds.stops, self.odds.resumes
        self.forgiven = False  # what the mission begins with passes after all
        self.driver: Watched | None = None

    def _by(self, chance: float) -> bool:
        return self.luck.random() < chance

    def _settings(self) -> MissionSettings:
        odds = self.odds
        few = {"max_failures_in_a_row": 3, "max_faults": 3} if odds.tight else {}
        fixup = {"agent": "default" if odds.candidates else "", "candidates": odds.candidates or 1}
        return MissionSettings.model_validate(
            {
                "name": "m",
                "repository": {"url": str(self.target), "green": GREEN},
                "verify": {"command": "true", "slots": odds.probes},
                "plan": {"planner": "tidy" if odds.rounds > 1 else "file", "file": "/plan.toml"},
                "agents": {"default": {"argv": ["true"]}},
                "limits": {
                    "max_failures_in_a_row": 1_000,
                    "max_faults": 1_000,
                    "max_rounds": odds.rounds,
                    **few,
                },
                "fixup": {**fixup, "attempts": self.luck.randint(1, 3)},
                "landing": {"commit": "merge" if odds.merge else "squash"},
            }
        )

    def _unit(self, number: int) -> Unit:
        needs = (f"u{i}" for i in range(number) if self._by(self.odds.edges))
        globs = self.luck.choice([("a",), ("b",), ("a", "b"), ("*",)])
        return Unit(
            id=UnitId(f"u{number}"),
            title=f"Do {number}",
            depends_on=tuple(UnitId(n) for n in needs),
            writes=globs if self._by(self.odds.writes) else None,
            may_remove_tests=self._by(0.05),
        )

    def _pairs(self, ids: Sequence[str]) -> dict[frozenset[str], bool]:
        """Bad pairs, and whether who comes later learns to live with the other."""
        if len(ids) < 2:
            return {}
        two = [frozenset(self.luck.sample(ids, 2)) for _ in range(self.odds.pairs)]
        return {pair: self._by(0.5) for pair in two}

    # -- living -------------------------------------------------------------------------------

    def live(self) -> None:
        """Drive the mission to its end, by as many drivers as it takes."""
        while not self._one_life():
            assert self.lives < MAX_LIVES, "no driver brings it to its end"

    def _one_life(self) -> bool:
        self.lives += 1
        self.pending.clear()
        self.running.clear()
        self.probing.clear()
        self.torn_at = 0
        with ExitStack() as stack:
            ledger = stack.enter_context(Ledger(self.ledger_file, on_append=self._recorded))
            ledger.append(self._opening(ledger))
            repository = Fragile(self.ours)
            stack.callback(repository.close)
            repository.may_crash = self._may_crash
            self.driver = self._driver(ledger, repository)
            self.crash_in = None
            if self.lives <= self.odds.crashes:
                self.crash_in = self.luck.randint(1, 40 + 10 * self.odds.n_units)
            try:
                self._look_at_base(repository)
                self.driver.run()
                self.crash_in = None
                self.driver.deliverer.close()
            except Crash:
                pass
            self.crash_in = None
            state = self.driver.state
        if self.torn_at:
            whole = self.ledger_file.read_bytes().splitlines(keepends=True)
            torn = b"".join(whole[: self.torn_at]) + b'{"seq":'
            self.ledger_file.write_bytes(torn if self._by(0.5) else b"".join(whole[: self.torn_at]))
        self._hold_state(state)
        return state.finished is not None and not self._is_resumed(state.finished.stop_reason)

    def _is_resumed(self, stop_reason: str) -> bool:
        """Whether somebody goes on with a finished mission, with what was broken mended."""
        if stop_reason in {StopReason.STOPPED, StopReason.INFRASTRUCTURE, StopReason.RED_GREEN}:
            return True
        self.resumes_left -= 1
        self.forgiven = self.forgiven or self._by(0.5)
        return self.resumes_left >= 0

    def _opening(self, ledger: Ledger) -> MissionStarted | MissionResumed:
        values = self.settings.model_dump(mode="json", by_alias=True)
        if ledger.records:
            return MissionResumed(pid=self.lives, settings=values)
        return MissionStarted(
            mission=MISSION,
            name="m",
            objective="",
            repository=str(self.target),
            base_branch="main",
            base=self.start,
            green_branch=GREEN,
            start=self.start,
            settings=values,
            version="0",
        )

    def _driver(self, ledger: Ledger, repository: IntegrationRepository) -> Watched:
        inbox = Inbox()
        inbox.tick = self._tick
        bench = Bench(
            mission=MISSION,
            folder=self.ledger_file.parent,
            repository=repository,
            places={},  # nothing runs anywhere, so there is nothing to end
            settings=self.settings,
            key="target",
        )
        postman = Postman(
            repository=repository,
            url=str(self.target),
            branch=GREEN,
            fallback="mission-green-m-1",
            report=inbox.put,
        )
        postman.at_once = self._by(0.15)
        driver = Watched(
            ledger=ledger,
            state=fold(ledger.records),
            settings=self.settings,
            bench=bench,
            deliverer=postman,
            hands=self,
            slots={"here": self.odds.agents},
            green_ref=GREEN_REF,
            green_before=repository.resolve(GREEN_REF),
            start_tree=repository.tree_of(self.start),
            purse=Purse(
                mission="m-1",
                settings=self.settings,
                accounts=Accounts(self.ledger_file.parent / "accounts"),
            ),
            clock=lambda: time.time() + self.offset,
            inbox=inbox,
        )
        driver.told = self.told
        return driver

    def _recorded(self, record: Record) -> None:
        assert record.seq < MAX_RECORDS, "the driver goes round in circles"
        if self._is_time():
            self.torn_at = record.seq
            raise Crash

    def _may_crash(self) -> None:
        if self._is_time():
            raise Crash

    def _is_time(self) -> bool:
        if self.crash_in is None:
            return False
        self.crash_in -= 1
        return self.crash_in <= 0

    def _hold_state(self, state: MissionState) -> None:
        """What a driver knew is what its ledger tells, and green is where that says it is."""
        records = read_ledger(self.ledger_file)
        assert plain(fold(records[: state.seq])) == plain(state)
        known = fold(records)
        intents = (r.event for r in records if isinstance(r.event, LandingIntended))
        values = {known.green, *(intent.new for intent in intents)}
        assert read_ref(self.ours, GREEN_REF) in values
        for ended in (r.event for r in records if isinstance(r.event, AttemptEnded)):
            if ended.head:
                ref = f"refs/missions/{MISSION}/{ended.unit}/{ended.attempt}"
                assert read_ref(self.ours, ref) == ended.head, "what was collected is kept"

    # -- what happens meanwhile ---------------------------------------------------------------

    @property
    def now_driving(self) -> Watched:
        assert self.driver is not None
        return self.driver

    def _tick(self, timeout: float | None) -> None:
        driver = self.now_driving
        if len(self.bases) < self.odds.base_moves and self._by(0.15):
            self._move_base(driver.bench.repository)
        if self.stops_left and self._by(0.05):
            self.stops_left -= 1
            stop = StopRequested(by="a person", reason="lunch")
            driver.post(stop if self._by(0.5) else Interrupt("SIGTERM"))
        elif self.pending:
            for _ in range(self.luck.randint(1, len(self.pending))):
                self.pending.pop(self.luck.randrange(len(self.pending)))()
        else:
            assert timeout is not None, "the driver waits for nothing"
            assert timeout < LONGEST_REST_SECONDS, "the driver waits for nothing but the deadline"
            self.offset += timeout

    def _ask(self, answer: Callable[[], None]) -> None:
        if self._by(self.odds.prompt):
            answer()
        else:
            self.pending.append(answer)

    def _move_base(self, repository: IntegrationRepository) -> None:
        objects = Objects(self.target)
        tip = read_ref(self.target, "refs/heads/main") or ""
        files, number = objects.files(tip), len(self.bases) + 1
        if not self._by(self.odds.base_trouble):
            files[f"base-{number}.txt"] = b"pushed\n"
            files["base.txt"] = b"base %d\n" % number
        elif self._by(0.5):
            files["base.txt"] = b"BROKEN base %d\n" % number
        else:
            place = self.luck.randrange(N_PLACES_TO_EDIT)
            files[SHARED] = files[SHARED].replace(b"place %d" % place, b"base of %d" % place)
        new = objects.commit(files, (tip,), f"Push {number}\n")
        _write_ref(self.target, "refs/heads/main", new)
        self.bases.append(new)
        if self._by(0.8):
            self._look_at_base(repository)

    def _look_at_base(self, repository: IntegrationRepository) -> None:
        """As the watch beside a driver does."""
        if read_ref(self.target, "refs/heads/main") == self.now_driving.state.base_tip:
            return
        tip = remote_branches(str(self.target))["main"]
        repository.fetch(str(self.target), ["main"])
        self.now_driving.post(BaseMoved(branch="main", commit=tip))

    # -- hands --------------------------------------------------------------------------------

    def ask(self, order: AskOrder, after: int | None) -> None:
        raise AssertionError("this world has no agent that answers")

    def plan(self, number: int) -> None:
        size = -(-len(self.units) // self.odds.rounds)
        ours = self.units[(number - 1) * size : number * size]
        here = {u.id for u in ours}
        ours = [replace(u, depends_on=tuple(d for d in u.depends_on if d in here)) for u in ours]
        made = PlanMade(round=number, planner="file", units=[unit_to_dict(u) for u in ours])
        self._ask(partial(self.now_driving.post, made))

    def attempt(self, order: AttemptOrder, after: Collection[str]) -> None:
        key = (order.unit.id, order.attempt)
        if key in self.orders:
            old = self.orders[key]
            assert (old.base, old.place, old.slot) == (order.base, order.place, order.slot)
        self.orders[key] = order
        assert (order.place, order.slot) not in self.running.values(), "two agents in one slot"
        self.running[key] = (order.place, order.slot)
        assert len(self.running) <= self.odds.agents
        self._ask(partial(self._end_attempt, order))

    def _end_attempt(self, order: AttemptOrder) -> None:
        driver, key = self.now_driving, (order.unit.id, order.attempt)
        self.running.pop(key)
        if driver.is_stopping and key not in self.heads and self._by(0.5):
            self.heads[key] = _ended(order, Outcome.STOPPED)
        if key not in self.heads:
            self.heads[key] = self._make(order)
        stale = (unit, number) = (order.unit.id, order.attempt - 1)
        if stale in self.heads and self._by(0.1):  # from a driver that was thought dead
            wrong = replace(_ended(self.orders[stale], Outcome.COLLECTED), head=self.start)
            driver.post(wrong if self._by(0.5) else self.heads[unit, number])
        driver.post(self.heads[key])
        driver.post(crashed_attempt(order, "a second word"))

    def probe(self, order: ProbeOrder, kind: str, units: Collection[str]) -> None:
        assert order.tree == self.objects.tree_of(order.commit)
        assert (order.place, order.slot) not in self.probing.values(), "two probes in one workspace"
        self.probing[order.probe] = (order.place, order.slot)
        assert len(self.probing) <= self.odds.probes
        self._ask(partial(self._end_probe, order))

    def _end_probe(self, order: ProbeOrder) -> None:
        self.probing.pop(order.probe)
        good = self.is_good(order.commit)
        flakes = good and self._by(self.odds.flake)
        is_lost = self._by(self.odds.faults / 4)
        cached = not flakes and order.tree in self.passed and not order.fresh and self._by(0.5)
        self.n_flakes += flakes and not is_lost
        verdict = "not a run" if is_lost else "passed" if good and not flakes else "red"
        if verdict == "passed":
            self.passed.add(order.tree)
        ended = ProbeEnded(
            probe=order.probe,
            verdict=verdict,
            reason="flake" if flakes else "",
            cached=cached and verdict == "passed",
            place=order.place,
            tests={"passed": 1},
        )
        self.now_driving.post(ended)
        lost = replace(ended, verdict="not a run", reason="a second word")
        self.now_driving.post(lost)

    def is_blameless(self, unit: str) -> bool:
        """Whether nothing that a unit makes is bad, alone or with others."""
        return unit not in self.bad_first and not self.is_in_pair(unit)

    def is_in_pair(self, unit: str) -> bool:
        """Whether there is another unit with which it is bad."""
        return any(unit in pair for pair in self.pairs)

    # -- what is good -------------------------------------------------------------------------

    def is_good(self, commit: str) -> bool:
        files = self.objects.files(commit)
        if self.forgiven and files["base.txt"] == b"BROKEN base\n":
            del files["base.txt"]
        if any(b"BROKEN" in text for text in files.values()):
            return False
        return not any(self._are_bad_together(pair, files) for pair in self.pairs)

    def _are_bad_together(self, pair: frozenset[str], files: Files) -> bool:
        one, other = sorted(pair)
        ours, theirs = files.get(f"{one}.txt"), files.get(f"{other}.txt")
        if ours is None or theirs is None:
            return False
        return f"with {other}\n".encode() not in ours and f"with {one}\n".encode() not in theirs

    # -- what agents make ---------------------------------------------------------------------

    def _make(self, order: AttemptOrder) -> AttemptEnded:
        if self._by(self.odds.faults):
            self.n_faults += 1
            proven = self._by(0.3)
            outcome = self.luck.choice(
                [
                    Outcome.FAILED,
                    Outcome.NO_CHANGE,
                    Outcome.INFRASTRUCTURE,
                    Outcome.RATE_LIMITED,
                    Outcome.REFUSED,
                    Outcome.TIMED_OUT,
                ]
            )
            is_proven = outcome == Outcome.NO_CHANGE and proven and not order.is_repair
            return replace(_ended(order, outcome), proven=is_proven)
        parent = order.base
        if self._by(self.odds.off_line) and (above := self.objects.parents(order.base)):
            parent = above[0]
        before = self.objects.files(parent)
        after = self._mended(before, order) if order.is_repair else self._work(before, order)
        touched = [p for p in after if after[p] != before.get(p)]
        if not touched:
            return replace(_ended(order, Outcome.NO_CHANGE), proven=not order.is_repair)
        family = order.unit.id.partition("@")[0]
        self.n_made[family] = self.n_made.get(family, 0) + 1
        head = self.objects.commit(after, (parent,), f"{order.unit.id}/{order.attempt}\n")
        ref = f"refs/missions/{MISSION}/{order.unit.id}/{order.attempt}"
        _write_ref(self.ours, ref, head)
        tree = self.objects.tree_of(head) if parent == order.base else None
        ended = replace(_ended(order, Outcome.COLLECTED), head=head, tree=tree)
        return replace(ended, files=tuple(touched), cost_usd=0.01)

    def _mended(self, before: Files, order: AttemptOrder) -> Files:
        if not self._by(self.odds.mends):
            return {**before, "note.txt": b"tried\n"} if self._by(0.5) else before
        return {path: text.replace(b"BROKEN", b"mended") for path, text in before.items()}

    def _work(self, before: Files, order: AttemptOrder) -> Files:
        unit, after = order.unit.id, dict(before)
        if unit in self.twins:
            return {**after, "twins.txt": b"the same\n"}
        bad = self.n_made.get(unit, 0) < self.bad_first.get(unit, 0)
        lines = [f"{'BROKEN' if bad else 'made by'} {unit}/{order.attempt}\n"]
        for pair, learns in self.pairs.items():
            if unit in pair:
                (other,) = pair - {unit}
                lines += [f"with {other}\n"] if learns and f"{other}.txt" in before else []
        after[f"{unit}.txt"] = "".join(lines).encode()
        if unit in self.edits:
            place = 7 * self.edits[unit]
            text = before[SHARED].splitlines(keepends=True)
            text[place] = f"{unit}/{order.attempt}\n".encode()
            after[SHARED] = b"".join(text)
        return after


def _ended(order: AttemptOrder, outcome: Outcome) -> AttemptEnded:
    return AttemptEnded(unit=order.unit.id, attempt=order.attempt, outcome=outcome.value)


def plain(value: Any) -> Any:
    """What a value holds, as lists and mappings that can be compared across a ledger's file."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(each) for each in value), key=repr)
    if value is None or isinstance(value, str | int | float):
        return value
    return {type(value).__name__: plain(dict(_fields(value)))}


def _fields(value: object) -> Iterator[tuple[str, Any]]:
    if hasattr(value, "__dict__"):
        yield from vars(value).items()
    else:
        yield from ((name, getattr(value, name)) for name in getattr(value, "__slots__", ()))
