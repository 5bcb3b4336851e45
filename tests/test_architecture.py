"""Rules of the house that no linter knows: sizes, clocks, randomness, tasks, printing, SQL, room signs.

Who may import whom is in pyproject.toml (import-linter). Each rule here says the way out when it bites, and
each detector is shown small offences, so that a green run means "looked and found nothing".
"""

import ast
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("engine", "brokers", "console")
SOURCE_LINES = 450
TEST_LINES = 600
SCREEN_METHODS = 25

CLOCK = "engine/clock.py"
BLOCKING = "engine/persistence/blocking.py"
PERIODIC = "engine/periodic.py"
COMMAND_LINE = "console/cli.py"

CLOCK_READS = frozenset(
    {
        "time.time",
        "time.time_ns",
        "time.monotonic",
        "time.monotonic_ns",
        "time.sleep",
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.datetime.today",
        "datetime.date.today",
        "uuid.uuid1",
        "uuid.uuid4",
    }
)
THREADS = frozenset({"to_thread", "run_in_executor"})
TASKS = frozenset({"create_task", "ensure_future"})
HOST = "engine/host.py"
LOOP_TIMERS = frozenset({"call_later", "time"})
WAITS_WITH_TIME = frozenset({"asyncio.wait_for", "asyncio.timeout", "asyncio.timeout_at"})
SQL_CALLS = frozenset(
    {"execute", "executemany", "executescript", "execute_insert", "execute_fetchall", "fetchrow", "fetchval"}
)
# Written in capitals, as every statement of ours is.
SQL_WORDS = re.compile(
    r"\b(SELECT|INSERT INTO|DELETE FROM|UPDATE \w+ SET|CREATE TABLE|DROP|ALTER|PRAGMA|WHERE|VALUES \(|IN \(|ORDER BY)"
)
# A clause of constants, and a whole number of ours where SQLite takes no bound value.
WOVEN = frozenset({"where.sql", "same.sql", "words", "step.version", "' AND '.join(self._clauses)"})
# Makes statements from constants, once, while its module is imported.
AT_IMPORT = frozenset(
    {
        ("engine/persistence/trades_job.py", "putting"),
        # of a Listing, which holds constants, and of clauses that a Where grew
        ("engine/persistence/paging.py", "page_statement"),
        ("engine/persistence/paging.py", "end_statement"),
    }
)
ROOMS = {
    "inbound": (1, "is this candle complete?"),
    "outbound": (2, "did this order make it?"),
    "persistence": (3, "if we crash, what can we reconstruct?"),
    "reconciliation": (4, "is the broker still telling us the same thing?"),
    "aggregation": (5, "what is the total risk now, and do i have all of it?"),
}

Detector = Callable[[ast.Module, str], Iterator[tuple[int, str]]]


def sources(*folders: str) -> list[str]:
    """Python files under these folders, as paths relative to the root."""
    return sorted(
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def offences(detector: Detector, *folders: str) -> str:
    """Every offence under these folders, one a line, ready to read in a failure."""
    return "\n".join(
        f"  {path}:{line}: {what}"
        for path in sources(*folders)
        for line, what in detector(ast.parse((ROOT / path).read_text("utf-8"), path), path)
    )


def imported_names(tree: ast.Module) -> dict[str, str]:
    """Local name -> what it stands for: `from time import monotonic as m` gives m -> time.monotonic."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def qualified(node: ast.expr, names: dict[str, str]) -> str | None:
    """The full dotted name an expression refers to, if it starts at an imported name."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        base = qualified(node.value, names)
        return f"{base}.{node.attr}" if base else None
    return None


# --------------------------------------------------------------------------------------------- detectors


def clocks_and_chance(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """Reads of the machine's clock or dice, sleeping, and calls handed to threads."""
    names = imported_names(tree)
    yields = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and len(node.args) == 1
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value == 0
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name | ast.Attribute):
            continue
        name = qualified(node, names)
        if (isinstance(node, ast.Attribute) and node.attr in THREADS) or name == "asyncio.to_thread":
            if path not in (CLOCK, BLOCKING):
                yield node.lineno, f"{ast.unparse(node)} (threads)"
        elif path == CLOCK or name is None:
            continue
        elif name in CLOCK_READS or (name.startswith("random.") and name.split(".")[1] != "Random"):
            yield node.lineno, name
        elif name == "asyncio.sleep" and id(node) not in yields:
            yield node.lineno, "asyncio.sleep of anything but a literal 0"


def waits_beside_the_clock(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """Deadlines and timers of asyncio's own, which no virtual clock moves."""
    if path in (CLOCK, PERIODIC, HOST):
        return
    names = imported_names(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name | ast.Attribute):
            continue
        if (name := qualified(node, names)) in WAITS_WITH_TIME:
            yield node.lineno, str(name)
        elif (
            isinstance(node, ast.Attribute)
            and node.attr in LOOP_TIMERS
            and re.search(r"loop(\(\))?$", ast.unparse(node.value))
        ):
            yield node.lineno, ast.unparse(node)


def bare_tasks(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """Tasks nobody owns. A TaskGroup owns its own, so `group.create_task` is let through."""
    if path in (PERIODIC, CLOCK):
        return
    names = imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in TASKS:
            owner = ast.unparse(node.value)
            if qualified(node.value, names) == "asyncio" or re.search(r"loop(\(\))?$", owner):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Name) and qualified(node, names) in {f"asyncio.{task}" for task in TASKS}:
            yield node.lineno, node.id


def prints(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """`print`, called or handed on."""
    if path == COMMAND_LINE:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "print":
            yield node.lineno, "print"


def built_sql(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """Statements put together from pieces inside the call that executes them."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in SQL_CALLS:
            continue
        statement = node.args[:1] + [word.value for word in node.keywords if word.arg in ("sql", "query")]
        for part in (inner for argument in statement for inner in ast.walk(argument)):
            if isinstance(part, ast.FormattedValue):
                yield node.lineno, f"{node.func.attr} of an f-string"
            elif isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mod | ast.Add):
                yield node.lineno, f"{node.func.attr} of a statement joined with an operator"
            elif isinstance(part, ast.Attribute) and part.attr == "format":
                yield node.lineno, f"{node.func.attr} of a formatted statement"


def _is_sql(text: str) -> bool:
    return SQL_WORDS.search(text) is not None


def _is_constant(node: ast.expr) -> bool:
    """A constant by its name (`COLUMNS`, `reads.NEWEST`), marks alone, or a clause that `pages.Where` grew of them."""
    if ast.unparse(node) in WOVEN:
        return True
    if isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        return name.lstrip("_").isupper()
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join":
        joined = node.args[0]
        return isinstance(joined, ast.GeneratorExp) and ast.unparse(joined.elt) == "'?'"
    return isinstance(node, ast.Constant) or (isinstance(node, ast.BinOp) and _is_constant(node.left))


def woven_sql(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """Values woven into the text of a statement, wherever it is made: every value is bound instead."""
    made = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and (path, node.name) in AT_IMPORT)
    exempt = {id(inner) for function in made for inner in ast.walk(function)}
    for node in (node for node in ast.walk(tree) if id(node) not in exempt):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
            woven = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
            for value in woven if _is_sql(text) else ():
                if not _is_constant(value):
                    yield node.lineno, f"{ast.unparse(value)} in a statement"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add):
            sides = (node.left, node.right)
            texts = [side.value for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, str)]
            if any(map(_is_sql, texts)) and not all(map(_is_constant, sides)):
                yield node.lineno, f"a statement joined with {ast.unparse(node.right)}"
        elif isinstance(node, ast.Attribute) and node.attr == "format" and _is_sql(ast.unparse(node.value)):
            yield node.lineno, "a formatted statement"


def not_implemented(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """Promises in place of code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "NotImplementedError":
            yield node.lineno, "NotImplementedError"


def marked_up_titles(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """Titles that Textual would read as markup: a foreign order's id may hold a link."""
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr in ("border_title", "border_subtitle"):
                yield target.lineno, f"{target.attr} is set"


def crowded_screens(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """App and Screen classes with more methods than one reader keeps in mind."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        bases = (ast.unparse(base).partition("[")[0] for base in node.bases)
        if not any(base.endswith(("App", "Screen")) for base in bases):
            continue
        methods = sum(isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) for item in node.body)
        if methods > SCREEN_METHODS:
            yield node.lineno, f"{node.name} has {methods} methods"


# ------------------------------------------------------------------------------------------------- rules


def test_files_stay_small_enough_to_read(record_property: Callable[[str, object], None]) -> None:
    too_long = []
    for folders, limit in (((*PACKAGES, "scripts", "screenshots"), SOURCE_LINES), (("tests",), TEST_LINES)):
        lines = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in sources(*folders)}
        too_long += [f"  {path}: {count} (limit {limit})" for path, count in lines.items() if count > limit]
        if lines:
            longest = max(lines, key=lambda path: lines[path])
            record_property(
                "figures",
                f"{' '.join(folders)}: {len(lines)} files, {sum(lines.values())} lines, "
                f"median {statistics.median(lines.values()):.0f}, "
                f"over 300: {sum(count > 300 for count in lines.values())}, "
                f"longest {longest} {lines[longest]} (limit {limit})",
            )
    assert not too_long, "Move a responsibility into a file of its own:\n" + "\n".join(too_long)


def test_no_app_or_screen_is_crowded() -> None:
    found = offences(crowded_screens, "console")
    assert not found, (
        f"At most {SCREEN_METHODS} methods: move drawing into a widget, state into replica.py, "
        f"keys into actions.py.\n{found}"
    )


def test_only_the_clock_reads_time_and_chance_is_passed_in() -> None:
    found = offences(clocks_and_chance, "engine", "brokers")
    assert not found, (
        "Time, sleep, ids and randomness are passed in (Clock, Ids, Rng of engine/ports.py), or no run could "
        "be repeated; random.Random(seed) is fine. Blocking calls go through the Blocking port.\n"
        f"{found}"
    )


def test_every_wait_is_on_the_clock() -> None:
    found = offences(waits_beside_the_clock, "engine", "brokers")
    assert not found, (
        "Deadlines are the Clock's: within() and done_within() of engine/periodic.py, clock.sleep, clock.call_at; "
        f"a timer of the loop's own stands still in a replay and in the simulation.\n{found}"
    )


def test_every_task_has_an_owner() -> None:
    found = offences(bare_tasks, "engine", "brokers")
    assert not found, (
        "Make tasks through engine/periodic.py, which keeps them, reports their failures and cancels them; "
        f"a bare one may be collected or die unseen.\n{found}"
    )


def test_nothing_prints_onto_the_screen() -> None:
    found = offences(prints, *PACKAGES)
    assert not found, f"Log it, or return it to console/cli.py, which alone may print.\n{found}"


def test_sql_is_written_out_and_its_values_are_bound() -> None:
    found = offences(built_sql, *PACKAGES)
    assert not found, f"Write the statement as a constant and bind its values (? or $1).\n{found}"


def test_no_value_is_woven_into_a_statement() -> None:
    found = offences(woven_sql, *PACKAGES)
    assert not found, f"Bind the value (`?`); only constants, named in capitals, are part of a statement.\n{found}"


def test_titles_are_text_alone() -> None:
    found = offences(marked_up_titles, "console")
    assert not found, "Use console.widgets.lines.entitle:\n" + found


def test_nothing_is_promised_instead_of_written() -> None:
    found = offences(not_implemented, *PACKAGES)
    assert not found, f"Write it, or leave it out: a Protocol or an ABC says what is owed.\n{found}"


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_hangs_its_sign(room: str) -> None:
    door = ROOT / "engine" / room / "__init__.py"
    if not door.parent.is_dir():
        return
    assert door.is_file(), f"engine/{room} needs an __init__.py that opens with its flow and its question."
    text = ast.get_docstring(ast.parse(door.read_text("utf-8"))) or ""
    sign = " ".join(text.casefold().split())
    number, question = ROOMS[room]
    assert re.search(rf"\bflow {number}\b", sign), f"{door.parent.name}/__init__ must open with `Flow {number}`."
    assert question in sign, f"{door.parent.name}/__init__ must ask its question: {question!r}"


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_z2_locks_carry_hashes_and_name_no_host(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert "://" not in text, f"{name} names a host: rewrite it with `make lock`."
    pins = re.findall(r"^([\w.-]+)==(.*\n(?:[ \t].*\n)*)", text, re.MULTILINE)
    assert pins, f"{name} pins nothing: rewrite it with `make lock`."
    bare = [pin for pin, rest in pins if "--hash=sha256:" not in rest]
    assert not bare, f"{name} pins {bare} without a hash: rewrite it with `make lock`."
    assert "hatchling" in dict(pins), f"{name} must lock the build backend: rewrite it with `make lock`."


# --------------------------------------------------------------------------------- the detectors do detect

OFFENCES: list[tuple[Detector, str]] = [
    (clocks_and_chance, "import time\ntime.time()"),
    (clocks_and_chance, "from time import monotonic as now\nstart = now"),
    (clocks_and_chance, "import time as t\nt.sleep(1)"),
    (clocks_and_chance, "from datetime import datetime, UTC\ndatetime.now(UTC)"),
    (clocks_and_chance, "import datetime\ndatetime.datetime.utcnow()"),
    (clocks_and_chance, "import datetime as dt\ndt.date.today()"),
    (clocks_and_chance, "import random\nrandom.random()"),
    (clocks_and_chance, "from random import choice\nchoice([1])"),
    (clocks_and_chance, "import uuid\nuuid.uuid4()"),
    (clocks_and_chance, "import asyncio\nasyncio.to_thread(f)"),
    (clocks_and_chance, "from asyncio import to_thread\nto_thread(f)"),
    (clocks_and_chance, "loop.run_in_executor(None, f)"),
    (clocks_and_chance, "import asyncio\nasyncio.sleep(0.1)"),
    (clocks_and_chance, "import asyncio\nasyncio.sleep(pause)"),
    (clocks_and_chance, "import asyncio\nsleep = asyncio.sleep"),
    (waits_beside_the_clock, "import asyncio\nasyncio.wait_for(f(), 1)"),
    (waits_beside_the_clock, "from asyncio import timeout\ntimeout(1)"),
    (waits_beside_the_clock, "import asyncio\nasyncio.get_running_loop().call_later(1, f)"),
    (waits_beside_the_clock, "self._loop.time()"),
    (bare_tasks, "import asyncio\nasyncio.create_task(f())"),
    (bare_tasks, "from asyncio import ensure_future\nensure_future(f())"),
    (bare_tasks, "import asyncio\nasyncio.get_running_loop().create_task(f())"),
    (bare_tasks, "self._loop.create_task(f())"),
    (prints, "print('x')"),
    (built_sql, "db.execute(f'select {x}')"),
    (built_sql, "db.execute('select ' + x)"),
    (built_sql, "db.executemany('select %s' % x, rows)"),
    (built_sql, "db.fetchrow('select {}'.format(x))"),
    (woven_sql, "sql = f'SELECT * FROM log WHERE subject = {subject}'\nreader.query(sql)"),
    (woven_sql, 'reader.query(f"DELETE FROM log WHERE at < {before}")'),
    (woven_sql, "rows = [(f\"INSERT INTO limits VALUES ('{name}')\", ())]"),
    (woven_sql, "where.also(f'x IN ({names})')"),
    (woven_sql, "sql = 'SELECT * FROM log WHERE at < ' + str(at)"),
    (woven_sql, "sql = 'UPDATE limits SET at = %s' % at"),
    (woven_sql, "sql = 'SELECT {}'.format(column)"),
    (woven_sql, "sql = f'SELECT {COLUMNS} FROM log ORDER BY {asked.order}'"),
    (not_implemented, "raise NotImplementedError"),
    (marked_up_titles, "self.border_title = order.client_id"),
    (marked_up_titles, "pane.border_subtitle = f'{x}'"),
    (crowded_screens, "class A(App[None]):\n" + "\n".join(f"    def m{n}(self): ..." for n in range(26))),
]

FINE: list[tuple[Detector, str]] = [
    (clocks_and_chance, "import random\ndice = random.Random(7)\ndice.random()"),
    (clocks_and_chance, "import asyncio\nasyncio.sleep(0)"),
    (clocks_and_chance, "clock.now()\nclock.sleep(5)\ntime = 1\nprint(time)"),
    (clocks_and_chance, "from datetime import datetime, UTC\ndatetime.fromtimestamp(0, UTC)"),
    (waits_beside_the_clock, "await within(clock, 5, f())\nclock.call_at(at, f)"),
    (bare_tasks, "group.create_task(f())"),
    (built_sql, "db.execute('select ?', (f'{x}',))"),
    (woven_sql, "sql = f'SELECT {COLUMNS} FROM log WHERE {reads.NEWEST} {where.sql}'"),
    (woven_sql, "where.also(f\"kind IN ({', '.join('?' for _ in kinds)})\", *kinds)"),
    (woven_sql, "said = f'select {x} where you like'"),
    (prints, "self.print = 1"),
    (marked_up_titles, "entitle(pane, order.client_id)"),
    (crowded_screens, "class A(Screen):\n" + "\n".join(f"    def m{n}(self): ..." for n in range(25))),
]


@pytest.mark.parametrize(("detector", "code"), OFFENCES)
def test_an_offence_is_seen(detector: Detector, code: str) -> None:
    assert list(detector(ast.parse(code), "engine/somewhere.py"))


@pytest.mark.parametrize(("detector", "code"), FINE)
def test_what_is_allowed_passes(detector: Detector, code: str) -> None:
    assert not list(detector(ast.parse(code), "engine/somewhere.py"))
