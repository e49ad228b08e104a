# The stack, up: archived, verified, scaled, hurt, stopped, removed.

check_live() {
  check four_workers_and_all_they_need_become_healthy comes_up
  # Nothing below can hold without this; do not wait for each of them in vain.
  [ "$failed" = 0 ] || { stack_logs; return 0; }
  check our_containers_are_not_root_and_cannot_write_their_root hardened
  check the_archive_directory_is_shared_through_its_group directory_shared
  check what_postgres_closes_is_verified_in_both_clouds archives
  check every_object_in_both_clouds_unpacks_to_its_segment objects_equal_segments
  check verified_segments_leave_the_archive_directory directory_empties
  check all_four_workers_are_known_to_the_queue workers_known
  check a_killed_worker_changes_nothing killed_worker
  check a_worker_that_crashes_is_started_again crashed_worker_returns
  check workers_stop_within_their_grace_and_exit_zero workers_stop
  check postgres_archives_on_while_no_worker_runs backlog_waits
  [ "$failed" = 0 ] || stack_logs
  check down_with_volumes_leaves_nothing goes_down
}

comes_up() {
  compose up -d --scale worker=4
  await 180 healthy worker 4
  await 90 healthy scheduler 1
  local service
  for service in db catalog redis; do await 60 healthy "$service" 1; done
  for service in migrate archive-directory; do
    [ "$(docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$(containers "$service" --all)")" = 'exited 0' ]
  done
}

hardened() {
  local id seen=0
  for id in $(containers worker) $(containers scheduler); do
    [ "$(docker exec "$id" id --user)" = 1000 ]
    docker exec "$id" grep -E '^CapEff:\s+0+$' /proc/1/status
    # As root, so that it is the file system that refuses and not its modes.
    absent docker exec --user 0:0 "$id" touch /usr/local/bin/x
    grep -qF 'Read-only file system' "$work/refused"
    docker exec "$id" touch /tmp/x
    seen=$((seen + 1))
  done
  [ "$seen" = 5 ]
}

directory_shared() {
  local directory=/var/lib/postgresql/wal_archive id
  for id in $(containers worker) $(containers db); do
    [ "$(docker exec "$id" stat --format '%a %u:%g' $directory)" = '2770 1000:1000' ]
  done
  # A file of the server's, made as archive_command makes it, belongs to the worker's group.
  id=$(containers db)
  docker exec "$id" gosu postgres sh -c "umask 077; : > $directory/.walferry-compose"
  [ "$(docker exec "$id" stat --format '%u:%g' $directory/.walferry-compose)" = 999:1000 ]
  docker exec "$(containers worker | head -1)" rm $directory/.walferry-compose
}

archives() {
  # Kept in pg_wal, so that objects can be compared with what PostgreSQL wrote.
  db -c "ALTER SYSTEM SET wal_keep_size = '4GB'" -c 'SELECT pg_reload_conf()'
  generate 12
  await 180 all_verified
  [ "$(wc -l < "$work/closed")" -ge 12 ]
}

# Those that were not compared before: byte for byte, and by the catalog's checksum.
objects_equal_segments() {
  local data name repository compared=0
  data=$(folder_of db-data)/pg_wal
  touch "$work/compared"
  catalog -F ' ' -c 'SELECT filename, checksum FROM backups' > "$work/checksums"
  for name in $(comm -23 "$work/closed" "$work/compared"); do
    # The first segments may be gone from pg_wal: a checkpoint came before wal_keep_size.
    [ -e "$data/$name" ] || continue
    for repository in r2 b2; do
      gzip -dc "$(folder_of demo-$repository)/demo-$repository/wal/$name.gz" | cmp - "$data/$name"
    done
    grep -qx "$name.gz $(sha256sum < "$data/$name" | cut -c1-64)" "$work/checksums"
    compared=$((compared + 1))
  done
  cp "$work/closed" "$work/compared"
  [ "$compared" -ge 10 ]
}

# Every closed segment is verified and gone from the directory: an empty one alone proves nothing.
no_closed_segment_left() {
  local left
  all_verified || return 1
  left=$(ls -A "$(folder_of wal-archive)" | grep -E '^[0-9A-F]{24}$' | comm -12 - "$work/closed")
  [ -z "$left" ] || { echo "still there: $left"; return 1; }
}

directory_empties() { await 90 no_closed_segment_left; }

workers_known() {
  await 120 healthy worker 4
  await 60 four_signs_of_life
}

# Four ids on four hosts, none of them draining.
four_signs_of_life() {
  docker exec "$(containers worker | head -1)" walferry workers --json | tee /dev/stderr | python3 -c '
import json, sys
workers = [w for w in json.load(sys.stdin) if not w["draining"]]
sys.exit(len({w["id"] for w in workers}) != 4 or len({w["host"] for w in workers}) != 4)'
}

# A cloud that answers nothing keeps uploads under way, so that the worker dies with claims in hand.
killed_worker() {
  local victim name
  cloud=$(containers demo-b2)
  # Whatever fails here, the next checks find the cloud awake and four workers.
  trap 'docker unpause "$cloud"; four_workers' EXIT
  docker pause "$cloud"
  generate 12
  await 60 a_worker_holds_claims
  victim=$(cut -c1-12 "$work/holder" | head -1)
  docker kill --signal KILL "$victim"
  # What it held when it died: its leases run on, nobody else can have them yet.
  catalog -c "SELECT name FROM wal_files WHERE claimed_by LIKE '$victim-%'" > "$work/orphans"
  [ -s "$work/orphans" ]
  docker unpause "$cloud"
  trap four_workers EXIT
  await 180 all_verified
  await 90 no_closed_segment_left
  [ "$(docker inspect --format '{{.State.ExitCode}}' "$victim")" = 137 ]
  [ "$(containers worker | wc -l)" = 3 ]
  # What it held was claimed again, each name is there once, each object equals its segment.
  while read -r name; do
    [ "$(catalog -c "SELECT attempt > 1 FROM wal_files WHERE name = '$name'" </dev/null)" = t ]
  done < "$work/orphans"
  [ "$(catalog -c 'SELECT count(*) - count(DISTINCT filename) FROM backups')" = 0 ]
  objects_equal_segments
}

four_workers() {
  compose up -d --no-recreate --scale worker=4
  await 120 healthy worker 4
}

# A worker's id begins with its host name, which is the container's short id.
a_worker_holds_claims() {
  catalog -c 'SELECT claimed_by FROM wal_files WHERE lease_until > clock_timestamp() LIMIT 1' > "$work/holder"
  [ -s "$work/holder" ]
}

crashed_worker_returns() {
  local victim restarts
  victim=$(containers worker | head -1)
  docker exec "$victim" sh -c 'for p in /proc/[0-9]*; do
    [ "$(cat $p/comm)" != walferry-worker ] || kill -9 "${p#/proc/}"; done'
  restarted() { [ "$(docker inspect --format '{{.RestartCount}} {{.State.Health.Status}}' "$victim")" = '1 healthy' ]; }
  await 120 restarted
  await 120 healthy worker 4
}

workers_stop() {
  local ids id
  ids=$(containers worker)
  compose stop worker
  for id in $ids; do
    [ "$(docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$id")" = 'exited 0' ]
  done
  [ "$(wc -w <<< "$ids")" = 4 ]
}

# Handed over, none failed: the archiver needs the directory only.
handed_over() {
  local waiting
  waiting=$(docker exec "$(containers db)" sh -c 'ls /var/lib/postgresql/data/pg_wal/archive_status/*.ready 2>/dev/null' || true)
  [ -z "$waiting" ] || { echo "$waiting"; return 1; }
}

backlog_waits() {
  local before
  before=$(db -c 'SELECT failed_count FROM pg_stat_archiver')
  generate 6
  await 90 handed_over
  [ "$(db -c 'SELECT failed_count FROM pg_stat_archiver')" = "$before" ]
  closed_segments | sort > "$work/closed"
  [ "$(verified_segments | sort | comm -23 "$work/closed" - | wc -l)" -ge 6 ]
  compose start worker
  await 120 healthy worker 4
  await 120 all_verified
}

goes_down() {
  compose down --volumes
  local filter=(--quiet --filter label=com.docker.compose.project=walferry)
  [ -z "$(docker ps --all "${filter[@]}")" ]
  [ -z "$(docker volume ls "${filter[@]}")" ]
  [ -z "$(docker network ls "${filter[@]}")" ]
}
