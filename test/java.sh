#!/usr/bin/env bash
# The AWS SDK for Java v2 against shale: the tests of test/java, over its three
# HTTP clients. Needs a JDK, 17 or later, Maven, e2fsprogs, Go and bin/shale.
# Status 77 says that it was skipped.
set -euo pipefail

cd "$(dirname "$0")/.."
source test/server.sh

# maven runs without the network if what it needs was fetched before.
maven() { mvn --batch-mode --quiet --file test/java/pom.xml "$@"; }

for program in mvn javac; do
  command -v "$program" >/dev/null || skip "Java: no $program here"
done
java=$(javac -version 2>&1)
java=${java#javac }
((${java%%.*} >= 17)) || skip "Java: the tests need a JDK of 17 or later, here is $java"

if ! maven --offline test-compile >/dev/null 2>&1; then
  fetch Java maven test-compile
fi
start_server
make_images
mvn --batch-mode --no-transfer-progress --file test/java/pom.xml test
