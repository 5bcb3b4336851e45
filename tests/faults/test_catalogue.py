"""Every fault of the catalogue is shown by a test that bears its id, or listed with the part that it comes with."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.catalogue import ELSEWHERE, FAULTS, GROUPS, PAGE, ROOT, by_fault, ids_of, page


def test_the_catalogue_is_whole() -> None:
    counts = Counter(id[0] for id in FAULTS)
    assert counts == {"S": 31, "E": 19, "R": 15, "D": 14, "C": 5, "P": 12, "X": 9, "U": 11, "Z": 3}
    assert set(counts) == set(GROUPS)
    for letter, count in counts.items():
        assert [id for id in FAULTS if id[0] == letter] == [f"{letter}{number}" for number in range(1, count + 1)]


@pytest.mark.parametrize("id", FAULTS)
def test_a_fault_has_its_test_or_its_place(id: str) -> None:
    tests = by_fault().get(id, [])
    assert bool(tests) is (id not in ELSEWHERE), tests or "no test bears this id, and it is not listed elsewhere"


def test_the_page_says_so() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m tests.faults writes it anew"


def test_ids_are_the_first_words_of_a_name(tmp_path: Path) -> None:
    assert ids_of("test_s1_an_answer") == ("S1",)
    assert ids_of("test_u2_u3_text") == ("U2", "U3")
    assert ids_of("test_s99_nothing") == ids_of("test_an_s1") == ids_of("test_80x24") == ()
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_one.py").write_text("def test_e1_x(): ...\nasync def test_e2_y(): ...\ndef other(): ...\n")
    assert by_fault(folder) == {
        "E1": [("tests/test_one.py", "test_e1_x")],
        "E2": [("tests/test_one.py", "test_e2_y")],
    }


def test_r15_there_is_one_road_to_the_broker_and_an_entry_brings_its_approval() -> None:
    """Orders leave through the account link, asked by `submission` alone; its entry takes nothing but an approval."""
    asking: set[str] = set()
    sending: set[str] = set()
    for path in sorted((ROOT / "engine").rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "submit":
                name = ast.unparse(node.value)
                (sending if name.endswith("_manager") else asking).add(f"{where}: {name}.submit")
    assert sending == {"engine/links.py: self._manager.submit"}
    assert asking == {"engine/outbound/submission.py: desk.road.submit"}
    tree = ast.parse((ROOT / "engine/outbound/submission.py").read_text("utf-8"))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}
    taken = [ast.unparse(argument.annotation) for argument in functions["entry"].args.args if argument.annotation]
    assert taken == ["ApprovedEntry"]
    assert "self._gate.at_send(" in ast.unparse(functions["entry"])
    assert [name for name, node in functions.items() if "road.submit(" in ast.unparse(node)] == ["entry", "exit"]
