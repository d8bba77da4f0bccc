// SPDX-License-Identifier: Apache-2.0
// tunnel-gw's own settings, beside the common ones of packages/runtime.
import { fileURLToPath } from 'node:url';
import { durationMs, flag, integer, list, path, SYSCTL_DIR, text } from '@detour/runtime';

const OBJECT = fileURLToPath(new URL('../../../datapath/build/edge.bpf.o', import.meta.url));

/** Environment variables; see README.md. */
export function tunnelGwSettings() {
  return {
    /** Devices that are guarded from the first moment on, before any revision names them. */
    guard: list('DETOUR_GUARD_DEVICES', { default: '', pattern: /^[^\s/]{1,15}$/ }),
    object: path('DETOUR_DATAPATH', { default: OBJECT }),
    /** Directory of this gateway's pins on a bpffs; below it, one directory for each ABI. */
    pinDir: text('DETOUR_PIN_DIR', { default: '', pattern: /^\/[^.\s]+$/ }),
    /** Whether a missing bpffs is mounted at /sys/fs/bpf. */
    mountBpffs: flag('DETOUR_MOUNT_BPFFS', { default: 'true' }),
    sysctlDir: path('DETOUR_SYSCTL_DIR', { default: SYSCTL_DIR }),
    /** How a VRF's routing table is looked up: by its id where the kernel can, or by ip rules. */
    vrfLookup: text('DETOUR_VRF_LOOKUP', { default: 'auto', oneOf: ['auto', 'rules'] }),
    maxFlows: integer('DETOUR_MAX_FLOWS', { default: '262144', min: 1024, max: 16_777_216 }),
    maxEmbryos: integer('DETOUR_MAX_EMBRYOS', { default: '65536', min: 1024, max: 4_194_304 }),
    ruleLines: integer('DETOUR_RULE_LINES', { default: '524288', min: 1024, max: 8_388_608 }),
    decideWithinMs: durationMs('DETOUR_DECIDE_WITHIN', { default: '20ms', minMs: 1, maxMs: 5_000 }),
    resolveWithinMs: durationMs('DETOUR_RESOLVE_WITHIN', { default: '3s', minMs: 100, maxMs: 30_000 }),
    sweepEveryMs: durationMs('DETOUR_SWEEP_EVERY', { default: '2s', minMs: 100, maxMs: 60_000 }),
    /** How often nodes are measured and reported on; well below the 15 s after which a word is too old. */
    measureEveryMs: durationMs('DETOUR_MEASURE_EVERY', { default: '5s', minMs: 200, maxMs: 60_000 }),
    /** Where the flow log goes; empty: there is none. */
    flowLogPath: text('DETOUR_FLOW_LOG', { default: '', pattern: /^(\/[^\0]+)?$/ }),
    flowLogRate: integer('DETOUR_FLOW_LOG_RATE', { default: '1000', min: 1, max: 1_000_000 }),
    /** Percent of the established flows that are possible. */
    flowsAlarm: integer('DETOUR_FLOWS_ALARM', { default: '90', min: 1, max: 100 }),
    puntRate: integer('DETOUR_PUNT_RATE', { default: '20000', min: 1, max: 4_000_000 }),
    puntBurst: integer('DETOUR_PUNT_BURST', { default: '20000', min: 1, max: 4_000_000 }),
    /** New flows per second and source address that the datapath decides; 0: all are asked about. */
    beginRate: integer('DETOUR_BEGIN_RATE', { default: '100000', min: 0, max: 4_000_000 }),
    beginBurst: integer('DETOUR_BEGIN_BURST', { default: '100000', min: 1, max: 4_000_000 }),
    /** A knob of tests. */
    unmarked: flag('DETOUR_TEST_UNMARKED', { default: 'false' }),
  } as const;
}
