"""The wire between a desk and the exchange, and the broker's manners: everything that can happen to a request,
an answer, an event or a question.

A request arrives after a trip and its answer takes another; whoever stops waiting, or dies, does not stop it. What
caused an event and what became of it is told to the `Witness`, which is how the oracle sees the truth.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from brokers.paper.exchange import PaperExchange
from engine.commands import Command, Receipt
from engine.domain.broker import (
    AccountEvent,
    Balance,
    BalanceReported,
    BrokerFill,
    BrokerOrder,
    BrokerPosition,
    FillsKind,
    IdMode,
    LinkChanged,
    LinkState,
    Report,
    SubmitAnswer,
    SubmitRequest,
)
from engine.domain.ids import AccountId, BrokerOrderId, ClientOrderId, Millis, Symbol
from engine.domain.orders import Terms
from engine.domain.risk import Contribution, StanceNotice
from engine.errors import AnswerLost, LinkDown, LinkError, LockedOut, QueryFailed
from tests.simulation.loop import Life, SimClock
from tests.simulation.seams import Seams
from tests.simulation.streams import Stream

T = TypeVar("T")
Row = TypeVar("Row")
TRIP_MS = (2, 12)
EVENT_MS = 7
DOUBT_MS = 100
"""Long enough for the desk to hear that no answer comes, and shorter than it takes to ask."""
RATE_MS = 10_000
AGAIN_MS = 1_500
"""A request that could not leave is tried again within it."""


class Witness(Protocol):
    """Sees every request as it arrives at the exchange."""

    def submitting(self, life: Life, account: AccountId, request: SubmitRequest, left: Millis) -> None:
        """Before the exchange takes or refuses it; `left` is when it started on its way."""

    def replacing(self, life: Life, account: AccountId, broker_id: BrokerOrderId, terms: Terms, left: Millis) -> None:
        """Before the exchange changes it; `left` is when it started on its way."""

    def cancelling(self, life: Life, account: AccountId, broker_id: BrokerOrderId) -> None:
        """Before the exchange cancels it."""

    def answered(self, life: Life, account: AccountId, kind: str, answer: SubmitAnswer) -> None:
        """What the exchange said."""

    def sending(
        self, life: Life, account: AccountId, kind: str, request: SubmitRequest | None, about: BrokerOrderId | None
    ) -> None:
        """A request starts to leave the desk; a replace or cancel is `about` an order."""

    def unanswered(self, life: Life, kind: str, about: BrokerOrderId, left: Millis) -> None:
        """A replace or cancel that left then was lost on its way a moment ago, and the desk has been told so."""

    def commanding(self, life: Life, command: Command) -> None:
        """An operator's command reaches the engine."""

    def receipt(self, life: Life, command: Command, receipt: Receipt, raised: bool) -> None:
        """The engine took it, or said why not."""

    def repeated(self, command: Command, receipt: Receipt, again: Receipt) -> None:
        """The same command came a second time, and was answered so."""

    def stance(self, life: Life, notice: StanceNotice) -> None:
        """The portfolio told a trader of this life whether entries may go."""

    def reserved(self, life: Life, order: ClientOrderId, money: Decimal) -> None:
        """The portfolio set heat aside for an order of this life."""

    def reported(self, life: Life, share: Contribution) -> None:
        """A trader of this life declared its risk."""


class WireTrouble:
    """What one account's wire suffers now, whichever life uses it; written by the faults."""

    def __init__(self) -> None:
        self.asked: Millis = 0
        self.answered: deque[tuple[Millis, str]] = deque(maxlen=2_000)  # rows may be written minutes late
        self.unsent: deque[tuple[Millis, Millis]] = deque(maxlen=500)  # when a request could not leave, and until when
        self.clear(0)

    def clear(self, now: Millis) -> None:
        """Nothing is wrong any more."""
        self.cut_until: Millis = now
        self.most_requests = 0
        self.locked_until: Millis = 0
        self.token_until: Millis = 0
        self.lose_request = 0.0
        self.lose_answer = 0.0
        self.slow = 0.0
        self.slow_seconds = (3.0, 45.0)
        self.drop_event = 0.0
        self.duplicate_event = 0.0
        self.reorder_event = 0.0
        self.fail_query = 0.0
        self.freeze_query = 0.0
        self.truncate_query = 0.0
        self.stale_query = 0.0
        self.slow_query = 0.0
        self.lag_query = 0.0
        self.forgets: Callable[[str, tuple[BrokerOrder, ...]], tuple[BrokerOrder, ...]] | None = None
        """What a complete answer about orders leaves out of its rows."""
        self.money_silent_until: Millis = 0
        self.misstates: Callable[[Balance], Balance] | None = None
        """What an answer about money says instead."""
        self.twins: Callable[[SubmitRequest], bool] | None = None
        """Whether somebody else has the same idea as this request, whose answer is then lost."""


class Wire:
    """AccountManager of one life."""

    def __init__(
        self,
        account: AccountId,
        exchange: PaperExchange,
        world: SimClock,
        life: Life,
        seams: Seams,
        trouble: WireTrouble,
        rng: Stream,
        witness: Witness,
        hit: Callable[[str], None],
    ) -> None:
        self.account = account
        self.capabilities = exchange.capabilities(account)
        self._exchange = exchange
        self._world = world
        self._life = life
        self._seams = seams
        self.trouble = trouble
        self._rng = rng
        self._witness = witness
        self._hit = hit
        self._sink: Callable[[AccountEvent], None] | None = None
        self._unlisten: Callable[[], None] = lambda: None
        self._up = False
        self._down_since: Millis | None = None
        self.up_since: Millis | None = None
        self._recent: deque[Millis] = deque(maxlen=20)
        self._mute = False
        self.read: tuple[Millis, dict[Symbol, Decimal]] = (0, {})
        self.reads: deque[tuple[Millis, dict[Symbol, Decimal]]] = deque(maxlen=20)
        self.money_at: Millis = 0
        self.asked_at: dict[str, Millis] = {}
        self.answered_at: dict[str, Millis] = {}
        self.fills_from: Millis | None = None
        """The earliest moment since when executions were told, None before any were."""
        self._unread: list[AccountEvent] = []
        self._under_way: dict[asyncio.Future[Any], type[LinkError]] = {}
        self._events: deque[tuple[Millis, AccountEvent]] = deque()
        self._flushing = False
        self._epoch = 0
        self._last: dict[str, Report[Any]] = {}
        self._after: deque[tuple[Millis, tuple[BrokerPosition, ...], tuple[BrokerOrder, ...]]] = deque(maxlen=20)

    # -- the link -----------------------------------------------------------------------------------------

    async def start(self, sink: Callable[[AccountEvent], None]) -> None:
        """Connect; raises LinkDown while the line is cut."""
        if self._now() < self.trouble.cut_until:
            raise LinkDown("the line is down")
        self.close()
        self._sink = sink
        self._unlisten = self._exchange.listen(self.account, self._on_event)
        self._change(LinkState.UP, "connected")

    async def stop(self) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Nothing under way gets an answer, the sink is not called again; what was sent still arrives."""
        self._unlisten()
        self._unlisten = lambda: None
        self._sink = None
        self._up = False
        self.up_since = None
        self._drop("the link was closed")

    def cut(self) -> None:
        """The line breaks until the trouble's own end."""
        if self._sink is None:
            return
        if self._up:
            self._drop("the link was cut")
            self._change(LinkState.RECONNECTING, "connection lost")
        self._at(self.trouble.cut_until, self.look)

    def look(self) -> None:
        """Whether the line may come back now."""
        if self._sink is not None and not self._up and self._now() >= self.trouble.cut_until:
            self._change(LinkState.UP, "connected again")

    def _change(self, state: LinkState, reason: str) -> None:
        was, self._up = self._up, state is LinkState.UP
        if was and not self._up:
            self._down_since = self._now()
        elif self._up and not was and self._down_since is not None:
            self.trouble.unsent.append((self._down_since, self._now()))
        self.up_since = self._now() if self._up else None
        self._tell(LinkChanged(state, reason))

    def _tell(self, event: AccountEvent) -> None:
        if self._life.paused:
            self._unread.append(event)
        elif self._sink is not None and not self._life.dead:
            self._sink(event)

    def resume(self) -> None:
        """A stopped process goes on, and reads what its socket holds."""
        unread, self._unread = self._unread, []
        for event in unread:
            self._tell(event)

    def _drop(self, why: str) -> None:
        self._events.clear()
        self._epoch += 1
        under_way, self._under_way = self._under_way, {}
        for answer, error in under_way.items():
            if not answer.done():
                answer.set_exception(error(why))

    def _now(self) -> Millis:
        return self._world.now()

    def _at(self, at: Millis, call: Callable[[], None]) -> None:
        self._world.call_at(at, call)

    def _trip(self) -> int:
        return self._rng.randint(*TRIP_MS)

    # -- requests -----------------------------------------------------------------------------------------

    async def submit(self, request: SubmitRequest) -> SubmitAnswer:
        """Send once. Raises LinkDown, AnswerLost, LockedOut."""
        left = self._now()

        def arrive() -> SubmitAnswer:
            self._witness.submitting(self._life, self.account, request, left)
            return self._exchange.submit(self.account, request, self._now())

        return await self._request("submit", arrive, request)

    async def replace(self, broker_id: BrokerOrderId, client_id: ClientOrderId, terms: Terms) -> SubmitAnswer:
        """Change once. Raises as submit."""
        left = self._now()

        def arrive() -> SubmitAnswer:
            self._witness.replacing(self._life, self.account, broker_id, terms, left)
            return self._exchange.replace(self.account, broker_id, client_id, terms, self._now())

        return await self._request("replace", arrive, about=broker_id)

    async def cancel(self, broker_id: BrokerOrderId) -> SubmitAnswer:
        """Cancel once. Raises as submit."""

        def arrive() -> SubmitAnswer:
            self._witness.cancelling(self._life, self.account, broker_id)
            return self._exchange.cancel(self.account, broker_id, self._now())

        return await self._request("cancel", arrive, about=broker_id)

    async def _request(
        self,
        kind: str,
        arrive: Callable[[], SubmitAnswer],
        request: SubmitRequest | None = None,
        about: BrokerOrderId | None = None,
    ) -> SubmitAnswer:
        trouble, rng, now = self.trouble, self._rng, self._now()
        if not self._up:
            trouble.unsent.append((now, now + AGAIN_MS))
            raise LinkDown("the link is down; nothing was sent")
        if now < trouble.locked_until:
            self._hit("lock-out")
            trouble.unsent.append((now, trouble.locked_until))
            raise LockedOut("too many requests", retry_after_seconds=(trouble.locked_until - now) / 1000)
        if now < trouble.token_until:
            self._hit("token expired")
            trouble.unsent.append((now, now + AGAIN_MS))
            raise LinkDown("the token has expired; nothing was sent")
        self._count_request(now)
        self._witness.sending(self._life, self.account, kind, request, about)
        lost = rng.chance(trouble.lose_request)
        mute = not lost and rng.chance(trouble.lose_answer)
        if request is not None and trouble.twins is not None and trouble.twins(request):
            lost, mute = False, True
        late = 0
        if rng.chance(trouble.slow):
            late = round(rng.uniform(*trouble.slow_seconds) * 1000)
            self._hit("slow 60-120 s" if late >= 60_000 else "slow request")

        def work() -> SubmitAnswer:
            if lost:
                self._hit("lost request")
                if about is not None:
                    self._at(self._now() + DOUBT_MS, lambda: self._witness.unanswered(self._life, kind, about, now))
                raise AnswerLost("the connection broke before an answer came")
            self._mute = mute
            try:
                answer = arrive()
            finally:
                self._mute = False
            self._witness.answered(self._life, self.account, kind, answer)
            if mute:
                self._hit("lost answer")
                raise AnswerLost("the connection broke before the answer came")
            return answer

        # the request leaves in this very step, before anything is awaited
        answer = self._travel(work, AnswerLost, late)
        await self._seams.crossing(f"{kind}: sent")
        result = await answer
        await self._seams.crossing(f"{kind}: answered")
        return result

    def _count_request(self, now: Millis) -> None:
        """A broker that counts: too many requests in ten seconds, and it does not listen for a while."""
        most = self.trouble.most_requests
        while self._recent and now - self._recent[0] > RATE_MS:
            self._recent.popleft()
        if most and len(self._recent) >= most:
            self._hit("rate limit")
            self.trouble.locked_until = now + RATE_MS // 2
            self.trouble.unsent.append((now, self.trouble.locked_until))
            raise LockedOut("429: too many requests", retry_after_seconds=RATE_MS / 2000)
        self._recent.append(now)

    def _travel(self, work: Callable[[], T], if_cut: type[LinkError], late: int) -> asyncio.Future[T]:
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._under_way[answer] = if_cut

        def arrive() -> None:
            try:
                result = work()
            except LinkError as error:
                failure = error
                self._at(self._now() + self._trip(), lambda: self._answer(answer, failure, None))
            else:
                self._at(self._now() + self._trip(), lambda: self._answer(answer, None, result))

        self._at(self._now() + self._trip() + late, arrive)
        return answer

    def _answer(self, answer: asyncio.Future[T], failure: LinkError | None, result: T | None) -> None:
        self._under_way.pop(answer, None)
        if answer.done():
            return
        if failure is not None:
            answer.set_exception(failure)
        else:
            answer.set_result(result)  # type: ignore[arg-type]

    # -- questions ----------------------------------------------------------------------------------------

    async def _ask(self, name: str, read: Callable[[], tuple[Row, ...]], lagging: int = -1) -> Report[Row]:
        trouble, rng = self.trouble, self._rng
        if not self._up:
            raise QueryFailed("the link is down")
        self.asked_at[name] = self._now()
        if name.startswith("order"):
            trouble.asked = self._now()
        if self._now() < trouble.token_until:
            self._hit("token expired")
            trouble.unsent.append((self._now(), self._now() + AGAIN_MS))  # who has no answer has nothing to ask for
            raise QueryFailed("401: the token has expired")
        if rng.chance(trouble.freeze_query):
            self._hit("frozen query")
            await asyncio.get_running_loop().create_future()
        slow = round(rng.uniform(200, 4_500)) if rng.chance(trouble.slow_query) else 0
        if slow:
            self._hit("slow query")

        def work() -> Report[Row]:
            if rng.chance(trouble.fail_query):
                self._hit("failed query")
                raise QueryFailed("503")
            if rng.chance(trouble.truncate_query):
                self._hit("truncated query")
                raise QueryFailed("the answer was cut off")
            if name in self._last and rng.chance(trouble.stale_query):
                self._hit("stale query")
                return self._last[name]
            self._exchange.advance(self._now())
            rows = read()
            if lagging >= 0 and rng.chance(trouble.lag_query):
                rows = self._as_it_was(lagging, rows)
            if trouble.forgets is not None and name.removeprefix("open ").startswith("order"):
                rows = trouble.forgets(name, rows)  # type: ignore[arg-type, assignment]
            report = self._last[name] = Report(rows, self._now())
            self.answered_at[name] = self._now()
            if name.startswith("order"):
                trouble.answered.append((self._now(), name))
            return report

        report = await self._travel(work, QueryFailed, slow)
        await self._seams.crossing("query: answered")
        return report

    def _as_it_was(self, column: int, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """The lists as they stood before the newest events, while the declared settle time has not passed."""
        now, settle = self._now(), self.capabilities.settle_ms
        if not self._after or now - self._after[-1][0] >= settle:
            return rows
        settled = [each for each in self._after if now - each[0] >= settle]
        if not settled:
            return rows
        self._hit("lagging query")
        return settled[-1][column + 1]  # type: ignore[return-value]

    async def positions(self) -> Report[BrokerPosition]:
        """Open positions."""
        begun = self._now()
        report = await self._ask("positions", lambda: self._exchange.positions(self.account), 0)
        if report.as_of >= begun:
            self.read = (report.as_of, {row.symbol: row.quantity for row in report.rows})
            self.reads.append(self.read)
        return report

    async def open_orders(self) -> Report[BrokerOrder]:
        """Orders that may still fill."""
        return await self._ask("open orders", lambda: self._exchange.open_orders(self.account), 1)

    async def orders_since(self, since: Millis) -> Report[BrokerOrder]:
        """Orders submitted or changed since."""
        return await self._ask("orders", lambda: self._exchange.orders_since(self.account, since))

    async def order_by_client_id(self, client_id: ClientOrderId) -> Report[BrokerOrder]:
        """Orders of this client id."""
        if not self.capabilities.find_by_client_id or self.capabilities.id_mode is IdMode.NONE:
            raise QueryFailed("this broker does not find orders by client id")
        return await self._ask(f"order {client_id}", lambda: self._exchange.orders_of(self.account, client_id))

    async def fills_since(self, since: Millis) -> Report[BrokerFill]:
        """Executions since."""
        if self.capabilities.fills is FillsKind.CUMULATIVE:
            raise QueryFailed("this broker reports cumulative quantities, not executions")
        report = await self._ask("fills", lambda: self._exchange.fills_since(self.account, since))
        self.fills_from = since if self.fills_from is None else min(self.fills_from, since)
        return report

    async def balance(self) -> Report[Balance]:
        """Money."""
        report = await self._ask("balance", self._money)
        self.money_at = self._now()
        return report

    def _money(self) -> tuple[Balance, ...]:
        """The first word on money of a life is true: nothing could tell that it is not."""
        if self._now() < self.trouble.money_silent_until:
            self._hit("balance silence")
            raise QueryFailed("503: no word on money")
        balance = self._exchange.balance(self.account)
        misstates = self.trouble.misstates if self.money_at else None
        return (balance if misstates is None else misstates(balance),)

    def moved_behind(self) -> None:
        """A position moved without an event: the lists of before are older than the declared settle time by now."""
        self._after.clear()

    # -- events -------------------------------------------------------------------------------------------

    def _on_event(self, event: AccountEvent) -> None:
        if self.trouble.lag_query:
            exchange, account = self._exchange, self.account
            self._after.append((self._now(), exchange.positions(account), exchange.open_orders(account)))
        else:
            self._after.clear()  # with events left out the newest would be no list of the declared time ago
        if not self._up or self._mute or self._sink is None or isinstance(event, BalanceReported):
            return
        trouble, rng = self.trouble, self._rng
        if rng.chance(trouble.drop_event):
            self._hit("dropped event")
            return
        due = self._now() + EVENT_MS
        if rng.chance(trouble.reorder_event):
            self._hit("reordered event")
            epoch = self._epoch
            due += rng.randint(20, 4_000)
            self._at(due, lambda: self._tell(event) if self._up and self._epoch == epoch else None)
            return
        self._events.append((due, event))
        if rng.chance(trouble.duplicate_event):
            self._hit("duplicate event")
            self._events.append((due, event))
        if not self._flushing:
            self._flushing = True
            self._at(due, self._flush)

    def _flush(self) -> None:
        now = self._now()
        while self._events and self._events[0][0] <= now and self._up:
            self._tell(self._events.popleft()[1])
        self._flushing = bool(self._events)
        if self._flushing:
            self._at(self._events[0][0], self._flush)
