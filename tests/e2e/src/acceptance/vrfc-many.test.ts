// SPDX-License-Identifier: Apache-2.0
import { readFileSync, writeFileSync } from 'node:fs';
import type { IntentDocument } from '@detour/intent';
import { startCapture, waitFor } from '@detour/lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBalance } from './balance.js';
import { type PairLab, startPairLab } from './pair-lab.js';
import { memberMacs } from './pair-topology.js';

/** Rows of the policy table, each a VLAN of its own on the two links of one node. */
const ROWS = 1_000;
const CHANGED = 7;
const MOVED = 8;
/** The hash leaves a row without any of so many with a probability of 1 in 3,000. */
const FLOWS = { first: 0, count: 15_000, proto: 'udp' } as const;
const PPS = 4_000;
const APPLY_MS = 150_000;
const name = (row: number): string => `n${row}`;

/** Of the machine, whatever the namespace: two next hops of a row, and as many that ask for ours. Default 1,024. */
const NEIGHBOURS = '/proc/sys/net/ipv4/neigh/default/gc_thresh';
const ROOM = 5 * ROWS;

/** Makes room in the kernel's neighbour table, as operators of so many rows have to; returns what puts it back. */
function makeRoomForNeighbours(): () => void {
  const before = [1, 2, 3].map((n) => readFileSync(`${NEIGHBOURS}${n}`, 'utf8'));
  const set = (values: readonly string[]) =>
    values.forEach((value, i) => {
      writeFileSync(`${NEIGHBOURS}${i + 1}`, value);
    });
  set(before.map((value) => String(Math.max(Number(value), ROOM))));
  return () => set(before);
}

/** Addresses of a row: two /30, so that a row that moves has other next hops than before. */
function pairOf(row: number, block: number) {
  const at = (host: number) => `10.${block + (row >> 8)}.${row & 255}.${host}`;
  return {
    vlan: row,
    a: { address: `${at(1)}/30`, nextHop: at(2) },
    b: { address: `${at(5)}/30`, nextHop: at(6) },
  };
}

interface Moved {
  /** On the links of the second node, with other next hops. */
  readonly anew?: number;
  /** The same, with the next hops that it had. */
  readonly same?: number;
}

function manyRows(intent: IntentDocument, { anew, same }: Moved = {}): IntentDocument {
  return {
    ...intent,
    gateways: (intent.gateways ?? []).map((gateway) => ({
      ...gateway,
      ports: gateway.ports?.filter(({ kind }) => kind !== 'service') ?? [],
    })),
    services: [{ name: 'svm' }],
    nodes: Array.from({ length: ROWS }, (_, i) => {
      const row = i + 1;
      const links = row === anew || row === same ? 1 : 0;
      return {
        name: name(row),
        service: 'svm',
        attach: {
          kind: 'l2pair' as const,
          gateway: 'edge1',
          a: { device: `la${links}` },
          b: { device: `lb${links}` },
          vrfs: { red: pairOf(row, row === anew ? 120 : 100) },
        },
      };
    }),
    chains: [{ name: 'inspect', hops: ['svm'] }],
    rules: (intent.rules ?? [])
      .filter(({ match }) => match.vrf === 'red')
      .map((rule) => ({ ...rule, action: { chain: 'inspect' } })),
  };
}

function report(what: string, sinceMs: number): void {
  console.log(`${what}: ${Math.round(performance.now() - sinceMs)} ms`);
}

describe('many rows, traffic on all', () => {
  let bench: PairLab;
  let leave: () => void = () => {};
  beforeAll(async () => {
    leave = makeRoomForNeighbours();
    const before = performance.now();
    bench = await startPairLab('vrfc-many', {
      vrfs: ['red', 'blue'], // for the links of a second node
      awaitUp: [],
      applyWithinMs: APPLY_MS,
      change: (intent) => manyRows(intent),
    });
    report(`the lab with ${ROWS} rows in force`, before);
  }, 240_000);
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
    leave();
  }, 120_000);

  it.each([
    ['changes its next hop', CHANGED, { anew: CHANGED }],
    ['goes to other links with the next hop that it had', MOVED, { anew: CHANGED, same: MOVED }],
  ])(
    'VRFC-8 one row of 1,000 %s: nothing is lost on the other 999, and no packet has the MACs of one and the link of the other',
    {
      timeout: 240_000,
    },
    async (_how, row, next) => {
      const ready = async () => (await bench.status()).nodes.filter(({ hopReady }) => hopReady).length;
      await waitFor(async () => (await ready()) === ROWS, {
        what: 'all next hops',
        timeoutMs: 60_000,
        everyMs: 500,
      });
      const { client } = bench.crowd('red');
      expect(await client.ask(FLOWS)).toMatchObject({ answered: FLOWS.count });
      const nodes = new Set((await bench.flows()).flatMap((flow) => flow.nodes));
      expect(nodes.size).toBe(ROWS); // traffic on every row

      const filter = `vlan ${row} and udp port 8007`;
      const links = await Promise.all(
        ['svm-red', 'svm-blue'].map((ns) =>
          Promise.all(['a', 'b'].map((device) => startCapture(bench.lab, ns, device, { filter }))),
        ),
      );
      const balance = await openBalance({ ...bench, crowd: bench.crowd('red') });
      await client.stream(FLOWS, PPS);
      await waitFor(async () => (await client.report()).received.answer > 2 * FLOWS.count, {
        what: 'traffic',
        timeoutMs: 30_000,
      });
      const before = performance.now();
      await bench.apply(manyRows(bench.intent, next));
      report('one row changed: `apply --wait`', before);
      await waitFor(async () => (await ready()) === ROWS, {
        what: 'the new next hop',
        timeoutMs: 30_000,
        everyMs: 250,
      });
      report('one row changed: its next hops known', before);
      const sent = (await client.report()).sent.ask;
      await waitFor(async () => (await client.report()).sent.ask > sent + FLOWS.count, {
        what: 'more traffic',
        timeoutMs: 30_000,
      });
      await client.stop();

      const books = await balance.settle();
      const { [name(row)]: _changed, ...others } = books.endedInNode;
      expect(others).toEqual({});
      const { arp_fail: _waited, ...dropped } = books.dropped; // only a next hop that is not known yet can end so: the changed row's
      expect(dropped).toEqual({});
      expect(books).toMatchObject({ corrupt: 0, duplicated: 0, bypassed: 0 });
      expect(books.sent - books.delivered).toBeLessThan(books.sent / ROWS); // a part of one row's packets

      for (const [i, places] of links.entries()) {
        const macs = Object.values(memberMacs(i)).map((mac) => mac.replaceAll(':', ''));
        for (const place of places) {
          const frames = (await place.stop()).map(({ bytes }) =>
            Buffer.from(bytes.subarray(0, 12)).toString('hex'),
          );
          expect(frames.length).toBeGreaterThan(0); // it was there before, it is here now
          const strange = frames.filter(
            (hex) => !macs.includes(hex.slice(0, 12)) || !macs.includes(hex.slice(12)),
          );
          expect(strange).toEqual([]);
        }
      }
      expect(await client.ask(FLOWS)).toMatchObject({ answered: FLOWS.count });
    },
  );
});
