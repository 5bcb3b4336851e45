"""Every key that `sextant.toml` knows; docs/configuration.md describes the same ones, and a test compares the two."""

from __future__ import annotations

from typing import Final

from engine.domain.broker import Capabilities
from engine.domain.settings import Numbers, SessionLimits

KEYS: Final[dict[str, tuple[str, ...]]] = {
    "": ("desk", "portfolio", "accounts", "sessions", "instruments", "alerts", "keys"),
    "desk": (
        "title", "feed", "exchange", "replay", "replay_symbol", "seed", "state_dir", "db", "shutdown", "on_hangup",
        "operator", "numbers",
    ),
    "desk.numbers": Numbers.__struct_fields__,
    "portfolio": (
        "currency", "warn", "block", "release", "groups", "equity_max_age", "dead_after", "equity_jump",
    ),
    "accounts.NAME": (
        "broker", "live", "equity", "currency", "fee_per_unit", "margin_rate", "margin_per_unit", "latency_ms",
        "slippage_ticks", "max_fill", *Capabilities.__struct_fields__,
    ),
    "sessions.NAME": (
        "account", "symbol", "strategy", "timeframe", "warmup", "arguments", "sizing", "protection", "missed_exit",
        "naked", "force_exit_after", "limits",
    ),
    "sessions.NAME.sizing": ("quantity", "risk_percent"),
    "sessions.NAME.limits": SessionLimits.__struct_fields__,
    "keys": (),
    "alerts": ("bell", "desktop", "desktop_code", "again_after", "per_minute", "channels"),
    "alerts.channels.NAME": ("form", "from", "url_env", "url_file"),
    "instruments.SYMBOL": (
        "tick_size", "point_value", "currency", "size_step", "calendar", "group", "worst_case", "stale_after",
        "silent_after",
    ),
    "instruments.SYMBOL.calendar": ("name", "zone", "hours", "day_rolls_at", "holidays"),
}  # fmt: skip
"""Every key of every section; a word in capitals stands for a name that the operator chooses."""
