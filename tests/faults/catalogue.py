"""Faults that took money, orders or sleep from users of other trading programs, and where each is shown here.

A test that shows one bears its id as the first words of its name (`test_s1_…`, `test_u2_u3_…`). What cannot be shown
in this process yet is in ELSEWHERE with the part that it comes with. `python -m tests.faults` writes docs/faults.md.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"
GROUPS = {
    "S": "Orders and commands on their way out",
    "E": "What the broker tells",
    "R": "Reconciliation and risk",
    "D": "Market data",
    "C": "Calendars and clocks",
    "P": "The audit trail",
    "X": "The process",
    "U": "Terminal and operator",
    "Z": "Security",
}

FAULTS = {
    "S1": "the answer to an order is lost, the order is live",
    "S2": "a retry after a timeout makes two orders of one decision",
    "S3": "an order fills and closes before anybody looks at the open ones",
    "S4": "a success whose answer is empty or cannot be read",
    "S5": "we give up waiting, the exchange does not",
    "S6": "errors hide what was placed, and the next cycle places it again",
    "S7": "an order is called failed because the question about it failed",
    "S8": "declared dead, and it fills later",
    "S9": "a fresh order is not in the broker's lists for seconds",
    "S10": "the broker starts over with its order ids",
    "S11": "the broker refuses a client id as a duplicate",
    "S12": "two decisions get the same random id",
    "S13": "an id cannot be used again, even after a cancel",
    "S14": "accepted, and then not one event",
    "S15": "acknowledged late, and the fill is missed",
    "S16": "accepted, and rejected a moment later",
    "S17": "a penalty to sit out, hidden in a success",
    "S18": "too many requests, taken for a failed order",
    "S19": "too many requests, and an hour of silence",
    "S20": "a price between two ticks",
    "S21": "the exchange changes the tick size overnight",
    "S22": "the position list lags, so a close is taken for an opening",
    "S23": "the cancel of an order that is gone is repeated for ever",
    "S24": "the cancel of an order that the broker forgot ends the program",
    "S25": "a change during an outage leaves two live orders",
    "S26": "a fill inside a change is lost or counted twice",
    "S27": "all is called cancelled, and orders still rest",
    "S28": "the broker cancelled it, and fills it all the same",
    "S29": "orders of a minute ago leave when the line is back",
    "S30": "orders are placed while the stream of updates is down",
    "S31": "orders are sent into the broker's own restart",
    "E1": "one fill is never told, the heart beats on",
    "E2": "the stream hangs with its socket open",
    "E3": "what happened during a disconnect is never asked for",
    "E4": "a fill of an order that nobody knows",
    "E5": "old fills come again after a restart",
    "E6": "a fill found by asking is told later and counted twice",
    "E7": "a replay of old events overwrites newer ones",
    "E8": "an execution is corrected",
    "E9": "the commission comes before its execution",
    "E10": "the fills of an order do not add up to it",
    "E11": "trades are busted",
    "E12": "reconnecting without pause locks us out",
    "E13": "a connection dies and its end is never announced",
    "E14": "a question that is never answered",
    "E15": "the stream falls silent after its first good day",
    "E16": "an order that has ended is shown as open",
    "E17": "the protective stop is rejected and nobody is told",
    "E18": "a stop fills in part, and what is left has the wrong size",
    "E19": "a rest below the smallest size cannot be closed",
    "R1": "the history of fills begins after the position did",
    "R2": "each restart invents orders",
    "R3": "a restart flattens a real position",
    "R4": "the same input gives different results",
    "R5": "a failed question for the position is taken as flat",
    "R6": "a mismatch is logged, and trading goes on",
    "R7": "the margin desk closes a position",
    "R8": "open orders are unknown after a reconnect",
    "R9": "an old answer is believed after newer facts",
    "R10": "an exit sized from memory reverses the position",
    "R11": "two strategies net on one contract",
    "R12": "another program trades the account",
    "R13": "a session dies and the total risk seems to fall",
    "R14": "two sessions pass the risk check with the same room",
    "R15": "a road to the broker that passes the risk check by",
    "D1": "the socket is open, the data silent",
    "D2": "reconnecting loses candles",
    "D3": "nobody downstream can see a gap",
    "D4": "who reads too slowly skips without a word",
    "D5": "the first candle is a half one",
    "D6": "the first live candle poisons the warm-up",
    "D7": "history is older than the stream",
    "D8": "the same candle comes again with other values",
    "D9": "candles come out of order",
    "D10": "one wild price moves a candle",
    "D11": "the reader is so busy that the connection is dropped",
    "D12": "a split changes the size and not the stop",
    "D13": "the contract expires, or rolls on another day",
    "D14": "the market is halted",
    "C1": "our clock drifts and requests are refused",
    "C2": "America and Europe change their clocks in different weeks",
    "C3": "days of 23 and of 25 hours",
    "C4": "the machine slept",
    "C5": "the clock is set back",
    "P1": "the database is locked by somebody else, and a placed order is lost from view",
    "P2": "the disk is full, and positions cannot be closed",
    "P3": "the disk answers with errors",
    "P4": "one failed write spoils the session for all that follow",
    "P5": "the connection is cut in the middle of a commit",
    "P6": "every connection to the database server is killed",
    "P7": "a commit of unknown outcome is written twice",
    "P8": "two engines on one database",
    "P9": "a database older or newer than the program",
    "P10": "a crash between the row and the request",
    "P11": "a power cut takes committed rows",
    "P12": "a background job is rescued while it still runs",
    "X1": "a token cannot be refreshed, and everything stops",
    "X2": "a token expires inside a stream",
    "X3": "the log fills the disk, or fails, and stops the program",
    "X4": "one task dies and the rest looks alive",
    "X5": "something blocks the loop",
    "X6": "memory grows for weeks",
    "X7": "two versions of the program at once",
    "X8": "a forgotten switch turns old code on",
    "X9": "alarms are sent and nobody reads them",
    "U1": "the terminal is closed, and the process spins or dies with positions",
    "U2": "a bracket in a broker's text ends the screen",
    "U3": "a broker's text becomes something to click",
    "U4": "control codes reach the terminal",
    "U5": "a size typed where a price belongs",
    "U6": "hundreds of warnings, a few of them visible",
    "U7": "a key pressed twice sends two orders",
    "U8": "pasted text is taken for keys",
    "U9": "acting on the wrong account, or live instead of paper",
    "U10": "old figures shown as new",
    "U11": "a small terminal hides the warning",
    "Z1": "a secret in the log",
    "Z2": "a package that is not what it seems",
    "Z3": "somebody else's session behind a remote console",
}

WIRE = "the adapters of real brokers: theirs is a wire that can fall silent, lag and expire"
TERMS = "the adapters of real brokers: contract terms come from the broker there, and change"
ELSEWHERE = {
    "S21": TERMS,
    "S31": "the adapters of real brokers: each declares its broker's hours of maintenance",
    "E2": WIRE,
    "E9": "the adapters of real brokers: the port's executions carry their fee; who gets it apart joins it",
    "E13": WIRE,
    "E19": "the adapters of real brokers: contracts here have whole sizes, which all can be closed",
    "D10": "a filter of wild prices on real feeds; the collar and the stop's side guard entries today",
    "D11": WIRE,
    "D12": "the adapters of real brokers: only shares split, and there are none here",
    "D13": TERMS,
    "C1": "the adapters of real brokers: only they have a clock to compare with",
    "X1": WIRE,
    "X2": WIRE,
    "X7": "engines on several machines of different versions: the lease names its holder, not yet a version",
    "X9": "alerts outside the screen; what waits for a person blocks entries by itself, for as long as it waits",
    "Z3": "remote consoles: there is no way in from another machine yet",
}

_ID = re.compile(r"[a-z]\d+")


def ids_of(name: str) -> tuple[str, ...]:
    """The catalogue's ids that a test's name bears, in capitals: the words before the first that is none."""
    found: list[str] = []
    for word in name.removeprefix("test_").split("_"):
        if not _ID.fullmatch(word) or word.upper() not in FAULTS:
            break
        found.append(word.upper())
    return tuple(found)


@functools.cache
def by_fault(root: Path = ROOT / "tests") -> dict[str, list[tuple[str, str]]]:
    """Path from the project's root and name of every test that bears an id, by id."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(root.rglob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for id in ids_of(node.name):
                    found.setdefault(id, []).append((path.relative_to(root.parent).as_posix(), node.name))
    return found


def page() -> str:
    """docs/faults.md."""
    tests = by_fault()
    lines = [
        "# Faults",
        "",
        "What went wrong on other people's trading desks, and the test that shows what this one does. A test bears the",
        "id of its fault as the first words of its name. Faults without one wait for the part they belong to. This",
        "page is written by `python -m tests.faults`; a test fails when it is behind.",
        "",
        f"{len(FAULTS)} faults: {len(FAULTS) - len(ELSEWHERE)} shown by tests, {len(ELSEWHERE)} wait for their part.",
    ]
    for letter, title in GROUPS.items():
        lines += ["", f"## {title}", "", "| Id | Fault | Shown by |", "|---|---|---|"]
        for id, words in FAULTS.items():
            if id[0] == letter:
                shown = "<br>".join(f"`{path.removeprefix('tests/')}` {name}" for path, name in tests.get(id, []))
                lines.append(f"| {id} | {words} | {shown or 'comes with ' + ELSEWHERE.get(id, '—')} |")
    return "\n".join(lines) + "\n"
