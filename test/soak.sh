#!/usr/bin/env bash
# The long campaigns, of which `make test` tries a sample: `make soak` calls it.
# Each part prints what it did, with its seeds. Three of them run at a time. The
# first violation ends it, with the seed and how to see it again.
#
#   SOAK        percent of the whole; 100 without it
#   SOAK_SEED   the first seed; without it another one each time
set -euo pipefail

cd "$(dirname "$0")/.."
percent=${SOAK:-100}
seed=${SOAK_SEED:-$(date +%s)}

# share is the percentage of a number, 1 at least.
share() { echo $((($1 * percent + 99) / 100)); }

# part NAME COMMAND… runs the tests and prints what they logged.
part() {
  local name=$1 began=$SECONDS clock log
  shift
  clock=$(date +%H:%M:%S)
  log=$(mktemp -p "$logs")
  echo "$clock begin: $name"
  if ! "$@" >"$log" 2>&1; then
    cat "$log"
    echo "soak: $name has found something; SOAK_SEED=$seed"
    return 1
  fi
  {
    echo "$(date +%H:%M:%S) end: $name, in $((SECONDS - began)) s"
    sed -n 's/^ *[a-z_]*_test\.go:[0-9]*: /  /p' "$log"
  } >"$log.said"
  cat "$log.said" # at once, not mixed with another lane's
}

# The lanes. The first needs a processor, the others also wait for the disk and
# for answers.
points() {
  part "crashes, errors and a full disk at every operation" env SHALE_CRASH="seed=$seed stride=$((100 / (percent < 100 ? percent : 100))) states=4" \
    go test -count=1 -v -timeout 0 ./cmd/shale -run '^Test(CrashAtEveryPoint|ErrorAtEveryPoint|FullDiskAtEveryPoint|LostLog)$'
}

histories_and_bits() {
  part "simulation" env SHALE_SIMULATION="seed=$seed seeds=$(share 2000) operations=500" \
    go test -count=1 -v -timeout 0 ./internal/simulation -run '^TestSimulation$' &&
    part "flipped bits" env SHALE_SEED="$seed" SHALE_FLIPS="$(share 100000)" \
      go test -count=1 -v -timeout 0 ./internal/scrub -run '^TestFlips$'
}

servers() {
  part "killed servers" env SHALE_KILLS="$(share 500)" SHALE_BIN="$PWD/bin/shale" \
    go test -count=1 -v -timeout 0 ./test -run '^TestKill$' &&
    part "hostile clients" env SHALE_HOSTILE="$(share 3600)s" SHALE_BIN="$PWD/bin/shale" \
      go test -count=1 -v -timeout 0 ./test -run '^TestHostileClients$'
}

# Each lane is a group of processes of its own, which ends with the others.
logs=$(mktemp -d)
lanes=()
set -m
for lane in points histories_and_bits servers; do
  $lane &
  lanes+=($!)
done
set +m
end() {
  for lane in "${lanes[@]}"; do
    kill -- "-$lane" 2>/dev/null || true
  done
  rm -rf "$logs"
}
trap end EXIT
trap 'exit 130' INT TERM
for _ in "${lanes[@]}"; do
  wait -n
done
echo "soak: nothing found; SOAK=$percent SOAK_SEED=$seed, in $SECONDS s"
