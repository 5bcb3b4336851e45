"""One deliberate mistake: a sentence of the rules, and the change of the program that breaks it."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]


class Mutant(Struct, frozen=True, kw_only=True):
    """`old` stands exactly once in `path` and gives way to `new`; `says` is the sentence that it then breaks."""

    name: str
    says: str
    path: str
    old: str
    new: str

    def problem(self, root: Path = ROOT) -> str | None:
        """Why it does not apply to the program as it is; None when it does."""
        count = (root / self.path).read_text("utf-8").count(self.old)
        if self.old == self.new:
            return f"{self.name} changes nothing"
        return None if count == 1 else f"{self.name}: its text stands {count} times in {self.path}"

    def apply(self, root: Path) -> None:
        """Change the copy of the program under `root`. Raises ValueError when it does not apply."""
        if (problem := self.problem(root)) is not None:
            raise ValueError(problem)
        path = root / self.path
        path.write_text(path.read_text("utf-8").replace(self.old, self.new), "utf-8")
