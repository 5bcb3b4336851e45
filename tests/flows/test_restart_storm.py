"""Everything at once, by a seed: lost answers, outages, crashes and flattens; in the end the broker is believed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from random import Random

import pytest

from engine import commands as c
from engine.domain.ids import Symbol
from engine.domain.orders import Order, OrderState
from tests.flows.acts import FailingStore, all_agree, enter, failing, finished, kill, leave, next_life
from tests.flows.harness import ES, MINUTE, NQ, PAPER, Desk

FAULTS = (
    ("lose-answer", ""),
    ("lose-request", ""),
    ("duplicate-event", ""),
    ("drop-fill", ""),
    ("disconnect-account", "3"),
    ("fail-queries", "5"),
    ("delay-answers", "1"),
    ("refuse-next", "1"),
    ("refuse-stops", "1"),
    ("next-order-slow", "6"),
    ("cancel-out-of-band", ""),
)


def _decide(desk: Desk, symbol: Symbol, price: Decimal, rng: Random) -> None:
    stop = str(price - (10 if symbol == ES else 60))
    chance = rng.random()
    if desk.position(symbol) and chance < 0.5:
        desk.strategies[symbol].script.append(leave)
    elif not desk.position(symbol) and chance < 0.3:
        desk.strategies[symbol].script.append(enter(stop=stop, limit=str(price - (3 if symbol == ES else 20))))
    else:
        desk.strategies[symbol].script.append(enter(stop=stop, quantity=str(rng.randint(1, 2))))


async def _trouble(desk: Desk, make_desk: Callable[..., Desk], rng: Random) -> Desk:
    if rng.random() < 0.25:
        await kill(desk)
        desk = await next_life(desk, make_desk, later=rng.choice((0, 1, 5)), trading=False)
        await desk.pass_(3)
    if failing(desk).down and rng.random() < 0.6:
        failing(desk).back()
    if rng.random() < 0.2:
        await desk.send(lambda o: c.Flatten(origin=o, session=None))
        await desk.pass_(rng.choice((1, 10)))
        await desk.send(lambda o: c.Resume(origin=o, session=None, reason="on we go"))
    await _verdicts(desk)
    return desk


async def _verdicts(desk: Desk) -> None:
    """The operator looks: what is lost never came, and what was adopted is acknowledged."""
    for order in [o for symbol in (ES, NQ) for o in desk.orders(symbol=symbol)]:
        await _verdict(desk, order)
    for waiting in [d for d in desk.engine.accounts[PAPER].ledger.all() if d.blocks_entries]:
        await desk.send(lambda o, id=waiting.id: c.Acknowledge(origin=o, disagreement=id))  # type: ignore[misc]


async def _verdict(desk: Desk, order: Order) -> None:
    if desk.trader(order.terms.symbol).desk.current(order).state is OrderState.LOST:
        assert desk.exchange.orders_of(PAPER, order.client_id) == ()
        await desk.send(lambda o: c.DeclareDead(origin=o, order=order.client_id, word="DEAD", reason="never came"))


@pytest.mark.parametrize("seed", range(6))
async def test_after_a_storm_all_three_agree_and_flatten_is_flat(make_desk: Callable[..., Desk], seed: int) -> None:
    rng = Random(seed)
    desk = await make_desk(symbols=(ES, NQ), wrap_store=FailingStore).start()
    price = {ES: Decimal(5000), NQ: Decimal(20000)}
    for _ in range(16):
        for symbol in (ES, NQ):
            _decide(desk, symbol, price[symbol], rng)
        if rng.random() < 0.7:
            name, argument = rng.choice(FAULTS)
            if name != "cancel-out-of-band" or desk.exchange.open_orders(PAPER):
                desk.faults.inject(name, None, argument)
        failing(desk).down = failing(desk).down or rng.random() < 0.2
        await desk.clock.advance(desk.clock.now() // MINUTE * MINUTE + MINUTE)
        for symbol in (ES, NQ):
            price[symbol] += rng.randint(-12, 12)
            desk.feed.trade(symbol, price[symbol])
        await desk.pass_(rng.choice((0.02, 0.2, 1, 5)))
        desk = await _trouble(desk, make_desk, rng)
    failing(desk).back()
    for _ in range(8):
        for symbol in (ES, NQ):
            desk.feed.trade(symbol, price[symbol])
        await desk.pass_(30)
    await _verdicts(desk)
    await desk.pass_(10)
    assert len(desk.exchange.orders_since(PAPER, 0)) >= 6, "nothing much happened"
    await all_agree(desk)
    receipt = await desk.send(lambda o: c.Flatten(origin=o, session=None))
    result = await finished(desk, receipt.id)
    assert result.ok, (result.lines, desk.describe())
    assert [row for row in desk.exchange.positions(PAPER) if row.quantity] == []
    assert desk.exchange.open_orders(PAPER) == ()
    await desk.pass_(35)
    await all_agree(desk)
