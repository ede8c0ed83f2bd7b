"""What the merge train asks of the integration repository: telling conflicts, undoing, notes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from blocks.conflicts import HUNKS_CHARACTERS
from blocks.errors import CannotDeliver, CannotMerge, CommandFailed, TargetMoved
from blocks.repository import IntegrationRepository, remote_branches
from flows.landing.reverting import find_landing
from flows.planning.globs import matches
from tests.missions import commit_files, git, make_repository

NOTES = "refs/notes/missions/m-1"
TEN_LINES = "".join(f"{n}\n" for n in range(1, 11))


@dataclass
class Place:
    """A target, our repository of it, and commits that are in ours alone."""

    target: Path
    repository: IntegrationRepository
    base: str
    numbers: Iterator[int] = field(default_factory=count)

    def made(
        self, base: str, files: Mapping[str, str | bytes], *, without: Sequence[str] = ()
    ) -> str:
        """A commit on top of another one that changes files, or takes them away."""
        git(self.target, "fetch", "--quiet", str(self.repository.path), base)
        git(self.target, "checkout", "--quiet", "--detach", base)
        if without:
            git(self.target, "rm", "-r", "--quiet", *without)
        for name, content in files.items():
            path = self.target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        commit = commit_files(self.target, {}, "Work")
        ref = f"refs/missions/m/{next(self.numbers)}"
        git(self.target, "push", "--quiet", str(self.repository.path), f"{commit}:{ref}")
        git(self.target, "checkout", "--quiet", "main")
        return commit

    def landed(self, onto: str, head: str, *, unit: str = "u", **trailers: str) -> str:
        """Merge as the driver does; returns the commit."""
        named = {"Mission": "m-1", "Unit": unit, "Attempt": "1", **trailers}
        block = "".join(f"{key}: {value}\n" for key, value in named.items() if value)
        return self.repository.merge(onto, head, f"Title\n\n{block}", base=self.base).commit

    def reverted(self, green: str, commit: str, **trailers: str) -> str:
        """Take a commit out of green as the train is to do it."""
        head = self.repository.undoing(commit)
        message = {"unit": "", "Reverts": commit, **trailers}
        return self.landed(green, head, **message)

    def text(self, commit: str, path: str) -> str | None:
        content = self.repository.show(commit, path)
        return None if content is None else content.decode()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    files = {"a.txt": TEN_LINES, "b.txt": TEN_LINES, "CHANGELOG.md": "# Changes\n"}
    target = make_repository(tmp_path / "target", files)
    repository = IntegrationRepository(tmp_path / "home" / "target.git")
    base = repository.fetch(str(target), ["main"])["main"]
    yield Place(target=target, repository=repository, base=base)
    repository.close()


def with_lines(**lines: str) -> str:
    """Ten lines, some of them replaced: `with_lines(_2="two")`."""
    texts = TEN_LINES.splitlines()
    for number, text in lines.items():
        texts[int(number.removeprefix("_")) - 1] = text
    return "".join(f"{text}\n" for text in texts)


def refused(place: Place, left: str, right: str) -> CannotMerge:
    with pytest.raises(CannotMerge) as caught:
        place.repository.merge(left, right, "m", base=place.base)
    return caught.value


# -- conflicts -------------------------------------------------------------------------------------


def test_a_conflict_shows_each_hunk_with_its_line_and_whose_it_is(place: Place) -> None:
    left = place.made(place.base, {"a.txt": with_lines(_2="two\nand a half", _9="nine")})
    right = place.made(place.base, {"a.txt": with_lines(_2="zwei", _9="neun")})
    assert refused(place, left, right).hunks == (
        "a.txt\n"
        "line 2:\n"
        "<<<<<<< what landed\ntwo\nand a half\n=======\nzwei\n>>>>>>> your change\n"
        "line 10:\n"  # where it stands in what landed, without the marks
        "<<<<<<< what landed\nnine\n=======\nneun\n>>>>>>> your change"
    )


def test_each_file_of_a_conflict_has_its_heading(place: Place) -> None:
    name = "folder/with space ü\n.txt"
    left = place.made(place.base, {"a.txt": with_lines(_1="left"), name: "left\n"})
    right = place.made(place.base, {"a.txt": with_lines(_1="right"), name: "right\n"})
    error = refused(place, left, right)
    assert error.files == ("a.txt", name)
    first, second = error.hunks.split("\n\n")
    assert first.startswith("a.txt\nline 1:\n<<<<<<< what landed\nleft\n")
    assert second.startswith("folder/with space ü\\n.txt\nline 1:\n<<<<<<< what landed\nleft\n")


def test_a_file_that_one_side_takes_away_is_told_in_a_sentence(place: Place) -> None:
    left = place.made(place.base, {"b.txt": with_lines(_1="left")}, without=["a.txt"])
    right = place.made(place.base, {"a.txt": with_lines(_1="right")}, without=["b.txt"])
    assert refused(place, left, right).hunks == (
        "a.txt\nCONFLICT (modify/delete): "
        "a.txt deleted in what landed and modified in your change.\n\n"
        "b.txt\nCONFLICT (modify/delete): "
        "b.txt deleted in your change and modified in what landed."
    )


def test_binary_files_and_renames_are_told_in_sentences(place: Place) -> None:
    data = bytes(range(256))
    base = place.made(place.base, {"b.bin": data, "old.txt": TEN_LINES})
    left = place.made(base, {"b.bin": data + b"l", "left.txt": TEN_LINES}, without=["old.txt"])
    right = place.made(base, {"b.bin": data + b"r", "right.txt": TEN_LINES}, without=["old.txt"])
    error = refused(place, left, right)
    assert {"b.bin", "left.txt", "right.txt"} <= {*error.files}
    assert "Cannot merge binary files: b.bin (what landed vs. your change)" in error.hunks
    assert "left.txt in what landed and to right.txt in your change" in error.hunks
    assert "<<<<" not in error.hunks


def test_a_file_where_the_other_side_has_a_folder_is_named_as_it_was(place: Place) -> None:
    left = place.made(place.base, {"thing": "a file\n"})
    right = place.made(place.base, {"thing/inside.txt": "a folder\n"})
    error = refused(place, left, right)
    assert error.files == ("thing",)
    assert not re.search("[0-9a-f]{40}", error.hunks)


def test_marks_that_are_part_of_a_file_are_no_hunks(place: Place) -> None:
    marks = "<<<<<<< HEAD\nx\n=======\ny\n>>>>>>> theirs\n"
    left = place.made(place.base, {"a.txt": marks + TEN_LINES + "left\n"})
    right = place.made(place.base, {"a.txt": marks + TEN_LINES + "right\n"})
    assert refused(place, left, right).hunks == (
        "a.txt\nline 16:\n<<<<<<< what landed\nleft\n=======\nright\n>>>>>>> your change"
    )


def test_lines_that_end_as_on_windows_are_read_too(place: Place) -> None:
    left = place.made(place.base, {"new.txt": "one\r\nleft\r\n"})
    right = place.made(place.base, {"new.txt": "one\r\nright\r\n"})
    assert refused(place, left, right).hunks.startswith(
        "new.txt\nline 2:\n<<<<<<< what landed\nleft\r\n=======\nright\r\n>>>>>>> your change"
    )


def test_a_large_conflict_is_cut_and_small_files_stay_whole(place: Place) -> None:
    left, right = (
        place.made(
            place.base,
            {
                "a.txt": with_lines(_1=side),
                "large.txt": "".join(f"{side} {n}\n" for n in range(2000)),
                **{f"many/{n}.txt": side for n in range(100)},
            },
        )
        for side in ("left", "right")
    )
    error = refused(place, left, right)
    assert len(error.files) == 102
    assert len(error.hunks) <= HUNKS_CHARACTERS
    assert "<<<<<<< what landed\nleft\n=======\nright\n>>>>>>> your change" in error.hunks
    assert "left 0\n" in error.hunks
    assert "right 1999\n>>>>>>> your change" in error.hunks
    assert "characters are left out here" in error.hunks
    assert re.search(r"\n\n… and [123]\d more files$", error.hunks)


def test_many_hunks_of_one_file_are_counted_when_there_is_no_room(place: Place) -> None:
    def file(side: str) -> dict[str, str]:
        return {"a.txt": "".join(f"{side} {n}\n1\n2\n3\n4\n5\n" for n in range(500))}

    base = place.made(place.base, file("base"))
    left, right = (place.made(base, file(side)) for side in ("left", "right"))
    hunks = refused(place, left, right).hunks
    assert len(hunks) <= HUNKS_CHARACTERS
    assert re.search(r"… and 4\d\d more hunks$", hunks)
    assert "line 1:\n<<<<<<< what landed\nleft 0\n=======\nright 0\n" in hunks


# -- keeping both sides ----------------------------------------------------------------------------


def test_files_that_are_named_keep_the_additions_of_both_sides(place: Place) -> None:
    awkward = 'docs/n[e]ws "old" \\*.md'
    left, right = (
        place.made(place.base, {"CHANGELOG.md": f"# Changes\n- {side}\n", awkward: f"- {side}\n"})
        for side in ("left", "right")
    )
    merged = place.repository.merge(
        left,
        right,
        "m",
        base=place.base,
        union=lambda path: matches(path, ("CHANGELOG.md", "docs/**")),
    )
    assert place.text(merged.commit, "CHANGELOG.md") == "# Changes\n- left\n- right\n"
    assert place.text(merged.commit, awkward) == "- left\n- right\n"
    assert not [*place.repository.path.glob("attributes-*")]


def test_files_that_are_not_named_conflict_alone(place: Place) -> None:
    left, right = (
        place.made(place.base, {"CHANGELOG.md": f"- {side}\n", "CHANGELOGxmd": f"- {side}\n"})
        for side in ("left", "right")
    )
    with pytest.raises(CannotMerge) as caught:
        place.repository.merge(
            left, right, "m", base=place.base, union=lambda path: path == "CHANGELOG.md"
        )
    assert caught.value.files == ("CHANGELOGxmd",)


def test_a_named_file_that_one_side_takes_away_is_a_conflict(place: Place) -> None:
    left = place.made(place.base, {}, without=["a.txt"])
    right = place.made(place.base, {"a.txt": "right\n"})
    with pytest.raises(CannotMerge, match=r"a\.txt"):
        place.repository.merge(left, right, "m", base=place.base, union=lambda _: True)


def test_the_users_own_attributes_do_not_merge_for_us(place: Place, tmp_path: Path) -> None:
    attributes = tmp_path / "user" / "git" / "attributes"
    attributes.parent.mkdir(parents=True)
    attributes.write_text("* merge=union\n")
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path / "user")
    left, right = (place.made(place.base, {"a.txt": f"{side}\n"}) for side in ("left", "right"))
    assert refused(place, left, right).files == ("a.txt",)


# -- undoing ---------------------------------------------------------------------------------------


def test_a_unit_in_the_middle_is_taken_out_and_later_work_stays(place: Place) -> None:
    change = with_lines(_5="bad") + "bad end\n"
    bad = place.made(place.base, {"a.txt": change, "bad.txt": "x\n"}, without=["b.txt"])
    good = place.made(place.base, {"a.txt": with_lines(_1="good"), "good.txt": "x\n"})
    culprit = place.landed(place.base, bad)
    green = place.landed(culprit, good, unit="good")
    after = place.reverted(green, culprit)
    assert place.repository.files(after).keys() == {"CHANGELOG.md", "a.txt", "b.txt", "good.txt"}
    assert place.text(after, "a.txt") == with_lines(_1="good")
    assert place.text(after, "b.txt") == TEN_LINES
    assert git(place.repository.path, "rev-parse", f"{after}^@") == green


def test_the_tip_itself_is_taken_out(place: Place) -> None:
    tip = place.landed(place.base, place.made(place.base, {"a.txt": "bad\n"}))
    undo = place.repository.undoing(tip)
    tree = place.repository.tree_of(undo)
    merged = place.repository.merge(tip, undo, "m", base=tip, tree=tree)
    assert merged.tree == tree == place.repository.tree_of(place.base)


def test_what_later_work_changed_again_is_not_taken_out_silently(place: Place) -> None:
    culprit = place.landed(place.base, place.made(place.base, {"a.txt": with_lines(_5="bad")}))
    later = place.made(culprit, {"a.txt": with_lines(_5="bad but better")})
    green = place.landed(culprit, later)
    with pytest.raises(CannotMerge) as caught:
        place.reverted(green, culprit)
    assert "what landed\nbad but better\n=======\n5\n>>>>>>> your change" in caught.value.hunks


def test_what_was_taken_out_is_put_back(place: Place) -> None:
    culprit = place.landed(place.base, place.made(place.base, {"a.txt": with_lines(_5="new")}))
    revert = place.reverted(culprit, culprit)
    green = place.landed(revert, place.made(place.base, {"b.txt": with_lines(_1="other")}))
    back = place.reverted(green, revert)
    assert place.text(green, "a.txt") == TEN_LINES
    assert place.text(back, "a.txt") == with_lines(_5="new")
    assert place.text(back, "b.txt") == with_lines(_1="other")


def test_a_unit_that_kept_its_history_is_taken_out_whole(place: Place) -> None:
    one = place.made(place.base, {"a.txt": with_lines(_3="one")})
    two = place.made(one, {"a.txt": with_lines(_3="one", _7="two")})
    other = place.landed(place.base, place.made(place.base, {"b.txt": "other\n"}))
    merged = place.repository.merge(other, two, "m", base=place.base, keep_history=True).commit
    green = place.landed(merged, place.made(place.base, {"c.txt": "c\n"}))
    after = place.reverted(green, merged)
    assert place.text(after, "a.txt") == TEN_LINES
    assert (place.text(after, "b.txt"), place.text(after, "c.txt")) == ("other\n", "c\n")


# -- finding what landed ---------------------------------------------------------------------------


def chain(place: Place, *messages: str) -> list[str]:
    """Commits one on top of the other with these messages."""
    tree, commits = place.repository.tree_of(place.base), [place.base]
    for message in messages:
        commits.append(place.repository.commit(tree, (commits[-1],), message))
    return commits[1:]


def says(unit: str, *, mission: str = "m-1", **more: str) -> str:
    trailers = {"Mission": mission, "Unit": unit, "Attempt": "1", **more}
    return "Title\n\n" + "".join(f"{key}: {value}\n" for key, value in trailers.items() if value)


def test_the_newest_landing_of_just_this_unit_is_found(place: Place) -> None:
    commits = chain(place, says("u"), says("u"), says("u-2"), says("xu"), says("U"))
    found = find_landing(place.repository, "u", commits[-1])
    assert found is not None
    assert (found.commit, found.mission, found.taken_out_by) == (commits[1], "m-1", None)
    assert find_landing(place.repository, "none", commits[-1]) is None
    assert find_landing(place.repository, ".", commits[-1]) is None


@pytest.mark.parametrize(
    "message",
    [
        "Unit: u",
        "Mission: m-1\nUnit: u\n\nthe text goes on",
        "Mission: m-1\nUnit: u\n\nMission: m-1\nUnit: other\n",
        "Title\n\nMission: m-1\nUnit: u\n\nMission: m-1\nUnit: other\n",
        "Title\n---\nMission: m-1\nUnit: u\n\nMission: m-1\nUnit: other\n",
        "Title\n\nThey wrote\nmuch text\nand more\nthis: was\nUnit: u\nall text\nof theirs",
        "Title\n\nUnit: u\nAttempt: 1\n",
        "Title\n\nMission: m-1\nUnit: u v\n",
        "Title\n\nMission: m-1\nNot-Unit: u\n",
        "Unit: u\n\nMission: m-1\nUnit: other\n",
    ],
)
def test_only_the_trailers_of_a_mission_say_that_a_unit_landed(place: Place, message: str) -> None:
    (commit,) = chain(place, message)
    assert find_landing(place.repository, "u", commit) is None


def test_commits_off_the_line_of_green_have_not_landed(place: Place) -> None:
    (beside,) = chain(place, says("u"))
    tree = place.repository.tree_of(place.base)
    green = place.repository.commit(tree, (place.base, beside), says("other"))
    assert find_landing(place.repository, "u", green) is None


def test_a_landing_can_be_looked_for_in_one_mission(place: Place) -> None:
    first, second = chain(place, says("u", mission="m-1"), says("u", mission="m-2"))
    found = {
        name: find_landing(place.repository, "u", second, mission=name) for name in ("m-1", "m-2")
    }
    assert {name: each and each.commit for name, each in found.items()} == {
        "m-1": first,
        "m-2": second,
    }
    assert find_landing(place.repository, "u", second, mission="m-3") is None


@pytest.mark.parametrize("named", ["", "u"])
def test_a_landing_is_taken_out_put_back_and_taken_out_again(place: Place, named: str) -> None:
    """Whether what takes it out names the unit itself or not."""
    green = last = landing = place.landed(place.base, place.made(place.base, {"a.txt": "new\n"}))
    states, reverts = [], []
    for i in range(3):
        found = find_landing(place.repository, "u", green)
        assert found is not None
        assert found.commit == landing
        states.append((found.taken_out_by, place.text(green, "a.txt")))
        last = place.reverted(green, last, unit=named)
        reverts.append(last)
        green = place.landed(last, place.made(place.base, {f"{i}.txt": "x\n"}), unit="later")
    assert states[0] == states[2] == (None, "new\n")
    assert states[1] == (reverts[0], TEN_LINES)


def test_a_unit_that_landed_again_after_it_was_taken_out_is_in(place: Place) -> None:
    first = chain(place, says("u"))[0]
    tree = place.repository.tree_of(place.base)
    out = place.repository.commit(tree, (first,), says("", Reverts=first))
    again = place.repository.commit(tree, (out,), says("u"))
    found = find_landing(place.repository, "u", out)
    assert found is not None
    assert (found.commit, found.taken_out_by) == (first, out)
    found = find_landing(place.repository, "u", again)
    assert found is not None
    assert (found.commit, found.taken_out_by) == (again, None)


def test_a_prompt_that_says_reverts_takes_nothing_out(place: Place) -> None:
    first = chain(place, says("u"))[0]
    tree = place.repository.tree_of(place.base)
    message = f"Reverts: {first}\n\nReverts: {first}\nand so on\n\nMission: m-1\nUnit: x\n"
    tip = place.repository.commit(tree, (first,), message)
    found = find_landing(place.repository, "u", tip)
    assert found is not None
    assert found.taken_out_by is None


# -- notes -----------------------------------------------------------------------------------------


def note_of(repository: Path, commit: str) -> str:
    return git(repository, "log", "-1", "--format=%N", "--notes=missions/*", commit)


def test_commits_get_notes_that_git_log_shows(place: Place) -> None:
    commits = chain(place, *(f"commit {n}" for n in range(20)))
    place.repository.annotate(NOTES, dict.fromkeys(commits, f"Verified as {commits[-1]} ü"))
    assert {note_of(place.repository.path, c) for c in commits} == {f"Verified as {commits[-1]} ü"}
    who = git(place.repository.path, "log", "-1", "--format=%an <%ae>", NOTES)
    assert who == "Mission <mission@localhost.invalid>"


def test_notes_are_added_to_earlier_ones_and_writing_them_again_is_harmless(place: Place) -> None:
    one, two = chain(place, "one", "two")
    place.repository.annotate(NOTES, {one: "first"})
    for _ in range(2):
        place.repository.annotate(NOTES, {two: "second"})
    place.repository.annotate(NOTES, {})
    assert (note_of(place.repository.path, one), note_of(place.repository.path, two)) == (
        "first",
        "second",
    )
    place.repository.annotate(NOTES, {one: "anew"})
    assert note_of(place.repository.path, one) == "anew"


def test_a_note_on_nothing_is_refused(place: Place) -> None:
    with pytest.raises(CommandFailed):
        place.repository.annotate(NOTES, {"f" * 40: "text"})
    assert place.repository.resolve(NOTES) is None


# -- delivering notes along ------------------------------------------------------------------------


def hook(target: Path, name: str, script: str) -> None:
    path = target / ".git" / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_notes_are_delivered_along_with_the_branch(place: Place) -> None:
    (commit,) = chain(place, "one")
    url, repository = str(place.target), place.repository
    repository.annotate(NOTES, {commit: "verified"})
    also = (NOTES, "refs/notes/missions/none")
    assert repository.push(url, commit, "mission/green", old=None, also=also) == ()
    assert note_of(place.target, commit) == "verified"
    assert repository.push(url, commit, "mission/green", old=commit, also=also) == ()


def test_a_target_that_refuses_the_notes_alone_has_the_branch(place: Place) -> None:
    (commit,) = chain(place, "one")
    hook(place.target, "update", 'case "$1" in refs/notes/*) exit 1;; esac')
    place.repository.annotate(NOTES, {commit: "verified"})
    url = str(place.target)
    assert place.repository.push(url, commit, "green", old=None, also=(NOTES,)) == (NOTES,)
    assert remote_branches(url)["green"] == commit


def test_a_target_that_takes_all_or_nothing_has_the_branch(place: Place) -> None:
    (commit,) = chain(place, "one")
    hook(place.target, "pre-receive", "if grep -q refs/notes/; then exit 1; fi")
    place.repository.annotate(NOTES, {commit: "verified"})
    url = str(place.target)
    assert place.repository.push(url, commit, "green", old=None, also=(NOTES,)) == (NOTES,)
    assert remote_branches(url)["green"] == commit


def test_notes_that_somebody_changed_at_the_target_stay_theirs(place: Place) -> None:
    (commit,) = chain(place, "one")
    url = str(place.target)
    git(place.target, "notes", f"--ref={NOTES}", "add", "-m", "theirs", place.base)
    place.repository.annotate(NOTES, {commit: "ours"})
    assert place.repository.push(url, commit, "green", old=None, also=(NOTES,)) == (NOTES,)
    assert note_of(place.target, place.base) == "theirs"
    assert remote_branches(url)["green"] == commit


def test_a_branch_that_is_refused_is_no_delivery_whatever_becomes_of_the_notes(
    place: Place,
) -> None:
    one, two = chain(place, "one", "two")
    url, repository = str(place.target), place.repository
    repository.annotate(NOTES, {one: "verified"})
    git(place.target, "branch", "green", place.base)
    with pytest.raises(TargetMoved):
        repository.push(url, two, "green", old=None, also=(NOTES,))
    hook(place.target, "update", 'case "$1" in refs/heads/*) exit 1;; esac')
    with pytest.raises(CannotDeliver):
        repository.push(url, two, "green", old=place.base, also=(NOTES,))
    assert remote_branches(url)["green"] == place.base


# -- trees -----------------------------------------------------------------------------------------


def test_the_tree_of_a_commit_made_here_is_the_one_git_says(place: Place) -> None:
    head = place.made(place.base, {"a.txt": "new\n"})
    other = place.landed(place.base, place.made(place.base, {"b.txt": "new\n"}))
    merged = place.repository.merge(other, head, "m", base=place.base)
    told = git(place.repository.path, "rev-parse", f"{merged.commit}^{{tree}}")
    assert place.repository.tree_of(merged.commit) == merged.tree == told
