"""Every deliberate mistake still applies to the program as it is."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_applies_once_and_leaves_python(mutant: Mutant, tmp_path: Path) -> None:
    assert mutant.problem() is None
    target = tmp_path / mutant.path
    target.parent.mkdir(parents=True)
    shutil.copyfile(ROOT / mutant.path, target)
    mutant.apply(tmp_path)
    ast.parse(target.read_text("utf-8"))


def test_there_is_a_mistake_for_each_rule_and_none_twice() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.path, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
