"""The small changes themselves: each leaves Python, changes something, and spares wording."""

from __future__ import annotations

import ast

from tests.mutation.__main__ import drawn, modules
from tests.mutation.operators import Sites

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


def test_a_seed_draws_the_same_changes_again() -> None:
    paths = [path for path in modules() if path.endswith(("fitting.py", "heat.py"))]
    once, again, other = drawn(paths, 12, 1), drawn(paths, 12, 1), drawn(paths, 12, 2)
    assert [change.name for change in once] == [change.name for change in again]
    assert [change.name for change in once] != [change.name for change in other]
    assert {change.path for change in once} == set(paths)
