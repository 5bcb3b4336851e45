"""Alerts outside the screen: webhooks and chat over the network, bell and desktop through the screen.

One thread looks at the newest snapshot once a second, headless or not; one for each channel waits for what is slow.
Nothing here can hold up engine or screen, and an address, which may hold a token, is in no text of any error.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import queue
import secrets
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from console.alerting import (
    OF_CHANNEL,
    AlertSettings,
    Channel,
    Form,
    Limit,
    Notice,
    Policy,
)
from console.process_log import hide
from engine.domain.ids import Millis
from engine.errors import ConfigurationError
from engine.snapshot import Alert, DeskSnapshot, Severity

log = logging.getLogger(__name__)

LOOK_S, SILENT_S = 1.0, 15.0
ANSWER_WITHIN_S = 10.0
TRIES_AFTER_S = (0.0, 5.0, 30.0, 120.0)
WAITING_AT_MOST = 50
TESTED_FILE = "alerts-tested.json"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PRIORITY = {Severity.NOTE: "default", Severity.WARNING: "high", Severity.CRITICAL: "urgent"}


class Address:
    """Where a channel leads; shows nothing of itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        hide(url)
        parts = urlsplit(url)
        words = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query)), parts.password or ""]
        for word in words:
            if len(word) >= 8:
                hide(word)

    def __repr__(self) -> str:
        return "Address(***)"


class NotDelivered(Exception):
    """A message did not arrive; the text says why and names no address."""


def address_of(channel: Channel, environ: Mapping[str, str] = os.environ) -> Address:
    """The address of a channel. Raises ConfigurationError with one sentence that never repeats it."""
    here = f"alerts.channels.{channel.name}"
    if channel.url_env is not None:
        found = environ.get(channel.url_env, "").strip()
        if not found:
            raise ConfigurationError(
                f"{here}: the environment variable {channel.url_env} is not set; export it, or remove the channel"
            )
    else:
        path = Path(channel.url_file or "")
        try:
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigurationError(f"{here}: {path} may be read by others; make it yours alone (chmod 600)")
            found = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8 text"
            raise ConfigurationError(f"{here}: {path} cannot be read ({why}); correct url_file") from None
    try:
        parts = urlsplit(found)
        host, scheme, _ = parts.hostname or "", parts.scheme, parts.port
    except ValueError:
        host = scheme = ""
    if scheme not in ("https", "http") or not host or not found.isprintable():
        raise ConfigurationError(f"{here}: what is kept there is no https:// address; correct it")
    if scheme == "http" and host not in LOOPBACK:
        raise ConfigurationError(f"{here}: its address must begin with https://, or everybody on the way reads along")
    return Address(found)


def body_of(form: Form, notice: Notice, desk: str) -> tuple[bytes, dict[str, str]]:
    """What a channel of this form is sent: body and headers."""
    as_json = {"content-type": "application/json"}
    match form:
        case Form.SLACK:
            words = f"{desk}: {notice.line}".replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            return json.dumps({"text": words}).encode(), as_json
        case Form.DISCORD:
            said: dict[str, Any] = {"content": f"{desk}: {notice.line}", "allowed_mentions": {"parse": []}}
            return json.dumps(said).encode(), as_json
        case Form.NTFY:
            title = desk.encode("ascii", "replace").decode()
            return notice.line.encode(), {
                "title": title,
                "priority": "default" if notice.over else PRIORITY[notice.severity],
            }
        case Form.JSON:
            said = {
                "desk": desk,
                "id": notice.id,
                "severity": notice.severity.value,
                "text": notice.line,
                "session": notice.session,
                "since": datetime.fromtimestamp(notice.since / 1000, UTC).isoformat(),
                "again": notice.again,
                "over": notice.over,
            }
            return json.dumps(said).encode(), as_json


def deliver(channel: Channel, address: Address, notice: Notice, desk: str) -> None:
    """Send one message and wait for its answer. Raises NotDelivered."""
    import httpx  # imported by whoever sends: a desk without channels does not pay for it

    body, headers = body_of(channel.form, notice, desk)
    try:
        with httpx.Client(timeout=ANSWER_WITHIN_S, follow_redirects=False) as client:
            status = client.post(address.url, content=body, headers=headers).status_code
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise NotDelivered(f"no answer ({type(error).__name__})") from None
    if not 200 <= status < 300:
        raise NotDelivered(f"refused with HTTP {status}")


class Courier:
    """Brings one channel its messages, on a thread of its own; `report` hears of trouble, and None when it is over."""

    def __init__(
        self,
        channel: Channel,
        address: Address,
        desk: str,
        report: Callable[[str, str | None], None],
        tries_after: Sequence[float] = TRIES_AFTER_S,
    ) -> None:
        self.channel = channel
        self._address, self._desk, self._report, self._tries = address, desk, report, tries_after
        self._waiting: queue.Queue[Notice] = queue.Queue(WAITING_AT_MOST)
        self._ending = threading.Event()
        threading.Thread(target=self._work, name=f"alerts {channel.name}", daemon=True).start()

    def take(self, notice: Notice) -> None:
        """Queue a message; never waits."""
        try:
            self._waiting.put_nowait(notice)
        except queue.Full:
            log.error("alerts.channels.%s: too many messages wait; one was dropped", self.channel.name)

    def end(self) -> None:
        """Try nothing more."""
        self._ending.set()

    def _work(self) -> None:
        while not self._ending.is_set():
            try:
                notice = self._waiting.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            try:
                self._bring(notice)
            except Exception as error:
                # The next message must still be tried; the error's text may hold the address.
                log.error("alerts.channels.%s failed: %s", self.channel.name, type(error).__name__)
                self._report(self.channel.name, f"failed ({type(error).__name__})")

    def _bring(self, notice: Notice) -> None:
        for number, pause in enumerate(self._tries, start=1):
            if self._ending.wait(pause):
                return
            try:
                deliver(self.channel, self._address, notice, self._desk)
            except NotDelivered as failure:
                log.warning("alerts.channels.%s: %s, try %d", self.channel.name, failure, number)
                self._report(self.channel.name, str(failure))
            else:
                self._report(self.channel.name, None)
                return


class Watched(Protocol):
    """The engine's host as seen from here."""

    @property
    def ended(self) -> Future[None]:
        """Done when the engine has stopped."""

    def snapshot(self) -> DeskSnapshot | None:
        """The newest picture of the desk."""

    def trouble(self, key: str, text: str | None) -> None:
        """Raise a warning on the desk, or take it back."""


class Notifier:
    """Looks at the desk's alerts and tells whom the settings name.

    `ring` takes notices for the screen (bell, desktop) and must not wait; None: there is no screen. `quiet` keeps the
    channels out of it: a recording wakes nobody. A desk that only looks on leaves them to the engine that commands.
    """

    def __init__(
        self,
        settings: AlertSettings,
        addresses: Mapping[str, Address],
        host: Watched,
        *,
        ring: Callable[[Notice], None] | None = None,
        quiet: bool = False,
        title: str = "Sextant",
        monotonic: Callable[[], float] = time.monotonic,
        tries_after: Sequence[float] = TRIES_AFTER_S,
    ) -> None:
        self._host, self._ring, self._monotonic = host, ring, monotonic
        self._policy = Policy(settings.again_after)
        self._couriers = [
            (
                Courier(channel, addresses[channel.name], title, self._reported, tries_after),
                Limit(channel.least, settings.per_minute, OF_CHANNEL + channel.name),
            )
            for channel in ([] if quiet else settings.channels)
        ]
        self._ending = threading.Event()
        self._seen: DeskSnapshot | None = None
        self._seen_at = 0.0
        self._looking_on: bool | None = None

    def start(self) -> None:
        """Look once a second from now on."""
        threading.Thread(target=self._watch, name="alerts", daemon=True).start()

    def end(self) -> None:
        """Look no more."""
        self._ending.set()
        for courier, _ in self._couriers:
            courier.end()

    def look(self) -> None:
        """Take one look."""
        now, snapshot = self._monotonic(), self._host.snapshot()
        if snapshot is None:
            return
        if snapshot is not self._seen:
            self._seen, self._seen_at = snapshot, now
        if self._looking_on is None or not snapshot.view_only:
            self._looking_on = bool(snapshot.view_only)
        alerts = list(snapshot.alerts)
        silent = now - self._seen_at
        if silent >= SILENT_S and not self._host.ended.done():
            alerts.append(_silence(silent, snapshot.at))
        notices = self._policy.due(alerts, now)
        if self._ring is not None:
            for notice in notices:
                self._ring(notice)
        for courier, limit in self._couriers:
            for notice in limit.take([] if self._looking_on else notices, now):
                courier.take(notice)

    def _watch(self) -> None:
        while not self._ending.wait(LOOK_S):
            try:
                self.look()
            except Exception:
                log.exception("alerts outside the screen could not be looked after")

    def _reported(self, channel: str, failure: str | None) -> None:
        words = f"alerts do not reach channel {channel}: {failure}; check its address and `sextant doctor --alert`"
        self._host.trouble(OF_CHANNEL + channel, words if failure else None)


def _silence(seconds: float, since: Millis) -> Alert:
    text = f"the engine has said nothing for more than {SILENT_S:g} s; what it commands may be unwatched"
    log.error("the engine has been silent for %.0f s", seconds)
    return Alert(id="engine-silent", severity=Severity.CRITICAL, text=text, since=since, lasting=True)


# ------------------------------------------------------------------------------------------------ the test


def trial_message(now: Millis) -> Notice:
    """What `sextant doctor --alert` sends."""
    return Notice(id="test", severity=Severity.NOTE, text="a test of sextant doctor --alert", since=now)


def try_channels(
    settings: AlertSettings, title: str, now: Millis, environ: Mapping[str, str] = os.environ
) -> list[tuple[str, str]]:
    """Send a test through every channel: its name, and why it failed (empty: it arrived)."""
    results = []
    for channel in settings.channels:
        try:
            deliver(channel, address_of(channel, environ), trial_message(now), title)
        except (NotDelivered, ConfigurationError) as failure:
            results.append((channel.name, str(failure)))
        else:
            results.append((channel.name, ""))
    return results


def remember_test(state_dir: Path, settings: AlertSettings, now: Millis, environ: Mapping[str, str]) -> None:
    """Keep that these very channels were reached; the file tells nothing of their addresses. Raises OSError."""
    salt = secrets.token_hex(16)
    kept = {"at": now, "salt": salt, "channels": _prints(settings, salt, environ)}
    path = state_dir / TESTED_FILE
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        json.dump(kept, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def untested(state_dir: Path, settings: AlertSettings, environ: Mapping[str, str] = os.environ) -> str:
    """Why nobody can be sure that alerts arrive; empty when every channel, as configured now, was reached."""
    if not settings.channels:
        return "no channel is configured: add [alerts.channels.NAME], then run `sextant doctor --alert`"
    try:
        kept = json.loads((state_dir / TESTED_FILE).read_text("utf-8"))
        salt, prints = str(kept["salt"]), dict(kept["channels"])
    except (OSError, ValueError, KeyError, TypeError):
        return "the channels were never tested: run `sextant doctor --alert`"
    wanted = _prints(settings, salt, environ)
    changed = sorted(name for name, mark in wanted.items() if prints.get(name) != mark)
    if changed:
        return f"{', '.join(changed)} changed since the last test: run `sextant doctor --alert`"
    return ""


def live_refusal(state_dir: Path, settings: AlertSettings, environ: Mapping[str, str] = os.environ) -> str:
    """The sentence with which LIVE refuses; empty when alerts are known to arrive. Raises ConfigurationError."""
    why = untested(state_dir, settings, environ)
    return f"LIVE needs alerts that are known to reach you, and {why}" if why else ""


def _prints(settings: AlertSettings, salt: str, environ: Mapping[str, str]) -> dict[str, str]:
    return {
        channel.name: hmac.new(
            salt.encode(), f"{channel.form}\0{channel.least}\0{address_of(channel, environ).url}".encode(), "sha256"
        ).hexdigest()
        for channel in settings.channels
    }
