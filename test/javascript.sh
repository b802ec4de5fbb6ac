#!/usr/bin/env bash
# The AWS SDK for JavaScript v3 against shale: the tests of test/javascript.
# Needs Node.js 20 or later with npm, e2fsprogs, Go and bin/shale. Status 77 says
# that it was skipped.
set -euo pipefail

cd "$(dirname "$0")/.."
source test/server.sh
project=test/javascript

command -v npm >/dev/null || skip "JavaScript: no npm here"
(($(node -p 'process.versions.node.split(".")[0]') >= 20)) || skip "JavaScript: the SDK needs Node.js 20 or later, here is $(node --version)"

if ! cmp -s "$project/package-lock.json" "$project/node_modules/installed"; then
  fetch JavaScript npm ci --prefix "$project" --no-audit --no-fund
  cp "$project/package-lock.json" "$project/node_modules/installed"
fi

start_server
make_images
node --test --test-reporter=spec --test-concurrency=1 "$project/"*.test.mjs
