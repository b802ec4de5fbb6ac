#!/usr/bin/env bash
# Runs every fuzz target of the project for the given time each, 10s without it.
#
# When the time is over while a worker is in the middle of an input, go test
# sometimes takes its own deadline for a failure (golang/go#75804). That is told
# from a finding by what it prints, and the target is run again.
set -euo pipefail

cd "$(dirname "$0")/.."
fuzztime=${1:-10s}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# fuzz PACKAGE TARGET
fuzz() {
  for _ in 1 2 3; do
    echo "== $1 $2"
    if go test "$1" -run '^$' -fuzz "^$2\$" -fuzztime "$fuzztime" 2>&1 | tee "$log"; then
      return
    fi
    if grep -q -e 'Failing input' -e panic "$log" || ! grep -qx ' *context deadline exceeded' "$log"; then
      return 1
    fi
  done
  return 1
}

files='{{$p := .ImportPath}}{{range .TestGoFiles}}{{$p}} {{$.Dir}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$p}} {{$.Dir}}/{{.}}{{"\n"}}{{end}}'
go list -f "$files" ./... | while read -r package file; do
  for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
    fuzz "$package" "$target" </dev/null
  done
done
