"""Bounds on the work that is taken on at once."""

import asyncio
from collections.abc import Coroutine

import pytest

from deblur.serving.admission import Bound, BusyError, Gate


def in_loop(work: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def test_a_bound_refuses_what_would_exceed_it() -> None:
    bound = Bound(10)
    assert bound.take(6) and not bound.take(5) and bound.take(4)
    bound.give_back(6)
    assert bound.take(5) and bound.held == 9


def test_what_is_larger_than_the_bound_fits_alone() -> None:
    bound = Bound(10)
    assert bound.take(30)
    assert not bound.take(1)


def test_a_gate_lets_in_by_order_of_arrival() -> None:
    async def body() -> None:
        gate, entered = Gate(10), []
        leave = {name: asyncio.Event() for name in "abcd"}

        async def visit(name: str, amount: float) -> None:
            async with gate.room_for(amount):
                entered.append(name)
                await leave[name].wait()

        visits = []
        for name, amount in (("a", 7), ("b", 8), ("c", 1), ("d", 1)):
            visits.append(asyncio.create_task(visit(name, amount)))
            await asyncio.sleep(0)
        # c would fit beside a, but a stream of small ones could keep b out for ever.
        assert entered == ["a"]
        leave["a"].set()
        await asyncio.sleep(0.01)
        assert entered == ["a", "b", "c", "d"]
        for event in leave.values():
            event.set()
        await asyncio.gather(*visits)

    in_loop(body())


@pytest.mark.parametrize("moment", ["waiting", "let in"])
def test_whoever_gives_up_waiting_leaves_no_hole(moment: str) -> None:
    async def body() -> None:
        gate = Gate(1)
        first = gate.room_for(1)
        await first.__aenter__()

        async def visit() -> str:
            async with gate.room_for(1):
                return "entered"

        impatient, patient = asyncio.create_task(visit()), asyncio.create_task(visit())
        await asyncio.sleep(0.01)
        if moment == "waiting":
            impatient.cancel()
        await first.__aexit__(None, None, None)
        if moment == "let in":  # its turn has come, but it has not run yet
            impatient.cancel()
        assert await patient == "entered"
        assert await visit() == "entered"

    in_loop(body())


def test_busy_says_whole_seconds_and_at_least_one() -> None:
    assert BusyError("x", 0.0).retry_after == 1
    assert BusyError("x", 3.2).retry_after == 4
