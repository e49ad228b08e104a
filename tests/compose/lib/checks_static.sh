# What can be said of the files and the images before anything runs.

check_static() {
  check the_tests_images_have_the_runtime_stage_of_the_public_dockerfile same_runtime_stage
  check user_entry_point_and_paths_agree user_entry_point_and_paths
  check every_command_of_the_compose_file_is_in_its_image commands_exist
  check no_shipped_image_holds_the_s3_server no_s3_server_shipped
  check the_worker_can_be_scaled worker_scales
  check db_and_scheduler_know_no_cloud_key no_cloud_key
  check the_stop_grace_is_longer_than_the_drain grace_covers_drain
  check db_archives_every_minute_under_an_init_and_redis_keeps_its_jobs fixed_words
  check the_s3_servers_come_with_the_demo_profile_only demo_profile_only
  check every_lasting_service_has_a_health_check health_checks
  check the_public_dockerfile_builds_from_what_dockerignore_leaves sources_are_complete
}

# Outside the build stage the file that the images were made from is the public one, line for line.
same_runtime_stage() {
  local file
  for file in "$root/Dockerfile" "$here/Dockerfile.s3"; do
    grep -q '^FROM rust:1-bookworm AS build$' "$file"
    grep -q '^COPY --from=build ' "$file"
    diff <(sed '/^# build:begin/,/^# build:end/d' "$file") \
      <(with_binaries "$file" | sed '/^FROM scratch AS build$/,/^COPY \. \/out\/$/d')
  done
}

# What the public Dockerfile says last of an instruction.
said() { awk -v word="$1" '$1 == word { line = $0 } END { sub(/^[A-Z]+ /, "", line); print line }' "$root/Dockerfile"; }

image() { docker image inspect --format "$2" "$1"; }

user_entry_point_and_paths() {
  local services service
  [ "$(said USER)" = 1000:1000 ]
  [ "$(image walferry:local '{{.Config.User}}')" = "$(said USER)" ]
  [ "$(image walferry:local '{{.Config.WorkingDir}}')" = "$(said WORKDIR)" ]
  [ -z "$(said ENTRYPOINT)" ]
  [ "$(image walferry:local '{{json .Config.Entrypoint}}')" = null ]
  [ "$(image walferry:local '{{json .Config.Cmd}}')" = "$(said CMD | tr -d ' ')" ]
  for service in worker scheduler migrate; do
    [ "$(setting services.$service.user)" = '"1000:1000"' ]
    [ "$(setting services.$service.entrypoint)" = null ]
    [ "$(setting services.$service.read_only)" = true ]
  done
  # The archive directory is where the image has it, in everything that mounts it.
  [ "$(docker run --rm walferry:local stat --format '%a %u:%g' /var/lib/postgresql/wal_archive)" = '2770 1000:1000' ]
  for service in db worker archive-directory; do
    setting "services.$service.volumes" | grep -E 'wal-archive:/var/lib/postgresql/wal_archive|"target": "/var/lib/postgresql/wal_archive"'
  done
  # PostgreSQL's image keeps its user and entry point, and its server is in the worker's group.
  [ "$(image walferry-db:local '{{json .Config.Entrypoint}}')" = "$(image postgres:15 '{{json .Config.Entrypoint}}')" ]
  [ "$(image walferry-db:local '{{.Config.User}}')" = "$(image postgres:15 '{{.Config.User}}')" ]
  docker run --rm --entrypoint id walferry-db:local --groups postgres | grep -w 1000
}

commands_exist() {
  local service command commands=()
  for service in worker scheduler migrate; do
    command=$(setting "services.$service.command" | python3 -c 'import json, sys; print(json.load(sys.stdin)[0])')
    commands+=("$command")
  done
  [ "${#commands[@]}" = 3 ]
  # Found by name where the Dockerfile puts it, and the very binary that was built.
  docker run --rm walferry:local sh -c 'for c; do sha256sum "$(command -v "$c")"; done' sh "${commands[@]}" |
    diff - <(cd "$work/bin" && sha256sum "${commands[@]}" | sed 's|  |  /usr/local/bin/|')
  setting services.db.command | grep -F '"archive_command=walferry push %p"'
  # Of the three, PostgreSQL's image has the one it calls.
  [ "$(docker run --rm --entrypoint sh walferry-db:local -c \
    'for c in walferry walferry-worker walferry-scheduler; do command -v $c; done; true')" = /usr/local/bin/walferry ]
}

no_s3_server_shipped() {
  local name
  for name in walferry walferry-db; do
    absent docker run --rm --entrypoint sh "$name:local" -c 'command -v walferry-s3'
  done
  [ "$(docker run --rm walferry-s3:local sh -c 'command -v walferry-s3')" = /usr/local/bin/walferry-s3 ]
}

worker_scales() {
  [ "$(setting services.worker.container_name)" = null ]
  [ "$(setting services.worker.ports)" = null ]
  [ "$(setting services.worker.command)" = '["walferry-worker"]' ]
}

no_cloud_key() {
  # The pattern finds the keys where they belong, so it can find them where they do not.
  mentions worker 'cloudflare|backblaze|r2_secret|b2_application'
  mentions worker database_url
  local service
  for service in db scheduler migrate catalog; do
    absent mentions "$service" 'cloudflare|backblaze|r2_secret|b2_application'
  done
  absent mentions scheduler database_url
}

mentions() { setting "services.$1" | grep -iE "$2"; }

# As the worker itself says it, and as Compose understands it (60s, 1m, 1m0s).
grace_covers_drain() {
  local service grace drain
  drain=$(docker run --rm walferry:local walferry config check --json | python3 -c '
import json, sys
print(next(s["value"] for s in json.load(sys.stdin)["settings"] if s["name"] == "worker.shutdown_grace"))' || true)
  for service in worker scheduler; do
    grace=$(setting "services.$service.stop_grace_period")
    [ "$(seconds "$grace")" -gt "$(seconds "$drain")" ] || { echo "$service: $grace, the drain $drain"; return 1; }
  done
}

seconds() { # of 25s, 1m, 1m0s
  python3 -c '
import re, sys
units = {"s": 1, "m": 60, "h": 3600}
print(sum(int(n) * units[u] for n, u in re.findall(r"(\d+)\s*([smh])", sys.argv[1])))' "$1"
}

fixed_words() {
  [ "$(setting services.db.init)" = true ]
  setting services.db.command | grep -F '"archive_mode=on"'
  setting services.db.command | grep -F '"archive_timeout=60"'
  grep -qx 'FROM postgres:15 AS walferry-db' "$root/Dockerfile"
  [ "$(setting services.catalog.image)" = '"postgres:15"' ]
  setting services.redis.command | grep -F '"--appendonly", "yes"'
  setting services.redis.command | grep -F '"--maxmemory-policy", "noeviction"'
  # The catalog's schema is there before a worker starts; the scheduler needs no directory.
  setting services.worker.depends_on | grep -F '"migrate": {"condition": "service_completed_successfully"'
  [ "$(setting services.scheduler.volumes)" = null ]
  [ "$(setting services.db.secrets)" = "$(setting services.db.secrets | grep -F db_password)" ]
}

demo_profile_only() {
  local service seen=0
  for service in $(compose config --services); do
    case $service in
      demo-*) [ "$(setting "services.$service.profiles")" = '["demo"]' ] && seen=$((seen + 1)) ;;
      *) [ "$(setting "services.$service.profiles")" = null ] ;;
    esac
  done
  [ "$seen" = 2 ]
}

health_checks() {
  local service
  for service in db catalog redis scheduler worker; do
    [ "$(setting "services.$service.healthcheck")" != null ]
  done
}

# The build stage needs a Rust image of a release build's time; that it finds all that it
# reads is seen without: every manifest and every file that a source includes.
sources_are_complete() {
  mkdir -p "$work/context"
  git -C "$root" ls-files | python3 -c '
import fnmatch, sys
out = [line.strip().rstrip("/") for line in open(sys.argv[1]) if line.strip() and line[0] != "#"]
for name in sys.stdin.read().split("\n"):
    folders = ["/".join(name.split("/")[:n + 1]) for n in range(name.count("/") + 1)]
    hidden = any(fnmatch.fnmatch(f, o) or (o.startswith("**/") and fnmatch.fnmatch(f.split("/")[-1], o[3:])) for f in folders for o in out)
    if name and not hidden: print(name)' "$root/.dockerignore" |
    tar --create --directory "$root" --files-from - | tar --extract --directory "$work/context"
  (cd "$work/context" && cargo metadata --locked --offline --format-version 1 > /dev/null)
  python3 - "$work/context" <<'PYTHON'
import pathlib, re, sys
root = pathlib.Path(sys.argv[1])
missing = [
    f"{source}: {name}"
    for folder in ("shared", "worker", "scheduler", "cli")
    for source in root.glob(f"{folder}/**/src/**/*.rs")
    if "tests" not in source.parts
    for name in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text().split("#[cfg(test)]")[0])
    if not (source.parent / name).is_file()
]
print("\n".join(missing))
sys.exit(bool(missing))
PYTHON
}
