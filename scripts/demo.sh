#!/usr/bin/env bash
# The main job of shale from nothing, on real data: serve, make a disk of real
# files, upload it, change some files, upload only what changed, download both,
# compare bit for bit, check the file system, and leave the server running.
#
# Needs Go and e2fsprogs. `make run` builds bin/shale and calls it. Everything it
# makes is in one temporary folder, which is removed when it ends.
#
#   SHALE_DEMO_LISTEN   where to serve, 127.0.0.1:8484 unless set; port 0 takes
#                       a free one
#   SHALE_DEMO_EXIT=1   stop after the table instead of leaving the server on
set -euo pipefail

cd "$(dirname "$0")/.."
root=$PWD
shale=$root/bin/shale
listen=${SHALE_DEMO_LISTEN:-127.0.0.1:8484}
PATH=$PATH:/usr/sbin:/sbin # where e2fsprogs is, for those who are not root

work= server= address= running=

say() { printf '\n== %s\n' "$*"; }
die() { printf '\nmake run: %s\n' "$*" >&2; exit 1; }

# stop_server ends the server that this script started, and waits for it.
stop_server() {
  [[ -n $server ]] || return 0
  kill -TERM "$server" 2>/dev/null || true
  for ((i = 0; i < 300; i++)); do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=
}

cleanup() {
  local code=$?
  trap '' INT TERM HUP
  stop_server
  [[ -z $work ]] || rm -rf "$work"
  exit "$code"
}

# interrupted is how the last step, the running server, is meant to end.
interrupted() {
  if [[ -n $running ]]; then
    printf '\nStopping the server and removing its folder.\n'
    exit 0
  fi
  exit 130
}

trap cleanup EXIT
trap interrupted INT TERM HUP

need() { command -v "$1" >/dev/null || die "$1 is not installed; it is part of $2"; }

# field prints a member of the JSON object in $1, as shale prints it.
field() {
  [[ $1 =~ \"$2\":\ \"?([^\",$'\n']*) ]] || die "no $2 in the answer: $1"
  printf '%s' "${BASH_REMATCH[1]}"
}

bytes_in() { # of a folder, as the disk counts them
  local n
  n=$(du -s --block-size=1 "$1")
  printf '%s' "${n%%[[:space:]]*}"
}

mib() { printf '%d.%d MiB' $(($1 / 1048576)) $(($1 % 1048576 * 10 / 1048576)); }

seconds() { LC_ALL=C printf '%.2f' "$1"; }

rows=()
row() { rows+=("$(printf '%-28s %8s %12s %12s %9s' "$@")"); }

start_server() {
  : >"$work/ready"
  "$shale" serve --data-dir "$work/data" --listen "$listen" --anonymous \
    >"$work/ready" 2>"$work/serve.log" &
  server=$!
  local line=
  for ((i = 0; i < 150; i++)); do
    if read -r line <"$work/ready" && [[ $line =~ ^ready.*(http://[^[:space:]]+) ]]; then
      address=${BASH_REMATCH[1]}
      return
    fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  printf '%s\n' "$(<"$work/serve.log")" >&2
  die "the server did not start on $listen; another address: SHALE_DEMO_LISTEN=127.0.0.1:0 make run"
}

# make_disk makes an ext4 image of real files of this machine.
make_disk() {
  local files size
  files=$(go env GOROOT)
  size=$(($(bytes_in "$files/.") / 1048576))
  if ((size > 800)); then
    files=$files/src
    size=$(($(bytes_in "$files/.") / 1048576))
  fi
  say "A disk: ext4, with the files of $files ($size MiB)"
  # A fifth for the file system's own, and room for the changes.
  truncate -s "$((size * 6 / 5 + 64))M" "$work/disk.img"
  mkfs.ext4 -q -F -L shale-demo -U 5a1e0000-0000-4000-8000-000000000001 \
    -E hash_seed=5a1e0000-0000-4000-8000-000000000002 -d "$files" "$work/disk.img"
}

# change_files works on an image as somebody does on a disk in use: an edit, a
# new file, a deletion.
change_files() {
  say "Some files change (debugfs: one edited, one new, one deleted)"
  printf 'edited by the shale demo\n' >"$work/edited"
  head -c 3000000 /dev/urandom >"$work/new"
  cp --sparse=always "$work/disk.img" "$work/changed.img"
  # The regular files in the root; lines are /inode/mode/uid/gid/name/size/
  local mode name files=()
  while IFS=/ read -r _ _ mode _ _ name _; do
    if [[ $mode == 100* ]]; then files+=("$name"); fi
  done < <(debugfs -R 'ls -p /' "$work/changed.img" 2>/dev/null)
  ((${#files[@]} >= 2)) || die "no files to change in the root of the disk"
  debugfs -w -f /dev/stdin "$work/changed.img" >/dev/null 2>"$work/debugfs.log" <<COMMANDS
rm "/${files[0]}"
write "$work/edited" "/${files[0]}"
rm "/${files[1]}"
mkdir /demo
write "$work/new" /demo/new.bin
COMMANDS
  fsck.ext4 -fn "$work/changed.img" >"$work/fsck.log" 2>&1 ||
    die "the changed image is not sound: $(<"$work/fsck.log")"
  if cmp -s "$work/disk.img" "$work/changed.img"; then die "debugfs changed nothing: $(<"$work/debugfs.log")"; fi
}

# upload LABEL ARGUMENTS… uploads, adds a row, and leaves the ID in $snapshot.
upload() {
  local label=$1 before after answer
  shift
  before=$(bytes_in "$work/data")
  answer=$("$shale" upload "$@" --json)
  after=$(bytes_in "$work/data")
  snapshot=$(field "$answer" snapshot_id)
  row "$label" "$(field "$answer" blocks_sent)" "$(mib "$(field "$answer" bytes_sent)")" \
    "$(mib $((after - before)))" "$(seconds "$(field "$answer" seconds)")"
  printf '%s: %s of %s blocks sent\n' "$snapshot" "$(field "$answer" blocks_sent)" "$(field "$answer" blocks_total)"
}

# restore LABEL SNAPSHOT ORIGINAL downloads, compares bit for bit, and checks the
# file system.
restore() {
  local label=$1 id=$2 original=$3 answer
  answer=$("$shale" download "$id" "$work/restored.img" --json)
  cmp "$original" "$work/restored.img" || die "$id came back different"
  fsck.ext4 -fn "$work/restored.img" >"$work/fsck.log" 2>&1 ||
    die "the file system of $id is damaged: $(<"$work/fsck.log")"
  rm "$work/restored.img"
  row "$label" "$(field "$answer" blocks_received)" "-" "-" "$(seconds "$(field "$answer" seconds)")"
  printf '%s: the same bit for bit, fsck finds nothing\n' "$id"
}

invite() {
  local port=${address##*:}
  cat <<TEXT

The server runs at $address until Ctrl-C, which also removes its folder.
In a second terminal, with the AWS CLI (any SDK does as well):

  eval "\$($shale env --data-dir $work/data)"
  aws ec2 describe-snapshots --owner-ids self
  aws ebs list-changed-blocks --first-snapshot-id $base --second-snapshot-id $child
  $shale list

or with nothing but curl:

  curl http://ebs.us-east-1.localhost:$port/snapshots
  curl -X POST http://ebs.us-east-1.localhost:$port/snapshots -H 'content-type: application/json' -d '{"volume_size":1}'
TEXT
}

need go "Go, https://go.dev/dl"
for tool in mkfs.ext4 debugfs fsck.ext4; do need "$tool" e2fsprogs; done
work=$(mktemp -d "${TMPDIR:-/tmp}/shale-demo.XXXXXX")

say "Serve"
[[ -x $shale ]] || CGO_ENABLED=0 go build -o "$shale" ./cmd/shale
"$shale" version
start_server
printf 'at %s, data in %s\n' "$address" "$work/data"
eval "$("$shale" env --data-dir "$work/data")"
export XDG_CACHE_HOME=$work/cache # leave the user's own alone

make_disk
say "Upload the disk"
upload "upload of the disk" "$work/disk.img" --description "the demo's disk"
base=$snapshot

change_files
say "Upload what changed"
upload "upload of the changes" "$work/changed.img" --parent "$base" --description "the demo's disk, later"
child=$snapshot
mapfile -t differ < <("$shale" diff "$base" "$child" 2>/dev/null)
printf 'they differ in %d blocks: %s\n' "${#differ[@]}" "${differ[*]:0:12}"

say "Download both and compare"
restore "download of the first" "$base" "$work/disk.img"
restore "download of the second" "$child" "$work/changed.img"

say "Done"
printf '%-28s %8s %12s %12s %9s\n' step blocks sent stored seconds
printf '%s\n' "${rows[@]}"
if [[ -n ${SHALE_DEMO_EXIT:-} ]]; then exit 0; fi

invite
running=yes
wait "$server"
die "the server ended by itself: $(<"$work/serve.log")"
