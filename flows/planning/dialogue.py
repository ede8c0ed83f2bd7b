"""Planning with agents outside of a mission: ask until the plan is whole, several at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from blocks.errors import BackendUnreachable, OutOfQuota
from flows.ledger.events import AskEnded, AskOutcome, AskStarted, Purpose
from flows.planning.answers import answer_from_dict
from flows.planning.tree import PlanTree
from flows.running.asking import AskOrder, Context, run_ask
from flows.running.bench import ASK_JOBS, Bench


def plan_by_asking(bench: Bench, green: str) -> PlanTree:
    """Have the mission's planning agent plan the objective from a commit.

    Raises:
        BackendUnreachable: an agent could not be asked.
        OutOfQuota: its account is out of quota.
    """
    settings = bench.settings
    tree = PlanTree(
        settings.objective,
        max_depth=settings.plan.max_depth,
        max_children=settings.plan.max_children,
        agent=settings.worker,
    )
    slots = [*range(settings.plan.slots)]
    under_way: dict[Future[AskEnded], AskStarted] = {}
    with ThreadPoolExecutor(len(slots)) as threads:
        try:
            while not tree.is_done:
                for order in _orders(tree, bench, green, slots):
                    under_way[threads.submit(run_ask, order, bench)] = order.asked
                done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    asked = under_way.pop(future)
                    slots.append(asked.slot)
                    _take(tree, asked.node, future.result())
        except BaseException:  # nobody waits for what the others would say
            for asked in under_way.values():
                bench.kill(bench.places[asked.place], ASK_JOBS, str(asked.ask))
            raise
    return tree


def _orders(tree: PlanTree, bench: Bench, green: str, slots: list[int]) -> Iterator[AskOrder]:
    """Ask what is open, as long as there are slots."""
    agent, place = bench.settings.plan.agent, next(iter(bench.places))
    for question in tree.questions():
        if not slots:
            return
        tree.ask(question.path)
        asked = AskStarted(
            ask=sum(node.n_asked for node in tree.nodes),
            purpose=Purpose.PLAN.value,
            round=1,
            agent=agent,
            place=place,
            slot=slots.pop(),
            green=green,
            node=question.path,
        )
        yield AskOrder(asked=asked, question=question, context=Context())


def _take(tree: PlanTree, node: str, ended: AskEnded) -> None:
    match AskOutcome(ended.outcome):
        case AskOutcome.ANSWERED:
            tree.take(node, answer_from_dict(ended.answer))
        case AskOutcome.UNUSABLE | AskOutcome.TIMED_OUT:
            tree.refuse(node, ended.problem)
        case AskOutcome.RATE_LIMITED:
            raise OutOfQuota(ended.problem)
        case _:
            raise BackendUnreachable(ended.problem)
