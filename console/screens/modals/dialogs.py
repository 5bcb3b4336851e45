"""Every dialog that makes a command, each from what the operator points at. Pure."""

from __future__ import annotations

from console.replica import Replica
from console.screens.modals.facts import (
    ages,
    both,
    exposure,
    one_disagreement,
    one_foreign,
    one_order,
    says,
)  # fmt: skip
from console.screens.modals.spec import YES, Dialog, Field, FieldKind, reason, word
from engine.commands import (
    Acknowledge,
    AdoptOrder,
    CancelEntries,
    CancelForeign,
    CancelOrder,
    DeclareDead,
    Flatten,
    ForceExit,
    IgnoreForeign,
    InjectFault,
    Kill,
    Pause,
    ReleaseKill,
    ReleaseLatch,
    Resume,
    StandDown,
)  # fmt: skip
from engine.domain.disagreements import Disagreement
from engine.domain.ids import AccountId, SessionId, Symbol
from engine.domain.orders import Order
from engine.snapshot import ForeignOrder, SessionView

EVERYTHING = "every session"


def _name(session: SessionId | None) -> str:
    return session or EVERYTHING


def flatten(session: SessionId | None, desk: Replica) -> Dialog:
    """Close a position and prove it."""
    views = [v for v in desk.sessions if session is None or v.id == session]
    places = {(v.account, v.instrument.symbol) for v in views}
    foreign = tuple(o.broker_id for o in desk.foreign if (o.account, o.terms.symbol) in places)
    fields: tuple[Field, ...] = (YES,)
    if foreign:
        options = (("leave", "leave them"), ("cancel", f"cancel them ({len(foreign)})"))
        fields = (Field("foreign", "orders that are not ours", FieldKind.CHOICE, options=options, default="leave"), YES)
    return Dialog(
        name="flatten",
        title=f"Flatten {_name(session)}",
        facts=both(
            exposure(session),
            ages(session),
            says(
                "Entries are paused until resumed. Entries and targets are cancelled, the position is closed, the "
                "stop goes last; then the broker is asked whether it is flat.",
                ink="dim",
            ),
        ),
        fields=fields,
        make=lambda origin, answers: Flatten(
            origin=origin, session=session, foreign=foreign if answers.get("foreign") == "cancel" else ()
        ),
        verb="flatten",
        danger=True,
        follow=True,
    )


def kill() -> Dialog:
    """Latch entries off."""
    options = (("no", "keep positions, protective exits stay"), ("yes", "flatten everything too"))
    return Dialog(
        name="kill",
        title="Kill: no entries anywhere",
        facts=both(
            exposure(None),
            says("Entries are latched off, across restarts, and entry orders are cancelled. Protective exits stay. "
                 "Opening the latch takes a typed word and a reason.", ink="dim"),
        ),
        fields=(Field("flatten", "positions", FieldKind.CHOICE, options=options, default="no"), YES),
        make=lambda origin, answers: Kill(origin=origin, flatten=answers.get("flatten") == "yes"),
        verb="kill",
        danger=True,
        follow=True,
    )  # fmt: skip


def release_kill() -> Dialog:
    """Open the kill latch."""
    return Dialog(
        name="release_kill",
        title="Release the kill latch",
        facts=both(exposure(None), says("Sessions may enter again at their next decision.", ink="warn")),
        fields=(reason(), word("RELEASE")),
        make=lambda origin, answers: ReleaseKill(origin=origin, word=answers["word"], reason=answers["reason"]),
        verb="release",
        danger=True,
    )


def pause(session: SessionId | None) -> Dialog:
    """Hold entries."""
    options = (("cancel", "cancel resting entries"), ("keep", "keep resting entries"))
    return Dialog(
        name="pause",
        title=f"Pause entries of {_name(session)}",
        facts=both(exposure(session), says("Exits and protection go on as they are.", ink="dim")),
        fields=(Field("resting", "resting entries", FieldKind.CHOICE, options=options, default="cancel"), YES),
        make=lambda origin, answers: Pause(
            origin=origin, session=session, keep_resting=answers.get("resting") == "keep"
        ),
        verb="pause",
    )


def resume(session: SessionId | None) -> Dialog:
    """Let entries go again."""
    return Dialog(
        name="resume",
        title=f"Resume entries of {_name(session)}",
        facts=both(exposure(session), ages(session)),
        fields=(reason(),),
        make=lambda origin, answers: Resume(origin=origin, session=session, reason=answers["reason"]),
        verb="resume",
    )


def cancel_order(order: Order) -> Dialog:
    """Cancel one order of ours."""
    warning = "This order protects a position: without it the position is open to the market."
    guard = says(warning, ink="warn") if order.role.is_protective else says("")
    return Dialog(
        name="cancel_order",
        title=f"Cancel {order.role} {order.terms.symbol}",
        facts=both(one_order(order), guard),
        fields=(YES,),
        make=lambda origin, _: CancelOrder(origin=origin, order=order.client_id),
        verb="cancel the order",
        danger=order.role.is_protective,
    )


def cancel_entries(session: SessionId | None) -> Dialog:
    """Cancel what still wants in."""
    return Dialog(
        name="cancel_entries",
        title=f"Cancel resting entries of {_name(session)}",
        facts=both(exposure(session), says("Protective orders stay.", ink="dim")),
        fields=(YES,),
        make=lambda origin, _: CancelEntries(origin=origin, session=session),
        verb="cancel entries",
        follow=True,
    )


def force_exit(view: SessionView) -> Dialog:
    """A second exit beside one in doubt."""
    return Dialog(
        name="force_exit",
        title=f"Force an exit of {view.id}",
        facts=both(
            exposure(view.id),
            says("An exit of unknown fate may still fill. A second one beside it can turn the position round: "
                 "that is what the word says.", ink="warn"),
        ),
        fields=(word("REVERSE"),),
        make=lambda origin, answers: ForceExit(origin=origin, session=view.id, word=answers["word"]),
        verb="send a second exit",
        danger=True,
        follow=True,
    )  # fmt: skip


def declare_dead(order: Order) -> Dialog:
    """A verdict on an order nobody can find."""
    return Dialog(
        name="declare_dead",
        title="Declare an order dead",
        facts=both(one_order(order), says("If it lives after all, its fills arrive as a disagreement.", ink="warn")),
        fields=(reason(), word("DEAD")),
        make=lambda origin, answers: DeclareDead(
            origin=origin, order=order.client_id, word=answers["word"], reason=answers["reason"]
        ),
        verb="declare it dead",
        danger=True,
    )


def acknowledge(one: Disagreement) -> Dialog:
    """Somebody has seen it."""
    more = says("Entries that it holds back may go on.", ink="dim") if one.blocks_entries else says("")
    return Dialog(
        name="acknowledge",
        title="Acknowledge a disagreement",
        facts=both(one_disagreement(one), more),
        fields=(Field("note", "note (may stay empty), Enter acknowledges", FieldKind.TEXT, required=False),),
        make=lambda origin, answers: Acknowledge(
            origin=origin, disagreement=one.id, note=answers.get("note", "").strip()
        ),
        verb="acknowledge",
    )


def adopt(order: ForeignOrder, desk: Replica) -> Dialog:
    """Take a foreign order as ours."""
    options = tuple(
        (view.id, f"{view.id} ({view.instrument.symbol})") for view in desk.sessions if view.account == order.account
    )
    owner = next((v.id for v in desk.sessions if v.instrument.symbol == order.terms.symbol), None)
    return Dialog(
        name="adopt",
        title="Adopt an order",
        facts=both(one_foreign(order), says("The session manages it from then on as if it had sent it.", ink="dim")),
        fields=(
            Field("session", "session", FieldKind.CHOICE, options=options, default=owner or ""),
            reason(),
        ),
        make=lambda origin, answers: AdoptOrder(
            origin=origin, order=order.broker_id, session=SessionId(answers["session"]), reason=answers["reason"]
        ),
        verb="adopt",
    )


def ignore(one: Disagreement) -> Dialog:
    """Leave something alone for good."""
    return Dialog(
        name="ignore",
        title="Ignore what is not ours",
        facts=both(one_disagreement(one), says("It stops blocking; it still counts in heat.", ink="dim")),
        fields=(reason(),),
        make=lambda origin, answers: IgnoreForeign(origin=origin, disagreement=one.id, reason=answers["reason"]),
        verb="ignore",
    )


def cancel_foreign(order: ForeignOrder) -> Dialog:
    """Cancel an order that somebody else placed."""
    return Dialog(
        name="cancel_foreign",
        title="Cancel an order that is not ours",
        facts=both(one_foreign(order), says("Somebody else placed it. It may protect their position.", ink="warn")),
        fields=(YES,),
        make=lambda origin, _: CancelForeign(origin=origin, account=order.account, order=order.broker_id),
        verb="cancel it",
        danger=True,
    )


def release_latch(view: SessionView) -> Dialog:
    """Open one of a session's latches."""
    return Dialog(
        name="release_latch",
        title=f"Release a latch of {view.id}",
        facts=both(exposure(view.id), says(*(f"shut: {latch}" for latch in view.latches), ink="warn")),
        fields=(
            Field("latch", "latch", FieldKind.CHOICE, options=tuple((k, k) for k in view.latches),
                  default=view.latches[0]),
            reason(),
        ),
        make=lambda origin, answers: ReleaseLatch(
            origin=origin, session=view.id, latch=answers["latch"], reason=answers["reason"]
        ),
        verb="release",
    )  # fmt: skip


def stand_down(view: SessionView) -> Dialog:
    """Take a dead session out of the count."""
    return Dialog(
        name="stand_down",
        title=f"Stand down {view.id}",
        facts=both(exposure(view.id), says("Only when the broker confirms its contract flat and without orders.",
                                           ink="dim")),
        fields=(reason(),),
        make=lambda origin, answers: StandDown(origin=origin, session=view.id, reason=answers["reason"]),
        verb="stand down",
    )  # fmt: skip


def fault(account: AccountId, symbol: Symbol | None, name: str, title: str, help: str, argument: str) -> Dialog:
    """Show a fault on a paper account."""
    return Dialog(
        name="fault",
        title=f"Fault on {account}: {title}",
        facts=says(help or title, f"instrument: {symbol}" if symbol else "every instrument"),
        fields=(
            Field("argument", "argument, Enter shows the fault", FieldKind.TEXT, required=False, default=argument),
        ),
        make=lambda origin, answers: InjectFault(
            origin=origin, account=account, fault=name, symbol=symbol, argument=answers.get("argument", "").strip()
        ),
        verb="show the fault",
    )
