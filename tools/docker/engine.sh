# SPDX-License-Identifier: Apache-2.0
# Sourced. The Docker engine for a script's time: installed from Debian where there is none, started where none runs, and stopped again by who started it.
# ENGINE_DIR holds what belongs to an engine of ours: its process id, its log, and what the machine was like before it.
ENGINE_DIR=${DETOUR_ENGINE_DIR:-/run/detour-engine}
DOCKER_PACKAGES=(docker.io docker-compose iptables debootstrap)
# What the compose file needs: extension fields, profiles and health-gated start (1.29); settings of namespaces by `sysctls` (20.10).
ENGINE_MIN=20.10
COMPOSE_MIN=1.29

note() { printf '\033[2m[docker]\033[0m %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
# The first version is not older than the second.
not_older() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -1)" = "$2" ]; }

engine_answers() { docker info >/dev/null 2>&1; }

# Prints why a version is too old; nothing when it is not. Arguments: what, version, least version.
too_old() {
  not_older "${2:-0}" "$3" || echo "$1 ${2:-(unknown)} is too old: Detour's compose file needs $3 or newer; install Debian 12's docker.io and docker-compose, or Docker's own packages"
}

# docker-compose (1.29) where it is, else the engine's own `docker compose`.
compose_command() {
  if command -v docker-compose >/dev/null; then echo docker-compose
  elif docker compose version >/dev/null 2>&1; then echo 'docker compose'
  fi
}

check_versions() {
  local why
  why=$(too_old 'Docker Engine' "$(docker version --format '{{.Server.Version}}' 2>/dev/null)" "$ENGINE_MIN")
  [ -z "$why" ] || die "$why"
  local compose; compose=$(compose_command)
  [ -n "$compose" ] || die "no Docker Compose here: install Debian's docker-compose"
  why=$(too_old 'Docker Compose' "$($compose version --short 2>/dev/null | sed 's/^v//')" "$COMPOSE_MIN")
  [ -z "$why" ] || die "$why"
}

install_engine() {
  local missing=() package
  command -v dockerd >/dev/null || missing+=(docker.io)
  command -v iptables >/dev/null || missing+=(iptables)
  [ -n "$(compose_command)" ] || missing+=(docker-compose)
  command -v debootstrap >/dev/null || missing+=(debootstrap)
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "no Docker here, and no apt-get to install it with: install Docker Engine $ENGINE_MIN and Compose $COMPOSE_MIN or newer by hand"
  note "installing from Debian: ${missing[*]}"
  local policy=
  if [ ! -e /usr/sbin/policy-rc.d ]; then # the engine must not start by itself
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d && policy=ours
  fi
  local log; log=$(mktemp)
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    [ -z "$policy" ] || rm -f /usr/sbin/policy-rc.d
    tail -20 "$log" >&2
    die "apt-get could not install ${missing[*]}: are Debian's packages reachable?"
  fi
  [ -z "$policy" ] || rm -f /usr/sbin/policy-rc.d
  rm -f "$log"
}

# Makes an engine answer. Says in ENGINE_DIR whether it is ours.
start_engine() {
  [ "$(id -u)" = 0 ] || die "must run as root: it starts Docker, and makes networks (try: sudo make ${VERB:-compose-up})"
  if engine_answers; then
    install_engine # Compose may still be missing
    check_versions
    return 0
  fi
  install_engine
  mkdir -p "$ENGINE_DIR"
  # dockerd leaves these behind: the policy of the FORWARD chain, forwarding, its chains. They go back to this when it is stopped.
  cat /proc/sys/net/ipv4/ip_forward >"$ENGINE_DIR/ip_forward"
  iptables-save >"$ENGINE_DIR/iptables" 2>/dev/null || : >"$ENGINE_DIR/iptables"
  note "starting dockerd (log: $ENGINE_DIR/dockerd.log)"
  setsid dockerd --pidfile "$ENGINE_DIR/dockerd.pid" ${DETOUR_DOCKERD_OPTIONS:-} >"$ENGINE_DIR/dockerd.log" 2>&1 </dev/null &
  local i
  for i in $(seq 300); do
    engine_answers && break
    kill -0 $! 2>/dev/null || { tail -5 "$ENGINE_DIR/dockerd.log" >&2; die "dockerd ended at once: its last words are above"; }
    sleep 0.1
  done
  engine_answers || { tail -5 "$ENGINE_DIR/dockerd.log" >&2; die "dockerd does not answer after 30 s: its last words are above"; }
  check_versions
}

# Stops an engine that start_engine started, and takes back what it changed on this machine. Another's engine is left alone.
stop_engine() {
  [ -s "$ENGINE_DIR/dockerd.pid" ] || return 0
  local pid i; pid=$(cat "$ENGINE_DIR/dockerd.pid")
  if [ -n "$(docker ps -q 2>/dev/null)" ]; then
    note 'dockerd goes on: containers still run'
    return 0
  fi
  kill "$pid" 2>/dev/null || :
  for i in $(seq 300); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  if kill -0 "$pid" 2>/dev/null; then die "dockerd (pid $pid) does not stop: see $ENGINE_DIR/dockerd.log"; fi
  ip link del docker0 2>/dev/null || :
  clear_docker_rules
  cat "$ENGINE_DIR/ip_forward" >/proc/sys/net/ipv4/ip_forward
  rm -rf "$ENGINE_DIR"
  note 'dockerd is stopped; its chains, its bridge and what it changed of forwarding are gone'
}

# The chains that dockerd made, and the policy that it set, where both were not there before. Rules of others stay.
clear_docker_rules() {
  local table chain rule
  for table in filter nat; do
    iptables -t "$table" -S 2>/dev/null | grep -E '^-A (FORWARD|PREROUTING|OUTPUT|POSTROUTING) .*(DOCKER|docker0|172\.17\.0\.0/16)' | sed 's/^-A /-D /' |
      while read -r rule; do eval "iptables -t $table $rule" || :; done
    for chain in $(iptables -t "$table" -S 2>/dev/null | sed -n 's/^-N \(DOCKER[A-Z0-9-]*\)$/\1/p'); do iptables -t "$table" -F "$chain"; done
    for chain in $(iptables -t "$table" -S 2>/dev/null | sed -n 's/^-N \(DOCKER[A-Z0-9-]*\)$/\1/p'); do iptables -t "$table" -X "$chain" || :; done
  done
  grep -q '^:FORWARD DROP' "$ENGINE_DIR/iptables" || iptables -P FORWARD ACCEPT
}
