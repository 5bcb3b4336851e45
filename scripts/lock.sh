#!/bin/sh
# Rewrites requirements.lock (what `make run` installs, the build backend included) and requirements-dev.lock (that
# and the tools). Universal: one file for every supported Python and platform. Pins already there are kept where
# they still fit; `make lock ARGS=--upgrade` moves them all.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip -qq --disable-pip-version-check install uv
python3 -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    print("\n".join(tomllib.load(file)["build-system"]["requires"]))
' >"$work/build.txt"

compile() { # output, then what to add
    output=$1
    shift
    [ ! -e "$output" ] || cp "$output" "$work/$output"
    "$work/venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
        --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
        -o "$work/$output" pyproject.toml "$work/build.txt" "$@"
    {
        printf '%s\n' "# Written by \`make lock\` from pyproject.toml; do not edit. Every file is pinned by its hash, no host is named."
        cat "$work/$output"
    } >"$output.new"
    if grep -n '://' "$output.new"; then
        echo "$output would name a host (above)." >&2
        exit 1
    fi
    mv "$output.new" "$output"
}

# shellcheck disable=SC2086
compile requirements.lock ${ARGS:-}
# shellcheck disable=SC2086
compile requirements-dev.lock --extra dev -c requirements.lock ${ARGS:-}
