#!/usr/bin/env bash
# Two processes with two virtual CPU devices each train one network, as two machines would.
#
#   scripts/two_processes.sh                                  LeNet on the embedded digits
#   scripts/two_processes.sh --experiment=NAME [--flag ...]   anything else that launch.py takes
#
# Ctrl-C saves and stops both; the same command continues.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
if [ ! -x "$python" ]; then
    echo "error: $python is not there: run make .venv/installed, or set PYTHON" >&2
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
if [ $# -eq 0 ]; then
    set -- --experiment=lenet_digits --workdir="$root/runs/two_processes"
fi
export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=2
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])') || exit 1

processes=()
for index in 0 1; do
    "$python" "$root/launch.py" "$@" --coordinator="localhost:$port" --process_count=2 --process_index=$index &
    processes+=($!)
done
# One of them is enough: they agree on the step to save.
trap 'kill -TERM "${processes[0]}"' INT TERM

status=0
for process in "${processes[@]}"; do
    while wait "$process"; kill -0 "$process" 2>/dev/null; do :; done # a signal interrupts wait
    wait "$process"
    ended=$?
    status=$((ended > status ? ended : status))
done
exit "$status"
