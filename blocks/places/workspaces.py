"""Workspaces: clean checkouts in which agents and probes run, on any place.

A workspace is three things side by side: `tree`, where the command works, with a `.git` of its own
that is made anew for each use; `index`, ours; and the place's *store*, the git directory that holds
the objects (here the integration repository, elsewhere a mirror of it). Our git commands always run
with the store as git directory and our index, never with the agent's `.git`: that one may hold
hooks, filters and an fsmonitor of the agent's making.

Each step is one shell script, so that a distant place costs one round trip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from blocks.errors import CommandFailed
from blocks.places.place import Place
from blocks.repository import HERMETIC, IDENTITY

BRANCH = "work"
"""The branch that a workspace has checked out."""

SCRIPT_SECONDS = 600.0
"""How long a reset or a collection may take: a large tree on a slow disk, not an agent."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

GITLINK, SYMLINK = "160000", "120000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A path that differs from the base; `mode` is git's, `000000` when it was deleted.

    What is not UTF-8 in a name is shown escaped: paths go into the ledger, which is text.
    `target` is where a link leads, as it says.
    """

    path: str
    mode: str
    target: str = ""

    @property
    def leads_out(self) -> bool:
        """Whether it is a link that may lead out of the repository.

        Folders above it are no links, so leading `..` count; after a name, which may be another
        link, they could lead anywhere.
        """
        parts = [part for part in self.target.split("/") if part not in {"", "."}]
        n_up = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
        is_in_the_way = ".." in parts[n_up:]
        return self.target.startswith("/") or n_up > self.path.count("/") or is_in_the_way


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was in a workspace when its agent had ended.

    `descends` is false when the agent left the line of its base, by a reset to an older commit say:
    then its tree lacks what the base has, and only a merge tells what it changed.
    """

    head: str
    tree: str
    descends: bool
    changed: tuple[Changed, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """The changed paths."""
        return tuple(c.path for c in self.changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """One workspace of a place; exclusive to whoever was given its slot."""

    place: Place
    directory: str
    store: str
    keep: tuple[str, ...] = ()

    @property
    def tree(self) -> str:
        """The folder in which commands work."""
        return f"{self.directory}/tree"

    @property
    def home(self) -> str:
        """An empty home folder for those commands."""
        return f"{self.directory}/home"

    def reset(self, commit: str) -> None:
        """Make `tree` hold exactly `commit`, with a fresh `.git`; only `keep` folders survive.

        A workspace that cannot be reset is thrown away and made anew, once.

        Raises:
            CommandFailed: not even a new one can be made (disk full, commit missing).
        """
        try:
            self._script(_RESET, commit, *self._excludes())
        except CommandFailed:
            self.place.remove(self.directory)
            self._script(_RESET, commit, *self._excludes())

    def collect(self, *, base: str, ref: str, message: str) -> Collected:
        """Make what is in `tree` one durable commit that descends from the agent's own commits.

        Uncommitted work is committed with `message`. The commit is in the store, under `ref`,
        before this returns; `head == base` means that nothing was changed: then there is no ref. To
        move to an older commit and stay there is no change.

        Raises:
            CommandFailed: git does not take what is there.
        """
        out = self._script(_COLLECT, base, ref, message).decode(errors="backslashreplace")
        ids, _, raw = out.partition("\n")
        head, tree, strays = ids.split(" ")
        changed = self._led(_changes(raw))
        return Collected(head=head, tree=tree, descends=not strays, changed=changed)

    def digest_of(self, paths: Sequence[str]) -> str:
        """A digest of the files that `paths` name, missing ones included as such."""
        if not paths:
            return ""
        argv = ["git", "hash-object", "--no-filters", "--stdin-paths"]
        listing = self.place.run(
            ["sh", "-c", 'for f; do [ -f "$f" ] && printf "%s\\n" "$f"; done; :', "sh", *paths],
            cwd=self.tree,
            env=self._environment(),
        ).stdout
        hashes = self.place.run(argv, cwd=self.tree, env=self._environment(), stdin=listing).stdout
        return hashlib.sha256(listing + hashes).hexdigest()

    def _led(self, changes: Sequence[tuple[Changed, str]]) -> tuple[Changed, ...]:
        """The changes, links with where they lead."""
        links = [blob for changed, blob in changes if changed.mode == SYMLINK]
        if not links:
            return tuple(changed for changed, _ in changes)
        argv = ["git", "--git-dir", self.store, "cat-file", "--batch"]
        stdin = "".join(f"{blob}\n" for blob in links).encode()
        out = self.place.run(argv, env=self._environment(), stdin=stdin).stdout
        targets = iter(_contents(out))
        return tuple(
            replace(changed, target=next(targets)) if changed.mode == SYMLINK else changed
            for changed, _ in changes
        )

    def _excludes(self) -> list[str]:
        return [flag for folder in self.keep for flag in ("-e", f"/{folder}")]

    def _script(self, script: str, *args: str) -> bytes:
        argv = ["sh", "-c", script, "sh", self.directory, self.store, *args]
        env = self._environment()
        return self.place.run(argv, env=env, timeout_seconds=SCRIPT_SECONDS).stdout

    def _environment(self) -> Mapping[str, str]:
        return {"PATH": SYSTEM_PATH, "HOME": "/nonexistent", **HERMETIC}


def _changes(raw: str) -> list[tuple[Changed, str]]:
    """Read `git diff-tree -r -z --raw`: `:oldmode newmode old new status NUL path NUL`.

    Returns changes, each with the object that the path is now.
    """
    parts = raw.rstrip("\0").split("\0")
    found = []
    for meta, path in zip(parts[::2], parts[1::2], strict=False):
        _, mode, _, blob, _ = meta.split(" ")
        found.append((Changed(path=path, mode=mode), blob))
    return found


def _contents(batch: bytes) -> Iterator[str]:
    """Read `git cat-file --batch`: `id type size NL content NL`."""
    while batch:
        head, _, rest = batch.partition(b"\n")
        n_bytes = int(head.split(b" ")[2])
        yield rest[:n_bytes].decode(errors="backslashreplace")
        batch = rest[n_bytes + 1 :]


_OURS = """
set -e
dir=$1 store=$2; shift 2
nl='
'
tree=$dir/tree
if [ -e "$dir/index.lock" ]; then rm -f "$dir/index.lock"; fi
ours() { GIT_DIR="$store" GIT_WORK_TREE="$tree" GIT_INDEX_FILE="$dir/index" git "$@"; }
"""

# Git neither shows nor removes pipes and sockets; whoever reads one waits for ever.
_RESET = (
    _OURS
    + f"""
commit=$1; shift
if [ -L "$tree" ] || ! [ -d "$tree" ]; then rm -rf "$tree" "$dir/index"; mkdir -p "$tree"; fi
cd "$tree"
rm -rf .git "$dir/home"
ours read-tree --reset -u "$commit"
ours clean -ffdxq "$@"
find . ! -type f ! -type d ! -type l -exec rm -f {{}} + || :
mkdir -p .git/objects/info .git/refs/heads .git/info "$dir/home"
echo "ref: refs/heads/{BRANCH}" > .git/HEAD
echo "$commit" > .git/refs/heads/{BRANCH}
echo "$store/objects" > .git/objects/info/alternates
printf '[core]\\n\\tbare = false\\n[gc]\\n\\tauto = 0\\n[user]\\n\\tname = %s\\n\\temail = %s\\n' \\
    "{IDENTITY["name"]} agent" "{IDENTITY["email"]}" > .git/config
cp "$dir/index" .git/index
"""
)

# The agent's HEAD is read by hand: no git command runs with its `.git` as git directory. Its
# objects serve as alternates of our own store while what is reachable from that HEAD is packed and
# unpacked with all checks; their own alternates are taken away first, since ours cover them. Links
# in there would have us read and change what is elsewhere, pipes would have us wait: with any of
# these the agent's commits are passed over, and what lies in `tree` is all there is. So they are
# when they share no history with the base: nothing merges those.
#
# `git add` runs `git status` inside each repository that the index knows, by that one's own
# configuration. So the index forgets them first, and they come back as if they were new.
_COLLECT = (
    _OURS
    + """
base=$1 ref=$2 message=$3
begins() { text=$(head -c 300 "$1"); echo "${text%%"$nl"*}"; }
forget_repositories() {
    if ! ours ls-files --stage | grep -q '^160000 '; then return; fi
    ours ls-files --stage -z | tr '\\0\\n' '\\n\\0' |
        sed -n 's/^160000 [0-9a-f]* [0-9].//p' | tr '\\0\\n' '\\n\\0' |
        xargs -0 sh -c 'for p; do
            if [ -e "$p/.git" ] || [ -L "$p/.git" ]; then printf "%s\\0" "$p"; fi
        done' sh |
        ours update-index -z --force-remove --stdin
}
add_all() {
    forget_repositories
    ours add -A . 2>> "$dir/add.log" || ours add -A --ignore-errors . 2>> "$dir/add.log" || :
}
if [ -L "$tree" ] || ! [ -d "$tree" ]; then
    rm -rf "$tree" "$dir/index"
    mkdir -p "$tree"
    cd "$tree"
    ours read-tree --reset -u "$base"
fi
cd "$tree"
head=
if ! [ -L .git ] && [ -f .git/HEAD ]; then head=$(begins .git/HEAD); fi
case $head in
"ref: refs/heads/"*..*) head= ;;
"ref: refs/heads/"*)
    name=${head#ref: }; head=
    if [ -f ".git/$name" ]; then head=$(begins ".git/$name")
    elif [ -f .git/packed-refs ]; then
        head=$(head -c 1000000 .git/packed-refs | while read -r id path; do
            if [ "$path" = "$name" ]; then echo "$id"; fi
        done)
    fi ;;
esac
case $head in *[!0-9a-f]*) head= ;; esac
if [ ${#head} -ne 40 ]; then head=$base; fi
if [ "$head" != "$base" ] && { [ -L .git/objects ] ||
    find .git/objects ! -type f ! -type d 2> /dev/null | grep -q . ; }
then head=$base; fi
strays=
if [ "$head" != "$base" ]; then
    rm -f .git/objects/info/alternates .git/objects/info/http-alternates
    pack="$dir/pack"
    if printf '%s\\n^%s\\n' "$head" "$base" |
        GIT_ALTERNATE_OBJECT_DIRECTORIES="$tree/.git/objects" \\
        ours pack-objects --revs --stdout -q > "$pack" 2> "$dir/pack.log" &&
        ours unpack-objects --strict -q < "$pack" 2>> "$dir/pack.log"
    then
        if ! ours merge-base "$base" "$head" > "$dir/pack.log"; then head=$base
        elif ! ours merge-base --is-ancestor "$base" "$head"; then strays=1; fi
    else head=$base; fi
    : > "$pack"
fi
rm -f "$dir/add.log"
add_all
written=$(ours write-tree)
was=$(ours rev-parse "$head^{tree}")
if [ "$written" != "$was" ]; then
    ours read-tree --reset "$head"
    add_all
    written=$(ours write-tree)
    if [ "$written" != "$was" ]; then
        head=$(ours commit-tree "$written" -p "$head" -m "$message")
    fi
elif [ "$strays" ] && ours merge-base --is-ancestor "$head" "$base"; then
    head=$base written=$(ours rev-parse "$base^{tree}")
fi
if [ "$head" != "$base" ]; then ours update-ref "$ref" "$head"; fi
echo "$head $written $strays"
ours diff-tree -r -z --raw --no-renames "$base" "$head"
"""
)
