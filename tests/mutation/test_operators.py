"""The small changes themselves: each leaves Python, changes something, and spares wording."""

from __future__ import annotations

import ast

from tests.mutation.__main__ import drawn, modules
from tests.mutation.operators import LONGEST, Sites, told_apart

SOURCE = """
from log import log

LIMIT = 5


def check(order: int, *, by_hand: bool = False) -> str | None:
    # Words.
    log.info("asked about %s", order)
    if order > LIMIT and not by_hand:
        return "too many"
    return None
"""


def test_changes_are_python_and_differ_and_leave_words_alone() -> None:
    sites = Sites("check.py", SOURCE)
    changes = [
        change
        for operator, places in sites.found.items()
        for number in range(len(places))
        if (change := sites.change(operator, number)) is not None
    ]
    texts = {(change.line, change.before, change.after) for change in changes}
    assert (10, "> LIMIT", ">= LIMIT") in texts
    assert (10, "not by_hand", "by_hand") in texts
    assert (4, "5", "6") in texts
    for change in changes:
        ast.parse(change.code)
        assert change.code != SOURCE
        assert '"too many"' in change.code
        assert 'log.info("asked about %s", order)' in change.code


def test_changes_of_a_long_place_are_told_apart_by_what_differs() -> None:
    """Two arguments of one long call are two changes: a reason given for one is none for the other."""
    call = f"made(one=1, {', '.join(f'filler_{number}={number}' for number in range(20))}, last=2)"
    gone, kept = call.replace(", last=2", ""), told_apart(call, call.replace("last=2", "last=None"))
    assert told_apart(call, gone) != kept
    assert kept[0].endswith("last=2)")
    assert kept[1].endswith("last=None)")
    assert max(map(len, kept)) <= LONGEST + 1
    assert told_apart("a +\n  b", "a - b") == ("a + b", "a - b")


def test_a_seed_draws_the_same_changes_again() -> None:
    paths = [path for path in modules() if path.endswith(("fitting.py", "heat.py"))]
    once, again, other = drawn(paths, 12, 1), drawn(paths, 12, 1), drawn(paths, 12, 2)
    assert [change.name for change in once] == [change.name for change in again]
    assert [change.name for change in once] != [change.name for change in other]
    assert {change.path for change in once} == set(paths)
