"""Mistakes about what leaves, what it leaves undone, and what the next life makes of it."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

GUARD = "engine/outbound/protection.py"
FLATTEN = "engine/outbound/flatten.py"
ROAD = "engine/outbound/exit_road.py"
EXITS = "engine/outbound/exits.py"
BOOK = "engine/domain/order_book.py"
LIFECYCLE = "engine/domain/order_lifecycle.py"
RECORDER = "engine/outbound/intent_recorder.py"
PLANNED = "    quantity = min(held if wanted is None else wanted, max(ZERO, held - leaving))\n"

LEAVING = (
    Mutant(
        name="armed-again-and-again",
        says="A position not covered by a broker-confirmed stop is re-armed once.",
        path=GUARD,
        old="        if self._standing.is_proven:\n            self._rearmed = False\n",
        new="        self._rearmed = False\n",
    ),
    Mutant(
        name="refused-stop-armed-again",
        says="Re-armed once; if that is refused, exit at market or ask.",
        path=GUARD,
        old="        if not through and not self._rearmed:\n",
        new="        if not through:\n",
    ),
    Mutant(
        name="moved-from-its-stop-unasked",
        says="Check and reservation are one step: more risk is reviewed like an entry of that size.",
        path="engine/outbound/decision_handler.py",
        old="return self.modify_barred(order, wanted) or self._added_heat(order, wanted)",
        new="return self.modify_barred(order, wanted)",
    ),
    Mutant(
        name="flat-by-memory",
        says="Flat = position zero and no unproven own order on the contract, by a fresh read.",
        path=FLATTEN,
        old="        if position.quantity:\n            return FlattenResult(False",
        new="        if desk.book.position.quantity:\n            return FlattenResult(False",
    ),
    Mutant(
        name="flat-unread",
        says="Flat is the broker's word, by a fresh read.",
        path=FLATTEN,
        old="        position = await desk.road.fresh_position(desk.book.symbol, desk.numbers.query_timeout)\n"
        "        if position is None:\n            return FlattenResult",
        new="        position = desk.book.position\n        if position is None:\n            return FlattenResult",
    ),
    Mutant(
        name="flat-over-a-lost-order",
        says="Flat = no unproven own order (LOST included; then the result is NOT flat, naming it).",
        path=FLATTEN,
        old="        return [o for o in self._desk.book.open() if o.is_open]\n",
        new="        return [o for o in self._desk.book.open() if o.is_open and o.state != 'lost']\n",
    ),
    Mutant(
        name="flat-everywhere-of-before",
        says="Flat everywhere: position zero by a fresh read of all.",
        path=FLATTEN,
        old="        if not read.quantity and not held and not unproven:\n            return None\n",
        new="        if not held and not unproven:\n            return None\n",
    ),
    Mutant(
        name="what-leaves-is-closed-again",
        says="Closable = |position| - what own working, queued and in-doubt exits already hold.",
        path=EXITS,
        old=PLANNED,
        new="    quantity = min(held if wanted is None else wanted, held)\n",
        also=(
            Edit(
                EXITS,
                "    if doubtful is None and closable(orders, position) >= quantity:\n",
                "    if doubtful is None and not resting:\n",
            ),
            Edit(EXITS, "    if known >= held or (moving and doubtful is None and not quantity):\n", "    if False:\n"),
        ),
    ),
    Mutant(
        name="each-leg-of-a-pair-holds",
        says="Closable: what exits linked by one-cancels-other at the broker hold counts once.",
        path=BOOK,
        old="groups[name] = max(groups.get(name, ZERO), order.at_most)",
        new="groups[name] = groups.get(name, ZERO) + order.at_most",
    ),
    Mutant(
        name="each-leg-of-a-pair-is-excess",
        says="Own unlinked exits beyond |position| are an excess and count in heat.",
        path=EXITS,
        old="        size = max(o.at_most for o in members)\n        if not wrong_side",
        new="        size = sum((o.at_most for o in members), ZERO)\n        if not wrong_side",
    ),
    Mutant(
        name="stop-keeps-its-own-rest",
        says="After a confirmed change of position outbound sizes the session's own protective orders to it.",
        path=GUARD,
        old="                wanted = changed(order.terms, quantity=order.filled + fit.remaining)\n",
        new="                rest = min(fit.remaining, order.remaining)\n"
        "                wanted = changed(order.terms, quantity=order.filled + rest)\n",
    ),
    Mutant(
        name="pending-replace-forgotten",
        says="A restart reads what was under way as in doubt.",
        path=LIFECYCLE,
        old="        case S.SUBMITTING | S.PENDING_CANCEL | S.PENDING_REPLACE:\n            return doubted(order, now",
        new="        case S.PENDING_REPLACE:\n"
        "            return changed(order, state=resting_state(order), wanted=None, revision=order.revision + 1)\n"
        "        case S.SUBMITTING | S.PENDING_CANCEL:\n            return doubted(order, now",
    ),
    Mutant(
        name="sent-before-it-is-journalled",
        says="After 250 ms its intent goes to the journal and is sent.",
        path=RECORDER,
        old="        failure = await self._journalled(Prepared(intent))\n",
        new='        desk.tasks.launch(self._journalled(Prepared(intent)), "journal")\n        failure = None\n',
    ),
    Mutant(
        name="gives-up-after-one-pass",
        says="Flatten goes on until it is flat, with its own deadline of 60 s.",
        path=FLATTEN,
        old="        while round_number == 0 or desk.clock.monotonic() < deadline:\n",
        new="        while round_number == 0:\n",
    ),
    Mutant(
        name="asked-again-acts-again",
        says="Each override has an id and is idempotent.",
        path="engine/overrides/dispatch.py",
        old="        if known is not None:\n            return known\n",
        new="",
    ),
    Mutant(
        name="used-name-used-again",
        says="A decision is used at most once ever, across restarts.",
        path="engine/overrides/orders.py",
        old="            return await engine.store.order(client_id)\n",
        new="            return None\n",
    ),
    Mutant(
        name="lowered-and-not-noted",
        says="What lowers risk takes effect at once: it is journalled, and its row follows.",
        path="engine/overrides/base.py",
        old='        self._secure(self._noted(origin, f"override/{origin.id}", what, session, reason))\n',
        new="",
    ),
)
