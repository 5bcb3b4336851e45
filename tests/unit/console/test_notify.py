"""Alerts over a real HTTP server: what arrives, what trouble looks like, and that no address is told to anybody."""

from __future__ import annotations

import json
import logging
import queue
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from console import config, notify
from console.alerting import AlertSettings, Channel, Form, From, Notice
from console.doctor import alert_findings
from console.notify import Notifier, address_of
from console.process_log import redacted
from engine.errors import ConfigurationError
from engine.snapshot import Alert, DeskSnapshot, Severity
from tests.console.factory import NOW, busy_desk

SECRET = "T0PSECRETTOKEN42"  # a canary: it must be found nowhere
SOON = 60.0
CRITICAL = Alert(id="naked", severity=Severity.CRITICAL, text="es-range is NAKED <b>", since=NOW)


class Receiver:
    """An HTTP server on a socket; answers with `status`, keeps what came."""

    def __init__(self) -> None:
        self.came: queue.Queue[tuple[str, dict[str, str], bytes]] = queue.Queue()
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.came.put((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/{SECRET}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def body(self) -> Any:
        return json.loads(self.came.get(timeout=SOON)[2])


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    made = Receiver()
    monkeypatch.setenv("PHONE", made.url)
    yield made
    made.server.shutdown()
    made.server.server_close()


class Host:
    """A desk whose newest word is set by hand."""

    def __init__(self, snapshot: DeskSnapshot) -> None:
        self.current = snapshot
        self.ended: Future[None] = Future()
        self.told: queue.Queue[tuple[str, str | None]] = queue.Queue()

    def snapshot(self) -> DeskSnapshot:
        return self.current

    def trouble(self, key: str, text: str | None) -> None:
        self.told.put((key, text))


def settings(form: Form = Form.JSON, **more: Any) -> AlertSettings:
    channels = (Channel(name="phone", form=form, url_env="PHONE"),)
    return AlertSettings(channels=channels, **more)


def desk(*alerts: Alert, **more: Any) -> DeskSnapshot:
    return replace(busy_desk(), alerts=alerts, **more)


def notifier(host: Host, alerts: AlertSettings, now: list[float], **more: Any) -> Notifier:
    addresses = {channel.name: address_of(channel) for channel in alerts.channels}
    return Notifier(alerts, addresses, host, monotonic=lambda: now[0], tries_after=(0.0, 0.0), **more)


def test_a_critical_alert_arrives_once_and_again_later(receiver: Receiver) -> None:
    now, host = [0.0], Host(desk(CRITICAL, replace(CRITICAL, id="w", severity=Severity.WARNING)))
    made = notifier(host, settings(), now)
    made.look()
    made.look()
    body = receiver.body()
    assert (body["id"], body["severity"], body["again"]) == ("naked", "critical", False)
    assert body["text"] == "CRITICAL es-range is NAKED <b>"
    now[0] = 301.0
    host.current = desk(CRITICAL)
    made.look()
    assert receiver.body()["again"] is True
    assert receiver.came.empty()
    made.end()


@pytest.mark.parametrize("form", list(Form))
def test_each_form_says_the_words(form: Form, receiver: Receiver) -> None:
    channel = Channel(name="phone", form=form, url_env="PHONE")
    notice = Notice(id="naked", severity=Severity.CRITICAL, text=CRITICAL.text, since=NOW)
    notify.deliver(channel, address_of(channel), notice, "Sextänt")
    _, headers, body = receiver.came.get(timeout=SOON)
    said = body.decode()
    match form:
        case Form.NTFY:
            assert (headers["priority"], headers["title"], said) == ("urgent", "Sext?nt", notice.line)
        case Form.SLACK:
            assert json.loads(said) == {"text": "Sextänt: CRITICAL es-range is NAKED &lt;b&gt;"}
        case Form.DISCORD:
            assert json.loads(said)["allowed_mentions"] == {"parse": []}
        case Form.JSON:
            assert json.loads(said)["desk"] == "Sextänt"


def test_a_channel_that_fails_raises_an_alert_and_clears_it_when_it_works(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.status = 403
    now, host = [0.0], Host(desk(CRITICAL))
    made = notifier(host, settings(again_after=1.0), now)
    made.look()
    told = [host.told.get(timeout=SOON) for _ in range(2)]
    assert {key for key, _ in told} == {"notify:phone"}
    assert "HTTP 403" in str(told[0][1])
    receiver.status = 204
    now[0] = 2.0
    host.current = desk(CRITICAL)
    made.look()
    assert host.told.get(timeout=SOON) == ("notify:phone", None)
    made.end()
    heard = [record for record in caplog.records if record.name == "console.notify"]
    assert heard
    assert SECRET not in " ".join(f"{record.getMessage()} {record.exc_text}" for record in heard)
    assert SECRET not in str(told)


def test_nobody_there_is_said_without_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHONE", f"http://127.0.0.1:9/{SECRET}")
    ((name, why),) = notify.try_channels(settings(), "Sextant", NOW)
    assert (name, why) == ("phone", "no answer (ConnectError)")
    assert SECRET not in repr(address_of(settings().channels[0]))
    assert SECRET not in redacted(f"POST http://127.0.0.1:9/{SECRET} and {SECRET} alone")


def test_a_recording_and_a_console_that_looks_on_tell_no_channel_but_ring(receiver: Receiver) -> None:
    rung: list[str] = []
    for view_only, quiet in (("another engine commands", False), ("", True)):
        host = Host(desk(CRITICAL, view_only=view_only))
        made = notifier(host, settings(), [0.0], quiet=quiet, ring=lambda notice: rung.append(notice.id))
        made.look()
        made.end()
    assert rung == ["naked", "naked"]
    assert receiver.came.empty()


def test_a_desk_that_loses_its_account_says_so(receiver: Receiver) -> None:
    now, host = [0.0], Host(desk())
    made = notifier(host, settings(), now)
    made.look()
    host.current = desk(replace(CRITICAL, id="view", text="VIEW ONLY: taken over"), view_only="taken over")
    made.look()
    assert "VIEW ONLY" in receiver.body()["text"]
    made.end()


def test_a_silent_engine_is_told(receiver: Receiver) -> None:
    now, host = [0.0], Host(desk())
    made = notifier(host, settings(), now)
    for moment in (0.0, 14.0, 15.0):
        now[0] = moment
        made.look()
    assert receiver.body()["id"] == "engine-silent"
    host.ended.set_result(None)
    now[0] = 900.0
    made.look()
    assert receiver.came.empty()
    made.end()


# -------------------------------------------------------------------------------------------------- configuration


def channels_of(text: str, tmp_path: Path) -> AlertSettings:
    return config.parse(DESK + text, "desk.toml", tmp_path, {}).alerts


DESK = """[accounts.paper]
broker = "paper"
[instruments.ES]
tick_size = 0.25
[sessions.a]
account = "paper"
symbol = "ES"
strategy = "ema_cross"
sizing = { quantity = 1 }
[sessions.a.limits]
max_order_size = 1
max_position_size = 1
entries_per_minute = 1
entries_per_day = 1
price_collar = 0.02
max_daily_loss = 100
worst_case_per_contract = 100
"""
AT = DESK.count("\n") + 1


def test_the_table_of_alerts_is_read(tmp_path: Path) -> None:
    text = '[alerts]\nbell = "never"\nagain_after = 60\n[alerts.channels.phone]\nform = "ntfy"\nfrom = "warning"\n'
    found = channels_of(text + 'url_file = "phone.url"\n', tmp_path)
    phone = Channel(name="phone", form=Form.NTFY, least=From.WARNING, url_file=str(tmp_path / "phone.url"))
    assert found == AlertSettings(bell=From.NEVER, again_after=60.0, channels=(phone,))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[alerts]\nbell = "loud"\n', f'desk.toml:{AT + 1}: alerts.bell must be "note" or'),
        ("[alerts.channels.phone]\n", f"desk.toml:{AT}: alerts.channels.phone.url_env is missing"),
        (
            f'[alerts.channels.phone]\nurl_env = "https://x/{SECRET}"\n',
            f"desk.toml:{AT + 1}: alerts.channels.phone.url_env must be the name of an environment variable",
        ),
        (
            '[alerts.channels.phone]\nurl_env = "A"\nurl_file = "b"\n',
            f"desk.toml:{AT + 1}: alerts.channels.phone.url_env and url_file exclude each other",
        ),
    ],
)
def test_one_sentence_for_bad_input(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        channels_of(text, tmp_path)
    assert str(refused.value).startswith(sentence)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", f"ftp://h/{SECRET}", f"http://example.org/{SECRET}", f"https://[{SECRET}", "https://"]
)
def test_an_address_that_will_not_do_is_refused_and_not_repeated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHONE", url)
    with pytest.raises(ConfigurationError, match=r"^alerts.channels.phone") as refused:
        address_of(settings().channels[0])
    assert SECRET not in str(refused.value)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "phone.url"
    path.write_text("https://example.org/hook\n")
    channel = Channel(name="phone", url_file=str(path))
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="may be read by others"):
        address_of(channel)
    path.chmod(0o600)
    assert address_of(channel).url == "https://example.org/hook"


# ------------------------------------------------------------------------------------------------------- the test


def test_live_demands_a_test_of_exactly_these_channels(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    made = config.default_desk(tmp_path / "state")
    live = replace(made, alerts=settings(), accounts=tuple(replace(a, live=True) for a in made.accounts))

    def found(alert: bool) -> list[tuple[str, bool]]:
        return [(what, fine) for what, fine, _ in alert_findings(live, alert=alert, now=NOW)]

    assert "no channel is configured" in notify.live_refusal(tmp_path / "state", AlertSettings())
    assert "never tested" in notify.live_refusal(tmp_path / "state", live.alerts)
    assert found(alert=False) == [("alerts", False)]
    receiver.status = 500
    assert found(alert=True) == [("alert to phone", False), ("alerts", False)]
    receiver.status = 200
    assert found(alert=True) == [("alert to phone", True), ("alerts", True)]
    assert found(alert=False) == [("alerts", True)]
    record = tmp_path / "state" / notify.TESTED_FILE
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert SECRET not in record.read_text()
    monkeypatch.setenv("PHONE", receiver.url + "x")
    assert "phone changed since the last test" in notify.live_refusal(tmp_path / "state", live.alerts)


def test_a_live_desk_without_that_test_does_not_start(tmp_path: Path) -> None:
    from console import bootstrap
    from console.options import RunOptions

    made = config.default_desk(tmp_path)
    live = replace(made, accounts=tuple(replace(a, live=True) for a in made.accounts))
    with pytest.raises(ConfigurationError, match=r"^LIVE needs alerts .* \[alerts.channels.NAME\]"):
        bootstrap.hosted(live, None, RunOptions())
