#!/usr/bin/env bash
# Takes a real ext4 image, and then another one, in and out of shale through
# coldsnap, a client of the EBS direct APIs that nobody here wrote. Building it
# takes some ten minutes, so this is a step of .ci/run and not of make test; it
# is built once, into .tools. Needs cargo, e2fsprogs and bin/shale.
set -euo pipefail

cd "$(dirname "$0")/.."
source test/server.sh
version=0.12.0
coldsnap=$PWD/.tools/coldsnap-$version/bin/coldsnap

if [[ ! -x $coldsnap ]]; then
  cargo install --quiet --locked --root ".tools/coldsnap-$version" "coldsnap@$version"
fi

start_server

# round_trip DIR [FLAG...] uploads an image with the files of DIR, downloads it
# and compares. coldsnap gives back whole volumes, so the image is one.
round_trip() {
  local files=$1 image=$work/image restored=$work/restored snapshot
  shift
  truncate -s 1G "$image"
  mkfs.ext4 -q -F -d "$files" "$image"
  snapshot=$("$coldsnap" --endpoint "$endpoint" upload --wait --no-progress "$@" "$image" | tail -n 1)
  "$coldsnap" --endpoint "$endpoint" download --no-progress "$snapshot" "$restored"
  cmp "$image" "$restored"
  e2fsck -fn "$restored" >/dev/null 2>&1
  rm "$image" "$restored"
  echo "coldsnap: the image of $(basename "$files") came back from $snapshot bit for bit"
}

round_trip "$(go env GOROOT)/src"
round_trip "$PWD/internal" --omit-zero-blocks
