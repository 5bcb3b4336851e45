"""An order by hand in the running console at 80x24: the engine's verdict while it is typed, and one order at most."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.conftest import Open, Sextant
from tests.e2e.desks import at_once
from tests.e2e.test_by_hand import long_desk


def test_the_ticket_shows_what_would_be_refused_and_an_exit_leaves_once(
    terminal: Open, sextant: Sextant, tmp_path: Path
) -> None:
    state = tmp_path / "desk"
    desk = terminal(80, 24)
    long_desk(desk, state, at_once(tmp_path))

    # Far too large: the engine says so while it is typed, and Enter sends nothing.
    desk.press("o")
    desk.wait_for("Order by hand · cl-breakout")
    desk.wait_for(r"position +CLF7 LONG 6")
    desk.press("Tab")
    desk.type("5000")
    desk.wait_for(r"✕ size 5000 is over max_order_size \d+")
    desk.wait_for(r"heat +\d+\.\d\d % → \d+\.\d\d %")
    desk.wait_for(r"sending it all the same would pause the session")
    desk.escape("Order by hand")

    # A partial exit, its confirmation pressed thrice, closes two of six.
    desk.press("e")
    desk.wait_for(r"at most 6 can be closed")
    desk.press("BTab", "BSpace")
    desk.type("50")
    desk.wait_for(r"capped: 6 can be closed")
    desk.press("BSpace", "BSpace")
    desk.type("2")
    desk.wait_for(r"closes +2 +at most 6")
    desk.press("Tab")
    desk.type("y")
    desk.press("Enter", "Enter", "Enter")
    desk.wait_for(r"(?s)receipt +exit is on its way.*✓ ")
    desk.escape("Order by hand")
    desk.wait_for(r"cl-breakout\s+trading.*LONG 4")
    desk.press("q")
    desk.wait_for("Quit: stop the desk")
    desk.press("y")
    assert desk.ended() == 0
    overrides = sextant("journal", "--state-dir", state, "--kind", "override", "--json").json
    assert len([line for line in overrides if line["text"].startswith("exit by hand")]) == 1, overrides
    sold = [o for o in sextant("orders", "--state-dir", state, "--json").json if o["role"] == "exit"]
    assert [(o["quantity"], o["state"]) for o in sold] == [("2", "filled")], "one order, and none of the entry"
    assert not any(o["state"] == "denied" for o in sextant("orders", "--state-dir", state, "--json").json)
