"""What is configured, durable and reachable; printed before anything is risked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from msgspec.structs import replace

from console import notify
from console.alerting import sounds
from console.config_model import DeskSettings
from console.config_text import describe
from console.formatting import plain
from console.process import state_directory
from engine.domain.ids import Millis
from engine.errors import ConfigurationError, DeskUnusable
from engine.snapshot import Severity


def examine(settings: DeskSettings, findings: list[tuple[str, bool, str]]) -> int:
    """Print the effective configuration and each finding; 0 when everything is well, 3 when a run would refuse."""
    for line in describe(settings):
        sys.stdout.write(plain(line) + "\n")
    sys.stdout.write("\n")
    for what, fine, detail in findings:
        sys.stdout.write(f"# {'ok ' if fine else 'BAD'} {plain(what)}: {plain(detail)}\n")
    return 0 if all(fine for _, fine, _ in findings) else 3


def alert_findings(settings: DeskSettings, *, alert: bool, now: Millis) -> list[tuple[str, bool, str]]:
    """Who is told outside the screen and whether that is known to work; `alert` sends the test now, and records it.

    Only a LIVE desk is refused for want of a test.
    """
    alerts, state_dir = settings.alerts, settings.state_dir
    live = any(account.live for account in settings.accounts)
    findings = []
    if alert:
        results = notify.try_channels(alerts, settings.title, now)
        findings += [(f"alert to {name}", not why, why or "arrived") for name, why in results]
        if sys.stdout.isatty():
            loud = replace(notify.trial_message(now), severity=Severity.CRITICAL)
            sys.stdout.write(sounds(alerts, loud, settings.title, in_tmux="TMUX" in os.environ))
        if results and not any(why for _, why in results):
            try:
                notify.remember_test(state_directory(state_dir), alerts, now, os.environ)
            except OSError as error:
                findings.append(("alert test", False, f"it cannot be recorded in {state_dir} ({error.strerror})"))
    try:
        why = notify.untested(state_dir, alerts)
    except ConfigurationError as error:
        return [*findings, ("alerts", False, str(error))]
    names = ", ".join(f"{channel.name} ({channel.form}) from {channel.least}" for channel in alerts.channels)
    told = f"bell from {alerts.bell}, desktop from {alerts.desktop}, channels: {names or 'none'}"
    refused = (alert and not alerts.channels) or (live and bool(why))
    return [*findings, ("alerts", not refused, f"{told}; {why or 'each channel was reached in a test'}")]


def state_finding(path: Path) -> tuple[str, bool, str]:
    """Whether the state directory can be used."""
    if not path.exists():
        return "state directory", True, f"{path} does not exist yet and will be made"
    try:
        state_directory(path)
    except DeskUnusable as error:
        return "state directory", False, str(error)
    return "state directory", True, str(path)
