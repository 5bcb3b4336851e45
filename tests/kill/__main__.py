"""`python -m tests.kill --db sqlite --kills 100 --seed 1`: rounds, findings on stderr, one line of JSON on stdout."""

from __future__ import annotations

import argparse
import json
import sys

from tests.kill.rounds import run, tell


def main() -> int:
    parser = argparse.ArgumentParser(prog="kill-test")
    parser.add_argument("--db", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave book, requests, state and database where they are")
    options = parser.parse_args()
    result = run(
        options.db,
        options.kills,
        options.seed,
        say=lambda text: print(text, file=sys.stderr, flush=True),
        keep=options.keep,
    )
    tell(result)
    print(json.dumps(result.line(options.db)))
    return 0 if result.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
