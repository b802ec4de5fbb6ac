# server.sh BIN DIR PORT runs a PostgreSQL in DIR until standard input ends.
set -eu
bin=$1 dir=$2 port=$3
end() {
  "$bin/pg_ctl" -D "$dir/data" -m immediate -s stop || true
  rm -rf "$dir"
}
trap end EXIT
"$bin/initdb" -D "$dir/data" -U postgres -A trust -N --no-locale -E UTF8 >"$dir/log" 2>&1 || {
  cat "$dir/log"
  exit 1
}
printf '%s\n' "listen_addresses = '127.0.0.1'" "port = $port" "unix_socket_directories = '$dir'" \
  "max_connections = 300" "shared_buffers = 32MB" >>"$dir/data/postgresql.conf"
"$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -s start || {
  cat "$dir/log"
  exit 1
}
echo ready
cat >/dev/null
