# Stands in for the public redis:7 where no image can be pulled: same user, working
# directory, volume and command, as far as docker-compose.yml uses them.
FROM debian:bookworm-slim
RUN groupadd --system --gid 999 redis \
 && useradd --system --uid 999 --gid 999 --home-dir /data redis \
 && apt-get update \
 && apt-get install --yes --no-install-recommends redis-server gosu \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb \
 && install --directory --owner 999 --group 999 /data
COPY redis-entrypoint /usr/local/bin/docker-entrypoint.sh
VOLUME /data
WORKDIR /data
ENTRYPOINT ["docker-entrypoint.sh"]
EXPOSE 6379
# Debian's configuration binds to loopback; the public image has none.
CMD ["redis-server"]
