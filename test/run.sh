#!/usr/bin/env bash
# All tests, from fast to slow: those beside the code under the race detector,
# the black-box tests in Go, and those of boto3, the AWS CLI and curl. `make
# test` calls it with the program built. What could not be run on this machine
# is named at the end, before the last runner's closing line.
#
#   GOTESTSUM   the program of that name
set -euo pipefail

cd "$(dirname "$0")/.."
export SHALE_BIN=$PWD/bin/shale
report=$(mktemp -d)
trap 'rm -rf "$report"' EXIT
not_run=()

# go_test runs Go tests and notes which of them were skipped.
go_test() {
  "$GOTESTSUM" --format pkgname-and-test-fails --format-hide-empty-pkg --jsonfile "$report/go.json" -- "$@"
  while read -r name; do
    not_run+=("$name")
  done < <(sed -n 's/.*"Action":"skip","Package":"\([^"]*\)","Test":"\(.*\)","Elapsed".*/\1 \2/p' "$report/go.json" | sort -u)
}

echo "== beside the code"
# The race detector is not to look at SQLite, which is Go here and serves one
# caller at a time: it took two thirds of the time.
race=(-race '-gcflags=github.com/ncruces/go-sqlite3-wasm/...=-race=false')
if ! command -v gcc >/dev/null; then
  race=()
  not_run+=("the race detector: it needs gcc")
fi
CGO_ENABLED=${race:+1} go_test "${race[@]}" -timeout 20m ./bench/... ./cmd/... ./internal/...

echo "== the service, with its catalog in PostgreSQL"
if find /usr/lib/postgresql/*/bin -name initdb 2>/dev/null | grep -q . || command -v initdb >/dev/null; then
  # A round trip for each query takes its time: fewer runs of each model.
  SHALE_TEST_CATALOG=postgres go_test ./internal/snapshot -rapid.checks=25
else
  not_run+=("the service with its catalog in PostgreSQL: it needs initdb")
fi

echo "== black box, Go"
# Most of these tests wait for a server; they share the two cores well. Without
# -count=1 go test would repeat what they said of another build of the program,
# which it knows nothing of.
go_test -count=1 -trimpath -parallel 32 ./test

echo "== black box, boto3, AWS CLI, curl"
if ! python3 -m venv --help >/dev/null 2>&1; then
  printf 'not run here: %s\n' "${not_run[@]}" "the tests of boto3, the AWS CLI and curl: they need python3 with venv"
  exit
fi
if ! cmp -s test/clients/requirements.txt .venv/installed; then
  python3 -m venv --clear .venv
  .venv/bin/python -m pip install --quiet --requirement test/clients/requirements.txt
  cp test/clients/requirements.txt .venv/installed
fi
SHALE_NOT_RUN=$(printf '%s\n' "${not_run[@]}") .venv/bin/python -m pytest --quiet -p no:cacheprovider --numprocesses auto --dist loadfile test/clients
