#!/usr/bin/env bash
# A run on a Cloud TPU slice that may be taken away: asked for, waited for, used, and asked for again, until it is done.
#
#   export TPU=NAME ZONE=us-central2-b TYPE=v4-32 RUNTIME=tpu-ubuntu2204-base
#   scripts/tpu_queued.sh --experiment=alexnet_imagenet --workdir=gs://BUCKET/run1 --set data.data_dir=gs://BUCKET/tfds
#
# From a workstation with gcloud that stays on. The slice is a spot one (SPOT=no: one on demand), and is removed at the
# end. What it leaves must be in a bucket: its disks go with it. EVERY is the seconds between looks at its state.
set -uo pipefail

usage() { # MESSAGE
    [ -z "$1" ] || echo "error: $1" >&2
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
[ -n "${TPU:-}" ] || usage "the variable TPU is missing: the name of the TPU"
[ -n "${ZONE:-}" ] || usage "the variable ZONE is missing: the zone of the TPU"
[ -n "${TYPE:-}" ] || usage "the variable TYPE is missing: what kind of slice, such as v4-32"
[ -n "${RUNTIME:-}" ] || usage "the variable RUNTIME is missing: the image of its machines, such as tpu-ubuntu2204-base"
case " $* " in
*" --workdir=gs://"*) ;;
*) usage "--workdir=gs://BUCKET/FOLDER is needed: the disks of the slice go with it" ;;
esac
command -v gcloud >/dev/null || usage "gcloud is not installed here, or not on the PATH"
here=$(cd "$(dirname "$0")" && pwd)
every=${EVERY:-30}
spot=(--spot)
[ "${SPOT:-yes}" = yes ] || spot=()

queued() { # WORDS
    gcloud compute tpus queued-resources "$@" --zone="$ZONE"
}
state() {
    queued describe "$TPU" --format='value(state.state)' 2>/dev/null
}
remove() {
    queued delete "$TPU" --force --quiet >/dev/null 2>&1 || true
}
leave() { # a slice that nobody uses costs as much as one in use
    "$here/tpu_pod.sh" stop 2>/dev/null && sleep "$every"
    remove
    exit 75
}
trap leave TERM INT HUP

failures=0
while :; do
    if [ -z "$(state)" ]; then
        echo "asking for $TPU, $TYPE" >&2
        queued create "$TPU" --node-id="$TPU" --accelerator-type="$TYPE" --runtime-version="$RUNTIME" "${spot[@]}" ||
            exit 1
    fi
    while :; do
        case $(state) in
        ACTIVE) break ;;
        FAILED | SUSPENDING | SUSPENDED | DELETING | "")
            remove
            sleep "$every"
            continue 2
            ;;
        esac
        sleep "$every"
    done
    if "$here/tpu_pod.sh" install && "$here/tpu_pod.sh" run "$@"; then
        remove
        exit 0
    fi
    # gcloud tells little about why: the slice tells whether it was taken away.
    if [ "$(state)" = ACTIVE ]; then
        failures=$((failures + 1))
        if [ "$failures" -ge 3 ]; then
            echo "error: the run failed $failures times on a slice that is there; what it said stands above" >&2
            remove
            exit 1
        fi
    else
        echo "$TPU was taken away" >&2
        failures=0
        remove
    fi
done
