// SPDX-License-Identifier: Apache-2.0
// Geneve and GRE seen by others: what we emit is decoded without complaint by tshark, and no mutation of what we receive is forwarded as anything but
// a right answer.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildEthernet, buildPacket, concatBytes, macToBytes, toHex } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { disagreements, sendOne } from './fate.js';
import { clearFlows, ENTROPY, putFlow } from './flow-records.js';
import { cameFrom, INNER_PEER, insideOf, KINDS, type Kind, putKind } from './kinds.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import { publishAll, VTI_MAC } from './world.js';

const rig = openRig();
beforeEach(() => {
  publishAll(rig);
  clearFlows(rig);
});
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const there = { src: CLIENT.ip4, dst: SERVER.ip4 };
const request = (length: number) =>
  buildPacket({
    ...there,
    transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443, flags: 16 },
    payload: new Uint8Array(length).fill(7),
  });
const back = { dst: VTI_MAC, src: INNER_PEER };

/** A pcap file of Ethernet frames. */
function pcapOf(frames: readonly Uint8Array[]): Uint8Array {
  const head = new Uint8Array(Uint32Array.of(0xa1b2c3d4, 0x00040002, 0, 0, 65_535, 1).buffer);
  const rows = frames.flatMap((frame, i) => [
    new Uint8Array(Uint32Array.of(i, 0, frame.length, frame.length).buffer),
    frame,
  ]);
  return concatBytes(head, ...rows);
}

/** One row per frame; every field's first value, as tshark prints it. */
function tshark(frames: readonly Uint8Array[], fields: readonly string[]): string[][] {
  const dir = mkdtempSync(join(tmpdir(), 'detour-kinds-'));
  try {
    const file = join(dir, 'sent.pcap');
    writeFileSync(file, pcapOf(frames));
    const checks = [
      'ip.check_checksum',
      'udp.check_checksum',
      'tcp.check_checksum',
      'udp.ignore_ipv6_zero_checksum', // RFC 6935 allows it to tunnels
    ].flatMap((one) => ['-o', `${one}:TRUE`]);
    const args = ['-n', '-r', file, ...checks, '-T', 'fields', '-E', 'separator=|'];
    const text = execFileSync('tshark', [...args, ...fields.flatMap((field) => ['-e', field])], {
      stdio: ['ignore', 'pipe', 'ignore'],
    }).toString('utf8');
    return text
      .trimEnd()
      .split('\n')
      .map((line) => line.split('|'));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

it('tshark decodes what we emit without complaint, down to the inner packet, and finds every checksum right', () => {
  const kinds: [string, Kind][] = Object.entries(KINDS);
  const frames = kinds.map(([, kind]) => {
    putKind(rig, kind);
    putFlow(rig, there);
    const macs = { dst: macOf('inside'), src: CLIENT.mac, etherType: 0x0800 };
    const fate = sendOne(rig, 'inside', buildEthernet(macs, request(33)));
    expect(fate.end).toBe('forwarded');
    return fate.data;
  });
  const fields = [
    ...['_ws.malformed', 'ip.checksum.status', 'tcp.dstport', 'tcp.checksum.status'],
    ...['udp.srcport', 'udp.dstport', 'udp.checksum.status', 'geneve.vni', 'gre.key', 'gre.checksum.status'],
  ];
  const rows = tshark(frames, fields).map((row) =>
    Object.fromEntries(fields.map((field, i) => [field, row[i]])),
  );
  kinds.forEach(([name, kind], i) => {
    const geneve = kind.protocol === 'geneve';
    expect([name, rows[i]]).toEqual([
      name,
      {
        '_ws.malformed': '',
        'ip.checksum.status': kind.remote.includes(':') ? '1' : '1,1',
        'tcp.dstport': '443',
        'tcp.checksum.status': '1',
        'udp.srcport': geneve ? `${ENTROPY}` : '',
        'udp.dstport': geneve ? '6081' : '',
        'udp.checksum.status': geneve ? (kind.checksum === true ? '1' : '3') : '',
        'geneve.vni': geneve ? `0x${(kind.tag ?? 0).toString(16).padStart(6, '0')}` : '',
        'gre.key': geneve || kind.tag === undefined ? '' : `0x${kind.tag.toString(16).padStart(8, '0')}`,
        'gre.checksum.status': geneve ? '' : kind.checksum === true ? '1' : '',
      },
    ]);
  });
});

describe('whatever the bytes are', () => {
  /** A small generator of its own, so that a failure can be repeated. */
  const generator = (seed: number) => {
    let state = seed;
    return (below: number) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
  };

  it.each(Object.entries(KINDS))('%s: what is still forwarded is a right answer', (_name, kind) => {
    putKind(rig, kind);
    putFlow(rig, there);
    const random = generator(kind.remote.length + (kind.tag ?? 0));
    const short = request(9);
    const whole = cameFrom(kind, insideOf(kind, short, back), {
      options: [{ optionClass: 1, type: 1, data: new Uint8Array(8) }],
    });
    const allowed = concatBytes(macToBytes(SERVER.mac), macToBytes(macOf('outside')));
    for (let round = 0; round < 1_500; round++) {
      const broken = whole.slice();
      for (let flips = 1 + random(3); flips > 0; flips--)
        broken[14 + random(whole.length - 14)] = random(256);
      const fate = sendOne(rig, 'underlay', broken);
      if (fate.end !== 'forwarded') continue;
      expect(toHex(fate.data.subarray(0, 12))).toBe(toHex(allowed));
      expect(toHex(fate.data.subarray(26, 34))).toBe(toHex(short.subarray(12, 20)));
    }
  });
});
