"""The desk that is killed: a strategy that never rests, and the configuration of a dozen sessions."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

STRATEGY = '''
from decimal import Decimal

from engine.domain.decisions import Cancel, Intent, Modify, Nothing, Submit
from engine.domain.orders import OrderType, Role, Side


class Busy:
    """Something else on every candle: brackets, limits, replaces, cancels, exits, reverses; `idle` decides nothing."""

    def __init__(self, phase=0, idle=False):
        self.phase, self.idle = phase, idle

    def initial(self):
        return None

    def decide(self, context):
        # By the clock, so that each life goes on elsewhere in the circle.
        turn = context.candles[-1].start // 1000 + self.phase
        if context.warming or self.idle:
            return Nothing(state=None, reason="rests")
        price = context.candles[-1].close
        near = context.instrument.nearest
        held = context.position.quantity
        entries = [o for o in context.orders if o.role is Role.ENTRY and o.broker_id is not None]
        if entries and turn % 3 == 1:
            limit = near(price * (1 - Decimal("0.0004") * entries[0].terms.side.sign))
            return Modify(state=None, order=entries[0].client_id, limit=limit, reason="follows")
        if entries and turn % 3 == 2:
            return Cancel(state=None, orders=tuple(o.client_id for o in entries), reason="had enough")
        side = Side.BUY if held > 0 or (not held and turn % 2) else Side.SELL
        stop = near(price * (1 - Decimal("0.004") * side.sign))
        target = near(price * (1 + Decimal("0.0008") * side.sign))
        if held and (turn % 4 == 3 or abs(held) >= 9):
            return Submit(state=None, intent=Intent.EXIT, reason="busy")
        if held and turn % 7 == 3:
            other = near(price * (1 + Decimal("0.004") * side.sign))
            return Submit(state=None, intent=Intent.REVERSE, side=side.opposite, stop_loss=other, reason="busy")
        if turn % 3 == 0:
            limit = near(price * (1 - Decimal("0.0003") * side.sign))
            return Submit(
                state=None, intent=Intent.ENTER, side=side, type=OrderType.LIMIT, limit=limit, stop_loss=stop,
                take_profit=target, reason="busy",
            )
        return Submit(
            state=None, intent=Intent.ENTER, side=side, stop_loss=stop, take_profit=target, reason="busy"
        )
'''
SYMBOLS = {
    "ESZ6": ("0.25", "50"),
    "NQZ6": ("0.25", "20"),
    "CLF7": ("0.01", "1000"),
    "6EZ6": ("0.00005", "125000"),
}
POINT_VALUES = {symbol: Decimal(value) for symbol, (_, value) in SYMBOLS.items()}
HEAD = """
[desk]
shutdown = "leave"
seed = {seed}
[desk.numbers]
positions_every = 3
orders_every = 5
mismatch_reread = 1
lost_after = 3
lost_negatives = 2
[portfolio]
warn = 90
block = 95
"""
ACCOUNT = """
[accounts.{account}]
equity = 20_000_000
fee_per_unit = 1.25
latency_ms = {latency}
max_fill = 2
"""
INSTRUMENT = """
[instruments.{symbol}]
tick_size = "{tick}"
point_value = {value}
worst_case = 2500
"""
SESSION = """
[sessions.{account}-{symbol}]
account = "{account}"
symbol = "{symbol}"
strategy = "{strategy}:Busy"
arguments = {{ phase = {phase}, idle = {idle} }}
timeframe = "1s"
warmup = 3
sizing = {{ quantity = 3 }}
[sessions.{account}-{symbol}.limits]
max_order_size = 6
max_position_size = 60
entries_per_minute = 1000
entries_per_day = 1000000
price_collar = 0.02
max_daily_loss = 20_000_000
worst_case_per_contract = 2500
"""


def write_desk(folder: Path, *, seed: int, accounts: int = 3, latency_ms: int = 80) -> tuple[Path, Path]:
    """The configuration of the busy desk, and of the same one that decides nothing."""
    strategy = folder / "busy.py"
    strategy.write_text(STRATEGY)
    strategy.chmod(0o600)
    names = [f"a{number}" for number in range(accounts)]
    files = []
    for idle in ("false", "true"):
        text = HEAD.format(seed=seed)
        text += "".join(ACCOUNT.format(account=name, latency=latency_ms) for name in names)
        text += "".join(INSTRUMENT.format(symbol=s, tick=t, value=v) for s, (t, v) in SYMBOLS.items())
        text += "".join(
            SESSION.format(account=name, symbol=symbol, strategy=strategy, phase=phase, idle=idle)
            for phase, (name, symbol) in enumerate((name, symbol) for name in names for symbol in SYMBOLS)
        )
        files.append(folder / f"desk-{'idle' if idle == 'true' else 'busy'}.toml")
        files[-1].write_text(text)
    return files[0], files[1]
