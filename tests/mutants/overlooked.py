"""Mistakes that no run noticed until a rule of the oracle, or a fault that brings them about, was added for them."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

SUBMISSION = "engine/outbound/submission.py"
LIMITS = "engine/outbound/limits.py"
PORTFOLIO = "engine/aggregation/portfolio_server.py"

OVERLOOKED = (
    Mutant(
        name="entries-of-the-minute-forgotten",
        says="Entries per minute: a breach denies the entry and closes entries until the minute ends.",
        path=SUBMISSION,
        old="            desk.entry_times.append(desk.now())\n",
        new="",
    ),
    Mutant(
        name="entries-of-the-day-uncounted",
        says="Entries per day: a breach denies the entry and closes entries until the day ends.",
        path=SUBMISSION,
        old="            desk.ledger.entered(desk.now())\n",
        new="",
    ),
    Mutant(
        name="entries-of-the-day-begin-anew",
        says="Entries per day, across restarts.",
        path="engine/domain/day_ledger.py",
        old="        self.entries = entries\n        return position",
        new="        self.entries = 0\n        return position",
    ),
    Mutant(
        name="past-flat-by-enters",
        says="Entry window and optional flat-by in exchange time; a breach denies the entry.",
        path=LIMITS,
        old="    if limits.flat_by is not None and local >= limits.flat_by:\n",
        new="    if limits.flat_by is not None and local < limits.flat_by < local:\n",
    ),
    Mutant(
        name="open-loss-is-no-loss",
        says="Daily loss = realised + open - fees; a breach latches entries off until the next trade date.",
        path="engine/domain/day_ledger.py",
        old="        return self.realised + position.open_points(mark) * self._instrument.point_value - self.fees\n",
        new="        return self.realised - self.fees\n",
    ),
    Mutant(
        name="jump-of-equity-believed",
        says="Equity that jumps by 20 % unconfirmed makes heat incomplete.",
        path=PORTFOLIO,
        old="        return known.unconfirmed is not None and abs(value - known.unconfirmed)",
        new="        return known.unconfirmed is None or abs(value - known.unconfirmed)",
    ),
    Mutant(
        name="old-equity-is-good",
        says="Equity older than 120 s makes heat incomplete, and entries wait.",
        path=PORTFOLIO,
        old="        if now - known.at > self.settings.equity_max_age_ms:\n",
        new="        if now - known.at > 1000 * self.settings.equity_max_age_ms:\n",
    ),
)
