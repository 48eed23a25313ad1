#!/usr/bin/env bash
# A run on all machines of a Cloud TPU slice, from a workstation with gcloud.
#
#   export TPU=NAME ZONE=us-central2-b
#   scripts/tpu_pod.sh install                      copies this commit to every machine and installs it there
#   scripts/tpu_pod.sh run --experiment=alexnet_imagenet --mode=prepare [--set data.manual_dir=FOLDER]
#   scripts/tpu_pod.sh run --experiment=alexnet_imagenet --workdir=run1
#   scripts/tpu_pod.sh stop                         saves and stops; the same `run` continues
#   scripts/tpu_pod.sh fetch run1 FOLDER            copies a workdir here
#
# Nothing on disk needs to be shared: the workdir is on worker 0, and each machine prepares the data for itself.
set -euo pipefail

usage() { # MESSAGE
    [ -z "$1" ] || echo "error: $1" >&2
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
[ -n "${TPU:-}" ] || usage "the variable TPU is missing: the name of the TPU"
[ -n "${ZONE:-}" ] || usage "the variable ZONE is missing: the zone of the TPU"
command -v gcloud >/dev/null || usage "gcloud is not installed here, or not on the PATH"
root=$(cd "$(dirname "$0")/.." && pwd)

everywhere() { # WORKERS COMMAND
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker="$1" --command="$2"
}

action=${1:-}
shift || true
case $action in
install)
    archive=$(mktemp -d)/cnn_jax.tar.gz
    git -C "$root" archive --format=tar.gz --prefix=cnn_jax/ --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$TPU:" --zone="$ZONE" --worker=all
    rm -r "$(dirname "$archive")"
    # uv brings a Python that is new enough, whatever the image has.
    everywhere all 'tar xzf cnn_jax.tar.gz && cd cnn_jax && python3 -m pip install --quiet --user uv &&
        python3 -m uv venv --quiet --allow-existing --python 3.12 .venv &&
        python3 -m uv pip install --quiet --python .venv/bin/python -r requirements.txt -r requirements-tpu.txt'
    ;;
run)
    words=$(printf ' %q' "$@")
    everywhere all "cd cnn_jax && echo \$\$ > pid && exec .venv/bin/python launch.py$words"
    ;;
stop)
    everywhere 0 'kill -TERM "$(cat cnn_jax/pid)"' # the others agree on the step to save
    ;;
fetch)
    gcloud compute tpus tpu-vm scp --recurse "$TPU:cnn_jax/$1" "$2" --zone="$ZONE" --worker=0
    ;;
*)
    usage "${action:+there is no action $action}"
    ;;
esac
