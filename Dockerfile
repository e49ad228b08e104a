# Images of walferry.
#
#   docker build -t walferry .                             worker, scheduler and command line
#   docker build -t walferry-db --target walferry-db .     postgres:15 that archives with `walferry push`
#
# No `RUN --mount` and no heredocs, so that Debian's Docker 20.10 builds it too.

# build:begin (tests/compose puts binaries already built in the place of this stage)
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked \
      --package walferry --package walferry-worker --package walferry-scheduler \
 && mkdir /out \
 && cp target/release/walferry target/release/walferry-worker target/release/walferry-scheduler /out/
# build:end

# PostgreSQL with the one binary that its archive_command calls. It is given no cloud key.
FROM postgres:15 AS walferry-db
# gid 1000 is the group of the worker. The server belongs to it too, so that what it
# hands over (group of the setgid directory, mode 0640) can be read by the worker.
RUN groupadd --gid 1000 walferry \
 && usermod --append --groups walferry postgres
COPY --from=build /out/walferry /usr/local/bin/

# Last, so that `docker build .` without a target makes it.
FROM debian:bookworm-slim AS walferry
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 1000 walferry \
 && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin walferry \
 && install --directory --owner 1000 --group 1000 --mode 2770 /var/lib/postgresql/wal_archive
COPY --from=build /out/walferry /out/walferry-worker /out/walferry-scheduler /usr/local/bin/
# By number: Kubernetes' runAsNonRoot cannot judge a name.
USER 1000:1000
WORKDIR /
# Nothing is written outside /tmp and the archive directory: run it with a read-only root.
# No entry point: the command names the binary (`walferry-worker`, `walferry-scheduler`, `walferry …`).
CMD ["walferry", "--help"]
