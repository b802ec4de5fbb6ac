#!/usr/bin/env bash
# shale's judgements by policies against those of an evaluator that others wrote:
# a few thousand requests, made up anew each time. SHALE_ORACLE_SEED=N repeats a
# run, SHALE_ORACLE_REQUESTS=N makes it longer. Needs Node.js 20 or later with npm,
# and Go. Status 77 says that it was skipped.
set -euo pipefail

cd "$(dirname "$0")/.."
source test/server.sh
project=test/oracle

command -v npm >/dev/null || skip "the policy oracle: no npm here"
(($(node -p 'process.versions.node.split(".")[0]') >= 20)) || skip "the policy oracle needs Node.js 20 or later, here is $(node --version)"

if ! cmp -s "$project/package-lock.json" "$project/node_modules/installed"; then
  fetch "the policy oracle" npm ci --prefix "$project" --no-audit --no-fund
  cp "$project/package-lock.json" "$project/node_modules/installed"
fi

SHALE_ORACLE=$PWD/$project/simulate.mjs go test ./internal/policy -run '^TestOracle$' -count 1 -v
