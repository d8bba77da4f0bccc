#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The stack in containers: compose.sh up | demo | down | clean. Starts Docker where none runs, and stops it again with the stack.
# up: LAB=1 with the lab, TRACING=1 with collector and Jaeger. PULL=0: no registry is asked, base images are made here.
# down: KEEP_ENGINE=1 leaves Docker running.
set -euo pipefail
cd "$(dirname "$0")/../.."
VERB=compose-${1:-}
. tools/docker/engine.sh
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-detour}
export PULL=${PULL:-1}
WAIT_S=90

compose() { $(compose_command) "$@"; }
everything() { compose --profile lab --profile tracing --profile cli "$@"; }

# Runs compose; what it says is shown only when it fails.
quietly() {
  local log; log=$(mktemp)
  compose "$@" >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; die "$(compose_command) failed: its words are above"; }
  rm -f "$log"
}

# One container a line: name, state, exit code, health, and what its last health check said.
states() {
  local ids; ids=$(everything ps -q)
  [ -n "$ids" ] || return 0
  docker inspect --format '{{.Name}}|{{.State.Status}}|{{.State.ExitCode}}|{{with .State.Health}}{{.Status}}|{{range .Log}}{{json .Output}}{{"\t"}}{{end}}{{end}}' $ids | sed 's/^.//'
}

# Waits until every container that has a health check is healthy; says of each that is not why, and what its log ends with.
wait_healthy() {
  local end=$((SECONDS + WAIT_S)) name state code health said bad=
  while [ "$SECONDS" -lt "$end" ]; do
    bad=$(states | awk -F'|' '$2 != "running" || $4 == "starting" || $4 == "unhealthy" { print }')
    [ -n "$bad" ] || return 0
    ! grep -q '|exited|' <<<"$bad" || break
    sleep 0.3
  done
  while IFS='|' read -r name state code health said; do
    printf '%s: %s%s%s\n' "$name" "$state" "$([ "$state" = exited ] && echo " (exit code $code)")" "${health:+, $health}" >&2
    [ -z "$said" ] || printf '  health check: %s\n' "$(awk -F'\t' '{ print $(NF-1) }' <<<"$said")" >&2
    docker logs --tail 3 "$name" 2>&1 | sed 's/^/  log: /' >&2
  done <<<"$bad"
  die "not everything is healthy: see above; make compose-down takes it down"
}

up() {
  local profiles=()
  [ "${LAB:-0}" = 0 ] || profiles+=(--profile lab)
  if [ "${TRACING:-0}" != 0 ]; then
    profiles+=(--profile tracing)
    export DETOUR_OTLP=${DETOUR_OTLP:-http://otel-collector:4318/v1/traces}
  fi
  start_engine
  tools/docker/base-images.sh
  tools/docker/images.sh
  date +%s%3N >"${UP_SINCE:-/dev/null}"
  quietly "${profiles[@]}" up -d --no-build
  wait_healthy
  note "the stack is up: $(states | wc -l) containers; next: $(compose_command) run --rm cli apply -f /etc/detour/intent.yaml --wait"
}

demo() {
  local since; since=$(mktemp)
  export LAB=1 UP_SINCE=$since DETOUR_OTLP=${DETOUR_OTLP:-http://traces:4318/v1/traces} DETOUR_TRACE_RATIO=${DETOUR_TRACE_RATIO:-1}
  up
  node packages/lab/dist/compose/main.js "$(cat "$since")"
  rm -f "$since"
}

down() {
  if ! engine_answers; then note 'no engine answers: nothing is up'; return 0; fi
  quietly --profile lab --profile tracing --profile cli down --volumes --remove-orphans
  note 'the stack is down: its containers, networks and volumes are gone, and with them namespaces, programs and pins'
  [ "${KEEP_ENGINE:-0}" != 0 ] || stop_engine
}

# Takes the images away too: ours, and those that stand in for public ones.
clean() {
  start_engine
  docker images -q --filter label=org.detour.stand-in=true | sort -u | xargs -r docker rmi -f >/dev/null
  docker images -q 'detour/*' | sort -u | xargs -r docker rmi -f >/dev/null
  docker image prune -f >/dev/null
  stop_engine
}

case ${1:-} in
  up | demo | down | clean) "$1" ;;
  *) die 'usage: compose.sh up | demo | down | clean' ;;
esac
