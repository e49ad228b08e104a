# The composed project, as a person would drive it from the root of the repository.

compose() {
  docker-compose --env-file tests/compose/demo.env --project-name walferry --profile demo "$@"
}

# setting PATH: a value of the resolved compose file, as JSON (`null` if absent).
setting() {
  [ -s "$work/config.yml" ] || compose config > "$work/config.yml"
  python3 -c '
import json, sys, yaml
value = yaml.safe_load(open(sys.argv[1]))
for key in sys.argv[2].split("."):
    value = (value or {}).get(key)
print(json.dumps(value, sort_keys=True))' "$work/config.yml" "$1"
}

# Compose v1 writes walferry_worker_1, v2 walferry-worker-1: go by label.
containers() {
  docker ps --quiet --filter label=com.docker.compose.project=walferry --filter "label=com.docker.compose.service=$1" "${@:2}"
}

db() { docker exec --interactive "$(containers db)" psql -X -q -A -t -v ON_ERROR_STOP=1 -U postgres "$@"; }
catalog() { docker exec --interactive "$(containers catalog)" psql -X -q -A -t -v ON_ERROR_STOP=1 -U walferry "$@"; }

# healthy SERVICE COUNT
healthy() {
  local found
  found=$(containers "$1" --filter health=healthy | wc -l)
  [ "$found" = "$2" ] || { docker ps --all --format '{{.Names}}: {{.Status}}'; return 1; }
}

folder_of() { docker volume inspect --format '{{.Mountpoint}}' "walferry_$1"; }

# generate SEGMENTS: pgbench, then that many segments closed, few of them full.
generate() {
  local i statements=()
  docker exec "$(containers db)" pgbench -U postgres --quiet --initialize --scale=4 postgres >/dev/null 2>&1
  for i in $(seq "$1"); do
    statements+=(-c "SELECT pg_logical_emit_message(false, 'walferry', repeat(md5(random()::text), 4096))" -c 'SELECT pg_switch_wal()')
  done
  db "${statements[@]}" >/dev/null
}

# Every segment closed so far, by name: from the first that the cluster ever wrote.
closed_segments() {
  db -c "
    SELECT '00000001' || lpad(upper(to_hex(n / 256)), 8, '0') || lpad(upper(to_hex(n % 256)), 8, '0')
    FROM generate_series(1, (pg_current_wal_lsn() - '0/0')::bigint / 16777216 - 1) AS n"
}

# Every segment that the catalog calls verified in both repositories.
verified_segments() {
  catalog -c "
    SELECT left(filename, 24) FROM backups
    WHERE status = 'VERIFIED' AND r2_path = 'wal/' || filename AND b2_path = r2_path
      AND filename ~ '^[0-9A-F]{24}\.gz$'
    ORDER BY filename"
}

# all_verified: what is closed now is verified; not true of nothing.
all_verified() {
  local missing
  closed_segments | sort > "$work/closed"
  [ -s "$work/closed" ] || return 1
  verified_segments | sort > "$work/verified" || return 1
  missing=$(comm -23 "$work/closed" "$work/verified")
  [ -z "$missing" ] || { echo "not verified in both: $missing"; return 1; }
}

# For a failed run: what our services said last, and what state all of them are in.
stack_logs() {
  docker ps --all --format '{{.Names}}: {{.Status}}' | sed 's/^/             /'
  compose logs --no-color --tail=40 migrate scheduler worker demo-r2 demo-b2 2>&1 | sed 's/^/             /'
  catalog -c "SELECT name, status, attempt, failures, crashes, claimed_by, last_error FROM wal_files ORDER BY name" \
    -c "SELECT f.name, c.repository, c.attempts, c.last_error FROM copies c JOIN wal_files f ON f.id = c.file_id
        WHERE c.state <> 'verified' ORDER BY 1, 2 LIMIT 20" 2>&1 | sed 's/^/             /'
  docker exec "$(containers worker | head -1)" walferry check 2>&1 | sed 's/^/             /'
}
