"""Help: keys by screen, made from the table of actions, and what the words of the desk mean."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical

from console import actions
from console.screens.modals.base import DeskDialog
from console.widgets.lines import entitle
from console.widgets.scroller import Scroller
from console.widgets.spans import Line, line, wrap

SCREENS = {
    "": "Everywhere",
    "desk": "1 Desk",
    "market": "2 Market",
    "orders": "3 Orders",
    "reconciliation": "4 Reconciliation",
    "heat": "5 Heat",
    "journal": "6 Journal",
}

GLOSSARY = (
    ("submitting", "made durable and on its way; no answer yet"),
    ("working", "the broker accepted it; it rests"),
    ("partially filled", "some of it traded, the rest rests"),
    ("pending cancel", "we asked to cancel; it may still fill"),
    ("pending replace", "we asked to change it; old and new both count"),
    ("in doubt", "no answer came: it may be live; we ask until there is evidence, and never send it again"),
    ("lost", "the broker denies knowing it again and again; kept in heat until you say DEAD"),
    ("filled / cancelled / rejected / expired", "proven ends; rejected is the broker's word"),
    ("denied", "ours: limits, heat or a latch; it never left"),
    ("abandoned", "not sent, because something changed before the send"),
    ("closable", "the position less what our own exits already hold"),
    ("disagreement", "memory, database and broker differ; the broker wins on fresh, complete evidence"),
    ("heat", "what is lost if every stop is hit, in percent of equity; ≥ means somebody has not reported"),
    ("stance", "open, warn, block: what heat lets entries do; exits are always open"),
    ("flatten", "pause, cancel entries and targets, close, then ask the broker whether it is flat"),
    ("kill", "entries latched off across restarts; protective exits stay; nothing is closed"),
    ("gap", "a window in which the feed was not heard; backfilled candles never make an entry"),
    ("marks on the chart", "≈ replaced, ○ backfilled, ◌ inserted, ╳ open gap, ◑ incomplete, · warm-up"),
    ("fills on the chart", "▲ ▼ entry, △ ▽ exit; up is a buy and stands below its candle, down a sell above it"),
)


def help_lines(width: int, keys: actions.KeyMap = actions.DEFAULT) -> list[Line]:
    """The whole text for a width."""
    lines: list[Line] = []
    for screen, title in SCREENS.items():
        own = [a for a in actions.ACTIONS if (screen in a.screens if screen else not a.screens)]
        if not own:
            continue
        lines += [line(""), line((title, "bright"))]
        for action in own:
            rows = wrap(action.help, width - 26, "dim")
            lines.append(line((f" {keys.shown(action) or 'palette':>8}  ", "key"), f"{action.title:<14} ", *rows[0]))
            lines += [(*line(" " * 26), *row) for row in rows[1:]]
    lines += [line(""), line(("Words", "bright"))]
    for word, meaning in GLOSSARY:
        rows = wrap(meaning, width - 26, "dim")
        head = wrap(word, 24)
        for index in range(max(len(rows), len(head))):
            left = f" {head[index][0].text if index < len(head) else '':<25}"
            lines.append(line(left, *(rows[index] if index < len(rows) else line(""))))
    return lines[1:]


class HelpScreen(DeskDialog):
    """Keys and words."""

    BINDINGS = [Binding("question_mark,q", "close", show=False)]

    def compose(self) -> ComposeResult:
        """One text."""
        with Vertical(id="help") as box:
            entitle(box, "Help", "↑ ↓ scroll · Esc close")
            yield Scroller()

    def on_mount(self) -> None:
        """Hand the text over; it stays as it is while it is read."""
        keys = self.desk_app.keys
        self.query_one(Scroller).paint(lambda width: help_lines(width, keys))
