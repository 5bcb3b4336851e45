"""Cleaning, pauses and the registry."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers import registry
from brokers.common.backoff import pauses
from engine.domain.cleaning import clean
from engine.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("dirty", "cleaned"),
    [
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("a\tb\nc\r\nd", "a b c  d"),
        ("safe\u202egnp.exe", "safegnp.exe"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("nul\x00 and c1 \x9b31m", "nul and c1 31m"),
        ("line\u2028sep\u2029", "linesep"),
        ("z" + "\u0301" * 50, "z\u0301\u0301"),
        ("€ and 日本", "€ and 日本"),
    ],
)
def test_foreign_text_is_made_harmless(dirty: str, cleaned: str) -> None:
    assert clean(dirty) == cleaned


@given(st.text(), st.integers(0, 50))
def test_nothing_invisible_passes_and_cleaning_twice_changes_nothing(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert len(cleaned) <= limit
    assert not {unicodedata.category(c) for c in cleaned} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert clean(cleaned, limit) == cleaned


def test_pauses_grow_to_the_cap_and_are_repeatable() -> None:
    first = list(islice(pauses(Random(3), first=1, factor=2, cap=8), 50))
    assert first == list(islice(pauses(Random(3), first=1, factor=2, cap=8), 50))
    for step, pause in zip((1, 2, 4, 8, 8), first, strict=False):
        assert step / 2 <= pause <= step
    assert max(first) <= 8
    with pytest.raises(ValueError, match="backoff"):
        next(pauses(Random(3), first=2, cap=1))


def test_a_broker_is_found_by_name_and_an_unknown_one_names_those_there_are() -> None:
    assert registry.feed_factory("replay").__name__ == "ReplaySource"
    assert registry.account_factory("paper").__name__ == "PaperAccount"
    with pytest.raises(ConfigurationError, match="paper, replay"):
        registry.find("nobody")
    with pytest.raises(ConfigurationError, match="no accounts"):
        registry.account_factory("replay")


def test_every_factory_exists_and_is_imported_only_when_asked_for() -> None:
    for broker in registry.BROKERS:
        for where, factory in ((broker.account, registry.account_factory), (broker.feed, registry.feed_factory)):
            if where:
                assert callable(factory(broker.name))
    look = "import sys, brokers.registry; print([m for m in sys.modules if m.startswith('brokers.')])"
    run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "['brokers.registry']"
