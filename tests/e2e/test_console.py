"""The console in a real terminal: what it shows, what its keys do, and how it leaves."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import Open, Sextant
from tests.e2e.desks import SCREENS, at_once, intact
from tests.e2e.terminal import COLOURED, Terminal, gone, wait_until

SESSIONS = ("es-cross", "cl-breakout", "nq-range", "euro-cross")
CLOCK = re.compile(r"(\d\d:\d\d:\d\d) UTC")
DIALOGS = r"Quit: stop the desk|Flatten (es|every)|Kill: no entries|type yes"


def trading(terminal: Terminal, *sessions: str) -> None:
    """Until every session trades."""
    for session in sessions:
        terminal.wait_for(rf"{session}\s+trading")


def alive(terminal: Terminal) -> None:
    """The desk's clock goes on."""
    before = terminal.wait_for(CLOCK.pattern).group(1)
    wait_until(
        lambda: terminal.wait_for(CLOCK.pattern).group(1) != before, lambda: f"the clock stands:\n{terminal.screen()}"
    )


def quit_and_check(terminal: Terminal) -> None:
    """`q` then `y`: exit status 0, and a terminal as it was."""
    terminal.press("q")
    terminal.wait_for("Quit: stop the desk")
    terminal.press("y")
    assert terminal.ended() == 0
    assert terminal.is_clean()


def test_a_fresh_desk_at_120x40_shows_itself_obeys_and_leaves(terminal: Open, sextant: Sextant, tmp_path: Path) -> None:
    state = tmp_path / "desk"
    desk = terminal(120, 40, COLUMNS="80", LINES="24")  # exported by a shell long ago: the window knows better
    desk.run("run", "--state-dir", str(state))

    # Alive at first sight: prices, forming candles, heat in words, five lamps by their full names.
    trading(desk, *SESSIONS)
    for session in SESSIONS:
        desk.wait_for(rf"{session}\s+trading\s+[\d,.]+\s+[\d.]+m?s\s+[^\w\s]")
    desk.wait_for(r"PAPER")
    desk.wait_for(r"HEAT \S+ +\d+\.\d %  entries open")
    desk.wait_for(r"INBOUND [\d.]+m?s.*OUTBOUND.*PERSIST ok.*RECONCILE agrees.*HEAT [\d.]+% open")

    # Each key its screen.
    for key, words in SCREENS.items():
        desk.press(key)
        desk.wait_for(words)
    desk.press("2")
    first = desk.wait_for(r"closes (?:in )?([\d.]+)s").group(1)
    wait_until(lambda: desk.wait_for(r"closes (?:in )?([\d.]+)s").group(1) != first, "the forming candle's time runs")
    desk.press("1")
    desk.wait_for(SCREENS["1"])

    # Help is made from the table of actions; Escape leaves it.
    desk.press("?")
    desk.wait_for("what each shutdown policy means")
    desk.escape("what each shutdown policy means")

    # Keys of terminals and multiplexers harm nothing.
    desk.press("C-s", "C-q", "C-z", "C-b", "C-c")
    alive(desk)
    assert "T" not in Path(f"/proc/{desk.pid}/stat").read_text().rpartition(")")[2].split()[0], "it was stopped"
    assert not desk.shows(DIALOGS)

    # Pasted text triggers nothing: the key after it still reaches the desk, and no dialog swallowed it.
    desk.paste("qyFK\n")
    desk.press("3")
    desk.wait_for(SCREENS["3"])
    assert not desk.shows(DIALOGS)
    desk.press("1")
    desk.wait_for(SCREENS["1"])

    # `q` asks and says what each policy means; Escape stays.
    desk.press("q")
    desk.wait_for("Quit: stop the desk")
    desk.wait_for("▸ cancel entries")
    desk.wait_for("(?s)leave.*flatten")
    desk.escape("Quit: stop the desk")
    alive(desk)

    # A second desk on the same state is refused in one sentence that names it.
    second = sextant("run", "--headless", "--state-dir", state)
    assert second.code == 3
    assert str(state) in second.line
    assert "nother desk" in second.line

    quit_and_check(desk)
    assert gone(desk.pid)
    assert intact(state)

    # Again on the same state; SIGTERM this time: the policy, and a clean terminal.
    desk.run("run", "--state-dir", str(state))
    trading(desk, *SESSIONS)
    desk.signal(signal.SIGTERM)
    assert desk.ended() == 0
    assert desk.is_clean()
    assert intact(state)
    leases = sextant("journal", "--state-dir", state, "--kind", "lease", "--json").json
    assert [line["text"][:7] for line in leases] == ["epoch 2", "epoch 1"]


def test_u11_80x24_loses_no_warning_and_no_control(terminal: Open, sextant: Sextant, tmp_path: Path) -> None:
    state = tmp_path / "desk"
    desk = terminal(80, 24)
    desk.run("run", "--state-dir", str(state), "--timeframe", "1s")
    trading(desk, *SESSIONS)
    desk.wait_for(r"IN [\d.]+m?s.*OUT \d.*DB ok.*REC ok.*HEAT [\d.]+%")
    desk.wait_for(r"HEAT \S+ +\d+\.\d %  entries open")
    desk.wait_for(r"q Quit")
    for key, words in SCREENS.items():
        desk.press(key)
        desk.wait_for(words)
    for text in (desk.screen(), desk.with_escapes()):
        assert len(text.splitlines()) <= 24
    assert COLOURED.search(desk.with_escapes()), "with colour by default, or the test of NO_COLOR proves nothing"
    desk.press("C-p")
    desk.wait_for("console: quit")
    desk.escape("console: quit")

    # Keys of terminals and multiplexers harm nothing, a paste is no keys, and a key held down is one command.
    desk.press("C-s", "C-q", "C-z", "C-b", "C-c")
    desk.paste("FyesK\n")
    alive(desk)
    assert not desk.shows(DIALOGS)
    desk.hold("p", 20)
    desk.wait_for("type yes")
    desk.type("y")
    desk.hold("Enter", 20)
    desk.wait_for(r"paused")
    desk.wait_without("Pause es-cross")
    desk.hold("r", 40)
    alive(desk)
    quit_and_check(desk)
    said = [o["text"] for o in sextant("journal", "--state-dir", state, "--kind", "override", "--json").json]
    assert sum(text.startswith("pause") for text in said) == 1, said
    assert not [text for text in said if text.startswith(("flatten", "kill"))], said


def test_no_color_means_none(terminal: Open, tmp_path: Path) -> None:
    desk = terminal(80, 24, NO_COLOR="1")
    desk.run("run", "--state-dir", str(tmp_path / "desk"), "--symbol", "ESZ6")
    trading(desk, "es-cross")
    for key, words in SCREENS.items():
        desk.press(key)
        desk.wait_for(words)
        found = COLOURED.search(desk.with_escapes())
        assert found is None, f"{found!r} on {words}"
    quit_and_check(desk)


def test_a_hang_up_ends_the_desk_by_its_policy(terminal: Open, sextant: Sextant, tmp_path: Path) -> None:
    state = tmp_path / "desk"
    desk = terminal(120, 40)
    desk.run("run", "--state-dir", str(state), "--timeframe", "1s", "--symbol", "CLF7", "--strategy", at_once(tmp_path))
    desk.wait_for(r"cl-breakout\s+trading.*LONG 6")
    desk.wait_for(r"guard +covered")
    desk.hang_up()
    wait_until(lambda: gone(desk.pid), "the desk's end after a hang-up")
    assert intact(state)
    orders = {order["role"]: order["state"] for order in sextant("orders", "--state-dir", state, "--json").json}
    assert orders == {"entry": "filled", "stop": "working"}, "the policy keeps protective exits"


@pytest.mark.parametrize("options", [["--json"], ["--for", "3"]])
def test_with_a_screen_options_of_headless_runs_are_refused(terminal: Open, tmp_path: Path, options: list[str]) -> None:
    desk = terminal(100, 10)
    desk.run("run", "--state-dir", str(tmp_path / "desk"), *options)
    assert desk.ended() == 2
    assert f"{options[0]} belongs to a run without a screen" in desk.screen()
    assert not (tmp_path / "desk").exists()
