#!/usr/bin/env bash
# moto's own tests of EBS, of EC2's snapshots and of KMS against shale, those of
# them that describe AWS: test/moto/selection.toml. They are no part of this
# repository; a release of moto is fetched for them, by its hash. Needs Python
# 3.11 or later with venv, and bin/shale. Status 77 says that it was skipped.
set -euo pipefail

cd "$(dirname "$0")/.."
source test/server.sh
export SHALE_BIN=$shale
tools=$PWD/.tools/moto-5.2.1

python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  skip "moto: it needs Python 3.11 or later with venv"

if ! cat test/moto/requirements.txt test/moto/source.txt | cmp -s - "$tools/installed"; then
  rm -rf "$tools"
  python3 -m venv "$tools/venv"
  fetch moto "$tools/venv/bin/pip" install --requirement test/moto/requirements.txt
  fetch moto "$tools/venv/bin/pip" download --no-deps --no-binary moto --require-hashes --requirement test/moto/source.txt --dest "$tools"
  tar -xzf "$tools/moto-5.2.1.tar.gz" --directory "$tools" moto-5.2.1/tests
  cat test/moto/requirements.txt test/moto/source.txt >"$tools/installed"
fi

mapfile -t files < <(sed -n 's/^\["\(.*\)"\]$/\1/p' test/moto/selection.toml)
plugin=$PWD/test/moto
cd "$tools/moto-5.2.1"
PYTHONPATH=$plugin PYTHONDONTWRITEBYTECODE=1 "$tools/venv/bin/python" -m pytest \
  --quiet --config-file=/dev/null --rootdir=. -p no:cacheprovider \
  -W ignore::pytest.PytestUnknownMarkWarning -p moto_on_shale "${files[@]}"
