"""Which brokers there are; one is imported only when somebody chooses it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from msgspec import Struct

from engine.errors import ConfigurationError


class Broker(Struct, frozen=True, kw_only=True):
    """A broker by name: where its factories are (`module:attribute`) and what it is good for.

    `account` makes AccountManagers (empty: the broker has no accounts), `feed` makes the MarketDataSource.
    """

    name: str
    summary: str
    account: str = ""
    feed: str = ""


BROKERS: tuple[Broker, ...] = (
    Broker(
        name="paper",
        summary="simulated exchange with faults on demand, fed by a synthetic market",
        account="brokers.paper.account:PaperAccount",
        feed="brokers.paper.market_data:SyntheticSource",
    ),
    Broker(
        name="replay",
        summary="recorded ticks or candles from a CSV file, driving the desk's clock",
        feed="brokers.replay.source:ReplaySource",
    ),
)
_BY_NAME = {broker.name: broker for broker in BROKERS}


def find(name: str) -> Broker:
    """The broker of that name. Raises ConfigurationError naming those there are."""
    try:
        return _BY_NAME[name]
    except KeyError:
        known = ", ".join(sorted(_BY_NAME))
        raise ConfigurationError(f"there is no broker {name!r}; choose one of: {known}") from None


def account_factory(name: str) -> Callable[..., Any]:
    """What makes this broker's AccountManagers. Raises ConfigurationError if it has no accounts."""
    broker = find(name)
    if not broker.account:
        raise ConfigurationError(f"the broker {name!r} only delivers prices; it has no accounts")
    return _load(broker.account)


def feed_factory(name: str) -> Callable[..., Any]:
    """What makes this broker's MarketDataSource. Raises ConfigurationError if it has no feed."""
    broker = find(name)
    if not broker.feed:
        raise ConfigurationError(f"the broker {name!r} delivers no prices")
    return _load(broker.feed)


def _load(where: str) -> Callable[..., Any]:
    module, _, attribute = where.partition(":")
    factory: Callable[..., Any] = getattr(import_module(module), attribute)
    return factory
