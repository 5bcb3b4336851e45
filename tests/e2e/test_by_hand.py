"""What an operator does, and what the paper broker does to the desk, in the running console."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from console.screens.modals.base import OPENING_KEY_SLEEPS_S
from tests.e2e.conftest import Open, Sextant
from tests.e2e.desks import at_once, full_portfolio
from tests.e2e.terminal import Terminal

NOTICED_WITHIN_S = 31.0


def long_desk(desk: Terminal, state: Path, strategy: str) -> None:
    """A desk that holds a position with its stop."""
    desk.run("run", "--state-dir", str(state), "--timeframe", "1s", "--symbol", "CLF7", "--strategy", strategy)
    desk.wait_for(r"cl-breakout\s+trading.*LONG 6")
    desk.wait_for(r"guard +covered")


def margin_desk(desk: Terminal, units: str) -> None:
    """The fault of that name, from the palette."""
    desk.press("C-p")
    desk.wait_for("Search for commands")
    desk.type("margin desk")
    desk.press("Enter", "Enter")  # pressed twice, it opens one dialog and closes nothing else
    desk.wait_for("argument, Enter shows the fault")
    desk.press("BSpace")
    desk.type(units)
    desk.wait_for(rf"(?m)^.*│ +{units} +│")
    time.sleep(OPENING_KEY_SLEEPS_S)  # the dialog is open, and Enter, which opened it, does not answer for so long
    desk.press("Enter")
    desk.wait_for("margin desk moved")
    desk.wait_without("argument, Enter shows the fault")


def test_the_margin_desk_is_shown_and_adopted_and_entries_wait(
    terminal: Open, sextant: Sextant, tmp_path: Path
) -> None:
    state = tmp_path / "desk"
    desk = terminal(120, 40)
    long_desk(desk, state, at_once(tmp_path))
    margin_desk(desk, "1")
    moved = datetime.now(UTC)
    desk.press("4")
    desk.wait_for(r"cl-breakout\s+position\s+\S+\s+6\s+6\s+5")
    desk.wait_for(r"ENTRIES BLOCKED.*(broker says 5|position waits for you)")
    desk.wait_for(r"adopted the broker's 5")
    desk.press("1")
    desk.wait_for(r"cl-breakout\s+trading.*LONG 5")
    desk.wait_for("entries wait for you")
    desk.press("3")
    desk.wait_for(r"stop +▼ SELL +0/5")

    # The row stays and names who has seen it; then entries go on.
    desk.press("4")
    desk.wait_for("Disagreements · 1 open")
    desk.press("a")
    desk.wait_for("Acknowledge a disagreement")
    desk.type("seen it")
    desk.press("Enter")
    desk.wait_for(r"cl-breakout\s+position\s+\S+\s+6\s+6\s+5")
    desk.wait_for(r"note +seen it")
    desk.wait_without("Acknowledge a disagreement")
    desk.wait_without("ENTRIES BLOCKED")
    desk.press("q")
    desk.wait_for("Quit: stop the desk")
    desk.press("y")
    assert desk.ended() == 0
    lines = sextant("journal", "--state-dir", state, "--kind", "disagreement", "--json").json
    assert "memory 6, database 6, broker 5" in lines[0]["text"]
    noticed = min(datetime.fromisoformat(line["at"]) for line in lines)  # by the desk's clock: drawing is no part of it
    assert (noticed - moved).total_seconds() < NOTICED_WITHIN_S
    stop = next(o for o in sextant("orders", "--state-dir", state, "--json").json if o["role"] == "stop")
    assert (stop["quantity"], stop["state"]) == ("5", "working"), "the stop was sized to what is held"


def test_flatten_confirms_once_however_often_it_is_pressed(terminal: Open, sextant: Sextant, tmp_path: Path) -> None:
    state = tmp_path / "desk"
    desk = terminal(80, 24)
    long_desk(desk, state, at_once(tmp_path))

    # Default is No, Escape is No, and a pasted word is no word.
    desk.press("f")
    desk.wait_for("Flatten cl-breakout")
    desk.wait_for(r"position +CLF7 LONG 6")
    desk.wait_for(r"order +CLF7 stop SELL 6")
    desk.press("Enter")
    desk.paste("yes")
    desk.press("Enter")
    desk.escape("Flatten cl-breakout")
    desk.wait_for(r"cl-breakout\s+trading.*LONG 6")

    # The key that opens it, held, does not answer it; the confirmation, pressed thrice, is one command.
    desk.press("f", "f", "f")
    desk.wait_for("type yes")
    desk.type("y")
    desk.press("Enter", "Enter", "Enter")
    desk.wait_for(r"✓ flat confirmed at \d\d:\d\d:\d\d")
    desk.wait_for("broker says position 0")
    desk.escape("flat confirmed at")
    desk.wait_for(r"cl-breakout\s+\w+.*flat ")
    desk.press("q")
    desk.wait_for("Quit: stop the desk")
    desk.press("y")
    assert desk.ended() == 0
    overrides = sextant("journal", "--state-dir", state, "--kind", "override", "--json").json
    flattens = [line for line in overrides if line["text"].startswith("flatten ")]
    assert len(flattens) == 1, overrides
    sold = [o for o in sextant("orders", "--state-dir", state, "--json").json if o["side"] == "sell"]
    assert [(o["filled"], o["state"]) for o in sold] == [("6", "filled")], "closed once, and not a contract more"


def test_a_full_portfolio_blocks_entries_with_a_banner_while_flatten_works(
    terminal: Open, sextant: Sextant, tmp_path: Path
) -> None:
    state = tmp_path / "desk"
    desk = terminal(120, 40)
    desk.run("run", "--state-dir", str(state), "--config", str(full_portfolio(tmp_path)))
    desk.wait_for(r"filler\s+trading.*LONG 3")
    desk.wait_for(r"guard +covered")
    (tmp_path / "go").touch()
    desk.wait_for(r"warn 0\.5 %  block 1\.3 %")
    margin_desk(desk, "-3")  # takes minus three off: heat grows past the block, as no entry of ours may make it
    desk.press("r")
    desk.wait_for(r"filler\s+trading.*LONG 6")
    desk.wait_for(r"ENTRIES BLOCKED +heat at or over the block of 1\.30 %")
    desk.wait_for(r"[1-9]\d* entr(y|ies) stopped.*exits are open")
    desk.wait_for(r"fuller\s+trading.*flat ")
    desk.press("F")
    desk.wait_for("Flatten every session")
    desk.type("yes")
    desk.press("Enter")
    desk.wait_for(r"flat confirmed at \d\d:\d\d:\d\d")
    desk.escape("flat confirmed at")
    desk.wait_for(r"filler\s+paused.*flat ")
    desk.wait_for(r"HEAT \S+ +0\.0 %")
    desk.press("q")
    desk.wait_for("Quit: stop the desk")
    desk.press("y")
    assert desk.ended() == 0
    filled = [o for o in sextant("orders", "--state-dir", state, "--json").json if o["state"] == "filled"]
    assert {o["session"] for o in filled} == {"filler"}, "nothing else ever got in"
