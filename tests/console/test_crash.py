"""An error that nobody caught: one line for the operator, nothing of what the program held."""

from __future__ import annotations

import pytest

from console.app import SextantApp
from tests.console.factory import StillClient, busy_desk

CANARY = "canary-5d1f"


def fail() -> None:
    """Raise with a secret in the message and in a local variable."""
    secret = CANARY
    raise RuntimeError(f"token={secret}")


async def run_until_it_fails(app: SextantApp) -> None:
    async with app.run_test() as pilot:
        app.call_later(fail)
        await pilot.pause()


async def test_a_crash_says_one_line_without_locals_or_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    app = SextantApp(StillClient(busy_desk()), operator="operator", place="desk")
    with pytest.raises(RuntimeError):
        await run_until_it_fails(app)
    said = "".join(capsys.readouterr())
    assert "the console failed (RuntimeError" in said
    assert "Traceback" not in said
    assert CANARY not in said
    assert app.return_code == 1
