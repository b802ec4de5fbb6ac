#!/usr/bin/env bash
# Takes a real ext4 image, and then another one, in and out of shale through
# coldsnap, a client of the EBS direct APIs that nobody here wrote. Building it
# takes some ten minutes, so this is a step of .ci/run and not of make test; it
# is built once, into .tools. Then the same again with the server misbehaving as
# the preset "hostile" has it. Needs cargo, curl, e2fsprogs and bin/shale.
set -euo pipefail

cd "$(dirname "$0")/.."
source test/server.sh
version=0.12.0
coldsnap=$PWD/.tools/coldsnap-$version/bin/coldsnap

if [[ ! -x $coldsnap ]]; then
  cargo install --quiet --locked --root ".tools/coldsnap-$version" "coldsnap@$version"
fi

start_server --test-controls

# again COMMAND... runs it until it succeeds, five times at most.
again() {
  local try
  for try in 1 2 3 4; do
    if "$@"; then
      return
    fi
    echo "coldsnap: try $try failed" >&2
    sleep 1
  done
  "$@"
}

# round_trip DIR [FLAG...] uploads an image with the files of DIR, downloads it
# and compares. coldsnap gives back whole volumes, so the image is one. $tries is
# what runs the commands.
tries=
round_trip() {
  local files=$1 image=$work/image restored=$work/restored snapshot
  shift
  truncate -s 1G "$image"
  mkfs.ext4 -q -F -d "$files" "$image"
  snapshot=$($tries "$coldsnap" --endpoint "$endpoint" upload --no-progress "$@" "$image" | tail -n 1)
  $tries "$coldsnap" --endpoint "$endpoint" wait "$snapshot"
  $tries "$coldsnap" --endpoint "$endpoint" download --no-progress --force "$snapshot" "$restored"
  cmp "$image" "$restored"
  e2fsck -fn "$restored" >/dev/null 2>&1
  rm "$image" "$restored"
  echo "coldsnap: the image of $(basename "$files") came back from $snapshot bit for bit"
}

round_trip "$(go env GOROOT)/src"
round_trip "$PWD/internal" --omit-zero-blocks

# Of its own, coldsnap tries only blocks again: it tells the SDK not to try anything
# twice. For the rest whoever calls it has to. Twice, for some rules strike every
# second request.
tries=again
curl -fsS -X PUT -d '{"preset": "hostile"}' "$endpoint/_test/behaviour" >/dev/null
round_trip "$PWD/internal"
round_trip "$(go env GOROOT)/src" --omit-zero-blocks
struck=$(curl -fsS "$endpoint/_test/behaviour" | grep -o '"struck":[1-9]' | wc -l)
curl -fsS -X DELETE "$endpoint/_test/behaviour" >/dev/null
if ((struck < 5)); then
  echo "coldsnap: only $struck rules struck"
  exit 1
fi
echo "coldsnap: got over a hostile server, of whose rules $struck struck"
