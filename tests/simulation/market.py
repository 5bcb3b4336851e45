"""The market of a simulation: seeded walks, about thirty trades a minute and contract, and a record of what traded."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from engine.domain.ids import Millis, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Candle, Tick, Timeframe
from tests.simulation.loop import SimClock
from tests.simulation.streams import Stream

MINUTE_MS = 60_000
TICK_MS = (1_200, 2_800)
PAST_MINUTES = 30
ONE = Decimal(1)
Window = list[int]


class _Contract:
    """One contract's walk and record; prices are whole ticks."""

    def __init__(self, instrument: Instrument, price: int, rng: Stream) -> None:
        self.instrument = instrument
        self.price = price
        self.rng = rng
        self.drift = 0.0
        self.windows: dict[Millis, Window] = {}
        self.prices: dict[int, Decimal] = {}

    def decimal(self, ticks: int) -> Decimal:
        """The price as the wire carries it."""
        known = self.prices.get(ticks)
        if known is None:
            known = self.prices[ticks] = ticks * self.instrument.tick_size
        return known

    def walk(self, violence: float) -> int:
        """The next trade's price."""
        rng = self.rng
        if rng.random() < 0.01:
            self.drift = rng.uniform(-0.4, 0.4)
        moved = rng.gauss(self.drift, 1.3 * violence)
        self.price = max(400, self.price + round(moved))
        return self.price

    def count(self, at: Millis, price: int) -> None:
        """Remember a trade."""
        start = at - at % MINUTE_MS
        window = self.windows.get(start)
        if window is None:
            self.windows[start] = [price, price, price, price, 1]
            if len(self.windows) > 600:
                del self.windows[next(iter(self.windows))]
        else:
            window[1] = max(window[1], price)
            window[2] = min(window[2], price)
            window[3] = price
            window[4] += 1


class Market:
    """Trades by their time; `listeners` hear each one, the exchange first."""

    def __init__(self, instruments: tuple[Instrument, ...], clock: SimClock, rng: Stream) -> None:
        self._clock = clock
        self._rng = rng
        self._contracts = {i.symbol: _Contract(i, 20_000, Stream(rng.random())) for i in instruments}
        self.listeners: list[Callable[[Tick], None]] = []
        self.violence = 1.0
        self.halted_until: Millis = 0
        self.ticks = 0
        for contract in self._contracts.values():
            self._make_past(contract)

    def _make_past(self, contract: _Contract) -> None:
        now = self._clock.now()
        for at in range(now - PAST_MINUTES * MINUTE_MS, now, 10_000):
            contract.count(at, contract.walk(1.0))

    def start(self) -> None:
        """Trade from now on."""
        for contract in self._contracts.values():
            self._later(contract)

    def _later(self, contract: _Contract) -> None:
        low, high = TICK_MS
        at = self._clock.now() + low + int(contract.rng.random() * (high - low))
        self._clock.call_at(at, lambda: self._trade(contract))

    def _trade(self, contract: _Contract) -> None:
        self._later(contract)
        if self._clock.now() >= self.halted_until:
            self._tell(contract, contract.walk(self.violence))

    def trade_now(self, symbol: Symbol) -> None:
        """One trade more, at the price of now."""
        self._tell(self._contracts[symbol], self._contracts[symbol].price)

    def _tell(self, contract: _Contract, price: int) -> None:
        now = self._clock.now()
        contract.count(now, price)
        self.ticks += 1
        tick = Tick(contract.instrument.symbol, now, contract.decimal(price), ONE)
        for listener in tuple(self.listeners):
            listener(tick)

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """What is traded."""
        return tuple(self._contracts)

    def last(self, symbol: Symbol) -> Decimal:
        """The price now."""
        contract = self._contracts[symbol]
        return contract.decimal(contract.price)

    def jump(self, symbol: Symbol, ticks: int) -> None:
        """The next trade happens that far away."""
        contract = self._contracts[symbol]
        contract.price = max(400, contract.price + ticks)

    def traded(self, symbol: str, start: Millis) -> bool:
        """Whether anybody traded in the window that begins then."""
        return start in self._contracts[Symbol(symbol)].windows

    def window(self, symbol: Symbol, start: Millis) -> Candle | None:
        """The window of a minute that begins then, as far as it has traded."""
        contract = self._contracts[symbol]
        window = contract.windows.get(start)
        if window is None:
            return None
        first, high, low, last = (contract.decimal(ticks) for ticks in window[:4])
        return Candle(start, first, high, low, last, Decimal(window[4]))

    def amend(self, symbol: Symbol, start: Millis, more: int) -> Tick | None:
        """A trade reported late into the middle of a window, some ticks over its high; None without the window."""
        contract = self._contracts[symbol]
        window = contract.windows.get(start)
        if window is None:
            return None
        window[1] += more
        window[4] += 1
        return Tick(symbol, start + MINUTE_MS // 2, contract.decimal(window[1]), ONE)

    def candles(self, symbol: Symbol, timeframe: Timeframe, until: Millis) -> list[Candle]:
        """Every kept window with start < `until`, oldest first; the newest may still form."""
        contract = self._contracts[symbol]
        merged: dict[Millis, Window] = {}
        for start, (first, high, low, last, volume) in contract.windows.items():
            if start >= until:
                continue
            window = merged.get(timeframe.start_of(start))
            if window is None:
                merged[timeframe.start_of(start)] = [first, high, low, last, volume]
            else:
                window[1], window[2] = max(window[1], high), min(window[2], low)
                window[3] = last
                window[4] += volume
        price = contract.decimal
        return [
            Candle(start, price(w[0]), price(w[1]), price(w[2]), price(w[3]), Decimal(w[4]))
            for start, w in merged.items()
        ]
