"""Delivery to a real target: coalesced, repeated when it fails, never over somebody else's work."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.repository import IntegrationRepository
from flows.landing.delivery import Deliverer
from flows.ledger.events import Delivered, DeliveryFailed, Event, Warned
from tests.missions import commit_files, git, make_repository

GREEN = "mission/green"


class Post:
    """A target, our repository, and a deliverer between them."""

    def __init__(self, folder: Path) -> None:
        self.target = make_repository(folder / "target", {"a.txt": "1\n"})
        self.repository = IntegrationRepository(folder / "ours.git")
        self.repository.fetch(str(self.target), ["main"])
        self.said: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.deliverer = Deliverer(
            repository=self.repository,
            url=str(self.target),
            branch=GREEN,
            fallback="mission-green-1",
            report=self.said.put,
        )

    def commits(self, number: int) -> list[str]:
        tip = self.repository.resolve("refs/target/main") or ""
        made: list[str] = []
        for i in range(number):
            tree = self.repository.tree_of(tip)
            tip = self.repository.commit(tree, (tip,), f"commit {i}")
            made.append(tip)
        return made

    def told(self) -> list[Event]:
        return [self.said.get() for _ in range(self.said.qsize())]


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    made = Post(tmp_path)
    yield made
    made.repository.close()


def test_only_the_newest_of_a_burst_is_pushed(post: Post) -> None:
    commits = post.commits(5)
    for commit in commits:
        post.deliverer.deliver(commit)
    post.deliverer.start()
    post.deliverer.close()
    assert post.told() == [Delivered(branch=GREEN, commit=commits[-1])]
    assert git(post.target, "rev-parse", GREEN) == commits[-1]


def test_what_could_not_be_pushed_is_pushed_again(post: Post) -> None:
    (commit,) = post.commits(1)
    away = post.target.rename(post.target.with_name("away"))
    post.deliverer.start()
    post.deliverer.deliver(commit)
    assert isinstance(post.said.get(timeout=30), DeliveryFailed)
    away.rename(post.target)
    post.deliverer.close()
    assert post.told()[-1] == Delivered(branch=GREEN, commit=commit)
    assert git(post.target, "rev-parse", GREEN) == commit


def test_work_of_somebody_else_on_green_is_left_alone(post: Post) -> None:
    first, second = post.commits(2)
    post.deliverer.start()
    post.deliverer.deliver(first)
    assert post.said.get(timeout=30) == Delivered(branch=GREEN, commit=first)
    theirs = commit_files(post.target, {"theirs.txt": "x\n"}, "theirs")
    git(post.target, "update-ref", f"refs/heads/{GREEN}", theirs)
    post.deliverer.deliver(second)
    post.deliverer.close()
    failed, warned, delivered = post.told()
    assert isinstance(failed, DeliveryFailed)
    assert isinstance(warned, Warned)
    assert delivered == Delivered(branch="mission-green-1", commit=second)
    assert git(post.target, "rev-parse", GREEN) == theirs
