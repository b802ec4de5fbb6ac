#!/usr/bin/env bash
# Takes a real ext4 image, and then another one, in and out of shale through
# coldsnap, a client of the EBS direct APIs that nobody here wrote. Building it
# takes some ten minutes, so this is a step of .ci/run and not of make test; it
# is built once, into .tools. Needs cargo, e2fsprogs and bin/shale.
set -euo pipefail

cd "$(dirname "$0")/.."
version=0.12.0
coldsnap=$PWD/.tools/coldsnap-$version/bin/coldsnap
PATH=$PATH:/usr/sbin:/sbin # where e2fsprogs is, for those who are not root

if [[ ! -x $coldsnap ]]; then
  cargo install --quiet --locked --root ".tools/coldsnap-$version" "coldsnap@$version"
fi

work=$(mktemp -d)
server=
cleanup() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  [[ -z $server ]] || wait "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

bin/shale serve --data-dir "$work/data" --listen 127.0.0.1:0 >"$work/ready" 2>"$work/log" &
server=$!
for ((i = 0; i < 600; i++)); do
  grep -q ready "$work/ready" && break
  kill -0 "$server" || { cat "$work/log"; exit 1; }
  sleep 0.1
done
eval "$(bin/shale env --data-dir "$work/data")"
endpoint=$(sed -n 's/^endpoint_url *= *//p' "$work/data/config")

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
