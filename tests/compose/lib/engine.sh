# A Docker engine of our own: data root, socket and network namespace live in one temporary
# folder and vanish with it. dockerd rewrites the firewall of the namespace it runs in (policy
# of FORWARD, its own chains) and leaves that behind, so it never runs in the machine's.

engine_install() {
  local missing=()
  command -v dockerd >/dev/null || missing+=(docker.io)
  command -v docker-compose >/dev/null || missing+=(docker-compose)
  command -v debootstrap >/dev/null || missing+=(debootstrap)
  command -v ip >/dev/null || missing+=(iproute2)
  command -v iptables >/dev/null || missing+=(iptables)
  if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]} from Debian"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
      install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null
  fi
  # Debian's own client and Compose, should the machine have newer ones elsewhere: a client
  # may refuse to talk to an older engine.
  PATH=/usr/bin:/usr/sbin:$PATH
}

engine_start() {
  namespace=walferry-compose-$$
  ip netns add "$namespace"
  ip -n "$namespace" link set lo up
  export DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work/docker-config
  export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0
  mkdir -p "$DOCKER_CONFIG"
  # nsenter and not `ip netns exec`, which would hide /sys/fs/cgroup.
  nsenter --net="/run/netns/$namespace" setsid dockerd --data-root "$work/data" \
    --exec-root "$work/exec" --pidfile "$work/docker.pid" --host "$DOCKER_HOST" >"$work/dockerd.log" 2>&1 &
  engine_pid=$!
  local i
  for i in $(seq 150); do
    docker info >/dev/null 2>&1 && return
    kill -0 "$engine_pid" 2>/dev/null || break
    sleep 0.2
  done
  tail -20 "$work/dockerd.log" >&2
  fail "dockerd did not start"
}

# A way out to Debian's mirror, for building images. With them in the cache there is none.
engine_uplink() {
  [ -z "${uplink:-}" ] || return 0
  uplink=wfu$$
  ip link add "$uplink" type veth peer name uplink netns "$namespace"
  ip addr add 10.213.77.1/30 dev "$uplink"
  ip link set "$uplink" up
  ip -n "$namespace" addr add 10.213.77.2/30 dev uplink
  ip -n "$namespace" link set uplink up
  ip -n "$namespace" route add default via 10.213.77.1
  forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
  echo 1 > /proc/sys/net/ipv4/ip_forward
  uplink_rules -I
}

uplink_rules() {
  iptables -w -t nat "$1" POSTROUTING -s 10.213.77.2/32 -j MASQUERADE
  iptables -w "$1" FORWARD -i "$uplink" -j ACCEPT
  iptables -w "$1" FORWARD -o "$uplink" -j ACCEPT
}

uplink_remove() {
  [ -n "${uplink:-}" ] || return 0
  uplink_rules -D
  ip link del "$uplink"
  echo "$forwarding" > /proc/sys/net/ipv4/ip_forward
  uplink=
}

# Called on every way out. Every step is tried, whatever failed before it.
engine_stop() {
  local pid containers
  if [ -n "${engine_pid:-}" ]; then
    containers=$(docker ps --all --quiet 2>/dev/null)
    [ -z "$containers" ] || docker rm --force --volumes $containers >/dev/null 2>&1
    pid=$(cat "$work/docker.pid" 2>/dev/null || echo "$engine_pid")
    kill "$pid" 2>/dev/null
    timeout 20 tail --pid="$pid" -f /dev/null || kill -9 "$pid" 2>/dev/null
    pid=$(cat "$work/exec/containerd/containerd.pid" 2>/dev/null) && kill -9 "$pid" 2>/dev/null
  fi
  uplink_remove 2>/dev/null
  [ -z "${namespace:-}" ] || ip netns del "$namespace" 2>/dev/null
  # Overlays and network namespaces that a killed engine left mounted.
  awk -v under="$work/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r mount; do umount --lazy "$mount" 2>/dev/null; done
  rm -rf --one-file-system "$work"
}
