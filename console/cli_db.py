"""`sextant db …`: the audit trail looked at, upgraded and pruned; thin, as the rest of the command line."""

from __future__ import annotations

import getpass
import json as to_json
import sys
import time
from collections.abc import Sequence
from datetime import date
from typing import Annotated

import typer
from msgspec import to_builtins

from console.command import FAILED, FINE, ConfigOption, DbOption, StateOption, guarded
from console.formatting import plain
from console.options import RunOptions
from engine.domain.findings import Finding
from engine.errors import ConfigurationError

app = typer.Typer(
    help="Check, upgrade and prune the audit trail.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON array.")]


@app.callback(invoke_without_command=True)
def database(context: typer.Context) -> int:
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
    return FINE


@app.command("check")
def check(
    config: ConfigOption = None, db: DbOption = None, state_dir: StateOption = None, json: JsonOption = False
) -> int:
    """Look at everything that is kept, change nothing; works beside a running desk. Exit code 1: something is wrong."""

    def command() -> int:
        from console.process import harden

        harden()
        from console import bootstrap

        began = time.monotonic()
        found = bootstrap.upkeep_for(RunOptions(config=config, db=db, state_dir=state_dir)).check()
        if json:
            sys.stdout.write(to_json.dumps([to_builtins(each) for each in found], indent=2) + "\n")
        else:
            sys.stdout.write(told(found))
            wrong = sum(not each.ok for each in found)
            verdict = "all is well" if not wrong else f"{wrong} wrong"
            sys.stdout.write(f"{len(found)} checks in {time.monotonic() - began:.1f} s: {verdict}\n")
        return FINE if all(each.ok for each in found) else FAILED

    return guarded(command)


@app.command("upgrade")
def upgrade(config: ConfigOption = None, db: DbOption = None, state_dir: StateOption = None) -> int:
    """Bring the audit trail to this program's schema: under the desk's lock, a copy first, all steps or none."""

    def command() -> int:
        from console.process import harden

        harden()
        from console import bootstrap

        upkeep = bootstrap.upkeep_for(RunOptions(config=config, db=db, state_dir=state_dir))
        did = upkeep.upgrade()
        if did.before == did.after:
            sys.stdout.write(f"Nothing to do: the database has schema {did.after}, as this program speaks it.\n")
            return FINE
        if did.copy is not None:
            sys.stdout.write(plain(f"A verified copy of schema {did.before} lies in {did.copy}") + "\n")
        sys.stdout.write(f"Upgraded from schema {did.before} to {did.after}.\n")
        found = upkeep.check()
        sys.stdout.write(told(found))
        return FINE if all(each.ok for each in found) else FAILED

    return guarded(command)


@app.command("prune")
def prune(
    before: Annotated[str, typer.Option("--before", metavar="YYYY-MM-DD", help="Only what is older than this day.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count; beside a running desk too.")] = False,
    config: ConfigOption = None,
    db: DbOption = None,
    state_dir: StateOption = None,
) -> int:
    """Remove old journal lines and balances that other tables still tell of; orders, fills and deeds stay for ever."""

    def command() -> int:
        from console.process import harden

        harden()
        try:
            day = date.fromisoformat(before)
        except ValueError:
            raise ConfigurationError(f"--before {before!r} is not a day; write it 2026-01-31") from None
        from console import bootstrap

        asked = RunOptions(config=config, db=db, state_dir=state_dir)
        did = bootstrap.upkeep_for(asked).prune(day, getpass.getuser(), dry_run=dry_run)
        verb = "Would prune" if dry_run else "Pruned"
        sys.stdout.write(
            f"{verb} {did.lines} lines of the journal, {did.balances} balances, and {did.files} imported journal files "
            f"({did.file_bytes} bytes) from before {day}.\n"
        )
        return FINE

    return guarded(command)


def told(found: Sequence[Finding]) -> str:
    """One line for each check: ok or BAD, what was found, and the way out."""
    width = max(len(each.check) for each in found)
    lines = []
    for each in found:
        way_out = f"; way out: {each.way_out}" if each.way_out else ""
        detail = each.detail.removesuffix(".")
        lines.append(plain(f"{'ok ' if each.ok else 'BAD'}  {each.check:<{width}}  {detail}{way_out}") + "\n")
    return "".join(lines)
