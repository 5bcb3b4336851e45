"""One account's lease as its holder lives with it: taken with proof, renewed, lost only to somebody who was read.

Not being able to renew is not a loss: entries stop, because nobody knows who else may have started; exits and cancels
go on, because the lock of the account is still held on this machine. Only another epoch in the database ends our
right to command, and then it ends for everything.

After the process (or the machine) stood still, nothing is sent before the lease was asked about again: what was
checked before the pause says nothing about who commands now. Where nobody answers that, what began before the pause
does not go on, and what begins afterwards does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from engine.domain.ids import AccountId, Millis
from engine.domain.lease import Holder, Lease, has_ended
from engine.errors import DeskHeld, StoreError, StoreUnavailable
from engine.periodic import Tasks, done_within, within
from engine.ports import Clock, Store

log = logging.getLogger(__name__)
LOOKS_PER_LEASE = 10
PAUSES = 5
"""How often an exit asks again because it stood still over the question; a loop that is late for ever holds none."""


class AccountLease:
    """Whether this engine commands the account.

    `seconds` is how long a lease is good without a renewal, None for an account that nobody else can reach (a
    recording's own): it is then taken, and never renewed. `on_lost` is told once.
    """

    def __init__(
        self,
        account: AccountId,
        mine: Holder,
        clock: Clock,
        store: Store,
        *,
        seconds: float | None,
        renewal: float,
        on_lost: Callable[[str], None],
    ) -> None:
        self._account = account
        self._mine = mine
        self._clock = clock
        self._store = store
        self._seconds = seconds
        self._renewal = renewal
        self._on_lost = on_lost
        self._tasks = Tasks(f"lease {account}", lambda name, error: None)
        self._asking: asyncio.Future[None] | None = None
        self._trouble = ""
        self._confirmed = 0.0
        self._asked = 0.0
        self._stood: float | None = None
        self.epoch = 0
        self.is_by_word = False
        """Whether nothing but silence and somebody's word says that the engine which held it before has ended."""
        self.lost_to: str | None = None
        """Who commands the account now, once that was read; then nothing is sent any more."""

    # -- taking -----------------------------------------------------------------------------------------------

    async def take(self, *, take_over: bool = False) -> None:
        """Become the holder. Raises DeskHeld naming the other one; StoreUnavailable, CommitUnknown.

        `take_over` is the operator's word that an engine on another machine has ended; it must have expired too.
        """
        with self._clock.outside():
            seen = await self._store.lease(self._account)
        if seen is not None and not has_ended(seen, self._mine):
            if seen.holder.host != self._mine.host and not take_over:
                raise DeskHeld(
                    f"Account {self._account} is commanded from another machine: {seen.holder.name}. If that engine "
                    "has certainly ended, start this one with --take-over."
                )
            self.is_by_word = not await self._watch_it_expire(seen)
        with self._clock.outside():
            begun = self._clock.monotonic()
            epoch = await self._store.take_lease(self._account, self._mine, seen.epoch if seen is not None else 0)
        if epoch is None:
            raise DeskHeld(f"Account {self._account} was taken by another engine a moment ago.")
        self.epoch = epoch
        self._confirmed = self._asked = begun

    async def _watch_it_expire(self, seen: Lease) -> bool:
        """By our own clock and its silence: two machines need not agree on the time. Whether it was given back."""
        seconds = self._seconds or 0.0
        log.warning("waiting up to %g s for the lease of %s to expire: %s", seconds, self._account, seen.holder.name)
        for _ in range(LOOKS_PER_LEASE):
            await self._clock.sleep(seconds / LOOKS_PER_LEASE)
            with self._clock.outside():
                now = await self._store.lease(self._account)
            if now is None or (now.epoch == seen.epoch and now.released):
                return now is not None
            if (now.epoch, now.renewed) != (seen.epoch, seen.renewed):
                raise DeskHeld(f"Account {self._account} is commanded by {now.holder.name}, which is running.")
        return False

    # -- holding ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Renew until the lease is lost."""
        if self._seconds is None:
            return
        while self.lost_to is None:
            await self._clock.sleep(self._renewal)
            await self.ask()

    async def ask(self) -> None:
        """Renew, or find out who holds it; one question at a time, and whoever comes meanwhile waits for its end."""
        if self._asking is not None:
            await self._asking
            return
        self._asking = asyncio.get_running_loop().create_future()
        begun = self._clock.monotonic()
        if not self._is_younger(self._asked):
            self._stood = begun
        try:
            if await within(self._clock, self._renewal, self._is_ours()):
                self._confirmed, self._stood = begun, None
                self._tell("")
        except (TimeoutError, StoreError) as error:
            self._tell(str(error) or "no answer in time")
        finally:
            self._asked = begun
            self._asking.set_result(None)
            self._asking = None

    def _tell(self, trouble: str) -> None:
        """Log a change for the worse or the better, not every try."""
        if bool(trouble) != bool(self._trouble):
            log.warning(
                "the lease of %s is %s", self._account, f"not renewed: {trouble}" if trouble else "renewed again"
            )
        self._trouble = trouble

    async def _is_ours(self) -> bool:
        try:
            if await self._store.renew_lease(self._account, self.epoch):
                return True
            failure = StoreUnavailable("the row of the lease is gone")
        except StoreError as error:
            failure = StoreUnavailable(str(error))
        # whoever took the lease may hold the writer's lock too: reading needs none
        now = await self._store.lease(self._account)
        if now is None or now.epoch <= self.epoch:
            raise failure
        self._lose(now)
        return False

    def _lose(self, now: Lease) -> None:
        if self.lost_to is not None:
            return
        self.lost_to = now.holder.name
        log.critical("account %s is commanded by %s (epoch %d)", self._account, self.lost_to, now.epoch)
        self._on_lost(f"Account {self._account} is now commanded by {self.lost_to}.")

    def lost_with(self, reason: str) -> None:
        """Another account of this desk was lost: a desk that only looks on commands none, though nobody has it yet."""
        self.lost_to = self.lost_to or reason

    def told_of(self, holder: str) -> None:
        """A refused commit has named another holder: nothing leaves before that was looked at."""
        log.warning("a commit names another holder of %s: %s", self._account, holder)
        self._confirmed = self._asked = self._clock.monotonic() - (self._seconds or 0.0)
        self._tasks.launch(self.ask(), "ask")

    async def release(self) -> None:
        """Give it back, after the last command; harmless when it is not ours. Raises StoreError."""
        await self._tasks.close()
        if self.epoch and self.lost_to is None:
            await self._store.release_lease(self._account, self.epoch)

    # -- what may be sent -------------------------------------------------------------------------------------

    def _is_younger(self, moment: float) -> bool:
        return self._seconds is None or self._clock.monotonic() - moment < self._seconds

    def why_no_entry(self) -> str | None:
        """Why no entry may leave in this step; None while the lease is confirmed."""
        if self.lost_to is not None:
            return f"another engine commands this account: {self.lost_to}"
        if self._is_younger(self._confirmed):
            return None
        return f"the lease is not confirmed for {self._clock.monotonic() - self._confirmed:.0f} s"

    def unsure_since(self) -> Millis | None:
        """When the lease stopped being confirmed; None while it is."""
        late = self._clock.monotonic() - self._confirmed - (self._seconds or 0.0)
        return None if self._seconds is None or late < 0 else self._clock.now() - round(late * 1000)

    @property
    def is_unanswered(self) -> bool:
        """Whether we stood still for longer than a lease lives, and nobody has said since who commands."""
        return self._stood is not None or not self._is_younger(self._asked)

    def why_not_on(self, begun: float) -> str | None:
        """Why work that began then, in monotonic seconds, may not go on: it is of before we stood still."""
        if self._stood is None or self._stood - begun < self._renewal:
            return None
        return "it began before the process stood still, and nobody has said since who commands this account"

    async def why_nothing(self, patience: float, begun: float | None = None) -> str | None:
        """Why an exit or a cancel may not leave either: another holder was read, or it `begun` before we stood still.

        Returns in the caller's step unless nobody has asked for the length of a lease, which means that we stood
        still; then the database is asked first, for at most `patience` seconds, and its silence stops nothing. A wait
        in which we stood still again was no silence: the question is asked once more.
        """
        for _ in range(PAUSES):
            if self.lost_to is not None or self._is_younger(self._asked):
                break
            asked = self._clock.monotonic()
            answered = await done_within(self._clock, patience, self._tasks.spawn(self.ask(), "ask"))
            if not answered and self._clock.monotonic() - asked < 2 * patience:
                break
        if self.lost_to is not None:
            return f"another engine commands this account: {self.lost_to}"
        return None if begun is None else self.why_not_on(begun)
