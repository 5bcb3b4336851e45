"""The fixed desks that the console's tests share with the pictures."""

from screenshots.ledger_story import fills
from screenshots.market_story import NOW, btcusd, eurusd, session
from screenshots.story import StillClient, blocked_desk, busy_desk, incomplete_desk

__all__ = [
    "NOW", "StillClient", "blocked_desk", "btcusd", "busy_desk", "eurusd", "fills", "incomplete_desk", "session",
]  # fmt: skip
