"""How a paper exchange and its accounts are set up: plain values."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct, field

from engine.domain.broker import Capabilities
from engine.domain.ids import AccountId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.orders import ZERO


class AccountTerms(Struct, frozen=True, kw_only=True):
    """One paper account: money it starts with, what it pays, and which broker's manners it shows.

    `margin_per_unit` is money held per contract of a symbol; a symbol not listed there holds `margin_rate`
    of its notional value (price times point value).
    """

    account: AccountId
    equity: Decimal = Decimal(100_000)
    currency: str = "USD"
    fee_per_unit: Decimal = ZERO
    margin_per_unit: dict[Symbol, Decimal] = field(default_factory=dict)
    margin_rate: Decimal = Decimal("0.05")
    capabilities: Capabilities = Capabilities()


class ExchangeOptions(Struct, frozen=True, kw_only=True):
    """How the exchange fills.

    `slippage_ticks` worsen every fill that takes the market; `max_fill` caps what one order fills at one
    tick, None fills whole. Closed orders and executions beyond the kept counts are forgotten, oldest first.
    """

    slippage_ticks: int = 1
    max_fill: Decimal | None = None
    kept_orders: int = 5_000
    kept_fills: int = 10_000


def demo_instruments() -> tuple[Instrument, ...]:
    """The demo desk's contracts; all trade round the clock in the synthetic market."""
    return (
        Instrument(
            symbol=Symbol("ESZ6"), tick_size=Decimal("0.25"), point_value=Decimal(50), group="us-index",
            worst_case=Decimal(2_500),
        ),
        Instrument(
            symbol=Symbol("NQZ6"), tick_size=Decimal("0.25"), point_value=Decimal(20), group="us-index",
            worst_case=Decimal(4_000),
        ),
        Instrument(
            symbol=Symbol("CLF7"), tick_size=Decimal("0.01"), point_value=Decimal(1_000), group="energy",
            worst_case=Decimal(2_000),
        ),
        Instrument(
            symbol=Symbol("6EZ6"), tick_size=Decimal("0.00005"), point_value=Decimal(125_000), group="fx",
            worst_case=Decimal(1_500),
        ),
    )  # fmt: skip


def demo_accounts() -> tuple[AccountTerms, ...]:
    """The demo desk's account."""
    margins = {"ESZ6": 15_000, "NQZ6": 20_000, "CLF7": 6_000, "6EZ6": 2_800}
    return (
        AccountTerms(
            account=AccountId("paper"),
            equity=Decimal(250_000),
            fee_per_unit=Decimal("1.25"),
            margin_per_unit={Symbol(symbol): Decimal(money) for symbol, money in margins.items()},
        ),
    )
