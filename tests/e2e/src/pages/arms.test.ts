// SPDX-License-Identifier: Apache-2.0
/**
 * The intents of docs/attach-a-pair.md and docs/attach-a-router.md as they stand there, one after the other at one gateway: a bump in the wire in two
 * VRFs, a router with two arms, a router with one. Each is up by BFD through it, and a packet is at every hop what the page's picture says.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  createLab,
  type Lab,
  type LabProcess,
  type LabSpec,
  type LinkSpec,
  type RawSender,
  type Stack,
  startCapture,
  startRawSender,
  startStack,
  waitFor,
} from '@detour/lab';
import { buildFrame, concatBytes, parseFrame, TCP_FLAG } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { blocksOf } from '../attached.js';

const MACS = {
  eth1: '02:00:00:00:01:01',
  eth2: '02:00:00:00:02:01',
  eth3: '02:00:00:00:03:01',
  eth4: '02:00:00:00:04:01',
  north: '02:00:00:00:01:10',
  south: '02:00:00:00:02:10',
} as const;
const OUTSIDE = '203.0.113.9';
const INSIDE = '10.0.0.10';

function link(device: keyof typeof MACS & `eth${number}`, ns: string, far: string, mac?: string): LinkSpec {
  return {
    a: { ns: 'edge1', device, mac: MACS[device], txOffload: 'off', vlanOffload: 'off' },
    b: { ns, device: far, ...(mac && { mac }), txOffload: 'off', vlanOffload: 'off', xdpPass: true },
  };
}

const spec: LabSpec = {
  namespaces: {
    // The VRF's routes, which the pages leave to the operator, and the neighbour that no process plays here.
    edge1: {
      routes: [{ to: '10.0.0.0/24', dev: 'eth2', table: 100 }],
      neighbours: [{ address: INSIDE, mac: MACS.south, dev: 'eth2' }],
    },
    node: {
      bridges: [{ name: 'br0' }],
      sysctls: { 'net.ipv4.conf.all.rp_filter': 0, 'net.ipv4.conf.all.send_redirects': 0 },
    },
    north: {},
    south: {},
    underlay: {},
    mgmt: { bridges: [{ name: 'br0', addresses: ['172.30.0.1/24'] }] },
  },
  links: [
    link('eth1', 'north', 'eth0', MACS.north),
    link('eth2', 'south', 'eth0', MACS.south),
    link('eth3', 'node', 'eth0'),
    link('eth4', 'node', 'eth1'),
    {
      a: { ns: 'edge1', device: 'eth0', addresses: ['192.0.2.1/24'], txOffload: 'off' },
      b: { ns: 'underlay', device: 'eth0', txOffload: 'off', xdpPass: true },
      mtu: 1600,
    },
    {
      a: { ns: 'edge1', device: 'mgmt0', addresses: ['172.30.0.2/24'] },
      b: { ns: 'mgmt', device: 'edge1', bridge: 'br0' },
    },
  ],
};

interface NodeRow {
  readonly health: readonly { readonly state: string; readonly why: string }[];
}

describe('the pages of nodes at arms', () => {
  let lab: Lab;
  let stack: Stack;
  let sender: RawSender;
  let port = 41_000;

  beforeAll(async () => {
    lab = await createLab(spec, { name: 'page-arms' });
    stack = await startStack(lab);
    sender = startRawSender(lab, 'north', 'eth0');
  }, 120_000);
  afterAll(async () => {
    await sender?.close();
    await lab?.close();
  });

  const inNode = (lines: readonly string[]) =>
    lab.exec('node', ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  const apply = async (yaml: string): Promise<void> => {
    const applied = await stack.cli(['apply', '-f', '-', '--wait', '--timeout', '60s'], { input: yaml });
    expect(applied).toMatchObject({ code: 0, stderr: '' });
  };
  const up = () =>
    waitFor(
      async () => {
        const [row] = await stack.cliJson<NodeRow[]>(['get', 'nodes']);
        return row !== undefined && row.health.length > 0 && row.health.every(({ state }) => state === 'up');
      },
      { what: 'the page’s node to be up', timeoutMs: 30_000, everyMs: 200 },
    );

  /** A SYN from the uplink to the inside, untagged or in a VLAN; where it was seen: place, bytes between MAC addresses and IP, TTL. */
  async function hopsOf(vlan?: number): Promise<string[]> {
    port++;
    const plain = buildFrame({
      dstMac: MACS.eth1,
      srcMac: MACS.north,
      src: OUTSIDE,
      dst: INSIDE,
      transport: { kind: 'tcp', srcPort: port, dstPort: 80, flags: TCP_FLAG.syn },
    });
    const tag = vlan === undefined ? new Uint8Array(0) : Uint8Array.of(0x81, 0, vlan >> 8, vlan & 255);
    const places = [
      ['node', 'eth0'],
      ['node', 'eth1'],
      ['south', 'eth0'],
    ] as const;
    const captures = await Promise.all(
      places.map(([ns, device]) => startCapture(lab, ns, device, { filter: 'len < 100' })),
    );
    await sender.send([concatBytes(plain.subarray(0, 12), tag, plain.subarray(12))]);
    const seenAt = (i: number) =>
      (captures[i]?.packets() ?? []).flatMap(({ bytes }) => {
        const at = bytes[12] === 0x81 ? 16 : 12;
        const read = parseFrame(concatBytes(bytes.subarray(0, 12), bytes.subarray(at)));
        if (!read.ok || read.value.tcp?.srcPort !== port) return [];
        const tags = at === 12 ? '' : ` VLAN ${((bytes[14] ?? 0) << 8) | (bytes[15] ?? 0)}`;
        return [`${places[i]?.join(' ')}${tags} TTL ${read.value.ipv4?.ttl}`];
      });
    await waitFor(() => seenAt(2).length > 0 || (vlan !== undefined && seenAt(1).length > 0), {
      what: 'the SYN behind the node',
    });
    for (const capture of captures) await capture.stop();
    return places.flatMap((_, i) => seenAt(i));
  }

  it('a bump in the wire: up in both VRFs, each under its own tag, the TTL as it was', async () => {
    await inNode(['link set dev eth0 master br0', 'link set dev eth1 master br0']);
    await apply(blocksOf('attach-a-pair.md', 'yaml')[0] ?? '');
    await up();
    const policies = await stack.cliJson<{ vrf: string; bfd: string }[]>(['get', 'policies']);
    expect(policies.map(({ vrf, bfd }) => `${vrf} ${bfd}`).sort()).toEqual(['blue up', 'red up']);
    for (const [vlan, inside] of [
      [10, 100],
      [20, 200],
    ] as const)
      expect(await hopsOf(vlan)).toEqual(
        expect.arrayContaining([`node eth0 VLAN ${inside} TTL 64`, `node eth1 VLAN ${inside} TTL 64`]),
      );
  });

  it('a router with two arms: up, and one hop', async () => {
    await inNode([
      'link set dev eth0 nomaster',
      'link set dev eth1 nomaster',
      'address add 10.20.1.2/24 dev eth0',
      'address add 10.20.2.2/24 dev eth1',
      'route add 10.0.0.0/24 via 10.20.2.1 dev eth1',
      'route add default via 10.20.1.1 dev eth0',
    ]);
    const keys = [
      'ip_forward=1',
      'conf.eth0.rp_filter=0',
      'conf.eth1.rp_filter=0',
      'conf.eth0.send_redirects=0',
    ];
    await lab.exec('node', ['sysctl', '-qw', ...keys.map((key) => `net.ipv4.${key}`)]);
    await apply(blocksOf('attach-a-router.md', 'yaml')[0] ?? '');
    await up();
    expect(await hopsOf()).toEqual(['node eth0 TTL 64', 'node eth1 TTL 63', 'south eth0 TTL 62']);
  });

  it('a router with one arm, watched by its own BFD daemon and by echo: up, and one hop', async () => {
    await inNode(['route replace 10.0.0.0/24 via 10.20.1.1 dev eth0']);
    const daemon = startBird(lab);
    await apply(blocksOf('attach-a-router.md', 'yaml')[1] ?? '');
    await up();
    expect(await hopsOf()).toEqual(['node eth0 TTL 64', 'node eth0 TTL 63', 'south eth0 TTL 62']);
    await daemon.stop();
  });
});

/** BIRD in the node, as the page has it. */
function startBird(lab: Lab): LabProcess {
  const dir = join(lab.dir, 'bird');
  mkdirSync(dir, { recursive: true });
  const file = (name: string) => join(dir, name);
  writeFileSync(file('conf'), blocksOf('attach-a-router.md', 'bird')[0] ?? '');
  return lab.spawn('node', ['bird', '-f', '-c', file('conf'), '-s', file('ctl'), '-P', file('pid')], {
    name: 'bird',
  });
}
