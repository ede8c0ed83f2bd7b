"""Finding the first culprit of a line of candidates by probing its prefixes.

A *line* is candidates merged one on another. With the whole line red, shorter prefixes are probed
until the longest green one and the shortest red one are neighbours: the last red needs no run. What
is behind the first culprit stays unknown, so the search of the next line starts from the prior.

Batch length and splits are those of the run-length code for a source with this culprit rate, which
needs at most a few percent more questions than its entropy. Source: R. G. Gallager, D. C. Van
Voorhis, "Optimal source codes for geometrically distributed integer alphabets", IEEE Trans. Inform.
Theory 21 (1975), 228-230.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from flows.landing.steps import Candidate, Probe, Stacked
from flows.ledger.events import ProbeEnded

PASSED, RED = "passed", "red"

MAX_BATCH = 64
"""More are never stacked unless they are known to pass in other company."""


@dataclass(slots=True, kw_only=True)
class Line:
    """Candidates merged one on another on top of `base`, and what is known of their prefixes.

    `below` is the value of `green` that it was begun on.
    """

    number: int
    base: str
    below: str
    stack: list[Stacked] = field(default_factory=list)
    red: tuple[int, ProbeEnded] | None = None  # the shortest red prefix's length, its verdict
    passed: tuple[int, ProbeEnded] | None = None  # the longest green one's
    put_off: set[str] = field(default_factory=set)  # units that clash with this line
    _place: dict[str, int] = field(default_factory=dict)  # commit -> its place, dropped ones too
    _dropped: int = 0

    @property
    def tip(self) -> str:
        """The commit that the next candidate is merged on."""
        return self.stack[-1].commit if self.stack else self.base

    @property
    def culprit(self) -> Stacked | None:
        """The first culprit, once it is known."""
        return self.stack[0] if self.red is not None and self.red[0] == 1 else None

    def length_at(self, commit: str) -> int:
        """The length of the prefix that ends with `commit`; 0 when it is not in this line."""
        return max(self._place.get(commit, 0) - self._dropped, 0)

    def add(self, candidate: Candidate, onto: str, commit: str, tree: str) -> None:
        """Put a merged candidate on top."""
        self.stack.append(Stacked(candidate=candidate, onto=onto, commit=commit, tree=tree))
        self._place[commit] = self._dropped + len(self.stack)

    def learn(self, commit: str, ended: ProbeEnded) -> None:
        """Take in a verdict on one of the prefixes."""
        length = self.length_at(commit)
        if ended.verdict == PASSED and length > (self.passed[0] if self.passed else 0):
            self.passed = (length, ended)
        elif ended.verdict == RED and length and (self.red is None or length < self.red[0]):
            self.red = (length, ended)

    def drop(self, length: int) -> list[Stacked]:
        """Take the first `length` candidates out: they landed, or are cleared."""
        gone, self.stack = self.stack[:length], self.stack[length:]
        self._dropped += length
        self.base = gone[-1].commit if gone else self.base
        self.passed = None
        if self.red is not None:  # a longer prefix passed: what was red flaked, or was mended
            red, ended = self.red
            self.red = (red - length, ended) if red > length else None
        return gone

    def in_flight(self, probes: Collection[Probe]) -> dict[int, Probe]:
        """The probes of this line's prefixes that are under way, by length."""
        by_length = ((self.length_at(p.commit), p) for p in probes)
        return {length: probe for length, probe in by_length if length}

    def wanted(
        self, in_flight: Mapping[int, Probe], free: int, rate: float, *, spread: bool = False
    ) -> list[int]:
        """The lengths of the prefixes to probe now, at most `free`.

        With `spread` a line of which nothing is known is asked about by several at once.
        """
        if free < 1:
            return []
        if self.red is None:
            length = len(self.stack)
            if length <= max(in_flight, default=0):
                return []
            shorter = spread and not in_flight and min(free, length) > 1
            return [*(split_points(length, free - 1, rate) if shorter else ()), length]
        red = self.red[0]
        if red == 1 or any(length < red for length in in_flight):
            return []
        return split_points(red, free, rate)


def batch_length(rate: float, n_probes: int = 1, *, most: int = MAX_BATCH) -> int:
    """How many candidates of this culprit rate are best asked about by so many probes at once.

    By one: the smallest m with q^m + q^(m+1) <= 1, where q = 1 - rate; a line this long is red
    about half of the time. By n: as long as makes all n + 1 answers equally likely.
    """
    keep = 1.0 - _proper(rate)
    wanted = -math.log1p(keep if n_probes == 1 else n_probes) / math.log(keep)
    return min(most, max(1, math.ceil(wanted)))


def landed_per_run(rate: float, n_probes: int = 1) -> float:
    """About how many land a verification's time, with so many probes of one line at once.

    What their n + 1 answers tell, over what there is to tell of each candidate.
    """
    p = _proper(rate)
    unknown = -(p * math.log2(p) + (1 - p) * math.log2(1 - p))
    return math.log2(n_probes + 1) * (1 - p) / unknown


def split_points(red: int, n_probes: int, rate: float) -> list[int]:
    """Prefix lengths to probe at once when the prefix of length `red` (two or more) is red.

    They split the first culprit's position, which is geometric with `rate` given that it is at most
    `red`, into equal chances; a single one splits it as the run-length code does.
    Returns at most `n_probes` distinct lengths in 1..red-1, ascending.
    """
    if n_probes == 1 and red <= batch_length(rate):
        return [_first_half(red)]
    keep = 1.0 - _proper(rate)
    mass = 1.0 - keep**red
    chances = (i / (n_probes + 1) for i in range(1, n_probes + 1))
    lengths = (round(math.log(1.0 - c * mass) / math.log(keep)) for c in chances)
    return sorted({min(max(length, 1), red - 1) for length in lengths})


def _first_half(red: int) -> int:
    """The first branch of the shortest code for `red` nearly equal chances, likeliest first.

    With k bits for the longest words, the first 2^k - red positions get words of k - 1 bits.
    """
    bits = (red - 1).bit_length()
    half = 1 << (bits - 1)
    short = 2 * half - red
    return half // 2 if short >= half // 2 and red > 2 else half - short  # noqa: PLR2004


def _proper(rate: float) -> float:
    return min(max(rate, 1e-6), 1 - 1e-6)
