"""Every deliberate mistake still applies to the program as it is."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import ROOT, Mutant
from tests.mutants.needs import NEEDS
from tests.mutants.sentences import SENTENCES, Sentence
from tests.simulation.faults import kinds


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_applies_once_and_leaves_python(mutant: Mutant, tmp_path: Path) -> None:
    assert mutant.problem() is None
    for path in {edit.path for edit in mutant.edits}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tmp_path / path)
    mutant.apply(tmp_path)
    for edit in mutant.edits:
        ast.parse((tmp_path / edit.path).read_text("utf-8"))


def test_there_is_a_mistake_for_each_rule_and_none_twice() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.path, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)


def test_what_a_mistake_needs_is_a_kind_of_fault() -> None:
    assert set(NEEDS) <= {mutant.name for mutant in MUTANTS}
    assert {kind for needed in NEEDS.values() for kind in needed} <= set(kinds())


@pytest.fixture(scope="module")
def functions() -> set[str]:
    """Every test there is."""
    return {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda sentence: sentence.words[:60])
def test_each_sentence_is_broken_by_a_mistake_or_held_up_by_a_test(sentence: Sentence, functions: set[str]) -> None:
    assert sentence.mistakes or sentence.tests or sentence.absent
    assert {*sentence.mistakes} <= {mutant.name for mutant in MUTANTS}
    assert {*sentence.tests} <= functions
