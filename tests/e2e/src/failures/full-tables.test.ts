// SPDX-License-Identifier: Apache-2.0
// More flows than the tables hold: each packet without room is counted as conn_full, an alarm says so, and nothing goes past the firewalls.
import { standardAddresses, standardPorts, startCapture, startRawSender, waitFor } from '@detour/lab';
import { buildFrame, parseFrame } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lostPackets, type Rig, raiseRig } from './rig.js';

const LIMIT = 1_024;
/** Flows of one packet, so many that established and half-open ones together have no room. */
const FLOWS = 6_000;
const src = '10.1.0.20';
/** A gateway takes one off, and so does the firewall that it goes through. */
const TTL = 64 - 2;

const frameOf = (srcPort: number) =>
  buildFrame({
    ...{ dstMac: '02:00:00:01:00:01', srcMac: '02:00:00:01:00:10', src, dst: standardAddresses.server },
    ...{ transport: { kind: 'udp', srcPort, dstPort: standardPorts.echo }, payload: new Uint8Array(32) },
  });

describe('the flow tables are full', () => {
  let rig: Rig;
  beforeAll(async () => {
    const small = { DETOUR_MAX_FLOWS: `${LIMIT}`, DETOUR_MAX_EMBRYOS: `${LIMIT}` };
    rig = await raiseRig('fail-full', { env: (service) => (service === 'tunnel-gw' ? small : {}) });
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  it('new flows are dropped as conn_full, counted and alarmed; those that are there lose nothing; none passes unserviced', async () => {
    const stream = await rig.stream();
    await rig.lab.exec('server', ['ip', 'route', 'add', 'blackhole', `${src}/32`]); // no answers, which would count as well
    await using server = await startCapture(rig.lab, 'server', 'eth0', {
      ...{ filter: `udp and src host ${src}`, direction: 'in' },
    });
    await using sender = startRawSender(rig.lab, 'client', 'eth0');
    const before = await rig.counters();
    const risen = async () => {
      const { drops, stats } = await rig.counters();
      const rise = (name: string) => Number((drops[name] ?? 0n) - (before.drops[name] ?? 0n));
      return {
        full: rise('conn_full'),
        others: rise('punt_full') + rise('decision_timeout'),
        bypassed: stats.bypassed,
      };
    };
    await sender.send(Array.from({ length: FLOWS }, (_, i) => frameOf(10_000 + i)));
    const accounted = async () => {
      const { full, others } = await risen();
      return server.packets().length + full + others >= FLOWS;
    };
    await waitFor(accounted, { what: `${FLOWS} packets to arrive or to be counted`, everyMs: 100 });
    const status = await rig.until('the alarm', ({ alarms }) =>
      alarms.some(({ code, text }) => code === 'flows_full' && text.includes('found no room')),
    );
    expect(status.figures['flows-limit']).toBe(BigInt(LIMIT));

    const arrived = await server.stop();
    const { full, others, bypassed } = await risen();
    expect(full).toBeGreaterThan(0);
    expect(arrived.length).toBeGreaterThan(0);
    expect(arrived.length + full + others).toBe(FLOWS);
    const ttls = new Set(
      arrived.map(({ bytes }) => {
        const frame = parseFrame(bytes);
        return frame.ok ? frame.value.ipv4?.ttl : frame.why;
      }),
    );
    expect([ttls, bypassed]).toEqual([new Set([TTL]), 0n]);
    expect(lostPackets(await stream.stop())).toBe(0);
  });
});
