"""Numbers, times and sides as text; the only place in the console that turns a number into a string."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from engine.domain.cleaning import clean
from engine.domain.ids import Millis
from engine.domain.orders import Order, OrderType, Side, Terms
from engine.domain.positions import Position
from engine.domain.risk import CompleteHeat, Heat, IncompleteHeat

NONE = "–"
LONGEST = 4_000
"""Characters of a text from outside that anybody will want to read."""
UP, DOWN, LEVEL = "▲", "▼", "■"
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


def plain(text: str, width: int | None = None) -> str:
    """Text from outside, made harmless, on one line, cut to `width` characters with an ellipsis."""
    harmless = clean(text, LONGEST)
    if width is not None and len(harmless) > width:
        return harmless[: max(0, width - 1)] + "…"
    return harmless


def decimals(step: Decimal) -> int:
    """How many decimals a price grid needs: 0.25 -> 2, 0.00001 -> 5, 5 -> 0."""
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def fixed(value: Decimal, places: int) -> str:
    """A number with exactly `places` decimals and no exponent; a rounded-off minus zero loses its sign."""
    rounded = value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
    return f"{rounded if rounded else abs(rounded):f}"


def price(value: Decimal | None, tick: Decimal) -> str:
    """A price with the decimals of its instrument's tick; averages between ticks are rounded for show."""
    return NONE if value is None else fixed(value, decimals(tick))


def size(value: Decimal | None) -> str:
    """A quantity without padding zeros: 2, 0.05, 1200."""
    if value is None:
        return NONE
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def signed_size(value: Decimal) -> str:
    """A position with its sign: +2, -0.05, 0."""
    return f"+{size(value)}" if value > 0 else size(value)


def money(value: Decimal | None, places: int = 2) -> str:
    """Money with thousands separators: 100,000.00."""
    if value is None:
        return NONE
    rounded = value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
    return f"{rounded if rounded else abs(rounded):,f}"


def profit(value: Decimal | None, places: int = 2) -> str:
    """Money with a sign in front: +120.50, -3.00, 0.00."""
    text = money(value, places)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.,") else text


def percent(value: Decimal | None, places: int = 1) -> str:
    """A percentage: 6.4 %."""
    return NONE if value is None else f"{fixed(value, places)} %"


def age(milliseconds: int | None) -> str:
    """How long ago, in one unit: 0.4s, 12s, 3m, 2h, 5d."""
    if milliseconds is None:
        return NONE
    span = max(0, milliseconds)
    if span < 10 * SECOND:
        return f"{span // 100 / 10:.1f}s"
    for unit, letter, below in ((SECOND, "s", 2 * MINUTE), (MINUTE, "m", 2 * HOUR), (HOUR, "h", 2 * DAY)):
        if span < below:
            return f"{span // unit}{letter}"
    return f"{span // DAY}d"


def since(now: Millis, then: Millis | None) -> str:
    """The age of a moment."""
    return NONE if then is None else age(now - then)


def countdown(now: Millis, then: Millis | None) -> str:
    """How long until a moment: `in 12s`, or `due` when it has come."""
    if then is None:
        return NONE
    return "due" if then <= now else f"in {max(1, (then - now + 999) // SECOND)}s"


def clock(at: Millis | None) -> str:
    """Time of day in UTC: 14:32:07."""
    return NONE if at is None else datetime.fromtimestamp(at / 1000, UTC).strftime("%H:%M:%S")


def moment(at: Millis | None, now: Millis) -> str:
    """Time of day, with the day in front when it is not today's: 14:32:07 or 01-02 14:32:07."""
    if at is None:
        return NONE
    when = datetime.fromtimestamp(at / 1000, UTC)
    today = datetime.fromtimestamp(now / 1000, UTC).date()
    return when.strftime("%H:%M:%S" if when.date() == today else "%m-%d %H:%M:%S")


def date(at: Millis) -> str:
    """The UTC day: 2020-01-02."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")


def axis_time(at: Millis, window: int) -> str:
    """A candle's time for the axis, as fine as its window asks for."""
    when = datetime.fromtimestamp(at / 1000, UTC)
    if window >= DAY:
        return when.strftime("%m-%d")
    return when.strftime("%H:%M:%S" if window < MINUTE else "%H:%M")


def arrow(value: Decimal | int) -> str:
    """Direction of a change as a shape, so that colour is never alone."""
    return UP if value > 0 else DOWN if value < 0 else LEVEL


def side(value: Side) -> str:
    """A side as arrow and word: ▲ BUY, ▼ SELL."""
    return f"{arrow(value.sign)} {value.value.upper()}"


def position(value: Position) -> str:
    """A position as a word and a size: LONG 2, SHORT 0.05, flat."""
    if value.is_flat:
        return "flat"
    return f"{'LONG' if value.quantity > 0 else 'SHORT'} {size(abs(value.quantity))}"


def terms(value: Terms, tick: Decimal) -> str:
    """What an order asks for: BUY 2 limit 1.09210, SELL 1 stop 4310.25."""
    words = [value.side.value.upper(), size(value.quantity), value.type.value]
    if value.type is not OrderType.MARKET:
        words += [price(level, tick) for level in (value.stop, value.limit) if level is not None]
    return " ".join(words)


def order_price(order: Order, tick: Decimal) -> str:
    """The price that an order waits for: its stop, else its limit, else `market`."""
    level = order.terms.stop if order.terms.stop is not None else order.terms.limit
    return "market" if level is None else price(level, tick)


def on_the_point(texts: list[str]) -> list[str]:
    """Pad numbers so that, right-aligned under one another, their decimal points stand in one column."""
    tails = [len(text) - text.index(".") if "." in text else 0 for text in texts]
    numeric = [bool(text) and any(c.isdigit() for c in text) for text in texts]
    widest = max((tail for tail, is_number in zip(tails, numeric, strict=True) if is_number), default=0)
    return [
        text + " " * (widest - tail) if is_number else text
        for text, tail, is_number in zip(texts, tails, numeric, strict=True)
    ]


def heat_words(heat: Heat | None) -> str:
    """The gauge's number, or how far it is known: never a total while somebody is missing."""
    match heat:
        case CompleteHeat(percent=share):
            return percent(share)
        case IncompleteHeat(at_least=at_least, reporting=reporting, expected=expected):
            known = f"≥ {percent(at_least)}" if at_least is not None else "unknown"
            return f"{known}, {reporting} of {expected} reporting"
        case None:
            return "waiting for reports"
