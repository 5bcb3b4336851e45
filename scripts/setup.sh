#!/bin/sh
# Makes .venv ready: `scripts/setup.sh runtime` to run the console, `scripts/setup.sh dev` to work on it too.
# The stamp is written last, so a half-finished .venv is never taken for a whole one.
set -eu
cd "$(dirname "$0")/.."
want=${1:-runtime}
venv=.venv
stamp=$venv/sextant.stamp

say() { printf '%s\n' "$*" >&2; }
stop() { say "$*"; exit 1; }

# What is installed depends on the locks, on this project's own metadata, and on where the checkout lies
# (a virtual environment cannot be moved).
locks=$({ pwd; cat requirements.lock requirements-dev.lock; } | cksum)
project=$(cat pyproject.toml scripts/setup.sh | cksum)
ready() {
    [ -x $venv/bin/python ] && [ -r $stamp ] || return 1
    { read -r have; read -r have_locks; read -r have_project; } <$stamp || return 1
    [ "$have_locks" = "$locks" ] && [ "$have_project" = "$project" ] &&
        { [ "$have" = "$want" ] || [ "$have" = dev ]; }
}
ready && exit 0

python=
for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || stop "Sextant needs Python 3.11 or later: install it (on Debian: apt install python3 python3-venv)."
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    stop "Sextant needs Python's venv module: install it (on Debian: apt install python3-venv)."

# Two makes at once would write into one environment: the second waits and finds the work done.
if command -v flock >/dev/null; then
    exec 9>.venv.lock
    flock 9
    ready && exit 0
fi

finished=
trap '[ -n "$finished" ] || rm -rf $venv' EXIT
trap 'exit 130' HUP INT TERM

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0
pip() { $venv/bin/python -m pip -qq "$@" || stop "The packages could not be installed (see above): check the network and run it again."; }

have=
if [ -r $stamp ] && [ -x $venv/bin/python ]; then
    { read -r have; read -r have_locks; read -r _; } <$stamp || have=
    [ "$have_locks" = "$locks" ] || have= # another lock: start afresh, so that nothing dropped from it lingers
    [ "$have" != dev ] || want=dev
fi
if [ -z "$have" ]; then
    say "Preparing .venv (a minute the first time, nothing the next) ..."
    rm -rf $venv
    "$python" -m venv $venv || stop "The virtual environment could not be made (see above)."
fi
rm -f $stamp
if [ "$have" != "$want" ]; then
    if [ "$want" = dev ]; then lock=requirements-dev.lock; else lock=requirements.lock; fi
    pip install --require-hashes --only-binary :all: -r $lock
fi
pip install --no-deps --no-build-isolation -e .
printf '%s\n' "$want" "$locks" "$project" >$stamp.new
mv $stamp.new $stamp
finished=yes
