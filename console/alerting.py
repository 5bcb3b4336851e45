"""Who is told of an alert outside the screen, when, and how often. Values and policy; no Textual, no network.

One message for each alert and severity; again after a while for as long as nobody has acknowledged it; one more when
what stood is over; never more than so many a minute for one channel, what exceeds that is told as a number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence, Set
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from console.formatting import clock, plain
from engine.domain.ids import Millis, SessionId
from engine.snapshot import Alert, Severity

LONGEST = 500
OVER_AFTER_S = 60.0
"""An alert that stood is told to be over once it has been gone for so long: until then it may come back."""
LOUDNESS = {Severity.NOTE: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}
OF_CHANNEL = "notify:"
"""What the id of a channel's own trouble begins with: that channel is not told of it."""


class From(StrEnum):
    """From which severity on somebody is told."""

    NOTE = "note"
    WARNING = "warning"
    CRITICAL = "critical"
    NEVER = "never"

    def takes(self, severity: Severity) -> bool:
        """Whether this severity is loud enough."""
        return self is not From.NEVER and LOUDNESS[severity] >= LOUDNESS[Severity(self.value)]


class Desktop(StrEnum):
    """The escape code for a desktop message: 9 for iTerm2, kitty, Ghostty, foot; 777 for urxvt, foot, WezTerm."""

    OSC9 = "9"
    OSC777 = "777"


class Form(StrEnum):
    """What a channel's address understands."""

    JSON = "json"
    SLACK = "slack"
    DISCORD = "discord"
    NTFY = "ntfy"


class Channel(Struct, frozen=True, kw_only=True):
    """An address told over the network. The address itself is a secret: here is only where it is kept.

    `url_env` names an environment variable, `url_file` a file that nobody else may read; one of the two is set.
    """

    name: str
    form: Form = Form.JSON
    least: From = From.CRITICAL
    url_env: str | None = None
    url_file: str | None = None


class AlertSettings(Struct, frozen=True, kw_only=True):
    """Alerts outside the screen. `again_after` in seconds; `per_minute` messages at most for one channel."""

    bell: From = From.CRITICAL
    desktop: From = From.NEVER
    desktop_code: Desktop = Desktop.OSC9
    again_after: float = 300.0
    per_minute: int = 6
    channels: tuple[Channel, ...] = ()


class Notice(Struct, frozen=True, kw_only=True):
    """Something to tell somebody."""

    id: str
    severity: Severity
    text: str
    since: Millis
    session: SessionId | None = None
    again: bool = False
    over: bool = False

    @property
    def line(self) -> str:
        """One line of plain text."""
        if self.over:
            return plain(f"over: {self.severity.value.upper()} since {clock(self.since)} UTC: {self.text}", LONGEST)
        still = f"still, since {clock(self.since)} UTC: " if self.again else ""
        return plain(f"{self.severity.value.upper()} {still}{self.text}", LONGEST)


class _Told(Struct):
    """An alert that was told: when, in which words, whether it stood until it was over, and since when it is gone."""

    at: float
    notice: Notice
    stood: bool
    gone_since: float | None = None


class Policy:
    """Which alerts are told now; times in seconds of any monotonic clock."""

    def __init__(self, again_after: float) -> None:
        self._again_after = again_after
        self._told: dict[tuple[str, Severity], _Told] = {}

    def due(self, alerts: Sequence[Alert], now: float) -> list[Notice]:
        """The alerts to tell, then those that are over; a second look at the same ones tells nothing."""
        waiting = {(alert.id, alert.severity): alert for alert in alerts if not alert.acknowledged}
        over = self._over({alert.id for alert in alerts}, waiting, now)
        notices = []
        for key, alert in waiting.items():
            told = self._told.get(key)
            if told is not None and now - told.at < self._again_after:
                continue
            notice = Notice(
                id=alert.id,
                severity=alert.severity,
                text=alert.text,
                since=alert.since,
                session=alert.session,
                again=told is not None,
            )
            self._told[key] = _Told(now, notice, alert.lasting)
            notices.append(notice)
        return [*sorted(notices, key=lambda notice: -LOUDNESS[notice.severity]), *over]

    def _over(self, present: Set[str], waiting: Container[tuple[str, Severity]], now: float) -> list[Notice]:
        """What stood and is gone for good; what merely passed by is forgotten when it would have been repeated."""
        over = []
        for key, told in list(self._told.items()):
            if key in waiting:
                told.gone_since = None
                continue
            told.gone_since = now if told.gone_since is None else told.gone_since
            if told.stood and key[0] not in present:  # not acknowledged, not of another severity: gone
                if now - told.gone_since >= OVER_AFTER_S:
                    over.append(replace(told.notice, again=False, over=True))
                    del self._told[key]
            elif now - told.at >= self._again_after:
                del self._told[key]
        return over


class Limit:
    """At most so many messages a minute for one channel; the rest becomes one message with their number."""

    def __init__(self, least: From, per_minute: int, own: str = "") -> None:
        self._least, self._per_minute, self._own = least, per_minute, own
        self._sent: deque[float] = deque()
        self._held: list[Notice] = []

    def take(self, notices: Sequence[Notice], now: float) -> list[Notice]:
        """What goes out now; call it often, with nothing too."""
        self._held += [n for n in notices if self._least.takes(n.severity) and (not self._own or n.id != self._own)]
        while self._sent and now - self._sent[0] >= 60:
            self._sent.popleft()
        out: list[Notice] = []
        while self._held and len(self._sent) < self._per_minute:
            last = len(self._sent) == self._per_minute - 1 and len(self._held) > 1
            out.append(_together(self._held) if last else self._held[0])
            self._held = [] if last else self._held[1:]
            self._sent.append(now)
        return out


def _together(held: Sequence[Notice]) -> Notice:
    worst = max(held, key=lambda notice: LOUDNESS[notice.severity])
    return Notice(
        id="more",
        severity=worst.severity,
        text=f"{len(held)} more alerts; the worst: {worst.text}",
        since=worst.since,
        session=worst.session,
    )


def desktop_message(notice: Notice, title: str, code: Desktop, *, in_tmux: bool) -> str:
    """The escape sequence of a desktop message; inside tmux wrapped for `allow-passthrough on`."""
    clean = plain(notice.line, 200)
    name = plain(title, 40)
    if code is Desktop.OSC9:
        sequence = f"\x1b]9;{name}: {clean}\x07"
    else:
        sequence = f"\x1b]777;notify;{name.replace(';', ',')};{clean.replace(';', ',')}\x07"
    return f"\x1bPtmux;{sequence.replace(chr(27), chr(27) * 2)}\x1b\\" if in_tmux else sequence


def sounds(settings: AlertSettings, notice: Notice, title: str, *, in_tmux: bool) -> str:
    """What the terminal is sent for a notice: the bell, which tmux passes on by itself, and the desktop message."""
    bell = "\x07" if settings.bell.takes(notice.severity) and not notice.over else ""
    if not settings.desktop.takes(notice.severity):
        return bell
    return bell + desktop_message(notice, title, settings.desktop_code, in_tmux=in_tmux)
