# Images without a registry: debian:bookworm-slim by debootstrap, stand-ins for postgres:15 and
# redis:7 on it, and ours from binaries already built.

# All that needs the network, saved in one file under target/, named by what it was made from.
images_base() {
  local key archive
  key=$(cat "$here"/images/* "$here/lib/images.sh" "$root/Dockerfile" "$here/Dockerfile.s3" | sha256sum | cut -c1-16)
  archive=$cache/images-$key.tar
  if [ -s "$archive" ]; then
    say "loading base images"
    docker load --quiet --input "$archive" >/dev/null
    return
  fi
  say "making base images (once: kept in target/compose-cache)"
  engine_uplink
  base_image
  docker_build "$here/images" "$here/images/postgres.Dockerfile" --tag postgres:15
  docker_build "$here/images" "$here/images/redis.Dockerfile" --tag redis:7
  # The runtime stages around empty binaries: their layers below the binaries are reused.
  mkdir -p "$work/empty"
  touch "$work/empty/"{walferry,walferry-worker,walferry-scheduler,walferry-s3}
  ours "$work/empty" seed
  mkdir -p "$cache"
  rm -f "$cache"/images-*.tar*
  # A name of its own until it is complete: a run that is killed here leaves no half archive.
  docker save --output "$archive.$$" debian:bookworm-slim postgres:15 redis:7 \
    walferry:seed walferry-db:seed walferry-s3:seed
  mv "$archive.$$" "$archive"
  uplink_remove
}

base_image() {
  local mirror
  mirror=$(apt-get indextargets --format '$(RELEASE) $(SITE)' | awk '$1 == "bookworm" { print $2; exit }')
  [ -n "$mirror" ] || fail "apt knows no mirror of Debian bookworm"
  nice debootstrap --variant=minbase bookworm "$work/bookworm" "$mirror" \
    >"$work/debootstrap.log" || { tail -5 "$work/debootstrap.log" >&2; fail "debootstrap"; }
  rm -rf "$work/bookworm/var/cache/apt/archives/"*.deb "$work/bookworm/var/lib/apt/lists/"*
  tar -C "$work/bookworm" -c . | docker import --change 'CMD ["bash"]' - debian:bookworm-slim >/dev/null
  rm -rf --one-file-system "$work/bookworm"
}

# images_ours BINARIES: walferry:local, walferry-db:local, walferry-s3:local.
images_ours() {
  mkdir -p "$work/bin"
  local name
  for name in walferry walferry-worker walferry-scheduler walferry-s3; do
    strip -o "$work/bin/$name" "$1/$name" || fail "no $1/$name: build it first"
  done
  ours "$work/bin" local
}

ours() {
  docker_build "$1" <(with_binaries "$root/Dockerfile") --cache-from walferry-db:seed --target walferry-db --tag "walferry-db:$2"
  docker_build "$1" <(with_binaries "$root/Dockerfile") --cache-from walferry:seed --target walferry --tag "walferry:$2"
  docker_build "$1" <(with_binaries "$here/Dockerfile.s3") --cache-from walferry-s3:seed --tag "walferry-s3:$2"
}

# The public Dockerfile with its build stage replaced; every other line stays as it is.
with_binaries() {
  sed -e '/^# build:begin/,/^# build:end/c\FROM scratch AS build\nCOPY . /out/' "$1"
}

# docker_build CONTEXT DOCKERFILE ARGUMENTS…
docker_build() {
  local context=$1 dockerfile=$2
  shift 2
  cat "$dockerfile" > "$work/Dockerfile"
  nice docker build --file "$work/Dockerfile" "$@" "$context" >"$work/build.log" 2>&1 ||
    { tail -30 "$work/build.log" >&2; fail "docker build $*"; }
}
