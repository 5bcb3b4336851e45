"""The engine: sessions on shared links, one portfolio over them; start, stop, and what each part tells the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import assert_never

from msgspec.structs import replace as changed

from engine.aggregation.portfolio_server import PortfolioServer
from engine.board import Board, SessionReporter, tell_dead_jobs
from engine.desk_account import DeskAccount
from engine.domain.broker import LinkState
from engine.domain.disagreements import Disagreement
from engine.domain.ids import AccountId, Millis, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.order_book import OrderBook
from engine.domain.records import DisagreementRecorded, LatchKind, LatchSet
from engine.domain.risk import Contribution, StanceNotice, problem_of
from engine.domain.settings import ShutdownPolicy
from engine.errors import DeskHeld, DeskUnusable, StoreError
from engine.events import Disagreed
from engine.links import FeedLink
from engine.outbound.flatten import flatten_side_by_side
from engine.periodic import Tasks, done_within, every
from engine.plan import EnginePlan, PlannedAccount, PlannedSession
from engine.ports import JobRunner
from engine.session import SessionDesk
from engine.session_run import SessionRun, load
from engine.snapshot import Phase, Severity
from engine.supervisor import BUDGET, Supervisor
from engine.trader import LOOPS, RealtimeTrader
from engine.trail_watch import TrailWatch

log = logging.getLogger(__name__)
HEAT_CHECK_SECONDS = 1.0
CANCEL_SECONDS = 5.0


class Engine:
    """Owns every session, link and loop. Runs on one event loop; nothing in it is touched from another thread."""

    def __init__(self, plan: EnginePlan) -> None:
        self.plan = plan
        self.clock = plan.clock
        self.store = plan.store
        self.board = Board(plan.clock)
        self.started: Millis = plan.clock.now()
        self.stopping = False
        self.stopped = asyncio.Event()
        self.tape_ended = asyncio.Event()
        self.lost: asyncio.Future[DeskHeld] = asyncio.get_running_loop().create_future()
        self.kill_reason: str | None = None
        self.kill_since: Millis | None = None
        """When it was set; None while it is not, and where only the latch file says so."""
        self.kills = 0
        self.sessions: dict[SessionId, SessionRun] = {}
        self.accounts: dict[AccountId, DeskAccount] = {}
        self.instruments: dict[Symbol, Instrument] = {i.symbol: i for i in plan.instruments}
        self.jobs: JobRunner | None = None
        self._tasks = Tasks("engine", self._task_failed)
        self.portfolio = PortfolioServer(
            plan.portfolio, tuple(a.manager.account for a in plan.accounts), plan.clock, self._on_stance
        )
        self.feed = FeedLink(plan.source, plan.clock, self._on_feed)
        self.trail = TrailWatch(plan, self.board)

    # -- start --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the audit trail, take the accounts, recover, and let every session begin its account half.

        Raises DeskUnusable with a sentence; nothing was sent then.
        """
        try:
            await self._recover()
        except (StoreError, OSError) as error:
            raise DeskUnusable(f"The audit trail cannot be read and written: {error}.") from error
        self._begin()

    async def _recover(self) -> None:
        plan = self.plan
        with self.clock.outside():
            await plan.store.open()
            if plan.check_desk is not None:
                await plan.check_desk()
        if plan.kill_latch.is_set():
            self.kill_reason = "the latch file is set"
        for planned in plan.accounts:
            holder = plan.account_lock.acquire(AccountId(planned.identity))
            if holder is not None:
                raise DeskHeld(holder)
        with self.clock.outside():
            imported = await plan.import_journal()
        if imported:
            self.board.happened(f"{imported} journalled records were imported")
        for planned in plan.accounts:
            await self._add_account(planned)
        await self._read_limits()  # only now: until the accounts were ours another engine may have changed and held
        latches = await self._latches()
        for session in plan.sessions:
            await self._add_session(session, latches)

    def _begin(self) -> None:
        plan = self.plan
        if self.kill_reason is not None:
            self.board.alert("kill", Severity.CRITICAL, f"KILL is set: {self.kill_reason}", lasting=True)
            for run in self.sessions.values():
                run.trader.cancel_entries("kill")
        for account in self.accounts.values():
            self._tasks.launch(self._watched(account).run(), f"account {account.id}")
        for run in self.sessions.values():
            run.running = self._tasks.spawn(run.supervisor.run(), f"session {run.id}")
        self.jobs = plan.jobs()
        self._tasks.launch(self.jobs.run(), "jobs")
        self._tasks.launch(every(self.clock, HEAT_CHECK_SECONDS, self._check_heat), "heat check")
        self.trail.launch(self._tasks)
        feed = Supervisor(
            "feed",
            self._run_feed,
            self.clock,
            on_failure=self._feed_died,
            on_restart=lambda: self.board.clear("dead:feed"),
            budget=0 if self.feed.is_tape else BUDGET,
        )
        self._tasks.launch(feed.run(), "feed")

    async def _latches(self) -> tuple[LatchSet, ...]:
        try:
            with self.clock.outside():
                latches = await self.store.latches()
        except StoreError as error:
            raise DeskUnusable(
                f"the latches cannot be read ({error}); a latch that cannot be read counts as set"
            ) from error
        for latch in latches:
            if latch.session is None and latch.kind is LatchKind.KILL:
                self.kill_reason, self.kill_since = latch.reason, latch.at
        return latches

    async def _read_limits(self) -> None:
        with self.clock.outside():
            kept = await self.store.limits()
        self.portfolio.set_limits({change.name: change.percent for change in kept})
        if (problem := problem_of(self.portfolio.settings)) is not None:  # the file has changed since they were set
            text = f"the heat limits set live do not go with those of the file: {problem}; set them anew"
            self.board.alert("limits", Severity.WARNING, text, lasting=True)

    async def _add_account(self, planned: PlannedAccount) -> None:
        account = DeskAccount(
            planned.manager,
            broker=planned.broker,
            live=planned.live,
            faults=planned.faults,
            clock=self.clock,
            store=self.store,
            numbers=self.plan.numbers,
            reporter=SessionReporter(self.board, None),
            on_disagreement=self._on_disagreement,
            on_balance=lambda balance, at: self.portfolio.equity(planned.manager.account, balance, at),
            on_unowned=lambda symbol, size: self._on_unowned(planned.manager.account, symbol, size),
            holder=changed(self.plan.holder, proof=self.plan.account_lock.proof(AccountId(planned.identity))),
            is_shared=not self.feed.is_tape,
            on_lost=self._on_lost,
        )
        await account.prepare(take_over=self.plan.take_over)
        self.accounts[account.id] = account

    async def _add_session(self, planned: PlannedSession, latches: tuple[LatchSet, ...]) -> None:
        settings = planned.settings
        instrument = self.instruments[settings.symbol]
        account = self.accounts[settings.account]
        tasks = Tasks(f"session {settings.id}", lambda name, error: self._session_task_failed(settings.id, name, error))
        hold: list[RealtimeTrader] = []
        book = OrderBook(
            settings.id,
            settings.account,
            settings.symbol,
            account.link.capabilities,
            lambda change, now: hold[0].on_change(change, now),
        )
        desk = SessionDesk(
            settings=settings,
            instrument=instrument,
            numbers=self.plan.numbers,
            clock=self.clock,
            store=self.store,
            journal=self.plan.journal,
            road=account.link,
            heat=self.portfolio,
            reporter=SessionReporter(self.board, settings.id),
            tasks=tasks,
            book=book,
            disagreements=account.ledger,
            lease=account.lease,
            equity=lambda: account.reconciler.balance.equity if account.reconciler.balance is not None else None,
            killed=lambda: self.kill_reason,
            risk_of=lambda terms, stop, size: trader.planned_risk(terms, stop, size),
        )
        trader = RealtimeTrader(desk, planned.strategy, self.feed, self.plan.watchdog, report=self.portfolio.report)
        hold.append(trader)
        supervisor = Supervisor(
            f"session {settings.id}",
            trader.run,
            self.clock,
            on_failure=lambda reason, final: self._session_died(settings.id, reason, final),
            on_restart=lambda: self._session_back(settings.id),
        )
        run = SessionRun(trader, supervisor, instrument)
        self.sessions[settings.id] = run
        account.desks.append(desk)
        self.portfolio.expect(settings.id, instrument.group)
        with self.clock.outside():
            await load(run, self.store, latches, self.clock.now())

    async def _run_feed(self) -> None:
        """A recording waits until every session is warm or warming; a live feed runs at once."""
        await self.feed.start()
        if self.feed.is_tape:
            for run in self.sessions.values():
                await run.trader.ready.wait()
        await self.feed.run(self.tape_ended.set)

    # -- what the parts tell each other ---------------------------------------------------------------------

    def _on_feed(self, state: LinkState, reason: str) -> None:
        for run in self.sessions.values():
            run.trader.on_feed(state is LinkState.UP, reason)
        if state is not LinkState.UP:
            self.board.happened(f"feed {state}: {reason}")

    def _on_stance(self, session: SessionId, notice: StanceNotice) -> None:
        run = self.sessions.get(session)
        if run is not None:
            run.trader.stance = notice
            run.desk.moved()

    def _on_disagreement(self, disagreement: Disagreement) -> None:
        self.store.record(DisagreementRecorded(disagreement=disagreement))
        self.board.event(Disagreed(disagreement))
        run = self.sessions.get(disagreement.session) if disagreement.session is not None else None
        if run is not None:
            run.trader.read_disagreements()

    def _on_unowned(self, account: AccountId, symbol: Symbol, size: Decimal) -> None:
        """Positions and orders that no live session owns count at worst case, or make heat incomplete."""
        if not size:
            self.portfolio.unowned(account, symbol, None, known=True)
            return
        instrument = self.instruments.get(symbol)
        worst = instrument.worst_case if instrument is not None else None
        if worst is None:
            worst = max((r.desk.settings.limits.worst_case_per_contract for r in self.sessions.values()), default=None)
        if worst is None:
            self.portfolio.unowned(account, symbol, None, known=False)
            return
        risk = Contribution(
            session=SessionId(f"unowned on {account}"),
            symbol=symbol,
            group=instrument.group if instrument is not None else None,
            at=self.clock.now(),
            unowned=abs(size) * worst,
            worst_case=True,
        )
        self.portfolio.unowned(account, symbol, risk, known=True)

    async def _check_heat(self) -> None:
        self.portfolio.check()
        tell_dead_jobs(self.board, self.store.health())
        for run in self.sessions.values():
            run.trader.flattener.look()
            if run.dead is None and run.running is not None and run.running.done() and not self.stopping:
                self._session_died(run.id, "its supervisor ended", final=True)

    def _on_lost(self, reason: str) -> None:
        """Another engine commands: nothing of ours is sent or written from this step on, to whatever account."""
        self.store.seal(reason)
        for account in self.accounts.values():
            account.lease.lost_with(reason)
        self.board.alert("lease", Severity.CRITICAL, f"VIEW ONLY: {reason}", lasting=True)
        if not self.lost.done():
            self.lost.set_result(DeskHeld(reason))

    # -- failures -------------------------------------------------------------------------------------------

    def _watched(self, account: DeskAccount) -> Supervisor:
        """The account's own supervisor: while its link is dead its sessions enter nothing."""
        key = f"dead:{account.id}"

        def died(reason: str, final: bool) -> None:
            for desk in account.desks:
                desk.blocks.set("account", f"the link of {account.id} died: {reason}")
            text = f"the link of account {account.id} died: {reason}; it is {'not ' if final else ''}started again"
            self.board.alert(key, Severity.CRITICAL, text, lasting=True)

        def back() -> None:
            for desk in account.desks:
                desk.blocks.clear("account")
            self.board.clear(key)

        return Supervisor(f"account {account.id}", account.run, self.clock, on_failure=died, on_restart=back)

    def _feed_died(self, reason: str, final: bool) -> None:
        if self.stopping:
            return
        self.feed.failed(reason)
        text = f"the feed died: {reason}; it is {'not ' if final else ''}started again"
        self.board.alert("dead:feed", Severity.CRITICAL, text, lasting=True)
        if final and self.feed.is_tape:
            self.tape_ended.set()

    def _task_failed(self, name: str, error: BaseException) -> None:
        self.board.alert(
            f"task:{name}", Severity.CRITICAL, f"{name} failed: {type(error).__name__}: {error}", lasting=True
        )

    def _session_task_failed(self, session: SessionId, name: str, error: BaseException) -> None:
        """A procedure of a session failed: its entries stop, its sibling sessions notice nothing."""
        run = self.sessions.get(session)
        if run is not None:
            run.desk.blocks.set(f"task:{name}", f"{name} failed: {type(error).__name__}")
            self.board.alert(
                f"task:{name}",
                Severity.CRITICAL,
                f"{name} failed: {type(error).__name__}: {error}",
                lasting=True,
                session=session,
            )
            run.trader.loop_failed(name, error)

    def _session_died(self, session: SessionId, reason: str, final: bool) -> None:
        run = self.sessions[session]
        run.dead = reason
        run.desk.phase, run.desk.phase_detail = Phase.DEAD, reason
        run.desk.blocks.set("start", f"session died: {reason}")
        run.trader.ready.set()
        self.portfolio.died(session, reason)
        tail = "; it is not started again" if final else "; starting again"
        self.board.alert(
            f"dead:{session}", Severity.CRITICAL, f"{session} died: {reason}{tail}", lasting=True, session=session
        )

    def _session_back(self, session: SessionId) -> None:
        run = self.sessions[session]
        run.dead = None
        self.board.clear(f"dead:{session}")
        for loop in LOOPS:
            run.desk.blocks.clear(f"task:session {session}{loop}")
            self.board.clear(f"task:session {session}{loop}")
        self.portfolio.expect(session, run.instrument.group)

    def resumed(self, seconds: float) -> None:
        """The process stood still that long: nothing known before it is believed, as after a restart."""
        self.board.alert(
            "suspend", Severity.CRITICAL, f"the process stood still for {seconds:.0f} s; asking everything again"
        )
        for account in self.accounts.values():
            self._tasks.launch(account.lease.ask(), "lease after a pause")
            account.reconciler.suspect("the process stood still", orders=True)
        for run in self.sessions.values():
            if run.dead is None:
                run.trader.start_over("the process stood still")

    # -- stop -----------------------------------------------------------------------------------------------

    async def stop(self, policy: ShutdownPolicy, say: Callable[[str], None]) -> None:
        """Carry out the policy within its deadline, then stop every part in order and write what is queued."""
        if self.stopping:
            await self.stopped.wait()
            return
        self.stopping = True
        for run in self.sessions.values():
            run.desk.blocks.set("stopping", "the desk is stopping")
        try:
            await self._carry_out(policy, say)
        finally:
            await self._stop_parts(say)
            self.stopped.set()

    async def _carry_out(self, policy: ShutdownPolicy, say: Callable[[str], None]) -> None:
        match policy:
            case ShutdownPolicy.LEAVE:
                say("leaving orders and positions as they are")
            case ShutdownPolicy.CANCEL_ENTRIES:
                asked = sum(run.trader.cancel_entries("shutdown") for run in self.sessions.values())
                say(f"cancelling {asked} resting entries; protective exits stay" if asked else "no entries to cancel")
                if asked:
                    proven = await self._wait_for(self._no_entries, CANCEL_SECONDS)
                    say("entries are cancelled" if proven else "NOT every entry is confirmed cancelled")
                if not self._protection_fits():
                    say("waiting for protective orders to fit their positions")
                    fits = await self._wait_for(self._protection_fits, CANCEL_SECONDS)
                    say("protective orders fit" if fits else "NOT every position is covered by a stop of its size")
            case ShutdownPolicy.FLATTEN:
                await self.flatten_all("shutdown", say)
            case _:
                assert_never(policy)

    def _protection_fits(self) -> bool:
        return all(run.trader.guard.is_settled or run.dead is not None for run in self.sessions.values())

    def _no_entries(self) -> bool:
        return not any(o.is_entry and o.is_open for run in self.sessions.values() for o in run.desk.book.open())

    async def _wait_for(self, predicate: Callable[[], bool], seconds: float) -> bool:
        deadline = self.clock.monotonic() + seconds
        while not predicate() and self.clock.monotonic() < deadline:
            await self.clock.sleep(0.05)
        return predicate()

    async def flatten_all(self, id: str, say: Callable[[str], None]) -> bool:
        """Flatten every session side by side; whether all are flat in the end."""
        return await flatten_side_by_side({run.id: run.trader.flattener for run in self.sessions.values()}, id, say)

    async def _stop_parts(self, say: Callable[[str], None]) -> None:
        steps: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
            ("feed", self.feed.stop),
            *((f"session {run.id}", run.desk.tasks.close) for run in self.sessions.values()),
            ("loops", self._tasks.close),
            ("journal", self.trail.settle),
            *((f"account {account.id}", account.stop) for account in self.accounts.values()),
            ("audit trail", self.store.close),
        )
        for name, stop in steps:
            task = Tasks("stop", lambda n, e: None).spawn(_run(stop), name)
            if not await done_within(self.clock, CANCEL_SECONDS, task):
                say(f"{name} did not stop in {CANCEL_SECONDS:g} s")
                log.error("%s did not stop in time", name)
        self.plan.account_lock.release_all()


async def _run(stop: Callable[[], Awaitable[None]]) -> None:
    await stop()
