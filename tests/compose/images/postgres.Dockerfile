# Stands in for the public postgres:15 where no image can be pulled: same user, paths,
# entry point and environment names, as far as docker-compose.yml uses them.
FROM debian:bookworm-slim
ENV LANG=C.UTF-8 PGDATA=/var/lib/postgresql/data PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN groupadd --system --gid 999 postgres \
 && useradd --system --uid 999 --gid 999 --home-dir /var/lib/postgresql --shell /bin/bash postgres \
 && mkdir /etc/postgresql-common \
 && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
 && apt-get update \
 && apt-get install --yes --no-install-recommends postgresql-15 gosu \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /usr/lib/llvm-14 \
 && install --directory --owner 999 --group 999 --mode 1777 "$PGDATA" \
 && install --directory --owner 999 --group 999 --mode 3777 /var/run/postgresql
COPY postgres-entrypoint /usr/local/bin/docker-entrypoint.sh
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["docker-entrypoint.sh"]
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["postgres"]
