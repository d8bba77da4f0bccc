// SPDX-License-Identifier: Apache-2.0
// Two VRFs with the same addresses, each by its own routing table: on every kernel by the table's id or by rules, with the same answers.
import { execFileSync } from 'node:child_process';
import { abi } from '@detour/contracts';
import { buildEthernet, buildPacket, ipToKeyBytes, macToBytes, toHex } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromRemote, NODES } from './ends.js';
import { sendOne } from './fate.js';
import { CLIENT, type DeviceName, macOf } from './network.js';
import { openRig, type Rig } from './rig.js';
import { publishAll, tunnelKey, tunnelValue } from './world.js';

const RED = { vrf: 21, table: 4021 } as const;
const BLUE = { vrf: 22, table: 4022 } as const;
/** By the red VRF the destination is behind `outside`, by the blue one behind `stranger`. */
const NEXT = { red: '02:00:00:00:0a:01', blue: '02:00:00:00:0a:02' } as const;
const ENDS = {
  IPv4: { src: '10.99.0.5', dst: '10.99.1.9', own: '10.99.1.1', lost: '10.98.0.1' },
  IPv6: { src: '2001:db8:99::5', dst: '2001:db8:99:1::9', own: '2001:db8:99:1::1', lost: '2001:db8:98::1' },
} as const;
type Ends = (typeof ENDS)[keyof typeof ENDS];

const ip = (line: string): void => {
  execFileSync('ip', line.split(' '), { stdio: ['ignore', 'ignore', 'pipe'] });
};

function port(rig: Rig, device: DeviceName, number: number, vrf: { vrf: number; table: number }): void {
  const row = abi.port.encode({
    number,
    vrf: vrf.vrf,
    table: rig.tableRow(vrf.table),
    kind: abi.PortKind.PORT_UPLINK,
    flags: 0,
    hop: 0,
    vtiIfindex: 0,
    mac: macToBytes(macOf(device)),
    node: 0,
  });
  rig.put('ports', abi.portKey.encode({ ifindex: rig.ifindex[device], vlan: 0, inner: 0, bank: 0 }), row);
}

function packet(ends: { src: string; dst: string }): Uint8Array {
  return buildPacket({ ...ends, transport: { kind: 'udp', srcPort: 5000, dstPort: 53 } });
}

function frame(device: DeviceName, ends: { src: string; dst: string }): Uint8Array {
  const etherType = ends.dst.includes(':') ? 0x86dd : 0x0800;
  return buildEthernet({ dst: macOf(device), src: CLIENT.mac, etherType }, packet(ends));
}

/** What a node returned whose VRF is `vrf`; it need not be on the packet's path. */
function returned(rig: Rig, vrf: { vrf: number; table: number }, ends: Ends): Uint8Array {
  const kind = abi.TunnelKind.TUNNEL_TO_NODE;
  const table = rig.tableRow(vrf.table);
  rig.put(
    'tunnels',
    tunnelKey(NODES[1], 0),
    tunnelValue(rig, { kind, node: 1, strictReturn: 0, vrf: vrf.vrf, table }),
  );
  return fromRemote(
    NODES[1],
    buildEthernet(
      { dst: NODES[1].innerSrc, src: NODES[1].innerDst, etherType: ends.dst.includes(':') ? 0x86dd : 0x0800 },
      packet(ends),
    ),
  );
}

describe.each(['table', 'rules'] as const)('VRFs of the same addresses, looked up by %s', (lookup) => {
  let rig: Rig;
  beforeAll(() => {
    rig = openRig({ lookup });
    publishAll(rig);
    port(rig, 'inside', 21, RED);
    port(rig, 'outside', 23, RED);
    port(rig, 'stranger', 22, BLUE);
    for (const [family, ends] of [
      ['-4', ENDS.IPv4],
      ['-6', ENDS.IPv6],
    ] as const) {
      const bits = family === '-4' ? 24 : 64;
      ip(`${family} route add ${ends.dst}/${family === '-4' ? 32 : 128} dev out0 table ${RED.table}`);
      ip(`${family} route add ${ends.own}/${family === '-4' ? 32 : 128} dev str0 table ${BLUE.table}`);
      ip(`${family} route add ${ends.dst}/${family === '-4' ? 32 : 128} dev str0 table ${BLUE.table}`);
      for (const at of [ends.dst, ends.own]) {
        ip(`${family} neigh add ${at} lladdr ${NEXT.red} dev out0 nud permanent`);
        ip(`${family} neigh add ${at} lladdr ${NEXT.blue} dev str0 nud permanent`);
      }
      // The machine's own: an address of the red VRF, in the local table, and a route of the main table.
      ip(`${family} address add ${ends.own}/${bits} dev out0${family === '-6' ? ' nodad' : ''}`);
      ip(`${family} route add default dev in0`);
      ip(`${family} neigh add ${ends.lost} lladdr ${CLIENT.mac} dev in0 nud permanent`);
    }
    rig.put('own', abi.ownKey.encode({ addr: ipToKeyBytes(ENDS.IPv4.own), vrf: RED.vrf, bank: 0 }), ONE);
  });
  afterAll(() => rig[Symbol.dispose]());

  const nextHop = (device: DeviceName, bytes: Uint8Array): string => {
    const fate = sendOne(rig, device, bytes);
    return fate.end === 'forwarded' ? toHex(fate.data.subarray(0, 6)) : fate.end;
  };

  describe.each(Object.entries(ENDS))('%s', (_family, ends) => {
    it('each goes out by its own table', () => {
      expect(nextHop('inside', frame('inside', ends))).toBe(toHex(macToBytes(NEXT.red)));
      expect(nextHop('stranger', frame('stranger', ends))).toBe(toHex(macToBytes(NEXT.blue)));
    });

    it('what comes back over the underlay goes out by the table of its node', () => {
      expect(nextHop('underlay', returned(rig, RED, ends))).toBe(toHex(macToBytes(NEXT.red)));
      expect(nextHop('underlay', returned(rig, BLUE, ends))).toBe(toHex(macToBytes(NEXT.blue)));
    });

    it("an address that is the gateway's own in one is a host's in the other", () => {
      const there = { src: ends.src, dst: ends.own };
      expect(nextHop('stranger', frame('stranger', there))).toBe(toHex(macToBytes(NEXT.blue)));
    });

    it('where the table has no route no other is asked, the main one least of all', () => {
      const there = { src: ends.src, dst: ends.lost };
      for (const device of ['inside', 'stranger'] as const)
        expect(sendOne(rig, device, frame(device, there)).end).toBe('DROP_NO_ROUTE');
    });
  });
});

const ONE = new Uint8Array(Uint32Array.of(1).buffer);
