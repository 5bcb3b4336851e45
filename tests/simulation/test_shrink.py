"""Shrinking keeps what breaks and drops the rest."""

from __future__ import annotations

import pytest

from tests.simulation import shrink
from tests.simulation.options import Options, options_of
from tests.simulation.world import START


def test_a_run_becomes_as_small_as_its_failure_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(options: Options) -> tuple[str, int] | None:
        guilty = {"lost answer", "crash"} <= options.faults.keys() and options.sessions >= 2
        return ("I5", START + 40 * 60_000) if guilty else None

    monkeypatch.setattr(shrink, "broken_by", breaks)
    large = Options(
        seed=1,
        mode="tag",
        hours=6,
        faults=dict.fromkeys(("lost answer", "bust", "crash", "disconnect", "feed cut"), 0.5),
        capabilities=options_of(1, "tag", 1).capabilities,
    )
    small = shrink.shrunk(large, lambda line: None)
    assert small.faults == {"lost answer": 0.5, "crash": 0.5}
    assert small.sessions == 2
    assert small.hours == 1


def test_a_clean_run_is_not_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "broken_by", lambda options: None)
    with pytest.raises(ValueError, match="breaks nothing"):
        shrink.shrunk(options_of(1, "tag", 1), lambda line: None)
