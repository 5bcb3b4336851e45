# Every daily verb. `make` alone lists them; CI runs `make test` and nothing else.

BIN := .venv/bin
ARGS ?=
# What `make simulate` runs.
SEEDS ?= 0:20
HOURS ?= 3
MODE ?= all
JOBS ?= 1
# How many processes share the tests: `make test WORKERS=0` runs them in one.
WORKERS ?= auto
# How long each outage of `make outage` lasts; all of them run from 30 on.
OUTAGE_SECONDS ?= 60

# The kill test: which database, how many strikes, and which moments.
DB ?= sqlite
KILLS ?= 100
SEED ?= 1

export ARGS
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup run test check test-postgres bench bench-journal outage format lint types imports snapshots \
	snapshots-update screenshots screenshots-png kill-test growth simulate crash-points mutants mutation lock clean \
	ready-to-run ready-to-work tmux

help: ## list the verbs
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ready-to-work ## prepare .venv (console and tools), nothing else
	@echo ".venv is ready."

run: ready-to-run ## open the console on the paper desk; ARGS="--replay FILE ..." for more
	@exec $(BIN)/sextant run $(ARGS)

test: tmux ready-to-work lint types imports ## everything: lint, types, import contracts, every test
	@echo "== pytest: every test"
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

simulate: ready-to-work ## simulated days under faults; SEEDS=a:b HOURS=h MODE=enforced|tag|none|all JOBS=n
	@$(BIN)/python -m tests.simulation $(SEEDS) --hours $(HOURS) --mode $(MODE) --jobs $(JOBS) $(ARGS)

crash-points: ready-to-work ## a process killed at every seam of 31 scenarios; JOBS=n ARGS="--every 10"
	@$(BIN)/python -m tests.simulation.crash_points --jobs $(JOBS) $(ARGS)

mutants: ready-to-work ## who notices each deliberate mistake; JOBS=n ARGS="NAME … --runs N --say --keep"
	@$(BIN)/python -m tests.mutants --jobs $(JOBS) $(ARGS)

mutation: ready-to-work ## small changes by a library against the quick tests; ARGS="MODULE … --mutants N --seed S --page"
	@$(BIN)/python -m tests.mutation $(ARGS)

check: ready-to-work lint types imports ## the quick gate: as test, without the slow and end-to-end tests
	@echo "== pytest: quick tests"
	@$(BIN)/pytest -n $(WORKERS) -q -m "not slow and not e2e and not postgres" $(ARGS)

bench: ready-to-work ## measure, print a table and one line of JSON each; ARGS="--jobs N --turns N --seconds S"
	@$(BIN)/python -m tests.bench.jobs $(ARGS)

bench-journal: ready-to-work ## the journal's pages and filters at a million rows; ARGS="--rows N --postgres"
	@$(BIN)/python -m tests.bench.journal $(ARGS)

test-postgres: ready-to-work ## every flow on PostgreSQL instead of SQLite, and all that needs that server
	@echo "== pytest: flows on PostgreSQL"
	@SEXTANT_TEST_FLOWS=postgres $(BIN)/pytest -n $(WORKERS) -q -m postgres $(ARGS)

outage: ready-to-work ## a running desk through every outage of its audit trail, a minute each; OUTAGE_SECONDS=60
	@echo "== pytest: outages of $(OUTAGE_SECONDS) s each"
	@SEXTANT_OUTAGE_SECONDS=$(OUTAGE_SECONDS) $(BIN)/pytest tests/outage -n 3 -q $(ARGS)

format: ready-to-work ## put every file into the house style
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

lint: ready-to-work ## ruff: rules and formatting
	@echo "== lint: ruff check, ruff format --check"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "Some files are not in the house style: make format"; exit 1; }

types: ready-to-work ## mypy --strict
	@echo "== types: mypy --strict"
	@$(BIN)/mypy

imports: ready-to-work ## the import contracts of pyproject.toml
	@echo "== imports: import-linter"
	@$(BIN)/lint-imports --no-logo

snapshots: ready-to-work ## compare the screens with their stored pictures
	@$(BIN)/pytest tests/snapshots $(ARGS)

snapshots-update: ready-to-work ## accept the screens as they are now; look at the diff before committing
	@$(BIN)/pytest tests/snapshots --snapshot-update $(ARGS)

screenshots: ready-to-work ## write screenshots/*.svg from a recorded tape
	@$(BIN)/python screenshots/take.py $(ARGS)

screenshots-png: ready-to-work ## the same as PNG, in screenshots/png
	@$(BIN)/python screenshots/png.py $(ARGS)

kill-test: ready-to-work ## kill the trading desk DB=sqlite|postgres KILLS=n SEED=n times; ends with one line of JSON
	@$(BIN)/python -m tests.kill --db $(DB) --kills $(KILLS) --seed $(SEED) $(ARGS)

growth: ready-to-work ## bytes of the audit trail for each order and day; ARGS=--long: what a long history costs
	@$(BIN)/python -m tests.bench.growth $(ARGS)

lock: ## rewrite both requirement locks; ARGS=--upgrade to move every pin
	@scripts/lock.sh

clean: ## remove .venv, caches and build products; never data
	@rm -rf .venv .venv.lock build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis \
		snapshot_report.html
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

ready-to-run:
	@scripts/setup.sh runtime

ready-to-work:
	@scripts/setup.sh dev

tmux:
	@command -v tmux >/dev/null || { echo "The end-to-end tests need tmux: install it (on Debian: apt install tmux)." >&2; exit 1; }
