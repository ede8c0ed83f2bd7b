"""Mutants of Python source: one small change each, as real mistakes are.

A mutant replaces a piece of the text in place, so that all else stays as it was, line for line.
Annotations, decorators, imports, docstrings and f-strings are left alone.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: (r"<", "<="),
    ast.LtE: (r"<=", "<"),
    ast.Gt: (r">", ">="),
    ast.GtE: (r">=", ">"),
    ast.Eq: (r"==", "!="),
    ast.NotEq: (r"!=", "=="),
    ast.Is: (r"\bis\b", "is not"),
    ast.IsNot: (r"\bis\s+not\b", "is"),
    ast.In: (r"\bin\b", "not in"),
    ast.NotIn: (r"\bnot\s+in\b", "in"),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: (r"-", "+"),
    ast.Mult: (r"\*", "/"),
    ast.Div: (r"/", "*"),
    ast.FloorDiv: (r"//", "*"),
    ast.Mod: (r"%", "*"),
    ast.Pow: (r"\*\*", "*"),
}
"""An operator as it is written, and what stands there instead."""

Place = tuple[int, int]
"""A line from 1 and a column in bytes from 0, as `ast` counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A changed source: `text` is all of it, `before` and `after` are the lines that changed."""

    path: str
    line: int
    last_line: int
    kind: str
    before: str
    after: str
    text: str

    @property
    def is_one_line(self) -> bool:
        """Whether one line became one other line, so that all others keep their numbers."""
        return self.line == self.last_line and self.after.count("\n") == 1

    def __str__(self) -> str:
        before, after = (" ".join(t.split()) for t in (self.before, self.after))
        left = _n_shared(before, after)
        right = _n_shared(before[left:][::-1], after[left:][::-1])
        old, new = before[left : len(before) - right], after[left : len(after) - right]
        line = f"{before[:left]}[{old} -> {new}]{before[len(before) - right :]}"
        return f"{self.path}:{self.line} {self.kind}: {line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edit:
    start: Place
    end: Place
    kind: str
    instead: str


def mutants_of(source: str, path: str = "") -> list[Mutant]:
    """All mutants of a source that compile and mean something else, in the order of the text."""
    lines = source.encode().splitlines(keepends=True)
    tree = ast.parse(source)
    seen = {ast.dump(tree)}
    found = []
    for edit in sorted(
        {*_edits_below(tree, lines)}, key=lambda e: (e.start, e.end, e.kind, e.instead)
    ):
        mutant = _mutant(lines, edit, path)
        try:
            meaning = ast.dump(ast.parse(mutant.text))
            compile(mutant.text, path, "exec", dont_inherit=True)
        except SyntaxError:
            continue
        if meaning not in seen:
            seen.add(meaning)
            found.append(mutant)
    return found


def sample(mutants: Sequence[Mutant], size: int, *, seed: int) -> list[Mutant]:
    """So many of the mutants, on as many different lines as can be; the same for the same seed."""
    mixed = random.Random(seed).sample(mutants, len(mutants))
    lines: dict[tuple[str, int], int] = {}
    ranks = []
    for order, mutant in enumerate(mixed):
        place = (mutant.path, mutant.line)
        lines[place] = lines.get(place, 0) + 1
        ranks.append((lines[place], order, mutant))
    return [mutant for *_, mutant in sorted(ranks, key=lambda rank: rank[:2])[:size]]


def _mutant(lines: Sequence[bytes], edit: _Edit, path: str) -> Mutant:
    (first, left), (last, right) = edit.start, edit.end
    before = b"".join(lines[first - 1 : last])
    after = lines[first - 1][:left] + edit.instead.encode() + lines[last - 1][right:]
    text = b"".join([*lines[: first - 1], after, *lines[last:]])
    return Mutant(
        path=path,
        line=first,
        last_line=last,
        kind=edit.kind,
        before=before.decode(),
        after=after.decode(),
        text=text.decode(),
    )


def _n_shared(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


# -- where to change what ----------------------------------------------------------------------

PLAIN_OPPOSITE = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
"""To swap one of these is to negate the condition."""


def _edits_below(node: ast.AST, lines: Sequence[bytes]) -> Iterator[_Edit]:
    yield from _edits_of(node, lines)
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_left_alone(child):
                yield from _edits_below(child, lines)


def _is_left_alone(node: ast.AST) -> bool:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_text or isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr)


def _edits_of(node: ast.AST, lines: Sequence[bytes]) -> Iterator[_Edit]:
    match node:
        case ast.Compare() | ast.BoolOp() | ast.BinOp() | ast.UnaryOp():
            yield from _operators(node, lines)
        case ast.Constant(value=bool() | int() | float()):
            yield from _constants(node)
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield _replaced(value, "return None", "None")
        case ast.If(test=test) | ast.IfExp(test=test) if _can_be_negated(test):
            yield _replaced(test, "negation", f"not ({_text(lines, test)})")
        case ast.stmt() if _can_be_removed(node):
            yield _replaced(node, "removal", "pass")
        case _:
            pass


def _operators(node: ast.expr, lines: Sequence[bytes]) -> Iterator[_Edit]:
    match node:
        case ast.Compare(left=left, ops=ops, comparators=others):
            for (a, b), op in zip(pairwise([left, *others]), ops, strict=True):
                yield from _operator(lines, a, b, *COMPARISONS[type(op)], kind="comparison")
        case ast.BoolOp(op=op, values=values):
            word, other = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
            for a, b in pairwise(values):
                yield from _operator(lines, a, b, rf"\b{word}\b", other, kind="boolean")
        case ast.BinOp(left=a, op=op, right=b) if type(op) in ARITHMETIC:
            yield from _operator(lines, a, b, *ARITHMETIC[type(op)], kind="arithmetic")
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield _Edit(start=_start(node), end=_start(operand), kind="sign", instead="")
        case _:
            pass


def _constants(node: ast.Constant) -> Iterator[_Edit]:
    if isinstance(node.value, bool):
        yield _replaced(node, "constant", str(not node.value))
    elif isinstance(node.value, int):
        yield _replaced(node, "constant", str(node.value + 1))
        yield _replaced(node, "constant", str(node.value - 1) if node.value else "(-1)")
    elif isinstance(node.value, float):
        yield _replaced(node, "constant", repr(2 * node.value or 1.0))


def _can_be_negated(test: ast.expr) -> bool:
    """Whether it is no other edit to negate this condition."""
    if isinstance(test, ast.UnaryOp):
        return not isinstance(test.op, ast.Not)
    if isinstance(test, ast.Compare):
        return len(test.ops) > 1 or not isinstance(test.ops[0], PLAIN_OPPOSITE)
    return True


def _can_be_removed(node: ast.stmt) -> bool:
    """Whether a statement does something that is not sure to be missed at once, as a name is."""
    match node:
        case ast.Assign(targets=targets):
            stored = (n for target in targets for n in ast.walk(target) if isinstance(n, ast.Name))
            return not any(isinstance(name.ctx, ast.Store) for name in stored)
        case ast.Return(value=None):
            return True
        case _:
            kinds = ast.Expr | ast.AugAssign | ast.Raise | ast.Continue | ast.Break | ast.Delete
            return isinstance(node, kinds)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _operator(
    lines: Sequence[bytes],
    left: ast.expr,
    right: ast.expr,
    pattern: str,
    instead: str,
    *,
    kind: str,
) -> Iterator[_Edit]:
    """Replace the operator between two operands that stand on one line."""
    line, begin = _end(left)
    if (stop := _start(right))[0] != line:
        return
    if found := re.search(pattern.encode(), lines[line - 1][begin : stop[1]]):
        start, end = (line, begin + found.start()), (line, begin + found.end())
        yield _Edit(start=start, end=end, kind=kind, instead=instead)


def _replaced(node: ast.expr | ast.stmt, kind: str, instead: str) -> _Edit:
    return _Edit(start=_start(node), end=_end(node), kind=kind, instead=instead)


def _text(lines: Sequence[bytes], node: ast.expr) -> str:
    (first, left), (last, right) = _start(node), _end(node)
    if first == last:
        return lines[first - 1][left:right].decode()
    inner = lines[first : last - 1]
    return b"".join([lines[first - 1][left:], *inner, lines[last - 1][:right]]).decode()


def _start(node: ast.expr | ast.stmt) -> Place:
    return node.lineno, node.col_offset


def _end(node: ast.expr | ast.stmt) -> Place:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset
