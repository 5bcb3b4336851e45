"""Leaving: the question, the configured policy, every step, and signals that do not ask."""

from threading import Thread

import msgspec

from engine.commands import Shutdown
from engine.domain.settings import ShutdownPolicy
from engine.snapshot import Procedure
from tests.console.factory import NOW, busy_desk
from tests.console.stories import Story, story


def finished(told: Story) -> Procedure:
    command = told.client.sent[0]
    return Procedure(id=command.origin.id, title="shutdown", session=None, started=NOW,
                     lines=((NOW, "entry sx3a cancelled"),), ok=True, result="stopped")  # fmt: skip


async def test_quit_states_asks_and_escape_stays() -> None:
    async with story(size=(80, 24)) as told:
        await told.press("q")
        for words in ("LONG 0.6", "SHORT 1", "in doubt: submit", "leave", "cancel entries", "flatten"):
            assert words in told.text
        await told.press("q", "enter", "n")
        assert told.dialog == ""
        assert told.client.sent == []


async def test_yes_carries_out_the_configured_policy_once_and_leaves_with_zero() -> None:
    desk = msgspec.structs.replace(busy_desk(), shutdown_policy=ShutdownPolicy.FLATTEN)
    async with story(desk) as told:
        await told.press("q", "y", "y", "escape")
        assert len(told.client.sent) == 1
        assert isinstance(told.client.sent[0], Shutdown)
        assert told.client.sent[0].policy is ShutdownPolicy.FLATTEN
        assert "stopping the desk" in told.text
        await told.becomes(msgspec.structs.replace(desk, procedures=(finished(told),)))
        assert "entry sx3a cancelled" in told.text
        await told.until(lambda: told.app.return_code is not None, "it leaves by itself")
    assert told.app.return_code == 0


async def test_a_signal_does_not_ask_and_closes_what_is_open() -> None:
    async with story() as told:
        await told.press("K")
        caller = Thread(target=told.app.request_quit, args=(ShutdownPolicy.LEAVE,))
        caller.start()
        caller.join()
        await told.settle()
        assert told.dialog.startswith("Quit")
        assert isinstance(told.client.sent[0], Shutdown)
        assert told.client.sent[0].policy is ShutdownPolicy.LEAVE


async def test_an_engine_that_never_finishes_does_not_hold_the_console() -> None:
    async with story() as told:
        await told.press("q", "y")
        told.watch.now += 31
        told.app.pull()
        await told.pilot.pause()
    assert told.app.return_code == 4


async def test_nobody_to_ask_means_leaving_at_once() -> None:
    async with story(empty=True) as told:
        await told.press("q", "y")
    assert told.app.return_code == 0
