"""One deliberate mistake: a sentence of the rules, and the change of the program that breaks it."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]


class Edit(Struct, frozen=True):
    """`old` stands exactly once in `path` and gives way to `new`."""

    path: str
    old: str
    new: str


class Mutant(Struct, frozen=True, kw_only=True):
    """`old` stands exactly once in `path` and gives way to `new`; `says` is the sentence that it then breaks.

    `also` takes away what would catch the mistake on its way: where two guards stand one behind the other, either of
    them alone may go without anything changing, and that is what they are there for.
    """

    name: str
    says: str
    path: str
    old: str
    new: str
    also: tuple[Edit, ...] = ()

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Everything that is changed."""
        return (Edit(self.path, self.old, self.new), *self.also)

    def problem(self, root: Path = ROOT) -> str | None:
        """Why it does not apply to the program as it is; None when it does."""
        for edit in self.edits:
            count = (root / edit.path).read_text("utf-8").count(edit.old)
            if edit.old == edit.new:
                return f"{self.name} changes nothing"
            if count != 1:
                return f"{self.name}: its text stands {count} times in {edit.path}"
        return None

    def apply(self, root: Path) -> None:
        """Change the copy of the program under `root`. Raises ValueError when it does not apply."""
        if (problem := self.problem(root)) is not None:
            raise ValueError(problem)
        for edit in self.edits:
            path = root / edit.path
            path.write_text(path.read_text("utf-8").replace(edit.old, edit.new), "utf-8")
