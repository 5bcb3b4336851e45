"""The rules of the moment in which a request leaves, judged by what the world knows and not by what the gate read."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from engine.domain.ids import Millis, SessionId
from engine.domain.orders import Flag, Order, OrderState, Role
from engine.domain.settings import SessionLimits
from tests.simulation.oracle.day import Day
from tests.simulation.oracle.findings import Findings
from tests.simulation.oracle.mind import Mind, Wish
from tests.simulation.oracle.scene import Scene
from tests.simulation.oracle.truth import Truth

MINUTE_MS = 60_000
STALE_MS = 15_000
LEASE_MS = 10_000
DEADLINE_MS = 60_000
PROMPT_MS = 1_500
READ_MS = 7_000
MONEY_MS = 122_000
SETTLE_MS = 300
UNSIZED = frozenset({Flag.SIZED_FROM_MEMORY, Flag.FORCED})
WRITTEN_MS = 10_000
ARMING_MS = 10_000
"""Between the look at the price and the stop: what the broker holds is read, and whose it is."""
THROUGH = "price is through the stop "
ADOPTED = (
    "SELECT id FROM disagreements WHERE session = ? AND kind IN ('position', 'reversal') AND state = 'adopted' "
    "AND acknowledged_at IS NULL"
)
EVALUATED = "SELECT session, candle FROM evaluated_candles"


class Sending:
    """Judges each request as it leaves."""

    def __init__(self, truth: Truth, findings: Findings, limits: dict[SessionId, SessionLimits], day: Day) -> None:
        self._truth = truth
        self._findings = findings
        self._limits = limits
        self._day = day
        self._entries: dict[tuple[str, SessionId], deque[Millis]] = {}
        self._used: dict[str, dict[str, Millis]] = {}
        self._priced: dict[tuple[str, SessionId], Millis] = {}
        self.acknowledged: set[str] = set()

    def begin(self, life: str) -> None:
        """A life begins: what earlier ones decided, as far as it can know."""
        self._used[life] = dict(self._truth.database.execute(EVALUATED).fetchall())

    def used(self, mind: Mind) -> Millis:
        """The newest candle that an earlier life had decided on, -1 without one."""
        return self._used.get(mind.life, {}).get(mind.session, -1)

    def any(self, scene: Scene, kind: str) -> None:
        """Submit, replace or cancel, I34."""
        holds = not (scene.is_old and scene.can_know)
        self._findings.check("I34", holds, f"{scene.life} sends a {kind} although the account was taken over")

    def submit(self, mind: Mind, order: Order, scene: Scene) -> None:
        """A submit starts to leave."""
        self._check_used(mind, order, scene)
        wanted = not order.cancel_wanted
        self._findings.check("cancel heard", wanted, f"{order.role} {order.client_id} leaves, and its cancel is wanted")
        if order.role is Role.ENTRY:
            self._entry(mind, order, scene)
        else:
            self._exit(mind, order, scene)

    def _check_used(self, mind: Mind, order: Order, scene: Scene) -> None:
        """I15: a decision is used at most once ever."""
        origin = order.key.split("/")[1]
        if origin.isdigit() and order.created >= scene.began:
            used = self._used.get(scene.life, {}).get(mind.session, -1)
            self._findings.check(
                "I15 used", int(origin) > used, f"{order.key} leaves; an earlier life decided on {used}"
            )

    def _entry(self, mind: Mind, order: Order, scene: Scene) -> None:
        check, entry = self._findings.check, f"entry {order.client_id} of {mind.session}"
        check("I34 entry", not scene.is_old, f"{entry} leaves although the account was taken over")
        check("entry side", mind.position * order.terms.side.sign >= 0, f"{entry} leaves against {mind.position}")
        late = 0 if order.deadline is None else scene.clock - order.deadline
        check("entry deadline", late <= 0, f"{entry} leaves {late} ms after its deadline")
        most = 0 if order.deadline is None else order.deadline - order.created
        check("entry lifetime", most <= DEADLINE_MS, f"{entry} leaves and was given {most} ms")
        age = scene.tick_age
        check("entry fresh", age is not None and age < STALE_MS, f"{entry} leaves on data {age} ms old")
        renewed = scene.renewed_age
        check(
            "entry lease",
            renewed is not None and renewed <= LEASE_MS,
            f"{entry} leaves; its lease was renewed {renewed} ms ago",
        )
        check("I17 gap", not scene.has_gap, f"{entry} leaves while the gap in the feed is open")
        if scene.is_steady:
            money = scene.money_age
            check(
                "entry money", money is not None and money <= MONEY_MS, f"{entry} leaves; money was told {money} ms ago"
            )
        if scene.is_steady and scene.read_age is not None:
            check(
                "entry read", scene.read_age <= READ_MS, f"{entry} leaves; positions were read {scene.read_age} ms ago"
            )
            place = (mind.account, mind.symbol)
            unfilled = self._truth.now() - self._truth.filled_at.get(place, 0) > scene.read_age + SETTLE_MS
            settled = unfilled and self._truth.position(place).quantity == scene.read
            same = not settled or scene.read == mind.position
            check("entry agrees", same, f"{entry} leaves; the broker says {scene.read}, memory {mind.position}")
        self._check_limits(mind, order, scene, entry)
        self._day.leaves(mind, scene, entry)
        rows = self._truth.database.execute(ADOPTED, (mind.session,)).fetchall()
        waiting = [id for (id,) in rows if id not in self.acknowledged]
        check("I10 block", not waiting, lambda: f"{entry} leaves while {waiting} waits for somebody")

    def _check_limits(self, mind: Mind, order: Order, scene: Scene, entry: str) -> None:
        limits, terms, check = self._limits[mind.session], order.terms, self._findings.check
        check("entry size", terms.quantity <= limits.max_order_size, f"{entry} is for {terms.quantity}")
        prices = [price for price in (terms.limit, terms.stop) if price is not None]
        far = max((abs(price - scene.mark) / scene.mark for price in prices), default=Decimal(0))
        check("entry collar", far <= limits.price_collar + Decimal("0.01"), f"{entry} is {far} away from the market")
        times = self._entries.setdefault((mind.life, mind.session), deque(maxlen=50))
        recent = sum(at > scene.clock - MINUTE_MS for at in times)
        check("entry count", recent < limits.entries_per_minute, f"{entry} follows {recent} others in a minute")
        times.append(scene.clock)

    def _exit(self, mind: Mind, order: Order, scene: Scene) -> None:
        check = self._findings.check
        if scene.is_steady:
            waited = scene.clock - order.created
            check("I19 prompt", waited <= PROMPT_MS, f"{order.role} {order.client_id} waited {waited} ms to leave")
        if order.role is Role.EXIT and scene.is_steady and scene.read_age is not None:
            sized = scene.clock - scene.read_age <= order.created and not order.flags & UNSIZED
            fits = not sized or order.terms.quantity <= abs(scene.read)
            check("exit size", fits, f"exit {order.client_id} of {order.terms.quantity}, the broker says {scene.read}")
        wish = mind.wish
        if order.role is Role.EXIT and wish is not None and wish.is_past and wish.before < wish.candle:
            self._missed(wish, order)
        if order.role is Role.EXIT and Flag.FORCED not in order.flags:
            doubtful = [
                other.client_id
                for other in mind.orders
                if other.role is Role.EXIT
                and other.client_id != order.client_id
                and other.state is OrderState.IN_DOUBT_SUBMIT
                and other.terms.side is order.terms.side
            ]
            check("rule 9", not doubtful, lambda: f"exit {order.client_id} leaves beside {doubtful} in doubt")
        if order.role is Role.EXIT and scene.is_steady:
            self._claim(mind, order, scene)
        if order.role is Role.STOP:
            self._stop(mind, order)
            self._armed(mind, order, scene)
            self._still_held(order, scene)

    def converts(self, order: Order, scene: Scene) -> None:
        """A stop starts to become an exit: by one of the words of the last seconds it was sized."""
        if order.wanted is None or order.flags & UNSIZED or not scene.is_steady or (scene.read_age or 0) > READ_MS:
            return
        size, most = order.wanted.quantity - order.filled, scene.read_most
        self._findings.check(
            "exit size", size <= most, f"{order.client_id} becomes an exit of {size}, the broker says {scene.read}"
        )

    def _claim(self, mind: Mind, order: Order, scene: Scene) -> None:
        """Rule 7: who leaves because the price is through the stop has seen such a price."""
        said, at = order.reason.partition(THROUGH)[2], _moment(order, "naked:")
        prices = _prices(scene, at, at)
        if (
            said and prices and at >= scene.began and mind.moved < at
        ):  # one that has turned round since is left all the same
            through = any((price - Decimal(said)) * order.terms.side.sign >= 0 for price in prices)
            self._findings.check(
                "rule 7 through", through, f"{order.client_id} leaves: {order.reason}; the feed said {prices}"
            )

    def priced(self, mind: Mind, now: Millis) -> None:
        """Note since when a session knows a price: while it loads history it has none, whatever the feed said."""
        if mind.mark is None:
            self._priced.pop((mind.life, mind.session), None)
        else:
            self._priced.setdefault((mind.life, mind.session), now)

    def _armed(self, mind: Mind, order: Order, scene: Scene) -> None:
        """The other way round: no stop is armed where the price has been through it all the while."""
        since = None if mind.mark is None else self._priced.get((mind.life, mind.session))
        at, stop = _moment(order, "cover:"), order.terms.stop
        prices = _prices(scene, at - ARMING_MS, at)
        if stop is not None and prices and since is not None and at >= since + ARMING_MS and scene.is_steady:
            before = any((price - stop) * order.terms.side.sign < 0 for price in prices)
            self._findings.check(
                "rule 7 armed", before, f"{order.client_id} is armed at {stop}; the feed said {prices}"
            )

    def _still_held(self, order: Order, scene: Scene) -> None:
        """A stop is armed for a position of which the broker has just said that it holds it."""
        if not scene.is_steady or order.flags & UNSIZED or _moment(order, "cover:") < scene.began:
            return
        self._findings.check(
            "stop read",
            scene.told_lately(-order.terms.side.sign * order.terms.quantity),
            f"stop {order.client_id} of {order.terms.quantity} leaves; the broker told {scene.reads}",
        )

    def _missed(self, wish: Wish, order: Order) -> None:
        """An exit decided on a candle of a warm-up or a gap is marked, and no later decision superseded it."""
        origin, marked = order.key.split("/")[1], Flag.MISSED in order.flags
        if origin == str(wish.candle):
            self._findings.check("missed mark", marked, f"exit {order.key} leaves unmarked on a candle of the past")
        elif origin.isdigit() and marked:
            later = int(origin) < wish.candle and not wish.leaves
            self._findings.check(
                "missed superseded", not later, f"{order.key} leaves; an entry on {wish.candle} is newer"
            )

    def _stop(self, mind: Mind, order: Order) -> None:
        """Rule 7: a stop is placed again on the broker's word on each before it; legs that sleep guard nothing."""
        asleep = {o.client_id for o in mind.orders if o.role is Role.ENTRY and not o.filled and not o.reported}
        doubtful = [
            other.client_id
            for other in mind.orders
            if other.role is Role.STOP
            and other.client_id != order.client_id
            and other.state is OrderState.IN_DOUBT_SUBMIT
            and other.parent not in asleep
        ]
        self._findings.check(
            "rule 7 stop", not doubtful, lambda: f"stop {order.client_id} leaves beside {doubtful} in doubt"
        )


def _moment(order: Order, word: str) -> Millis:
    """When the guard decided on it, by the desk's clock; -1 of one that it did not."""
    origin = order.key.split("/")[1]
    at = origin.removeprefix(word)
    return int(at) if origin.startswith(word) and at.isdigit() else -1


def _prices(scene: Scene, since: Millis, until: Millis) -> list[Decimal]:
    """What the feed told between two moments, and the price before; empty when that is not known."""
    before = [price for at, price in scene.told if at < since]
    return [*before[-1:], *(price for at, price in scene.told if since <= at <= until)] if before else []
