"""What git prints of a change, read by its counts."""

from __future__ import annotations

from blocks.patches import NO_BLOB, FilePatch, read_patch

OLD, NEW = "1" * 40, "2" * 40


def read(text: str) -> list[FilePatch]:
    return [*read_patch(text.encode().splitlines(keepends=True))]


def header(name: str = "a.py", old: str = OLD, new: str = NEW) -> str:
    return f"diff --git a/{name} b/{name}\nindex {old}..{new} 100644\n--- a/{name}\n+++ b/{name}\n"


def test_added_lines_have_the_numbers_that_they_have_in_the_file() -> None:
    (file,) = read(header() + "@@ -3,3 +3,4 @@ def f():\n one\n-two\n+2\n+two\n three\n")
    (hunk,) = file.hunks
    assert (hunk.first_line, hunk.after, hunk.added) == (3, b"one\n2\ntwo\nthree\n", {4, 5})
    assert hunk.removed == b"two\n"
    assert (file.path, file.old, file.new, file.is_opaque) == ("a.py", OLD, NEW, False)


def test_lines_that_look_like_a_patch_are_lines() -> None:
    lines = "+diff --git a/x b/x\n+@@ -1 +1 @@\n+++ b/x\n+Binary files a and b differ\n"
    one, two = read(header(old=NO_BLOB) + f"@@ -0,0 +1,4 @@\n{lines}" + header("b.py"))
    assert one.hunks[0].added == {1, 2, 3, 4}
    assert one.hunks[0].after.startswith(b"diff --git")
    assert not one.is_opaque
    assert two.path == "b.py"


def test_a_missing_newline_at_the_end_is_no_line() -> None:
    end = "\\ No newline at end of file\n"
    (file,) = read(header() + f"@@ -1 +1,2 @@\n-a\n{end}+a\n+b\n{end}@@ -9 +10 @@\n-x\n+y\n")
    assert [h.added for h in file.hunks] == [{1, 2}, {10}]


def test_carriage_returns_belong_to_the_line() -> None:
    (file,) = read_patch([header().encode(), b"@@ -0,0 +1 @@\n", b"+a\rb\r\n"])
    assert file.hunks[0].after == b"a\rb\r\n"


def test_names_are_shown_as_elsewhere() -> None:
    names = ['"a/t\\tab" "b/t\\tab"', '"a/\\303\\244" "b/\\303\\244"', '"a/\\377" "b/\\377"']
    names += ["a/x b/y b/x b/y", '"a/q\\"\\\\\\n" "b/q\\"\\\\\\n"']
    found = read("".join(f"diff --git {name}\nold mode 100644\n" for name in names))
    assert [f.path for f in found] == ["t\tab", "ä", "\\xff", "x b/y", 'q"\\\n']


def test_what_git_shows_no_lines_of_is_opaque() -> None:
    text = f"diff --git a/x b/x\nnew file mode 100644\nindex {NO_BLOB}..{NEW}\n"
    (file,) = read(text + "Binary files /dev/null and b/x differ\n")
    assert file.is_opaque
    assert file.new == NEW


def test_a_torn_patch_ends_where_it_ends() -> None:
    (file,) = read(header() + "@@ -1,9 +1,9 @@\n+a\n")
    assert file.hunks[0].after == b"a\n"
