"""The small changes that mutmut's operators make of one file, each as the whole file with the change in it.

Left alone: wording (strings, what is logged or said), annotations, decorators, assertions, and what is made when a
module is imported, but for its numbers.
"""

from __future__ import annotations

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from msgspec import Struct
from mutmut.mutation.mutators import mutation_operators

WORDING = frozenset({"operator_string", "operator_symmetric_string_methods_swap", "operator_dict_arguments"})
AT_IMPORT = frozenset({"operator_number"})
SPOKEN = m.Call(
    func=m.Name("say") | m.Name("_refuse") | m.Attribute(value=m.Name("log")) | m.Attribute(attr=m.Name("alert"))
)
ALONE = (cst.Annotation, cst.Decorator, cst.Assert, cst.FormattedString, cst.Import, cst.ImportFrom)
LONGEST = 90


class Change(Struct, frozen=True, kw_only=True):
    """One small change: `before` gave way to `after` on a line of the file, whose whole text is then `code`.

    `within` is the line as it was.
    """

    path: str
    line: int
    operator: str
    before: str
    after: str
    within: str
    code: str

    @property
    def name(self) -> str:
        """The same as long as its text stands there, whatever its line."""
        return f"{self.path} {self.operator} in `{self.within}`: {self.before} -> {self.after}"


class _Visitor(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, int, cst.CSTNode, cst.CSTNode]] = []
        self._depth = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, ALONE) or m.matches(node, SPOKEN):
            return False
        position = self.get_metadata(PositionProvider, node, None)
        for kind, operator in mutation_operators:
            name = operator.__name__
            if position is None or not isinstance(node, kind) or name in WORDING:
                continue
            if self._depth or name in AT_IMPORT:
                self.found += [(name, position.start.line, node, other) for other in operator(node)]
        self._depth += isinstance(node, cst.FunctionDef)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        self._depth -= isinstance(original_node, cst.FunctionDef)


class Sites:
    """Every place of one file where an operator can change something, by operator; the changes are made when asked."""

    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._source = source
        wrapper = MetadataWrapper(cst.parse_module(source))
        self._module = wrapper.module
        visitor = _Visitor()
        wrapper.visit(visitor)
        self.found: dict[str, list[tuple[int, cst.CSTNode, cst.CSTNode]]] = {}
        for operator, line, node, other in visitor.found:
            self.found.setdefault(operator.removeprefix("operator_"), []).append((line, node, other))

    def __len__(self) -> int:
        return sum(len(places) for places in self.found.values())

    def change(self, operator: str, number: int) -> Change | None:
        """One of the changes; None when it changes nothing or is no Python any more."""
        line, node, other = self.found[operator][number]
        changed = self._module.deep_replace(node, other)
        code = changed.code if isinstance(changed, cst.Module) else self._source
        if code == self._source or not _is_python(code):
            return None
        before, after = told_apart(*(self._module.code_for_node(each) for each in (node, other)))
        within = _short(self._source.splitlines()[line - 1])
        return Change(
            path=self._path, line=line, operator=operator, before=before, after=after, within=within, code=code
        )


def _is_python(code: str) -> bool:
    try:
        compile(code, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def told_apart(before: str, after: str) -> tuple[str, str]:
    """Both on one line each, and where one of them is too long for it, that part of it in which they differ."""
    one, other = (" ".join(text.split()) for text in (before, after))
    if max(len(one), len(other)) <= LONGEST:
        return one, other
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = one.rfind(" ", 0, max(0, same - LONGEST // 3)) + 1
    return _from(one, start), _from(other, start)


def _from(text: str, start: int) -> str:
    rest = text[start:]
    return ("…" if start else "") + (rest if len(rest) <= LONGEST else f"{rest[: LONGEST - 1]}…")


def _short(text: str) -> str:
    return _from(" ".join(text.split()), 0)
