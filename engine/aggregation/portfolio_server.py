"""The only place that knows the total: it sums what traders report, and pushes the stance back to each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace as changed

from engine.domain.broker import Balance
from engine.domain.ids import AccountId, ClientOrderId, Millis, SessionId, Symbol
from engine.domain.orders import ZERO
from engine.domain.risk import (
    Approved,
    CompleteHeat,
    Contribution,
    Denied,
    Heat,
    HeatOutlook,
    IncompleteHeat,
    PortfolioSettings,
    Reservation,
    Stance,
    StanceNotice,
    with_limits,
)
from engine.ports import Clock
from engine.snapshot import HeatView

HUNDRED = Decimal(100)
HISTORY = 240


class _Equity(Struct):
    """What an account last said of its money; `unconfirmed` holds a jump until it repeats."""

    value: Decimal
    at: Millis
    currency: str
    unconfirmed: Decimal | None = None


def percent(value: Decimal) -> str:
    """A percentage as every reason and banner writes it."""
    return f"{value.quantize(Decimal('0.01'))} %"


class PortfolioServer:
    """Check and reservation are one step; a restart holds no heat and waits for every member to report."""

    def __init__(
        self,
        settings: PortfolioSettings,
        accounts: tuple[AccountId, ...],
        clock: Clock,
        on_stance: Callable[[SessionId, StanceNotice], None],
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._on_stance = on_stance
        self._accounts = accounts
        self._members: dict[SessionId, Contribution | None] = {}
        self._groups: dict[SessionId, str | None] = {}
        self._dead: dict[SessionId, str] = {}
        self._unowned: dict[tuple[AccountId, Symbol], Contribution | None] = {}
        self._reservations: dict[ClientOrderId, Reservation] = {}
        self._equity: dict[AccountId, _Equity] = {}
        self._all_equity: Decimal | None = None
        self._stances: dict[SessionId, StanceNotice] = {}
        self._money = ZERO
        self._money_of: dict[str | None, Decimal] = {}
        self._blocked = False
        self._blocked_groups: set[str] = set()
        self._since: Millis | None = None
        self._stopped = 0
        self._history: deque[Decimal] = deque(maxlen=HISTORY)

    # -- members ------------------------------------------------------------------------------------------

    def expect(self, session: SessionId, group: str | None) -> None:
        """A session lives: heat is incomplete until it has reported."""
        self._members[session] = None
        self._groups[session] = group
        self._dead.pop(session, None)
        self._changed()

    def died(self, session: SessionId, reason: str) -> None:
        """A session's task ended: heat is incomplete from this moment."""
        if session in self._members:
            self._dead[session] = reason
            self._changed()

    def stood_down(self, session: SessionId) -> None:
        """An operator took a dead session out, or it ended as it should."""
        self._members.pop(session, None)
        self._dead.pop(session, None)
        self._stances.pop(session, None)
        for order in [r.order for r in self._reservations.values() if r.session == session]:
            del self._reservations[order]
        self._changed()

    def report(self, contribution: Contribution) -> None:
        """A trader declares its risk; only the owner may."""
        if contribution.session not in self._members or contribution.session in self._dead:
            return
        before, self._members[contribution.session] = self._members[contribution.session], contribution
        freed = [order for order in contribution.entries if self._reservations.pop(order, None) is not None]
        if freed or before is None or not self._repeats(before, contribution):
            self._changed()

    def _repeats(self, before: Contribution, contribution: Contribution) -> bool:
        """Whether a report only says that the session lives: ages are looked at on a timer."""
        in_time = contribution.at - before.at <= self.settings.dead_after_ms
        return in_time and changed(before, at=contribution.at) == contribution

    def unowned(self, account: AccountId, symbol: Symbol, contribution: Contribution | None, known: bool) -> None:
        """A position or order that no live session owns; `known` False: nobody can say what it may lose."""
        if contribution is None and known:
            self._unowned.pop((account, symbol), None)
        else:
            self._unowned[(account, symbol)] = contribution
        self._changed()

    def equity(self, account: AccountId, balance: Balance, at: Millis) -> None:
        """The broker's word on an account's money; a jump counts only once it repeats."""
        known = self._equity.get(account)
        value = balance.equity
        if known is not None and known.value > 0 and not self._believable(known, value):
            known.unconfirmed = value
        else:
            self._equity[account] = _Equity(value, at, balance.currency)
            self._all_equity = self._total_equity()
        self._push()

    def _believable(self, known: _Equity, value: Decimal) -> bool:
        """A change within the allowed jump, or a jump that repeats within one percent."""
        if abs(value - known.value) <= known.value * self.settings.equity_jump:
            return True
        return known.unconfirmed is not None and abs(value - known.unconfirmed) <= abs(known.unconfirmed) / 100

    def set_limits(self, percents: Mapping[str, Decimal]) -> None:
        """Limits set live by a recorded override, in percent by name; those of an earlier life before any of this."""
        self.settings = with_limits(self.settings, percents)
        self._push()

    def check(self) -> None:
        """Look again at ages; called on a timer."""
        match self._push():
            case CompleteHeat(percent=value):
                self._history.append(value)

    # -- the aggregate ------------------------------------------------------------------------------------

    def missing(self) -> tuple[str, ...]:
        """Everything that keeps the sum from being a total."""
        now = self._clock.now()
        gaps = []
        for session, report in self._members.items():
            if session in self._dead:
                gaps.append(f"{session} died: {self._dead[session]}")
            elif report is None:
                gaps.append(f"{session} has not reported")
            elif now - report.at > self.settings.dead_after_ms:
                gaps.append(f"{session} silent for {(now - report.at) // 1000} s")
        for account in self._accounts:
            if (problem := self._equity_problem(account, now)) is not None:
                gaps.append(problem)
        for (account, symbol), entry in self._unowned.items():
            if entry is None:
                gaps.append(f"unowned {symbol} on {account} has no worst case; set instruments.{symbol}.worst_case")
        return tuple(gaps)

    def _equity_problem(self, account: AccountId, now: Millis) -> str | None:
        known = self._equity.get(account)
        if known is None:
            return f"equity of {account} not known yet"
        if known.value <= 0:
            return f"equity of {account} is {known.value}"
        if known.currency != self.settings.currency:
            return f"equity of {account} is in {known.currency}, the portfolio in {self.settings.currency}"
        if now - known.at > self.settings.equity_max_age_ms:
            return f"equity of {account} is {(now - known.at) // 1000} s old"
        if known.unconfirmed is not None:
            return f"equity of {account} jumped from {known.value} to {known.unconfirmed}, not confirmed"
        return None

    def _total_equity(self) -> Decimal | None:
        total = ZERO
        for account in self._accounts:
            if (known := self._equity.get(account)) is None:
                return None
            total += known.value
        return total

    def _changed(self) -> None:
        """Somebody's risk changed: add it up anew, by group, and tell every trader its stance."""
        shares = [(c.group, c.total) for c in (*self._members.values(), *self._unowned.values()) if c is not None]
        shares += [(each.group, each.money) for each in self._reservations.values()]
        self._money, self._money_of = ZERO, {}
        for group, money in shares:
            self._money += money
            self._money_of[group] = self._money_of.get(group, ZERO) + money
        self._push()

    def heat(self) -> Heat:
        """The total as a share of equity, or the floor while something is missing."""
        missing = self.missing()
        money, equity = self._money, self._all_equity
        share = money * HUNDRED / equity if equity is not None and equity > 0 else None
        if missing or share is None or equity is None:
            now = self._clock.now()
            reporting = sum(
                report is not None and session not in self._dead and now - report.at <= self.settings.dead_after_ms
                for session, report in self._members.items()
            )
            return IncompleteHeat(
                at_least=share, money=money, missing=missing, reporting=reporting, expected=len(self._members)
            )
        return CompleteHeat(percent=share, money=money, equity=equity)

    def _group_share(self, group: str) -> Decimal:
        equity = self._all_equity
        return self._money_of.get(group, ZERO) * HUNDRED / equity if equity else ZERO

    # -- the gate -----------------------------------------------------------------------------------------

    def review(self, session: SessionId, order: ClientOrderId, money: Decimal) -> Approved | Denied:
        """Reserve heat for an entry in the same step as the check, or say why not, with the number."""
        refusal = self._refusal(session, money)
        if refusal is not None:
            self._stopped += 1
            return Denied(reason=refusal)
        heat = self.heat()
        assert isinstance(heat, CompleteHeat)
        reservation = Reservation(order, session, self._groups.get(session), money, self._clock.now())
        self._reservations[order] = reservation
        self._changed()
        return Approved(
            reservation=reservation, before=heat.percent, after=heat.percent + money * HUNDRED / heat.equity
        )

    def outlook(self, session: SessionId, money: Decimal, *, asks: bool = True) -> HeatOutlook:
        """What `review` would say, without reserving; what does not ask (`asks` False) is never refused."""
        before = self.heat()
        after = before.percent + money * HUNDRED / before.equity if isinstance(before, CompleteHeat) else None
        return HeatOutlook(before=before, after=after, refusal=self._refusal(session, money) if asks else None)

    def still_open(self, session: SessionId, order: ClientOrderId) -> Denied | None:
        """Read again at the send; the reservation is already in the total."""
        refusal = self._refusal(session, ZERO)
        if refusal is None and order not in self._reservations and not self._reported(session, order):
            refusal = "its heat reservation is gone"
        if refusal is None:
            return None
        self._stopped += 1
        return Denied(reason=refusal)

    def _reported(self, session: SessionId, order: ClientOrderId) -> bool:
        report = self._members.get(session)
        return report is not None and order in report.entries

    def _refusal(self, session: SessionId, money: Decimal) -> str | None:
        if session not in self._members or session in self._dead:
            return f"{session} is not a live member of the portfolio"
        match self.heat():
            case IncompleteHeat(missing=missing):
                return f"heat is incomplete: {missing[0]}" if missing else "heat is incomplete"
            case CompleteHeat(percent=now, equity=equity):
                block = self.settings.limits.block
                after = now + money * HUNDRED / equity
                if self._blocked or after >= block:
                    return (
                        f"heat {percent(now)} would become {percent(after)}, entries are blocked from {percent(block)}"
                    )
                group = self._groups.get(session)
                for limit in self.settings.groups:
                    share = self._group_share(limit.name) + money * HUNDRED / equity
                    if limit.name == group and (group in self._blocked_groups or share >= limit.block):
                        return f"group {group} would reach {percent(share)}, its block is {percent(limit.block)}"
        return None

    def cancel(self, order: ClientOrderId) -> None:
        """Give a reservation back."""
        if self._reservations.pop(order, None) is not None:
            self._changed()

    # -- stances ------------------------------------------------------------------------------------------

    def _push(self) -> Heat:
        """Tell every trader its stance; the heat that it follows from."""
        now = self._clock.now()
        heat = self.heat()
        stance, reason, number = self._overall(heat)
        was_blocked = self._since is not None
        if stance is Stance.BLOCK and not was_blocked:
            self._since = now
        elif stance is not Stance.BLOCK:
            self._since = None
            self._stopped = 0 if was_blocked else self._stopped
        self._update_groups()
        for session in tuple(self._members):
            group = self._groups.get(session)
            mine, why = stance, reason
            if stance is not Stance.BLOCK and group in self._blocked_groups:
                mine, why = Stance.BLOCK, f"group {group} at {percent(self._group_share(group or ''))}"
            old = self._stances.get(session)
            if old is None or (old.stance, old.reason) != (mine, why):
                since = old.since if old is not None and old.stance is mine else now
                self._stances[session] = StanceNotice(stance=mine, reason=why, percent=number, since=since)
                self._on_stance(session, self._stances[session])
        return heat

    def _overall(self, heat: Heat) -> tuple[Stance, str, Decimal | None]:
        match heat:
            case IncompleteHeat(at_least=floor, missing=missing):
                return Stance.BLOCK, f"heat is incomplete: {missing[0]}" if missing else "heat is incomplete", floor
            case CompleteHeat(percent=value):
                limits = self.settings.limits
                if value >= limits.block or (self._blocked and value >= limits.block - limits.release):
                    self._blocked = True
                    return Stance.BLOCK, f"heat at or over the block of {percent(limits.block)}", value
                self._blocked = False
                if value >= limits.warn:
                    return Stance.WARN, f"heat over the warning of {percent(limits.warn)}", value
                return Stance.OPEN, "", value

    def _update_groups(self) -> None:
        release = self.settings.limits.release
        for limit in self.settings.groups:
            share = self._group_share(limit.name)
            if share >= limit.block:
                self._blocked_groups.add(limit.name)
            elif share < limit.block - release:
                self._blocked_groups.discard(limit.name)

    def stance(self, session: SessionId) -> StanceNotice | None:
        """The newest word to one trader."""
        return self._stances.get(session)

    def contribution(self, session: SessionId) -> Contribution | None:
        """What a session last declared."""
        return self._members.get(session)

    def members(self) -> tuple[SessionId, ...]:
        """Every session that the total waits for."""
        return tuple(self._members)

    def view(self, resting_entries: int) -> HeatView:
        """Everything the heat screen shows."""
        heat = self.heat()
        stance, reason, _ = self._overall(heat)
        return HeatView(
            heat=heat,
            stance=stance,
            reason=reason,
            since=self._since,
            stopped_entries=self._stopped,
            resting_entries=resting_entries,
            limits=self.settings.limits,
            groups=self.settings.groups,
            group_percent=tuple((g.name, self._group_share(g.name)) for g in self.settings.groups),
            contributions=tuple(c for c in self._members.values() if c is not None),
            reservations=tuple(self._reservations.values()),
            unowned=tuple(c for c in self._unowned.values() if c is not None),
            missing=self.missing(),
            equity=self._all_equity,
            equity_at=min((e.at for e in self._equity.values()), default=None),
            currency=self.settings.currency,
            history=tuple(self._history),
        )
