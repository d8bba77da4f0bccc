#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A container's health: asks the service's /ready and prints what it still waits for. A gateway without an intent is healthy: it waits for its operator.
at=${DETOUR_METRICS:-127.0.0.1:9400}
{ exec 3<>"/dev/tcp/${at%:*}/${at##*:}"; } 2>/dev/null || { echo "nobody answers on $at (DETOUR_METRICS)"; exit 1; }
printf 'GET /ready HTTP/1.0\r\n\r\n' >&3
answer=$(cat <&3)
body=${answer##*$'\r\n\r\n'}
if [[ $answer == 'HTTP/1.1 200'* ]]; then echo "$body"
elif [[ $body =~ \"waiting\":\{\"intent\":\"[^\"]*\"\} ]]; then echo "waits for an intent: detour apply -f FILE"
else echo "not ready: $body"; exit 1
fi
