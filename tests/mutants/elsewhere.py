"""Mistakes in the other four flows: candles, rows, reconciliation, the total."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

RECONCILER = "engine/reconciliation/reconciler.py"
CHECK = "engine/reconciliation/order_check.py"
PORTFOLIO = "engine/aggregation/portfolio_server.py"
HEAT = "engine/aggregation/heat.py"
RUNNER = "engine/strategy_runner.py"
TRADER = "engine/trader.py"
STATEMENTS = "engine/persistence/statements.py"
IMPORT = "engine/persistence/recovery_import.py"
ENGINE = "engine/engine.py"

ELSEWHERE = (
    Mutant(
        name="runs-on-a-replacement",
        says="A candle replaced after a decision leaves a record and changes no order; the strategy does not run.",
        path=TRADER,
        old="                self.runner.replaced(was, now)\n",
        new="                self.runner.replaced(was, now)\n                self._on_added(now)\n",
    ),
    Mutant(
        name="replacement-unrecorded",
        says="A candle that changes after a decision on it leaves a record.",
        path=RUNNER,
        old="        if now.start in self._decided:\n",
        new="        if False:\n",
    ),
    Mutant(
        name="enters-on-a-backfilled-candle",
        says="Never enters on a warm-up or backfilled candle.",
        path=RUNNER,
        old="        if candle.origin is not CandleOrigin.LIVE:\n",
        new="        if False:\n",
        also=(
            Edit(
                RUNNER,
                "        if not catching_up and desk.phase is Phase.TRADING:\n",
                "        if desk.phase is Phase.TRADING:\n",
            ),
        ),
    ),
    Mutant(
        name="decides-twice-after-a-restart",
        says="A decision is used at most once ever, across lives.",
        path=RUNNER,
        old=" and 0 <= self._evaluated < candle.start\n",
        new="\n",
    ),
    Mutant(
        name="warmed-by-one-candle",
        says="Candles seen = warm-up, all of it, then live; while warming nothing is sent.",
        path=TRADER,
        old="        warming = self.warmed < warmup\n",
        new="        warming = self.warmed < 1\n",
    ),
    Mutant(
        name="gap-does-not-block",
        says="A gap is filled before the next run or the session is blocked.",
        path=TRADER,
        old='            desk.blocks.set("gap", "the gap in the feed is being filled")\n',
        new='            desk.blocks.clear("gap")\n',
    ),
    Mutant(
        name="trades-before-the-account-half",
        says="No strategy order before the account half of the start-up is done.",
        path=TRADER,
        old="            await self._account_half()\n            self._reporting = True\n",
        new="            desk.tasks.launch(self._account_half(), 'account half')\n            self._reporting = True\n",
    ),
    Mutant(
        name="adopts-at-first-sight",
        says="A first mismatch is read again after 2 s; when the same difference repeats it is adopted.",
        path=RECONCILER,
        old="                if known is None or known.difference != verdict.difference:\n"
        "                    self._first_sight(desk, verdict, begun)\n",
        new="                if known is None or known.difference != verdict.difference:\n"
        "                    self._first_sight(desk, verdict, begun)\n"
        "                    self._adopt(desk, verdict, self._differences[symbol])\n",
    ),
    Mutant(
        name="adopts-without-a-row",
        says="Every adopted difference has a row naming both numbers and the query.",
        path=ENGINE,
        old="        self.store.record(DisagreementRecorded(disagreement=disagreement))\n",
        new="",
    ),
    Mutant(
        name="judges-an-unsettled-contract",
        says="Evidence is taken after our last event on that contract settled.",
        path=RECONCILER,
        old="            elif self._road.settled_at(symbol) > begun or desk.book.last_event > begun:\n",
        new="            elif False:\n",
    ),
    Mutant(
        name="never-adopts",
        says="The broker wins, always.",
        path=RECONCILER,
        old="                    self._adopt(desk, verdict, known)\n",
        new="                    pass\n",
    ),
    Mutant(
        name="adopted-does-not-block",
        says="What executions do not explain is adopted, and entries stay blocked until explained or acknowledged.",
        path=RECONCILER,
        old="        position_effect=verdict.difference,\n        updated=now,\n        blocks_entries=True,\n",
        new="        position_effect=verdict.difference,\n        updated=now,\n        blocks_entries=False,\n",
    ),
    Mutant(
        name="gone-at-first-absence",
        says="Absence counts only when it is repeated.",
        path=CHECK,
        old="        if not repeats(desk.numbers, since, now):\n            return\n"
        "        del self._absent[order.client_id]\n",
        new="        del self._absent[order.client_id]\n",
    ),
    Mutant(
        name="foreign-not-counted",
        says="What is not ours is shown, counted, never touched unless claimed.",
        path=ENGINE,
        old="        self.portfolio.unowned(account, symbol, risk, known=True)\n",
        new="",
    ),
    Mutant(
        name="failed-query-reads-as-flat",
        says="A failed, partial, truncated or stale answer changes nothing but a counter.",
        path="engine/links.py",
        old="            if report.as_of >= begun - STALE_MS and not old:\n",
        new="            if True:\n",
    ),
    Mutant(
        name="total-while-one-is-missing",
        says="Incomplete when a live session has died or not reported for 45 s: never a total.",
        path=PORTFOLIO,
        old="        if missing or share is None or equity is None:\n",
        new="        if share is None or equity is None:\n",
    ),
    Mutant(
        name="block-does-not-block",
        says="Total >= block: no entry is sent anywhere.",
        path=PORTFOLIO,
        old="                if self._blocked or after >= block:\n",
        new="                if False:\n",
    ),
    Mutant(
        name="group-does-not-block",
        says="Groups of correlated positions have limits of their own.",
        path=PORTFOLIO,
        old="(group in self._blocked_groups or share >= limit.block):\n",
        new="False:\n",
    ),
    Mutant(
        name="heat-of-twice-the-equity",
        says="Heat = sum of contributions / equity; equity is the broker's, over the portfolio's accounts.",
        path=PORTFOLIO,
        old="            total += known.value\n",
        new="            total += 2 * known.value\n",
    ),
    Mutant(
        name="working-entries-weigh-nothing",
        says="Working, in-doubt and LOST entries count in heat at full size.",
        path=HEAT,
        old="        pending=sum((entry_risk(scale, o, mark) for o in entries), ZERO),\n",
        new="        pending=ZERO,\n",
    ),
    Mutant(
        name="unprotected-weighs-nothing",
        says="Anything not covered by a confirmed stop counts at worst_case_per_contract.",
        path=HEAT,
        old="    return covered, left * scale.worst_case\n",
        new="    return covered, ZERO\n",
    ),
    Mutant(
        name="a-dead-session-is-not-missed",
        says="A session's death makes heat incomplete from this moment.",
        path=PORTFOLIO,
        old="            self._dead[session] = reason\n",
        new="            self._members.pop(session)\n",
    ),
    Mutant(
        name="fill-row-lost",
        says="Distinct fills in the database sum to the broker's cumulative quantity, per order.",
        path=STATEMENTS,
        old="    yield PUT_FILL, fill_row(fill, record.at)\n",
        new="",
    ),
    Mutant(
        name="position-row-lost",
        says="Position and average price: memory, database and broker agree.",
        path=STATEMENTS,
        old="    yield PUT_POSITION, row\n    where = (fill.account, fill.symbol)\n",
        new="    where = (fill.account, fill.symbol)\n",
    ),
    Mutant(
        name="epoch-not-in-the-commit",
        says="Intent commits require the lease's epoch.",
        path=STATEMENTS,
        old="    SELECT CASE WHEN EXISTS (SELECT 1 FROM leases WHERE account = ? AND epoch > ?)\n",
        new="    SELECT CASE WHEN EXISTS (SELECT 1 FROM leases WHERE account = ? AND epoch > ? AND 1 = 0)\n",
    ),
    Mutant(
        name="journal-archived-unread",
        says="The journal is imported before it is archived: prepared alone imports as in doubt.",
        path=IMPORT,
        old="                done.append(await _intent(store, intent, outcomes.get(intent.key)))\n",
        new="                done.append(Imported(intent.key, 'none', 'none', False))\n",
    ),
    Mutant(
        name="kill-row-not-read",
        says="Kill survives a restart: either latch set means set.",
        path=ENGINE,
        old="            if latch.session is None and latch.kind is LatchKind.KILL:\n",
        new="            if False:\n",
    ),
    Mutant(
        name="balance-row-every-time",
        says="A balance row only when a field differs from the last committed one.",
        path=RECONCILER,
        old="        if balance != self.balance:\n",
        new="        if True:\n",
        also=(
            Edit(
                STATEMENTS,
                "AND equity = ? AND cash = ? AND margin_used = ? AND currency = ?\n)\n",
                "AND equity <> ? AND cash = ? AND margin_used = ? AND currency = ?\n)\n",
            ),
        ),
    ),
    Mutant(
        name="reconciliation-places-an-order",
        says="Reconciliation corrects belief; it never places an order.",
        path=RECONCILER,
        old="        del self._differences[symbol]\n        row = self._ledger.get(known.id)\n",
        new="        del self._differences[symbol]\n"
        "        foreign = next((o.terms for o in desk.book if o.terms.limit is None), None)\n"
        "        if foreign is not None:\n"
        "            "
        'desk.tasks.launch(desk.road.submit(SubmitRequest(ClientOrderId(f"back{now}"), '
        'foreign)), "back")\n'
        "        row = self._ledger.get(known.id)\n",
        also=(
            Edit(
                RECONCILER,
                "import Balance, BrokerPosition, Report\n",
                "import Balance, BrokerPosition, Report, SubmitRequest\n",
            ),
            Edit(
                RECONCILER,
                "import AccountId, BrokerOrderId, Millis, Symbol\n",
                "import AccountId, BrokerOrderId, ClientOrderId, Millis, Symbol\n",
            ),
        ),
    ),
    Mutant(
        name="foreign-order-is-cancelled",
        says="Foreign orders are never touched.",
        path=CHECK,
        old="            self._report_foreign(desk, record)\n",
        new="            self._report_foreign(desk, record)\n"
        "            if desk is not None:\n"
        '                desk.tasks.launch(desk.road.cancel(record.broker_id), "tidy")\n',
    ),
    Mutant(
        name="no-gap-floor",
        says="A contribution is never below a gap floor.",
        path=HEAT,
        old="        return size * max(distance, self.floor(mark)) * self.instrument.point_value\n",
        new="        return size * distance * self.instrument.point_value\n",
    ),
    Mutant(
        name="shown-before-its-close",
        says="Only closed candles reach the strategy.",
        path="engine/inbound/candle_stream.py",
        old="        closed = assembler.close_if_due(now, self._grace_ms)\n",
        new="        closed = assembler.close_if_due(now, -30_000)\n",
        also=(
            Edit(
                "engine/inbound/candle_stream.py",
                "        return assembler.end + self._grace_ms if",
                "        return assembler.end - 30_000 if",
            ),
        ),
    ),
    Mutant(
        name="risk-before-its-row",
        says="What adds risk is committed before it takes effect.",
        path="engine/overrides/base.py",
        old="                await self._engine.store.write(self._record(origin, what, session, reason))\n",
        new="                self._engine.store.record(self._record(origin, what, session, reason))\n",
    ),
)
