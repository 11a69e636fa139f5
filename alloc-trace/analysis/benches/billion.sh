#!/usr/bin/env bash
# Reads a generated recording of a billion heap events, and fails unless that took less than 512 MiB.
# Needs about 9 GB of disk where it is told to work, and some minutes: billion.sh [DIRECTORY] [EVENTS]
set -euo pipefail
directory=${1:-$(mktemp -d)}
events=${2:-1000000000}
limit_kib=$((512 * 1024))
cd "$(dirname "$0")/../../.."
cargo build -q --release --locked -p alloc-trace-format --example synthetic -p alloc-trace-cli
recording=$directory/billion.trace
trap 'rm -f "$recording"' EXIT
target/release/examples/synthetic "$recording" "$events" 4 1
ls -l "$recording"

# What the kernel counts as the most that was resident, of this one child.
target/release/alloc-trace report --no-symbols --json --top 0 -o "$directory/report.json" \
    "$recording" &
reader=$!
peak_kib=0
while read -r kib < <(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$reader/status" 2>/dev/null); do
    peak_kib=$kib
    sleep 0.1
done
wait "$reader"
grep -m 1 '"events"' "$directory/report.json"
echo "at most $((peak_kib / 1024)) MiB"
test "$peak_kib" -gt 0 && test "$peak_kib" -lt "$limit_kib"
