# Sourced by the scripts beside it that drive shale with clients that nobody
# here wrote: a server on a free loopback port, ended by its process id, disk
# images to put into it, and one way to say what cannot be run here. They run
# from the root of the repository, after `make build`.
#
#   SHALE_BIN  the program, bin/shale unless set
#   $shale     the same
#   $work      a temporary folder, removed at the end
#   $server    the process of start_server
#   $endpoint  its address

PATH=$PATH:/usr/sbin:/sbin # where e2fsprogs is, for those who are not root

shale=${SHALE_BIN:-$PWD/bin/shale}
work=$(mktemp -d)
server=

cleanup() {
  local status=$?
  if [[ -n $server ]]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  if ((status != 0 && status != 77)) && [[ -s $work/server.log ]]; then
    echo "-- the end of the server's log"
    tail -n 20 "$work/server.log"
  fi
  rm -rf "$work"
}
trap cleanup EXIT

# skip REASON ends the script with the status by which .ci/run, like automake,
# tells what was skipped from what passed.
skip() {
  echo "skipped: $*"
  exit 77
}

# fetch WHAT COMMAND... gets packages from a registry. One that cannot be
# reached is a reason to skip; whatever else goes wrong is a failure.
fetch() {
  local what=$1 unreachable
  shift
  "$@" >"$work/fetch.log" 2>&1 && return
  unreachable='ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH' # npm
  unreachable+='|Unknown host|[Cc]onnection refused|[Cc]onnect(ion)? timed out|Network is unreachable' # Maven
  unreachable+='|Failed to establish a new connection|[Nn]ame resolution|from versions: none' # pip
  unreachable+='|no such host|could not connect to registry' # Terraform
  if grep -qE "$unreachable" "$work/fetch.log"; then
    skip "$what: the package registry cannot be reached"
  fi
  cat "$work/fetch.log"
  exit 1
}

# start_server [FLAG...] serves a new folder and sets the environment as a user
# does, so that clients find keys, region and address by themselves.
start_server() {
  : >"$work/ready"
  "$shale" serve --data-dir "$work/data" --listen 127.0.0.1:0 "$@" >"$work/ready" 2>"$work/server.log" &
  server=$!
  for ((i = 0; i < 600; i++)); do
    grep -q ready "$work/ready" && break
    kill -0 "$server" || exit 1
    sleep 0.1
  done
  eval "$("$shale" env --data-dir "$work/data")"
  endpoint=$(sed -n 's/^endpoint_url *= *//p' "$work/data/config")
}

# make_images makes an ext4 image of real files, $SHALE_IMAGE, and a copy in
# which some of them changed, $SHALE_CHANGED_IMAGE. Both are whole blocks long.
make_images() {
  export SHALE_IMAGE=$work/disk.img SHALE_CHANGED_IMAGE=$work/changed.img
  truncate -s 96M "$SHALE_IMAGE"
  mkfs.ext4 -q -F -d "$(go env GOROOT)/src/cmd" "$SHALE_IMAGE"
  cp --sparse=always "$SHALE_IMAGE" "$SHALE_CHANGED_IMAGE"
  echo "edited" >"$work/edited"
  head -c 3000000 /dev/urandom >"$work/new"
  debugfs -w -f /dev/stdin "$SHALE_CHANGED_IMAGE" >"$work/debugfs.log" 2>&1 <<COMMANDS
rm /go.mod
write $work/edited /go.mod
rm /go.sum
write $work/new /new.bin
COMMANDS
  e2fsck -fn "$SHALE_CHANGED_IMAGE" >/dev/null 2>&1
}
