// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { checksum, parseFrame, parseIpv4, parseIpv6, pseudoSum, TCP_FLAG } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHAIN, hopValue, MTU, NODES, PATH } from './ends.js';
import { disagreements, riseOf, sendOne } from './fate.js';
import { clearFlows, clientFrame, putFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import { publishAll, putChain } from './world.js';

const rig = openRig();
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const { MSS_AUTO, MSS_KEEP } = abi.MssClamp;
const { syn, ack, psh } = TCP_FLAG;
const FAMILIES = [
  ['IPv4', { src: CLIENT.ip4, dst: SERVER.ip4 }, 40],
  ['IPv6', { src: CLIENT.ip6, dst: SERVER.ip6 }, 60],
] as const;
type Ends = { readonly src: string; readonly dst: string };
const mssOption = (mss: number): number[] => [2, 4, mss >> 8, mss & 0xff];

function tcpFrame(
  ends: Ends,
  options: readonly number[],
  fields: { flags?: number; reply?: boolean } = {},
): Uint8Array {
  const ports = { srcPort: 40_000, dstPort: 443 };
  const transport = {
    kind: 'tcp',
    ...ports,
    options: Uint8Array.from(options),
    flags: fields.flags ?? syn,
  } as const;
  if (fields.reply !== true) return clientFrame({ ...ends, transport, payload: Uint8Array.of(1, 2, 3) });
  const back = { ...transport, srcPort: 443, dstPort: 40_000 };
  return clientFrame({
    ...{ src: ends.dst, dst: ends.src, transport: back },
    ...{ srcMac: SERVER.mac, dstMac: macOf('outside') },
  });
}

/** TCP options as the node gets them; the checksum is right. */
function optionsAt(device: 'inside' | 'outside', frame: Uint8Array): number[] {
  const fate = sendOne(rig, device, frame);
  expect(fate.end).toBe('forwarded');
  const inner = fate.data.subarray(50);
  const parsed = parseFrame(inner);
  if (!parsed.ok || parsed.value.tcp === undefined) throw new Error('no TCP inside');
  const ip = parsed.value.ipv4 === undefined ? parseIpv6(inner.subarray(14)) : parseIpv4(inner.subarray(14));
  if (!ip.ok) throw new Error(ip.why);
  const { src, dst } = ip.value.header;
  const { payload } = ip.value;
  expect(checksum(payload, pseudoSum({ src, dst, protocol: 6 }, payload.length))).toBe(0);
  return [...parsed.value.tcp.options];
}

describe.each(FAMILIES)('the MSS of a steered %s connection', (_family, ends, headers) => {
  const set = (mss: number): void => {
    putFlow(rig, { ...ends, path: PATH.pair, chain: CHAIN.pair });
    putChain(rig, 0, CHAIN.pair, [PATH.pair], { mss });
  };

  it('is lowered to what the smallest hop takes, on SYN and SYN-ACK', () => {
    set(MSS_AUTO);
    rig.put('hops', 2, hopValue(rig, NODES[2], 2, 1300));
    const clamped = riseOf(rig, 'STAT_MSS_CLAMPED', () => {
      expect(optionsAt('inside', tcpFrame(ends, mssOption(1460)))).toEqual(mssOption(1300 - headers));
      const reply = tcpFrame(ends, mssOption(9000), { flags: syn | ack, reply: true });
      expect(optionsAt('outside', reply)).toEqual(mssOption(1300 - headers));
    });
    expect(clamped).toBe(2n);
  });

  it('is never raised, and only SYNs are looked into', () => {
    set(MSS_AUTO);
    const least = riseOf(rig, 'STAT_MSS_CLAMPED', () => {
      for (const mss of [MTU - headers, 536, 0])
        expect(optionsAt('inside', tcpFrame(ends, mssOption(mss)))).toEqual(mssOption(mss));
      const data = tcpFrame(ends, mssOption(1460), { flags: ack | psh });
      expect(optionsAt('inside', data)).toEqual(mssOption(1460));
    });
    expect(least).toBe(0n);
  });

  it('is left alone where the chain does not ask for it', () => {
    set(MSS_KEEP);
    expect(optionsAt('inside', tcpFrame(ends, mssOption(1460)))).toEqual(mssOption(1460));
  });

  it('is what the chain says, where it says a number', () => {
    set(1200);
    expect(optionsAt('inside', tcpFrame(ends, mssOption(1460)))).toEqual(mssOption(1200));
    expect(optionsAt('inside', tcpFrame(ends, mssOption(1100)))).toEqual(mssOption(1100));
  });

  it('is found among other options, at even and odd places', () => {
    set(1201);
    const sack = [4, 2];
    const scale = [3, 3, 7];
    for (const before of [
      [1],
      sack,
      scale,
      [...sack, ...scale, 1],
      [1, 1, 1, ...scale, ...scale, ...scale, ...scale],
    ]) {
      const pad = (all: number[]): number[] => [...all, ...Array((4 - (all.length % 4)) % 4).fill(1)];
      const options = pad([...before, ...mssOption(1461), ...sack]);
      expect(optionsAt('inside', tcpFrame(ends, options))).toEqual(
        pad([...before, ...mssOption(1201), ...sack]),
      );
    }
  });

  it('is not touched in options that end before it or make no sense', () => {
    set(MSS_AUTO);
    for (const options of [
      [],
      [0, 0, 0, 0, ...mssOption(1460)],
      [9, 0, 0, 0, ...mssOption(1460)],
      [9, 1, 0, 0, ...mssOption(1460)],
      [9, 255, 0, 0, ...mssOption(1460)],
      [2, 3, 5, 180],
      [2, 5, 5, 180, 0, 0, 0, 0],
      [1, 1, 1, 1, 1, 2, 4, 5],
      Array(40).fill(1),
    ])
      expect(optionsAt('inside', tcpFrame(ends, options))).toEqual([...options]);
  });
});
