"""Mistakes on the way out: orders, exits, protection, doubt, leases."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

SUBMISSION = "engine/outbound/submission.py"
RECORDER = "engine/outbound/intent_recorder.py"
GATE = "engine/outbound/entry_gate.py"
ENTRIES = "engine/outbound/entries.py"
EXITS = "engine/outbound/exits.py"
ROAD = "engine/outbound/exit_road.py"
GUARD = "engine/outbound/protection.py"
LEFTOVERS = "engine/outbound/leftovers.py"
RECOVERY = "engine/outbound/recovery.py"
FLATTEN = "engine/outbound/flatten.py"
HANDLER = "engine/outbound/decision_handler.py"
LIFECYCLE = "engine/domain/order_lifecycle.py"
BOOK = "engine/domain/order_book.py"
LEASE = "engine/persistence/account_lease.py"
PORTFOLIO = "engine/aggregation/portfolio_server.py"
LINKS = "engine/links.py"
RECONCILER = "engine/reconciliation/reconciler.py"

# What own exits hold is not closed again: the second line behind each rule about exits beside exits.
HOLDS_NOTHING = Edit(
    BOOK,
    "    return max(ZERO, abs(position.quantity) - held_quantity(orders, position))\n",
    "    return abs(position.quantity)\n",
)

# Intents commit whoever commands.
NO_EPOCH = Edit(
    "engine/persistence/statements.py",
    "    SELECT CASE WHEN EXISTS (SELECT 1 FROM leases WHERE account = ? AND epoch > ?)\n",
    "    SELECT CASE WHEN EXISTS (SELECT 1 FROM leases WHERE account = ? AND epoch > ? AND 1 = 0)\n",
)

OUTBOUND = (
    Mutant(
        name="sent-before-written",
        says="The order is written before it is sent: one transaction with its decision key, then the request.",
        path=SUBMISSION,
        old="            refusal = await self._record.entry(\n                SubmitIntent(key=order.key, order=order, "
        "legs=legs, at=desk.now(), epoch=order.epoch)\n            )\n",
        new="            refusal = None\n",
    ),
    Mutant(
        name="entry-without-commit",
        says="Entries are refused while the database does not answer.",
        path=RECORDER,
        old='                return "the database did not take the order in time"\n',
        new="                return None\n",
        also=(
            Edit(
                GATE,
                "        if trouble := desk.store.trouble():\n",
                "        if (trouble := desk.store.trouble()) and False:\n",
            ),
        ),
    ),
    Mutant(
        name="unknown-commit-is-durable",
        says="A commit of unknown outcome is settled by a tombstone under the same key; who holds the key wins.",
        path=RECORDER,
        old="            return await self._settle_unknown(intent)\n",
        new="            return None\n",
    ),
    Mutant(
        name="gate-not-read-at-send",
        says="The gate is read at the send: stance, reservation, kill, pause, lease, freshness, window, deadline.",
        path=SUBMISSION,
        old="                refusal = self._gate.at_send(order, by_hand=entry.by_hand)\n",
        new="                refusal = None\n",
    ),
    Mutant(
        name="exit-waits-for-the-database",
        says="An exit or cancel waits at most 250 ms for its commit, then its intent goes to the journal and is sent.",
        path=RECORDER,
        old="        if await done_within(desk.clock, patience, commit):\n            void = commit.result()\n",
        new="        if await done_within(desk.clock, 3_600.0, commit):\n            void = commit.result()\n",
    ),
    Mutant(
        name="exit-not-journalled",
        says="An exit that the database did not take goes to the append-only intent journal before it is sent.",
        path=RECORDER,
        old="        failure = await self._journalled(Prepared(intent))\n",
        new="        failure = None\n",
    ),
    Mutant(
        name="lost-answer-is-a-refusal",
        says="Accepted, refused with proof, or in doubt: a timeout, a reset or an unreadable answer is in doubt.",
        path=SUBMISSION,
        old='                each("in doubt", lambda o: lifecycle.doubted(o, desk.now(), why), why)\n',
        new='                each("rejected", lambda o: lifecycle.refused(o, desk.now(), why), why)\n',
    ),
    Mutant(
        name="lost-answer-is-resent",
        says="Never resend automatically in modes tag and none.",
        path=SUBMISSION,
        old="            answer = await self._asked((order, *legs), desk.road.submit(request))\n",
        new="            answer = await self._asked((order, *legs), desk.road.submit(request))\n"
        "            if isinstance(answer, NoAnswer):\n"
        "                answer = await self._asked((order, *legs), desk.road.submit(request))\n",
    ),
    Mutant(
        name="refused-entry-keeps-heat",
        says="A reservation is given back when its order was not sent or is proven gone.",
        path=PORTFOLIO,
        old="        if self._reservations.pop(order, None) is not None:\n            self._changed()\n",
        new="        self._changed()\n",
        also=(
            Edit(
                PORTFOLIO,
                "if self._reservations.pop(order, None) is not None]\n",
                "if order in ()]\n",
            ),
        ),
    ),
    Mutant(
        name="kill-not-at-the-gate",
        says="Kill latches entries off: no entry starts to leave after the latch.",
        path=GATE,
        old="        if (killed := desk.killed()) is not None:\n",
        new="        if (killed := desk.killed()) is not None and False:\n",
    ),
    Mutant(
        name="pause-not-at-the-gate",
        says="A pause or any other standing block holds entries until it is lifted.",
        path=GATE,
        old='frozenset({"pause"}) if by_hand else frozenset()',
        new='frozenset({"pause"})',
    ),
    Mutant(
        name="stale-data-enters",
        says="Stale data stops entries.",
        path=GATE,
        old="        if not fresh.allows_entries:\n",
        new="        if False:\n",
    ),
    Mutant(
        name="entry-after-its-deadline",
        says="Entries not sent by their deadline are dropped, never queued for later.",
        path=GATE,
        old="        if order.deadline is not None and now > order.deadline:\n",
        new="        if order.deadline is not None and now > order.deadline + 3_600_000:\n",
    ),
    Mutant(
        name="second-entry-beside-one-in-doubt",
        says="While an entry of a session is in doubt no new entry of it is sent.",
        path=GATE,
        old="        pending = entry_pending(self._desk.book.open())\n",
        new="        pending = None\n",
        also=(Edit(RECOVERY, '            desk.blocks.set("doubt",', '            str.format("doubt",'),),
    ),
    Mutant(
        name="enters-on-a-mismatch",
        says="A mismatch blocks that session's entries at once.",
        path=ENTRIES,
        old="        if position.quantity != desk.book.position.quantity:\n",
        new="        if False:\n",
        also=(
            Edit(RECONCILER, 'desk.blocks.set("position", f"broker says', 'str.format("position", f"broker says'),
            Edit(
                RECONCILER,
                "                position_effect=verdict.difference,\n                blocks_entries=True,\n",
                "                position_effect=verdict.difference,\n                blocks_entries=False,\n",
            ),
        ),
    ),
    Mutant(
        name="entry-without-a-fresh-position",
        says="An entry waits for the broker's position, and does not go without it.",
        path=ENTRIES,
        old="        if position is None:\n            return self._denied(\n",
        new="        if position is None:\n            position = desk.book.position\n"
        "        if False:\n            return self._denied(\n",
    ),
    Mutant(
        name="limits-not-asked",
        says="Hard limits of a session stand against every entry.",
        path=ENTRIES,
        old="        if broken is not None:\n            self._consequence(broken)\n",
        new="        if False:\n            self._consequence(broken)\n",
    ),
    Mutant(
        name="decision-key-of-the-moment",
        says="At most one attempt per (session, candle, leg) that is not proven dead; a decision is used at most once.",
        path=ENTRIES,
        old='        key = decision_key(desk.settings.id, wish.origin, "entry", 1)\n',
        new='        key = decision_key(desk.settings.id, f"{wish.origin} at {desk.now()}", "entry", 1)\n',
    ),
    Mutant(
        name="exit-beside-an-exit-in-doubt",
        says="An exit in doubt defers another exit until evidence.",
        path=EXITS,
        old="    doubtful = next((o for o in moving if o.state in _UNKNOWN), None)\n",
        new="    doubtful = None\n    moving = [o for o in moving if o.state not in _UNKNOWN]\n",
        also=(HOLDS_NOTHING,),
    ),
    Mutant(
        name="exit-ignores-the-stop",
        says="No exit raises or reverses a position: all own exits together never exceed it.",
        path=EXITS,
        old="    if doubtful is None and closable(orders, position) >= quantity:\n",
        new="    if doubtful is None:\n",
    ),
    Mutant(
        name="exit-of-twice-the-size",
        says="An exit closes at most what the broker holds.",
        path=EXITS,
        old="    quantity = min(held if wanted is None else wanted, max(ZERO, held - leaving))\n",
        new="    quantity = 2 * (held if wanted is None else wanted)\n",
    ),
    Mutant(
        name="exit-sized-from-stale-memory",
        says="An exit is sized by a fresh read; memory only when the broker is silent for a second.",
        path=ROAD,
        old="        if fresh.quantity == known.quantity:\n            return known, False\n",
        new="        if fresh is not None:\n            return known, False\n",
    ),
    Mutant(
        name="stop-cancelled-without-proof",
        says="A protective order goes only with the broker's proof before its room is used again.",
        path=ROAD,
        old="await desk.until(lambda: all(desk.current(o).state in TERMINAL for o in orders), PROOF_SECONDS)\n",
        new="True\n",
        also=(HOLDS_NOTHING,),
    ),
    Mutant(
        name="stop-not-resized",
        says="The stop follows the position: |position| <= confirmed stop quantity within 5 s of a fill.",
        path=GUARD,
        old="            if now - self._uneven_since >= grace:\n",
        new="            if False:\n",
    ),
    Mutant(
        name="stop-not-rearmed",
        says="A position whose stop is gone gets one again, or is left, or is NAKED with the alarm up.",
        path=GUARD,
        old="        await self._rearm(size)\n",
        new="        return\n",
    ),
    Mutant(
        name="rearmed-beside-an-unproven-stop",
        says="A stop is placed again only when no stop is live, by the broker's own word on each.",
        path=GUARD,
        old="        if unproven:\n            if covered < size:\n",
        new="        if unproven and False:\n            if covered < size:\n",
    ),
    Mutant(
        name="leftover-stop-stays",
        says="Own exits beyond |position| are an excess and are cancelled.",
        path=LEFTOVERS,
        old='            await self._submission.cancel(order, "the position is flat")\n',
        new="            continue\n",
    ),
    Mutant(
        name="lost-after-one-negative",
        says="LOST needs four consecutive complete negative answers, the last at least 90 s after the send.",
        path=RECOVERY,
        old="        if doubt.negatives < desk.numbers.lost_negatives or desk.now() - doubt.sent < patience:\n",
        new="        if doubt.negatives < 1:\n",
    ),
    Mutant(
        name="incomplete-answer-counts-as-absence",
        says="Absence counts only from a complete, successful query.",
        path=RECOVERY,
        old='            self._again(current, False, "the broker gave no complete answer")\n            return\n',
        new="            rows = ()\n",
    ),
    Mutant(
        name="doubt-is-never-asked-about",
        says="In doubt: query at 1, 2, 4, 8, then every 10 s.",
        path=RECOVERY,
        old="            elif order.doubt is not None and order.doubt.next_query <= now:\n",
        new="            elif order.doubt is not None and order.doubt.next_query + 3_600_000 <= now:\n",
    ),
    Mutant(
        name="lost-does-not-block",
        says="LOST keeps entries of that session blocked until a typed word.",
        path=RECOVERY,
        old="        doubtful = [o for o in desk.book.open() if o.is_in_doubt or o.state is OrderState.LOST]\n",
        new="        doubtful = [o for o in desk.book.open() if o.is_in_doubt]\n",
        also=(Edit(GATE, "        pending = entry_pending(self._desk.book.open())\n", "        pending = None\n"),),
    ),
    Mutant(
        name="two-alike-one-is-taken",
        says="Mode none: exactly one candidate is adopted and marked; several go to the operator.",
        path=RECOVERY,
        old="        if len(alike) != 1 or not left or self._wants_a_word(order, left[0], rows):\n",
        new="        if not alike or not left:\n",
    ),
    Mutant(
        name="flat-without-asking",
        says="Flat = position zero and no unproven own order on the contract, by a fresh read.",
        path=FLATTEN,
        old="        if position.quantity:\n            return FlattenResult(False,",
        new="        if False:\n            return FlattenResult(False,",
        also=(
            Edit(
                FLATTEN,
                '        unproven = self._unproven()\n        say(f"broker says',
                '        unproven: list[Order] = []\n        say(f"broker says',
            ),
        ),
    ),
    Mutant(
        name="flat-with-an-order-in-doubt",
        says="Flat = position zero and no unproven own order on the contract (LOST included).",
        path=FLATTEN,
        old='        unproven = self._unproven()\n        say(f"broker says',
        new='        unproven: list[Order] = []\n        say(f"broker says',
    ),
    Mutant(
        name="flatten-keeps-entries",
        says="Flatten cancels entries; an entry that proves live while it stands is cancelled and its fills closed.",
        path=FLATTEN,
        old="            if o.role is Role.ENTRY or (o.role is Role.TARGET and not (o.linked and linked_pair))\n",
        new="            if o.role is Role.TARGET and not (o.linked and linked_pair)\n",
    ),
    Mutant(
        name="flatten-does-not-pause",
        says="Flatten: pause entries (until resumed) first.",
        path=FLATTEN,
        old='        desk.blocks.set("pause", "paused: flattened by hand until resumed")\n',
        new="",
        also=(
            Edit(
                "engine/overrides/base.py",
                '        run.desk.blocks.set("pause", reason)\n',
                '        if "flatten" not in reason:\n            run.desk.blocks.set("pause", reason)\n',
            ),
        ),
    ),
    Mutant(
        name="reverse-enters-at-once",
        says="A reverse enters only once the exit is confirmed flat.",
        path=HANDLER,
        old="        if not await desk.until(lambda: desk.book.position.is_flat, left):\n",
        new="        if not await desk.until(lambda: True, left):\n",
        also=(
            Edit(ENTRIES, "        if position.quantity * wish.side.sign < 0:\n", "        if False:\n"),
            Edit(
                GATE,
                "        if (held := desk.book.position.quantity) * order.terms.side.sign < 0:\n",
                "        if (held := desk.book.position.quantity) and False:\n",
            ),
        ),
    ),
    Mutant(
        name="fill-booked-twice",
        says="A fill applied twice changes nothing.",
        path=BOOK,
        old="known.revision >= fill.revision:\n            return order\n        booked = ",
        new="known.revision > fill.revision:\n            return order\n        known, booked = None, ",
    ),
    Mutant(
        name="terminal-with-fills-missing",
        says="WORKING -> terminal only after known fills equal the reported cumulative quantity.",
        path=LIFECYCLE,
        old="        if order.state in TERMINAL or report.filled > order.filled:\n            return order.state\n",
        new="        if order.state in TERMINAL:\n            return order.state\n",
    ),
    Mutant(
        name="late-fill-dropped",
        says="Broker facts are never refused: a fill is booked in any state.",
        path=BOOK,
        old="        booked = self._fill_of(order, fill, order.filled)\n        if known is None:\n",
        new="        booked = self._fill_of(order, fill, order.filled)\n"
        "        if known is None and order.state in TERMINAL:\n            return order\n        if known is None:\n",
    ),
    Mutant(
        name="stale-record-shrinks-the-fill",
        says="Larger cumulative quantity wins over any status word; a status with less than ours is stale.",
        path=LIFECYCLE,
        old="    if report.filled < order.filled:\n        return order\n",
        new="    if report.filled < order.filled:\n        order = changed(order, filled=report.filled)\n",
    ),
    Mutant(
        name="restart-believes-what-was-under-way",
        says="A restart that finds SUBMITTING reads it as in doubt.",
        path=LIFECYCLE,
        old="        case S.SUBMITTING | S.PENDING_CANCEL | S.PENDING_REPLACE:\n            return doubted(",
        new="        case S.SUBMITTING:\n            return abandoned(changed(order, sent=None), now, 'assumed')\n"
        "        case S.PENDING_CANCEL | S.PENDING_REPLACE:\n            return doubted(",
    ),
    Mutant(
        name="lost-lease-still-sends",
        says="All commands stop on proof of another holder.",
        path=LINKS,
        old="        if (holder := self._lost_to()) is not None:\n",
        new="        if (holder := self._lost_to()) is not None and False:\n",
        also=(
            Edit(
                LEASE,
                "        if self.lost_to is not None:\n"
                '            return f"another engine commands this account: {self.lost_to}"\n'
                "        return None if begun is None",
                "        return None if begun is None",
            ),
            NO_EPOCH,
        ),
    ),
    Mutant(
        name="suspended-does-not-ask",
        says="A resumed process sends nothing on an old epoch.",
        path=LEASE,
        old="            if self.lost_to is not None or self._is_younger(self._asked):\n",
        new="            if True:\n",
    ),
    Mutant(
        name="unrenewed-lease-enters",
        says="Unable to renew: entries stop.",
        path=LEASE,
        old="        if self._is_younger(self._confirmed):\n            return None\n",
        new="        if self._confirmed >= 0:\n            return None\n",
    ),
    Mutant(
        name="exit-passes-the-gate",
        says="Exits are never refused by heat, pause, kill, stale feed, warm-up, limits or a database outage.",
        path=SUBMISSION,
        old="            refusal = refusal or closed_since(held, desk.book.position, size)\n",
        new="            refusal = refusal or self._gate.standing()\n",
    ),
    Mutant(
        name="opposite-entry-stays-an-entry",
        says="Arithmetic against the broker's position may tighten an intent, never widen it.",
        path=HANDLER,
        old="            intent = Intent.EXIT\n        if intent is Intent.EXIT:\n",
        new="            intent = Intent.ENTER\n        if intent is Intent.EXIT:\n",
        also=(
            Edit(
                ENTRIES,
                "        if position.quantity * wish.side.sign < 0:\n",
                "        if False:\n",
            ),
            Edit(
                GATE,
                "        if (held := desk.book.position.quantity) * order.terms.side.sign < 0:\n",
                "        if (held := desk.book.position.quantity) and False:\n",
            ),
        ),
    ),
    Mutant(
        name="exit-on-another-contract",
        says="Exits always go to the position's own contract.",
        path=ROAD,
        old="                symbol=desk.book.symbol,\n",
        new='                symbol=type(desk.book.symbol)({"ESZ6": "NQZ6", "NQZ6": '
        '"ESZ6"}.get(desk.book.symbol, "ESZ6")),\n',
    ),
    Mutant(
        name="unlinked-target-rests",
        says="Where the broker does not link them, only the stop rests at the broker and the target is ours.",
        path=ENTRIES,
        old="            if price is None or (role is Role.TARGET and not linked):\n",
        new="            if price is None:\n",
    ),
    Mutant(
        name="legs-for-the-day",
        says="Protective legs are GTC; DAY only with a flat-by before the close.",
        path=ENTRIES,
        old="                tif=TimeInForce.GTC,\n",
        new="                tif=TimeInForce.DAY,\n",
    ),
    Mutant(
        name="deadline-of-an-hour",
        says="The deadline of an intent is one timeframe, at most 60 s.",
        path=ENTRIES,
        old="round(min(desk.settings.timeframe.ms, desk.numbers.intent_deadline * 1000))",
        new="3_600_000",
    ),
    Mutant(
        name="client-id-too-long",
        says="A client order id is letters and digits, at most 22 characters.",
        path="engine/domain/ids.py",
        old="CLIENT_ID_LENGTH = 22\n",
        new="CLIENT_ID_LENGTH = 32\n",
    ),
    Mutant(
        name="wanted-cancel-is-forgotten",
        says="A cancel intent is legal in every open state, durable, and is sent once an id is known.",
        path=RECOVERY,
        old="                await self._cancel_again(order)\n",
        new="                pass\n",
    ),
    Mutant(
        name="ended-order-reopens",
        says="Terminal states never reopen except by bust, correction or a new fill (same state, flagged).",
        path=LIFECYCLE,
        old="    elif order.state in TERMINAL:\n        state, doubt = order.state, order.doubt\n",
        new="    elif order.state in TERMINAL:\n        state, doubt = resting_state(grown), None\n",
    ),
    Mutant(
        name="open-orders-alone-prove",
        says="Complete lists of open and closed orders: open-only lists prove nothing.",
        path=RECOVERY,
        old="        found = self._match(current, rows)\n",
        new="        found = self._match(current, tuple(row for row in rows if not row.status.is_final))\n",
    ),
)
