"""What is shown of conflicts stays within its limit, and wastes none of it on nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blocks.conflicts import (
    MergeTree,
    Message,
    Sides,
    describe_conflicts,
    marked_hunks,
    read_merge_tree,
)

SIDES = Sides(ours="a" * 40, theirs="b" * 40)


def marked(left: str, right: str) -> str:
    return f"<<<<<<< {SIDES.ours}\n{left}=======\n{right}>>>>>>> {SIDES.theirs}\n"


def test_a_clean_merge_is_a_tree_and_nothing_else() -> None:
    assert read_merge_tree(b"1234\0") == MergeTree(tree="1234")


def test_messages_are_read_with_all_their_paths() -> None:
    out = b"1234\0new\0\0" + b"2\0new\0old\0CONFLICT (x)\0CONFLICT (x): told\n\0" + b"1\0c\0K\0T\0"
    assert read_merge_tree(out) == MergeTree(
        tree="1234",
        files=(b"new",),
        messages=(
            Message(paths=(b"new", b"old"), kind="CONFLICT (x)", text="CONFLICT (x): told"),
            Message(paths=(b"c",), kind="K", text="T"),
        ),
    )


def test_hunks_name_the_file_that_a_side_has_moved() -> None:
    text = f"1\n<<<<<<< {SIDES.ours}:old.txt\n=======\nx\n>>>>>>> {SIDES.theirs}:new.txt\nend"
    assert [*marked_hunks(text, SIDES)] == [
        "line 2:\n<<<<<<< what landed:old.txt\n=======\nx\n>>>>>>> your change:new.txt"
    ]


@given(
    lengths=st.lists(st.lists(st.integers(0, 3_000), max_size=20), min_size=1, max_size=60),
    limit=st.integers(300, 8_000),
)
def test_no_conflict_is_longer_than_its_limit_and_none_is_cut_needlessly(
    lengths: list[list[int]], limit: int
) -> None:
    contents = {
        b"file%d" % n: "".join(marked("x" * size + "\n", "") for size in sizes).encode()
        for n, sizes in enumerate(lengths)
    }
    said = MergeTree(tree="", files=tuple(contents))
    whole = describe_conflicts(said, contents, SIDES, limit=10**9)
    shown = describe_conflicts(said, contents, SIDES, limit=limit)
    assert len(shown) <= limit
    assert shown == whole or len(whole) > limit
    assert shown.startswith("file0\n")
