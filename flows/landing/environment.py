"""What a verification depends on beside the tree, as one digest: the environment of a probe.

The digest holds the settings by which a tree is judged, our own code that judges it, the variables
that the command gets, the place with its machine, and the tools: for each word of the commands that
names a program on their `PATH`, the program's real path, size and time of change, and likewise its
interpreter (`#!`); for each folder of that `PATH` and of those programs, when it was last changed,
and the same of the packages installed beside it (`lib/python3*/site-packages`, `node_modules`),
since a Makefile names tools that we do not see.

A change that leaves all of these alone (a package edited in place, a service, what `setup` fetches)
is drift; the age of a pass bounds it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import blocks
from blocks.errors import BackendUnreachable, CommandFailed
from blocks.places.place import Place
from flows.running.bench import Bench

logger = logging.getLogger(__name__)

FRESH_SECONDS = 600.0
"""How long an answer stands before a place is asked again: a driver may live for days."""

NOT_JUDGED_BY = frozenset({"unit", "slots", "cache"})
"""Keys of `[verify]` on which no verdict depends; a key that is added is taken to count."""

MAX_WORDS = 500

_WORD = re.compile(r"[\w./+@~-]+")
_JUDGES = (
    "blocks/verifier.py",
    "blocks/readings/*.py",
    "blocks/places/supervise.py",
    "blocks/places/workspaces.py",
    "flows/landing/probing.py",
    "flows/running/bench.py",
)
"""Our code that prepares, runs and judges a verification."""

_SURVEY = r"""
import glob, os, sys
path, words = sys.argv[1].split(":"), sys.argv[2:]
said, seen, folders = [], set(), [d for d in path if d.startswith("/")]
def say(*parts):
    said.append("\t".join(map(str, parts)))
def stat(what, file):
    try:
        s = os.stat(file)
        say(what, file, s.st_size if what == "tool" else "", s.st_mtime_ns)
    except OSError:
        pass
def read(file, size):
    try:
        with open(file, "rb") as f:
            return f.read(size).decode("latin-1")
    except OSError:
        return ""
def find(word):
    for place in [""] if word.startswith("/") else [] if "/" in word else path:
        file = os.path.join(place, word)
        if file.startswith("/") and os.path.isfile(file) and os.access(file, os.X_OK):
            return file
while words:
    word = words.pop()
    if word in seen:
        continue
    seen.add(word)
    file = find(word)
    if file is None:
        continue
    real = os.path.realpath(file)
    say("word", word, file)
    stat("tool", real)
    folders += [os.path.dirname(file), os.path.dirname(real)]
    first = read(real, 512).split("\n")[0]
    if first.startswith("#!"):
        words += first[2:].split()
for folder in set(folders):
    above = os.path.dirname(folder.rstrip("/"))
    beside = ("version", "pyvenv.cfg", "lib*/python3*/site-packages", "lib*/python3*/dist-packages")
    stat("folder", folder)
    for pattern in beside + ("lib/node_modules",):
        for file in glob.glob(os.path.join(glob.escape(above), pattern)):
            stat("beside", file)
for file in ("/etc/machine-id", "/etc/os-release"):
    say(file, repr(read(file, 4096)))
system = os.uname()
say("machine", system.nodename, system.sysname, system.release, system.machine, os.getuid())
sys.stdout.write("\n".join(sorted(set(said))))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environments:
    """The environment digests of a mission's places, each asked for now and then; for threads."""

    bench: Bench
    clock: Callable[[], float] = time.monotonic
    _known: dict[str, tuple[float, str]] = field(default_factory=dict)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)

    def digest(self, place: str) -> str:
        """A place's digest; empty when it cannot be told, and then nothing is kept or found."""
        with self._locks.setdefault(place, threading.Lock()):
            asked, digest = self._known.get(place, (0.0, ""))
            if not digest or self.clock() - asked >= FRESH_SECONDS:
                digest = self._ask(place)
                self._known[place] = self.clock(), digest
            return digest

    def _ask(self, name: str) -> str:
        try:
            return environment_digest(self.bench, self.bench.places[name])
        except (BackendUnreachable, CommandFailed, OSError) as error:
            logger.info("%s: verifications there cannot be told apart: %s", name, error)
            return ""


def environment_digest(bench: Bench, place: Place) -> str:
    """Digest what determines a verification on a place beside the tree, in hexadecimal.

    Costs one short command on the place.

    Raises:
        CommandFailed, BackendUnreachable: the place cannot be asked.
    """
    verify, variables = bench.settings.verify, _variables(bench, place)
    known = {
        "verify": verify.model_dump(mode="json", exclude=set(NOT_JUDGED_BY)),
        "sandbox": bench.settings.backend.sandbox,
        "variables": variables,
        "place": place.name,
        "tools": survey(place, variables["PATH"], (verify.command, verify.setup)),
        "judges": _own_code(),
    }
    return _sha256(json.dumps(known, sort_keys=True).encode())


def survey(place: Place, path: str, commands: tuple[str, ...]) -> str:
    """Ask a place for its machine and the tools that commands name, as lines of text.

    Raises:
        CommandFailed, BackendUnreachable: the place cannot be asked.
    """
    words = dict.fromkeys(word for text in commands for word in _WORD.findall(text))
    argv = ["python3", "-I", "-S", "-c", _SURVEY, path, *[*words][:MAX_WORDS]]
    return place.run(argv).stdout.decode(errors="backslashreplace")


def _variables(bench: Bench, place: Place) -> Mapping[str, str]:
    """What the command gets; our own home folder is empty, whatever its name is in this slot."""
    workspace = bench.workspace(place, "probes", 0)
    found = bench.environment(workspace, {})
    own = {"HOME": "(empty)"} if found["HOME"] == workspace.home else {}
    return {**found, **own}


@cache
def _own_code() -> Mapping[str, Any]:
    root = Path(blocks.__file__).parents[1]
    found = sorted(path for pattern in _JUDGES for path in root.glob(pattern))
    return {str(path.relative_to(root)): _sha256(path.read_bytes()) for path in found}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
