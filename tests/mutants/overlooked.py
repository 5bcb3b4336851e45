"""Mistakes that no run noticed until a rule of the oracle, or a fault that brings them about, was added for them."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

SUBMISSION = "engine/outbound/submission.py"
RECOVERY = "engine/outbound/recovery.py"
RUNNER = "engine/strategy_runner.py"
TRADER = "engine/trader.py"
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
    Mutant(
        name="evaluated-in-an-earlier-life-unread",
        says="An exit intent on a candle newer than the last evaluated one is sent once trading opens, marked missed.",
        path=RUNNER,
        old="self._evaluated = max(self._evaluated, evaluated if evaluated is not None else -1)",
        new="self._evaluated = max(self._evaluated, -1)",
    ),
    Mutant(
        name="missed-exit-forgotten",
        says="An exit intent on a candle newer than the last evaluated one is sent once trading opens.",
        path=RUNNER,
        old="and 0 <= self._evaluated < candle.start\n",
        new="and 0 <= candle.start < self._evaluated\n",
    ),
    Mutant(
        name="late-tick-moves-the-mark",
        says="A late tick amends its candle; it is no news of the price.",
        path=TRADER,
        old="        if desk.last_tick is not None and tick.at < desk.last_tick:\n            return\n",
        new="",
    ),
    Mutant(
        name="age-of-the-line",
        says="Freshness by the age of data, not the state of a socket.",
        path=TRADER,
        old="        desk.last_tick = tick.at\n",
        new="        desk.last_tick = desk.now()\n",
    ),
    Mutant(
        name="gap-filled-by-old-history",
        says="History proves the seam only where it overlaps the live feed.",
        path="engine/inbound/candle_stream.py",
        old="        begins = max(self._subscribed + behind, self._named)\n",
        new="        begins = 0\n",
    ),
    Mutant(
        name="cancelled-before-its-send-leaves",
        says="The gate is read at the send; failing means abandoned, not sent.",
        path="engine/outbound/entry_gate.py",
        old='        if order.cancel_wanted:\n            return "cancelled before it was sent"\n',
        new="",
    ),
    Mutant(
        name="strategy-cancels-its-stop",
        says="With protection = stop a position is covered by a broker-confirmed stop.",
        path="engine/outbound/decision_handler.py",
        old="if order.role is Role.STOP and desk.settings.protection is Protection.STOP:",
        new="if order.role is Role.STOP and desk.settings.protection is Protection.NONE:",
    ),
    Mutant(
        name="replace-without-an-answer-is-refused",
        says="The answer is accepted, refused with proof, or in doubt.",
        path=SUBMISSION,
        old='order = desk.put(lifecycle.doubted(order, desk.now(), why), "replace in doubt", why)',
        new='order = desk.put(lifecycle.replace_refused(order, desk.now(), why), "replace in doubt", why)',
    ),
    Mutant(
        name="negatives-need-not-follow",
        says="LOST needs four consecutive complete negative answers.",
        path="engine/domain/order_doubt.py",
        old="negatives=order.doubt.negatives + 1 if complete_negative else 0,",
        new="negatives=order.doubt.negatives + complete_negative,",
    ),
    Mutant(
        name="lost-exit-does-not-block",
        says="LOST keeps its full size in heat and keeps entries of that session blocked until a typed word.",
        path=RECOVERY,
        old="        if doubtful:\n            first = doubtful[0]\n",
        new="        if any(o.is_in_doubt for o in doubtful):\n            first = doubtful[0]\n",
    ),
    Mutant(
        name="pending-for-ever",
        says="5 s without the broker's final word a pending cancel is in doubt.",
        path=RECOVERY,
        old="_PENDING = (OrderState.PENDING_CANCEL, OrderState.PENDING_REPLACE)",
        new="_PENDING = (OrderState.PENDING_REPLACE,)",
    ),
    Mutant(
        name="fill-at-the-average",
        says="A fill is the interval (from, to] of cumulative quantity.",
        path="engine/domain/incarnations.py",
        old="return (total - (order.average_price or ZERO) * order.filled) / delta",
        new="return total / report.filled",
    ),
    Mutant(
        name="not-open-is-cancelled",
        says='PENDING_CANCEL: "not open", "invalid id" mean query, then the proven state.',
        path=SUBMISSION,
        old='lifecycle.doubted(order, desk.now(), why), "cancel refused: not open", why)',
        new='lifecycle.gone(order, desk.now(), why), "cancel refused: not open", why)',
    ),
    Mutant(
        name="trades-added-twice",
        says="Ticks are buffered until history answers; what it holds already is not added again.",
        path="engine/inbound/candle_stream.py",
        old="if tick.at > history.as_of and (placement_or_none",
        new="if (placement_or_none",
    ),
    Mutant(
        name="leaves-and-goes-on-entering",
        says="An exit of everything calls off the entries that rest.",
        path="engine/outbound/decision_handler.py",
        old="        if quantity is None:\n            self._call_off_entries(reason)\n",
        new="",
    ),
    Mutant(
        name="fees-are-a-gain",
        says="Daily loss = realised + open - fees.",
        path="engine/domain/day_ledger.py",
        old="self._instrument.point_value - self.fees",
        new="self._instrument.point_value + self.fees",
    ),
    Mutant(
        name="protective-cancel-unproven",
        says="Where the type cannot change, the protective order is proven cancelled before the exit leaves.",
        path="engine/outbound/exit_road.py",
        old="return await desk.until(lambda: all(desk.current(o).state in TERMINAL for o in orders), PROOF_SECONDS)",
        new="return await desk.until(lambda: all(desk.current(o).cancel_wanted for o in orders), PROOF_SECONDS)",
    ),
    Mutant(
        name="resting-entries-uncounted",
        says="Largest position: what rests counts as if it were filled.",
        path="engine/outbound/entries.py",
        old="pending = sum((o.remaining for o in desk.book.open() if o.is_entry), ZERO)",
        new="pending = ZERO",
    ),
    Mutant(
        name="collar-above-only",
        says="Price collar on both sides of the mark.",
        path="engine/outbound/limits.py",
        old="abs(price - mark) > abs(mark)",
        new="price - mark > abs(mark)",
    ),
    Mutant(
        name="larger-size-closes-first",
        says="Broker and memory differ: the smaller size is closed first.",
        path="engine/outbound/exit_road.py",
        old="smaller = min(abs(fresh.quantity), abs(known.quantity))",
        new="smaller = max(abs(fresh.quantity), abs(known.quantity))",
    ),
    Mutant(
        name="through-is-read-backwards",
        says="A price through the stop: out, or ask, never a stop that fills at once.",
        path="engine/outbound/protection.py",
        old="(mark - self.stop_price) * position.quantity <= 0",
        new="(mark - self.stop_price) * position.quantity >= 0",
    ),
    Mutant(
        name="total-where-the-rest-is-read",
        says="A replace carries the total or what remains, as the broker reads it.",
        path="engine/outbound/submission.py",
        old="left = max(wanted.quantity - order.filled, ZERO)",
        new="left = max(wanted.quantity, ZERO)",
    ),
    Mutant(
        name="reconnected-and-asks-nothing",
        says="A link that is up again is asked for orders and positions before anything else.",
        path="engine/desk_account.py",
        old='            if self._was_up:\n                self._tasks.launch(self._catch_up(), "catch up")\n',
        new="",
        also=(
            Edit(
                "engine/desk_account.py",
                '            self.reconciler.suspect("the account link is up", orders=True)\n',
                "",
            ),
        ),
    ),
    Mutant(
        name="flatten-forgotten-by-a-restart",
        says="Flattened and not resumed: a later life closes what it finds.",
        path="engine/session_run.py",
        old="        if latch.reason.startswith(FLATTENED):\n            run.trader.flattener.stand()\n",
        new="",
    ),
)
