"""What is configured, durable and reachable; printed before anything is risked."""

from __future__ import annotations

import sys
from pathlib import Path

from console.config_model import DeskSettings
from console.config_text import describe
from console.formatting import plain
from engine.errors import DeskUnusable


def examine(settings: DeskSettings, findings: list[tuple[str, bool, str]]) -> int:
    """Print the effective configuration and each finding; 0 when everything is well, 3 when a run would refuse."""
    for line in describe(settings):
        sys.stdout.write(plain(line) + "\n")
    sys.stdout.write("\n")
    for what, fine, detail in findings:
        sys.stdout.write(f"# {'ok ' if fine else 'BAD'} {plain(what)}: {plain(detail)}\n")
    return 0 if all(fine for _, fine, _ in findings) else 3


def state_finding(path: Path) -> tuple[str, bool, str]:
    """Whether the state directory can be used."""
    from console.process import state_directory

    if not path.exists():
        return "state directory", True, f"{path} does not exist yet and will be made"
    try:
        state_directory(path)
    except DeskUnusable as error:
        return "state directory", False, str(error)
    return "state directory", True, str(path)
