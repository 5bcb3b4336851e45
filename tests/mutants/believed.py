"""Mistakes in what the desk believes: open doubts, late news, positions that differ, and what is not ours."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

RECONCILER = "engine/reconciliation/reconciler.py"
CHECK = "engine/reconciliation/order_check.py"
RECOVERY = "engine/outbound/recovery.py"

BELIEVED = (
    Mutant(
        name="nothing-asked-at-the-start",
        says="Account half first: recover orders, reconcile orders and position; also at once on start.",
        path="engine/trader.py",
        old="        await self._ask_about_open_orders()\n",
        new="",
    ),
    Mutant(
        name="reported-fills-never-fetched",
        says="A terminal status with more filled than we know leaves the order open-for-fills and fetches.",
        path=RECOVERY,
        old="            elif order.open_for_fills and now - self._fills_asked.get(order.client_id, 0) >= 1_000:\n",
        new="            elif order.open_for_fills and now < 0:\n",
    ),
    Mutant(
        name="turned-at-the-old-average",
        says="Position and average price: a fill through zero closes, then opens at its price.",
        path="engine/domain/positions.py",
        old="average if (total > 0) == (held > 0) else price",
        new="average",
    ),
    Mutant(
        name="stop-placed-unasked",
        says="Arithmetic against the broker's position: no stop for a position that the broker does not hold.",
        path="engine/outbound/protection.py",
        old="        if fresh.quantity != held:\n",
        new="        if False:\n",
    ),
    Mutant(
        name="difference-adopted-unexplained",
        says="A mismatch triggers an order check; what the broker's own executions explain is booked as fills.",
        path=RECONCILER,
        old="elif repeats(self._numbers, known.begun, begun) and self._is_asked(desk, known, begun):",
        new="elif repeats(self._numbers, known.begun, begun):",
    ),
    Mutant(
        name="another-difference-confirms",
        says="When the same difference repeats it is adopted.",
        path=RECONCILER,
        old="if known is None or known.difference != verdict.difference:",
        new="if known is None:",
    ),
    Mutant(
        name="second-look-at-once",
        says="A first mismatch is read again after 2 s.",
        path=CHECK,
        old="    return now - since >= numbers.mismatch_reread * 1000 - READ_MS\n",
        new="    return True\n",
    ),
    Mutant(
        name="average-not-adopted",
        says="The broker wins, always: position and average price.",
        path=RECONCILER,
        old='            verdict.broker, verdict.average, f"broker',
        new='            verdict.broker, desk.book.position.average_price, f"broker',
    ),
    Mutant(
        name="unknown-position-grew-unheard",
        says="A position that our fills do not explain counts in heat at worst case and blocks entries.",
        path=RECONCILER,
        old='        self._on_unowned("position", symbol, quantity)\n\n    # -- orders',
        new='        if known is None:\n            self._on_unowned("position", symbol, quantity)\n\n    # -- orders',
    ),
    Mutant(
        name="balance-row-for-every-answer",
        says="A balance row only when a field differs from the last committed one.",
        path="engine/persistence/statements.py",
        old="AND equity = ? AND cash = ? AND margin_used = ? AND currency = ?\n)\n",
        new="AND equity <> ? AND cash = ? AND margin_used = ? AND currency = ?\n)\n",
        also=(Edit(RECONCILER, "        if balance != self.balance:\n", "        if True:\n"),),
    ),
    Mutant(
        name="terms-not-adopted",
        says="The broker wins, always: quantity or price differs.",
        path=CHECK,
        old='        desk.put(lifecycle.adjusted(desk.current(order), now, record.terms), "terms adopted", what)\n',
        new="",
    ),
    Mutant(
        name="carried-fills-forgotten",
        says="Larger cumulative quantity wins: a record under a new id tells less than what filled under all its ids.",
        path="engine/domain/order_book.py",
        old="        if self.capabilities.replace_id is ReplaceId.KEEPS:\n            return report\n",
        new="        if self.capabilities.replace_id is not None:\n            return report\n",
    ),
)
