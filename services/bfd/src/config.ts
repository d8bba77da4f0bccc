// SPDX-License-Identifier: Apache-2.0
// bfd's own settings, beside the common ones of packages/runtime.
import { durationMs, integer, list } from '@detour/runtime';

/** Environment variables; see README.md. */
export function bfdSettings() {
  return {
    /** Addresses that a routing daemon announces while this gateway may be sent traffic. */
    announce: list('DETOUR_ANNOUNCE', {
      default: '',
      pattern: /^(\d+\.\d+\.\d+\.\d+|[\da-fA-F:.]*:[\da-fA-F:.]*)$/,
    }),
    /** How long tunnel-gw may be away; it says that it is there every second. */
    graceMs: durationMs('DETOUR_ANNOUNCE_GRACE', { default: '10s', minMs: 3_000, maxMs: 3_600_000 }),
    /** Routers that speak BFD with this gateway: device/own address/router's address. */
    routers: list('DETOUR_ROUTERS', { default: '', pattern: /^[^\s/]{1,15}\/[\da-fA-F.:]+\/[\da-fA-F.:]+$/ }),
    routerEveryMs: durationMs('DETOUR_ROUTER_EVERY', { default: '100ms', minMs: 10, maxMs: 10_000 }),
    routerMultiplier: integer('DETOUR_ROUTER_MULTIPLIER', { default: '3', min: 1, max: 255 }),
  } as const;
}
