#!/usr/bin/env bash
# The processor time of `alloc-trace report`, with names, files and lines and without, beside that of
# heaptrack's interpreter and printer on the same program: heaptrack.sh [EVENTS [EVENTS_OF_A_PATH]].
# Needs heaptrack; of one that is not installed HEAPTRACK_INTERPRET names the interpreter.
#
# The interpreter of heaptrack 1.4 takes all memory that it can get where there are thousands of paths
# (64 events of a path are too few for it), so it is held to 8 GB here, and the paths change seldom. 1.6
# bears them: heaptrack.sh 10000000 8.
set -euo pipefail
events=${1:-10000000}
path=${2:-1000000}
interpret=${HEAPTRACK_INTERPRET:-/usr/lib/heaptrack/libexec/heaptrack_interpret}
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$(dirname "$0")/../../.."
cargo build -q --release --locked -p alloc-trace-cli
churn=$(cargo bench -p alloc-trace --bench churn --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*churn-[^"]*\)".*/\1/p')
heaptrack --raw -o "$directory/heaptrack" "$churn" "$events" "$path" >/dev/null
ALLOC_TRACE=$directory/ours.trace "$churn" "$events" "$path"
ls -l "$directory"

# The processor time that a command takes, in milliseconds.
cpu_ms() {
    local TIMEFORMAT='%U %S'
    { time "$@" >/dev/null 2>&1; } 2>&1 | awk '{ printf "%d", ($1 + $2) * 1000 }'
}
interpret() (
    ulimit -v 8000000
    "$interpret" <"$directory/raw" >"$directory/interpreted"
)
zstd -qdc "$directory/heaptrack.raw.zst" >"$directory/raw"
# In turns, so that a busy machine slows both.
theirs=0
ours=0
nameless=0
for _ in 1 2 3; do
    theirs=$((theirs + $(cpu_ms interpret) + $(cpu_ms heaptrack_print -f "$directory/interpreted")))
    ours=$((ours + $(cpu_ms target/release/alloc-trace report "$directory/ours.trace")))
    rm -f "$directory/ours.trace.symbols"
    nameless=$((nameless + $(cpu_ms target/release/alloc-trace report --no-symbols "$directory/ours.trace")))
done
test -s "$directory/interpreted"
echo "heaptrack: $((theirs / 3)) ms; alloc-trace report: $((ours / 3)) ms," \
    "$((ours * 100 / theirs)) % of that; without names: $((nameless / 3)) ms," \
    "$((nameless * 100 / theirs)) %"
