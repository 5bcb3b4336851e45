"""Everything an operator can do, once: bindings, footer, palette and help all derive from this table. No Textual.

One class per action; its docstring is its help. `step` says what happens: go to a screen, open a dialog, send a
command at once (only what harms nothing), or let the screen or app do something to its own picture.
"""

from __future__ import annotations

from collections.abc import Mapping

from console.actions.base import Action, Ask, GoTo, OfApp, OfScreen, SendNow, Step
from console.actions.desk import (
    AcknowledgeWorstAlert,
    CancelAllEntries,
    FlattenEverything,
    FlattenSession,
    ForceSecondExit,
    GoDesk,
    GoHeat,
    GoJournal,
    GoMarket,
    GoOrders,
    GoReconciliation,
    Help,
    KillDesk,
    Palette,
    PauseEverything,
    PauseSession,
    Quit,
    ReleaseKillLatch,
    ReleaseSessionLatch,
    ResumeEverything,
    ResumeSession,
    RetryDeadJobs,
    StandDownSession,
    Theme,
)
from console.actions.flows import (
    AcknowledgeDisagreement,
    Adopt,
    AskAboutOrder,
    CancelForeignOrder,
    CancelOneOrder,
    CrossDown,
    CrossNewer,
    CrossOff,
    CrossOlder,
    CrossUp,
    DeclareOrderDead,
    ExitByHand,
    HeatLimitsEditor,
    Ignore,
    ModifyOneOrder,
    NarrowerTimeframe,
    NewestCandles,
    NextKindOfDifference,
    NextOwner,
    NextSession,
    OldestCandles,
    OnlyOpen,
    OrderByHand,
    PanBack,
    PanForth,
    PreviousSession,
    Reconcile,
    ShowFault,
    StoppedEntries,
    WiderTimeframe,
    ZoomIn,
    ZoomOut,
)
from console.actions.journal import (
    ClearFilter,
    ExportJournal,
    FilterJournal,
    LifeOfOrder,
    NextKind,
    PreviousKind,
    order_of,
)
from console.actions.keys import KeyMap, conflict, key_named
from console.replica import Focus, Replica

ACTIONS: tuple[Action, ...] = (
    Quit(), Help(), Palette(), GoDesk(), GoMarket(), GoOrders(), GoReconciliation(), GoHeat(), GoJournal(), Theme(),
    AcknowledgeWorstAlert(), FlattenSession(), FlattenEverything(), KillDesk(), ReleaseKillLatch(), PauseSession(),
    ResumeSession(), PauseEverything(), ResumeEverything(), CancelAllEntries(), ForceSecondExit(),
    ReleaseSessionLatch(), StandDownSession(), NextSession(), PreviousSession(), CrossOlder(), CrossNewer(),
    CrossUp(), CrossDown(), CrossOff(), PanBack(), PanForth(), OldestCandles(), NewestCandles(), ZoomIn(), ZoomOut(),
    WiderTimeframe(), NarrowerTimeframe(), OrderByHand(), ExitByHand(), ModifyOneOrder(), CancelOneOrder(),
    AskAboutOrder(), DeclareOrderDead(), Reconcile(), AcknowledgeDisagreement(), Adopt(), Ignore(),
    CancelForeignOrder(), RetryDeadJobs(), LifeOfOrder(),
    FilterJournal(), ClearFilter(), NextKind(), PreviousKind(), ExportJournal(),
    OnlyOpen(), NextKindOfDifference(), NextOwner(), StoppedEntries(), HeatLimitsEditor(),
)  # fmt: skip
BY_NAME = {action.name: action for action in ACTIONS}
DEFAULT = KeyMap()


def checked_keys(written: Mapping[str, str]) -> dict[str, str]:
    """The operator's keys by action. Raises KeyRefused with the action it is about and what is wrong."""
    changed: dict[str, str] = {}
    for name, key in written.items():
        try:
            changed[name] = key_named(key)
        except ValueError as error:
            raise KeyRefused(name, str(error)) from None
    if (clash := conflict(ACTIONS, changed)) is not None:
        raise KeyRefused(*clash)
    return changed


class KeyRefused(ValueError):
    """A key that cannot be given to an action: its name, and what is wrong."""


def bindings(screen: str | None) -> list[tuple[str, str, str]]:
    """(keys, action's name, title) that a screen binds of its own, or the app for None."""
    return [
        (action.key, action.name, action.title)
        for action in ACTIONS
        if action.key and action.name != "palette" and (screen in action.screens if screen else not action.screens)
    ]


def offered(action: Action, desk: Replica, focus: Focus) -> bool:
    """Whether an action can be taken now. Where another engine commands, only what changes nothing is offered."""
    if not action.on(focus.screen) or not action.available(desk, focus):
        return False
    return not _looks_on(desk) or not isinstance(action.step(desk, focus), Ask | SendNow)


def why_not(action: Action, desk: Replica) -> str:
    """Why it is not offered."""
    return f"view only: {desk.snapshot.view_only}" if desk.snapshot and _looks_on(desk) else action.otherwise


def _looks_on(desk: Replica) -> bool:
    return desk.snapshot is not None and bool(desk.snapshot.view_only)


def key_of(name: str, keys: KeyMap = DEFAULT) -> str:
    """The key of an action as a hint prints it."""
    return keys.shown(BY_NAME[name])


def footer_keys(desk: Replica, focus: Focus, keys: KeyMap = DEFAULT) -> list[tuple[str, str, str]]:
    """(shown key, title, action's name), the most important first, only what can be done now."""
    shown = [action for action in ACTIONS if action.rank and offered(action, desk, focus)]
    return [(keys.shown(a), a.title, a.name) for a in sorted(shown, key=lambda a: -a.rank)]


def faults(desk: Replica, focus: Focus) -> list[ShowFault]:
    """Faults that can be shown: on paper accounts only."""
    if desk.snapshot is None or desk.snapshot.live or _looks_on(desk):
        return []
    view = desk.session(focus.session)
    return [
        ShowFault(account.id, view.instrument.symbol if view and view.account == account.id else None, fault)
        for account in desk.snapshot.accounts
        if not account.live
        for fault in account.faults
    ]


__all__ = [
    "ACTIONS",
    "BY_NAME",
    "DEFAULT",
    "Action",
    "Ask",
    "GoTo",
    "KeyMap",
    "KeyRefused",
    "OfApp",
    "OfScreen",
    "SendNow",
    "Step",
    "bindings",
    "checked_keys",
    "faults",
    "footer_keys",
    "key_of",
    "offered",
    "order_of",
    "why_not",
]
