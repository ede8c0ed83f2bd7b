"""The integration repository: a bare clone of the target, written by the driver alone.

Merging happens in the object database (`merge-tree`, `commit-tree`): no checkout, no hooks, no
index. Refs move by compare-and-swap. The target's own branches and checkout are never touched; only
the delivery branch is pushed, with a lease.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from git import Git, Repo
from git.exc import GitCommandError, InvalidGitRepositoryError, NoSuchPathError

from blocks.conflicts import (
    MergeTree,
    Sides,
    conflicting_files,
    describe_conflicts,
    read_merge_tree,
)
from blocks.errors import (
    CannotDeliver,
    CannotMerge,
    CommandFailed,
    RepositoryUnusable,
    TargetMoved,
)
from blocks.patches import FilePatch, read_patch

NOTHING = "0" * 40
"""What a ref is compared with when it must not exist yet."""

IDENTITY = {"name": "Mission", "email": "mission@localhost.invalid"}
"""Who commits: never the user, never the agent."""

HERMETIC = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": IDENTITY["name"],
    "GIT_AUTHOR_EMAIL": IDENTITY["email"],
    "GIT_COMMITTER_NAME": IDENTITY["name"],
    "GIT_COMMITTER_EMAIL": IDENTITY["email"],
    "LC_ALL": "C",
}
"""The environment of every git command on our own repositories: no configuration but theirs."""

_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""Where attributes are read from when nobody's shall count: newer gits read those of HEAD."""

_PATCH = (
    "-p",
    "--full-index",
    "--unified=3",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)

_SHOWN_FILES, _SHOWN_BYTES = 50, 1_000_000
"""How many conflicting files are looked into, and how large ones."""

_MISLEADING = re.compile(
    r"GIT_(DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_.*|NAMESPACE|PREFIX|COMMON_DIR)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A commit that was made in the object database, and its tree."""

    commit: str
    tree: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trailers:
    """What the trailer block at the end of a commit's message says; its other text says nothing."""

    commit: str
    values: Mapping[str, tuple[str, ...]]


class IntegrationRepository:
    """One bare repository per target, in `MISSION_HOME`."""

    def __init__(self, path: Path) -> None:
        """Open the repository at `path`, made when it is not there."""
        self.path = path
        if not (path / "HEAD").is_file():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            Repo.init(path, bare=True, mkdir=True).close()
        self._repo = Repo(path)
        self._trees: dict[str, str] = {}  # of commits made here; an id never changes its tree
        with self._repo.config_writer() as config:
            config.set_value("gc", "auto", "0")
            config.set_value("core", "logAllRefUpdates", "false")
            config.set_value("core", "hooksPath", os.devnull)

    def close(self) -> None:
        """End the helper processes that GitPython keeps."""
        self._repo.close()

    # -- reading ------------------------------------------------------------------------------

    def resolve(self, name: str) -> str | None:
        """The commit that a ref or revision names, or `None`."""
        code, out, _ = self._try("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        return out.decode().strip() if code == 0 else None

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree; of a commit that was made here it is known without git."""
        known = self._trees.get(commit)
        return known or self._git("rev-parse", "--verify", f"{commit}^{{tree}}").decode().strip()

    def is_ancestor(self, ancestor: str, commit: str) -> bool:
        """Whether `ancestor` is contained in `commit`; a commit contains itself."""
        return self._try("merge-base", "--is-ancestor", ancestor, commit)[0] == 0

    def files(self, commit: str, *paths: str) -> dict[str, str]:
        """Paths in a commit's tree with their modes, below `paths` when given."""
        out = self._git("ls-tree", "-r", "-z", commit, "--", *paths)
        entries = (
            entry.split("\t", 1) for entry in out.decode(errors="replace").split("\0") if entry
        )
        return {path: meta.split()[0] for meta, path in entries}

    def show(self, commit: str, path: str) -> bytes | None:
        """A file's content in a commit, or `None`."""
        code, out, _ = self._try("cat-file", "blob", f"{commit}:{path}")
        return out if code == 0 else None

    def n_changed_lines(self, old: str, new: str) -> int:
        """How many lines one commit's tree adds to and removes from another's."""
        out = self._git("diff-tree", "-r", "--shortstat", old, new).decode()
        return sum(int(n) for n in re.findall(r"(\d+) (?:insertion|deletion)", out))

    def diff_text(self, base: str, head: str) -> str:
        """What changed between two commits, as people and agents read it; binary files named."""
        out = self._git("diff-tree", "-r", "-p", "--no-ext-diff", "--no-textconv", base, head)
        return out.decode(errors="replace")

    def commits_between(self, base: str, head: str) -> list[str]:
        """The commits that `head` contains and `base` does not, newest first."""
        return self._git("rev-list", head, f"^{base}").decode().split()

    def patch(
        self, base: str, head: str, *, max_bytes: int, every_commit: bool = False
    ) -> Iterator[FilePatch]:
        """What changed from `base` to `head`, a file at a time; one process, bounded memory.

        With `every_commit`, what each commit between them changed, for work that keeps its history.
        No attributes count, so that nobody but git says what is binary. Files larger than
        `max_bytes`, before or after, are opaque.
        """
        settings = (
            "core.quotePath=true",
            f"core.attributesFile={os.devnull}",
            f"attr.tree={_EMPTY_TREE}",
            f"core.bigFileThreshold={max_bytes}",
        )
        flags = [flag for each in settings for flag in ("-c", each)]
        command, *which = ("diff-tree", "-r", base, head)
        if every_commit:
            command, *which = ("log", "-m", "--format=", head, f"^{base}")
        with tempfile.NamedTemporaryFile(dir=self.path, prefix="patch-") as file:
            self._git(*flags, command, *_PATCH, f"--output={file.name}", *which, "--")
            yield from read_patch(file)

    def sizes(self, blobs: Iterable[str]) -> dict[str, int]:
        """The sizes of blobs, in bytes."""
        names = b"".join(b"%s\n" % blob.encode() for blob in blobs)
        out = self._git("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=names)
        pairs = (line.split(" ") for line in out.decode().splitlines())
        return {name: int(size) for name, size in pairs}

    def contents(self, blobs: Iterable[str]) -> dict[str, bytes]:
        """What blobs hold; all of it is in memory at once."""
        names = b"".join(b"%s\n" % blob.encode() for blob in {*blobs})
        out = io.BytesIO(self._git("cat-file", "--batch", stdin=names))
        found: dict[str, bytes] = {}
        while header := out.readline():
            name, _, size = header.split()
            found[name.decode()] = out.read(int(size))
            out.read(1)
        return found

    def trailers(
        self, tip: str, keys: Sequence[str], *, mentioning: Collection[str]
    ) -> list[Trailers]:
        """Trailers of the commits on the first-parent line of `tip`, newest first.

        Only commits whose message has one of the `mentioning` texts somewhere are looked at.
        """
        values = "".join(
            f"%x00%(trailers:key={key},valueonly,unfold,separator=%x0A)" for key in keys
        )
        texts = [f"--grep={text}" for text in mentioning]
        out = self._git(
            "log", "-z", "--first-parent", "-F", *texts, f"--format=%H{values}", tip, "--"
        )
        fields = iter(out.decode(errors="replace").split("\0")[: -1 if out else 0])
        return [
            Trailers(
                commit=commit,
                values={key: tuple(filter(None, next(fields).split("\n"))) for key in keys},
            )
            for commit in fields
        ]

    # -- writing ------------------------------------------------------------------------------

    def merge(
        self,
        onto: str,
        head: str,
        message: str,
        *,
        base: str,
        tree: str | None = None,
        keep_history: bool = False,
        union: Callable[[str], bool] | None = None,
    ) -> Merged:
        """Merge `head`, which was made from `base`, on top of `onto`, as one commit.

        `tree` is the tree of `head`, given only when `head` descends from `base`: on top of its own
        base nothing needs merging then. (An agent may have moved to an older commit; then its tree
        alone would undo what is newer.) In files of which `union` says yes, lines of both sides are
        kept where they conflict, ours first.

        Raises:
            CannotMerge: both sides change the same places; `files` names them, `hunks` shows them.
        """
        merged = tree if tree and onto == base else self._merged_tree(onto, head, union)
        parents = (onto, head) if keep_history else (onto,)
        return Merged(commit=self.commit(merged, parents, message), tree=merged)

    def undoing(self, commit: str) -> str:
        """Make a commit on top of `commit` that takes its change out again; returns it.

        Merged like any other, with `commit` as its base, it takes just this change out of whatever
        came after. For a merge commit that is all that it brought to its first parent's line.
        No ref holds it.
        """
        return self.commit(self.tree_of(f"{commit}^1"), (commit,), f"Undo {commit}\n")

    def commit(self, tree: str, parents: Sequence[str], message: str) -> str:
        """Make a commit object under our own identity."""
        flags = [flag for parent in parents for flag in ("-p", parent)]
        made = self._git("commit-tree", tree, *flags, "-m", message).decode().strip()
        self._trees[made] = tree
        return made

    def _merged_tree(self, onto: str, head: str, union: Callable[[str], bool] | None) -> str:
        clean, said = self._merge_tree(onto, head, os.devnull)
        both = [p for p in said.files if union is not None and union(p.decode(errors="replace"))]
        if both and not clean:
            with tempfile.NamedTemporaryFile(dir=self.path, prefix="attributes-") as file:
                file.write(b"".join(map(_union_attribute, both)))
                file.flush()
                clean, said = self._merge_tree(onto, head, file.name)
        if clean:
            return said.tree
        sides = Sides(ours=onto, theirs=head)
        hunks = describe_conflicts(said, self._contents(said.tree, said.files), sides)
        raise CannotMerge(conflicting_files(said, sides), hunks=hunks)

    def _merge_tree(self, onto: str, head: str, attributes: str) -> tuple[bool, MergeTree]:
        # Without a file of ours, the user's own attributes would say how files are merged.
        args = ("-c", f"core.attributesFile={attributes}", "merge-tree", "--write-tree")
        code, out, err = self._try(*args, "--name-only", "--messages", "-z", onto, head)
        if code not in {0, 1}:
            raise CommandFailed(("git", "merge-tree", onto, head), code, out, err)
        return code == 0, read_merge_tree(out)

    def _contents(self, tree: str, paths: Sequence[bytes]) -> dict[bytes, bytes]:
        """Files of a tree: as many and as large as are worth showing."""
        if not paths:
            return {}
        named = (os.fsdecode(path) for path in paths[:_SHOWN_FILES])
        listing = self._git("--literal-pathspecs", "ls-tree", "-z", "-l", tree, "--", *named)
        wanted: dict[bytes, list[bytes]] = {}
        for entry in listing.split(b"\0")[:-1]:
            meta, path = entry.split(b"\t", 1)
            _, kind, name, length = meta.split()
            if kind == b"blob" and int(length) <= _SHOWN_BYTES:
                wanted.setdefault(name, []).append(path)
        names = b"".join(b"%s\n" % name for name in wanted)
        out = io.BytesIO(self._git("cat-file", "--batch", stdin=names))
        contents: dict[bytes, bytes] = {}
        for same in wanted.values():
            _, _, size = out.readline().split()
            contents.update(dict.fromkeys(same, out.read(int(size))))
            out.read(1)
        return contents

    def annotate(self, notes_ref: str, notes: Mapping[str, str]) -> None:
        """Give commits a note each, in place of what they had there; again is harmless.

        Shown by `git log --notes=<what follows refs/notes/>`, globs included.
        Source: git-fast-import(1), `notemodify`.
        """
        if not notes:
            return
        before = f"from {notes_ref}^0\n" if self.resolve(notes_ref) else ""
        who = f"{IDENTITY['name']} <{IDENTITY['email']}>"
        stream = f"commit {notes_ref}\ncommitter {who} now\ndata 6\nNotes\n{before}".encode()
        for commit, text in notes.items():
            note = f"{text.rstrip()}\n".encode()
            stream += b"N inline %s\ndata %d\n%s" % (commit.encode(), len(note), note)
        self._git("fast-import", "--quiet", "--date-format=now", stdin=stream)

    def move_ref(self, ref: str, new: str, old: str | None) -> None:
        """Move a ref from `old` (`None`: it does not exist) to `new`; doing it again is harmless.

        Raises:
            TargetMoved: the ref holds something else.
        """
        code, out, err = self._try("update-ref", ref, new, old or NOTHING)
        if code != 0:
            now = self.resolve(ref)
            if now == new:
                return
            if now != old:
                raise TargetMoved(f"{ref} is at {now}, expected {old}")
            raise CommandFailed(("git", "update-ref", ref, new), code, out, err)

    def save_ref(self, ref: str, commit: str) -> None:
        """Point a ref of our own at a commit, whatever it held before."""
        self._git("update-ref", ref, commit)

    def refs(self, *prefixes: str) -> dict[str, str]:
        """All refs below the prefixes, or of just these names, with the commits they hold."""
        out = self._git("for-each-ref", "--format=%(refname) %(objectname)", *prefixes)
        return dict(line.split(" ", 1) for line in out.decode().splitlines())

    # -- the target ---------------------------------------------------------------------------

    def fetch(self, url: str, branches: Sequence[str]) -> dict[str, str]:
        """Fetch branches of the target; returns what each of them holds, missing ones left out.

        Raises:
            RepositoryUnusable: the target is no repository, is empty, or cannot be reached.
        """
        there = remote_branches(url)
        wanted = [b for b in branches if b in there]
        if wanted:
            specs = [f"+refs/heads/{b}:refs/target/{b}" for b in wanted]
            self._outside(url, "fetch", "--no-tags", "--no-write-fetch-head", url, *specs)
        return {b: there[b] for b in wanted if self.resolve(there[b])}

    def import_commit(self, url: str, ref: str, env: Mapping[str, str]) -> None:
        """Fetch one ref of a place's mirror, objects checked on the way in, under the same name."""
        self._git(
            "-c",
            "fetch.fsckObjects=true",
            "fetch",
            "--no-tags",
            "--no-write-fetch-head",
            url,
            f"+{ref}:{ref}",
            env=env,
        )

    def export_commit(self, url: str, commit: str, ref: str, env: Mapping[str, str]) -> None:
        """Push one commit to a place's mirror."""
        self._git("push", "--quiet", "--force", url, f"{commit}:{ref}", env=env)

    def push(
        self, url: str, commit: str, branch: str, *, old: str | None, also: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Deliver a commit to a branch of the target that holds `old` (`None`: is not there).

        Refs named in `also` go along under their own names as far as they exist here and the target
        takes them; returns those that it does not take, which stops no delivery.

        Raises:
            TargetMoved: the branch holds something else.
            CannotDeliver: the target refuses the branch.
        """
        there = self.refs(*also) if also else {}
        extra = tuple(ref for ref in also if ref in there)
        try:
            return self._push(url, commit, branch, old, extra)
        except CannotDeliver:
            if not extra:
                raise
        self._push(url, commit, branch, old, ())  # some targets take all refs of a push or none
        return extra

    def _push(
        self, url: str, commit: str, branch: str, old: str | None, also: tuple[str, ...]
    ) -> tuple[str, ...]:
        ref = f"refs/heads/{branch}"
        specs = (f"{commit}:{ref}", *(f"{each}:{each}" for each in also))
        lease = f"--force-with-lease={ref}:{old or ''}"
        code, out, err = self._try_outside("push", "--porcelain", "--no-verify", lease, url, *specs)
        told = _told_of_refs(out.decode(errors="replace"))
        if ref not in told:
            raise CommandFailed(("git", "push", url, *specs), code, out, err)
        if not told[ref].startswith("!"):
            return tuple(each for each in also if told.get(each, "!").startswith("!"))
        if "stale info" in told[ref] or "fetch first" in told[ref]:
            raise TargetMoved(f"{branch} at {url} was moved by somebody else")
        raise CannotDeliver(_reason(f"{told[ref]}\n{err.decode(errors='replace')}"))

    # -- the door to git ----------------------------------------------------------------------

    def _git(self, *args: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> bytes:
        code, out, err = self._try(*args, env=env, stdin=stdin)
        if code != 0:
            raise CommandFailed(("git", *args), code, out, err)
        return out

    def _try(
        self, *args: str, env: Mapping[str, str] | None = None, stdin: bytes = b""
    ) -> tuple[int, bytes, bytes]:
        ours = (f"--git-dir={self.path}", *args)
        return _execute(self._repo.git, ours, {**HERMETIC, **(env or {})}, stdin)

    def _outside(self, url: str, *args: str) -> bytes:
        code, out, err = self._try_outside(*args)
        if code != 0:
            raise RepositoryUnusable(f"{url}: {_reason(err.decode(errors='replace'))}")
        return out

    def _try_outside(self, *args: str) -> tuple[int, bytes, bytes]:
        return _execute(self._repo.git, (f"--git-dir={self.path}", *args), OUTSIDE)


def _told_of_refs(porcelain: str) -> dict[str, str]:
    """What a push says of each ref of the target; begins with `!` when it was not taken.

    Source: git-push(1), "Output": flag, from:to and summary, separated by tabs.
    """
    found = re.findall(r"^(.)\t[^:\n]*:([^\t\n]+)\t(.*)$", porcelain, re.MULTILINE)
    return {ref: f"{flag} {summary}" for flag, ref, summary in found}


OUTSIDE = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
"""Talking to the target uses the user's own git configuration (credentials, ssh), nothing asked."""


def remote_branches(url: str) -> dict[str, str]:
    """The branches of a repository with the commits they hold.

    Raises:
        RepositoryUnusable: it is none, or cannot be reached.
    """
    code, out, err = _execute(Git(), ("ls-remote", "--heads", "--", url), OUTSIDE)
    if code != 0:
        raise RepositoryUnusable(f"{url}: {_reason(err.decode(errors='replace'))}")
    lines = (line.split("\t", 1) for line in out.decode().splitlines() if "\t" in line)
    return {ref.removeprefix("refs/heads/"): sha for sha, ref in lines}


def _union_attribute(path: bytes) -> bytes:
    """A line of an attributes file for just this path, quoted twice: for globs, then as C does."""
    escaped = re.sub(rb"([*?\[\\])", rb"\\\1", path)
    quoted = re.sub(rb'(["\\])', rb"\\\1", escaped).replace(b"\n", b"\\n")
    return b'"/%s" merge=union\n' % quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """What a target on this machine looks like from outside."""

    branches: frozenset[str]  # checked out somewhere, worktrees included
    is_dirty: bool
    is_shallow: bool


def look_at(path: Path) -> Checkout:
    """Look at a target on this machine; nothing in it is changed.

    Raises:
        RepositoryUnusable: there is no repository.
    """
    try:
        with Repo(path) as repo:
            listing = _checked(repo.git, "worktree", "list", "--porcelain")
            shallow = _checked(repo.git, "rev-parse", "--is-shallow-repository").strip() == "true"
            dirty = not repo.bare and bool(
                _checked(repo.git, "--no-optional-locks", "status", "--porcelain", "-uno")
            )
    except (InvalidGitRepositoryError, NoSuchPathError) as error:
        why = f"{path} is no git repository; `git init` it or mend [repository] url"
        raise RepositoryUnusable(why) from error
    out = re.findall(r"^branch refs/heads/(.+)$", listing, re.MULTILINE)
    return Checkout(branches=frozenset(out), is_dirty=dirty, is_shallow=shallow)


def _checked(git: Git, *args: str) -> str:
    code, out, err = _execute(git, args, OUTSIDE)
    if code != 0:
        raise RepositoryUnusable(_reason(err.decode(errors="replace")))
    return out.decode(errors="replace")


def _execute(
    git: Git, args: Sequence[str], env: Mapping[str, str], stdin: bytes = b""
) -> tuple[int, bytes, bytes]:
    if not stdin:
        return _executed(git, args, env, None)
    with tempfile.TemporaryFile() as file:  # a pipe might fill up before git answers
        file.write(stdin)
        file.seek(0)
        return _executed(git, args, env, file)


def _executed(
    git: Git, args: Sequence[str], env: Mapping[str, str], stdin: BinaryIO | None
) -> tuple[int, bytes, bytes]:
    try:
        code, out, err = git.execute(
            ["git", *args],
            istream=stdin,
            env=dict(env),
            with_extended_output=True,
            with_exceptions=False,
            stdout_as_string=False,
            strip_newline_in_stdout=False,
        )
    except GitCommandError as error:
        raise CommandFailed(("git", *args), None, b"", str(error).encode()) from error
    return code, bytes(out), err.encode() if isinstance(err, str) else bytes(err)


def forget_other_repositories() -> None:
    """Take out of this process's environment what points git at another repository.

    A mission may be started from a git hook or an alias, where `GIT_DIR` and its like are set.
    """
    for name in [name for name in os.environ if _MISLEADING.match(name)]:
        del os.environ[name]


def _reason(text: str) -> str:
    """The line of git's output that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [x for x in lines if x.startswith(("fatal:", "error:", "remote: error", "!"))]
    return "; ".join(dict.fromkeys(telling or lines[-3:])) or "git said nothing"
