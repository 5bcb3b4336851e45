"""Strategies and configurations that bring a desk quickly to where a test wants it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

SCREENS = {
    "2": r"[Cc]loses (in )?[\d.]+m?s",
    "3": "Open orders",
    "4": "Disagreements",
    "5": "Contributions",
    "6": "filters: words that must all",
    "1": "Sessions",
}
"""A screen's key, and what only that screen shows: the names of all of them stand in the footer of each."""
AT_ONCE = '''
from decimal import Decimal
from pathlib import Path

from engine.domain.decisions import Intent, Nothing, Submit
from engine.domain.orders import Side


class AtOnce:
    """Enters at its first live candle (once the file `when` is there) and again whenever it is flat."""

    def __init__(self, when="", distance="0.005"):
        self.when, self.distance = when, Decimal(str(distance))

    def initial(self):
        return 0

    def decide(self, context):
        if context.warming or context.position.quantity or context.orders or not self.may():
            return Nothing(state=0, reason="waits")
        stop = context.candles[-1].close * (1 - self.distance)
        return Submit(state=0, intent=Intent.ENTER, side=Side.BUY, stop_loss=context.instrument.nearest(stop))

    def may(self):
        return not self.when or Path(self.when).exists()
'''

ONE_SESSION = """\
[accounts.paper]
equity = 250_000
[instruments.ESZ6]
tick_size = 0.25
point_value = 50
[sessions.es]
account = "paper"
symbol = "ESZ6"
strategy = "ema_cross"
timeframe = "1s"
warmup = 30
sizing = { quantity = 1 }
[sessions.es.limits]
max_order_size = 3
max_position_size = 3
entries_per_minute = 100
entries_per_day = 1000
price_collar = 0.02
max_daily_loss = 20_000
worst_case_per_contract = 2500
"""

# `filler` enters for 1.03 % (the gap floor: 0.25 % of the mark), after which 0.48 % for `fuller` would be too much.
FULL_PORTFOLIO = """
[portfolio]
warn = 0.5
block = 1.3
release = 0.1

[accounts.paper]
equity = 250_000

[instruments.ESZ6]
tick_size = 0.25
point_value = 50

[instruments.CLF7]
tick_size = 0.01
point_value = 1000

[sessions.filler]
account = "paper"
symbol = "ESZ6"
strategy = "{strategy}"
arguments = {{ distance = "0.002" }}
timeframe = "1s"
warmup = 5
sizing = {{ quantity = 3 }}
{limits}

[sessions.fuller]
account = "paper"
symbol = "CLF7"
strategy = "{strategy}"
arguments = {{ when = "{go}", distance = "0.004" }}
timeframe = "1s"
warmup = 5
sizing = {{ quantity = 5 }}
{limits2}
"""

LIMITS = """
[sessions.{name}.limits]
max_order_size = 6
max_position_size = 6
entries_per_minute = 100
entries_per_day = 2000
price_collar = 0.02
max_daily_loss = 12_500
worst_case_per_contract = 2500
"""


def at_once(directory: Path) -> str:
    """The strategy file, as `--strategy` takes it."""
    path = directory / "at_once.py"
    path.write_text(AT_ONCE)
    path.chmod(0o600)
    return f"{path}:AtOnce"


def full_portfolio(directory: Path) -> Path:
    """A configuration whose first entry leaves no room for a second under the block, which waits for the file `go`."""
    path = directory / "full.toml"
    path.write_text(
        FULL_PORTFOLIO.format(
            strategy=at_once(directory),
            go=directory / "go",
            limits=LIMITS.format(name="filler"),
            limits2=LIMITS.format(name="fuller"),
        )
    )
    return path


def intact(state: Path) -> bool:
    """Whether the desk's database is whole and knows its sessions."""
    with sqlite3.connect(f"file:{state / 'desk.sqlite3'}?mode=ro", uri=True) as database:
        whole = database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return whole and database.execute("SELECT 1 FROM sessions").fetchone() is not None
