// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { beforeAll, describe, expect, it } from 'vitest';
import { openPacketSocket, type PacketSocket } from './index.js';
import { enterOwnNetwork, runIp, whenUp } from './testdata.js';

beforeAll(async () => {
  enterOwnNetwork();
  runIp('link add left mtu 9000 type veth peer name right mtu 9000');
  for (const device of ['left', 'right']) {
    execFileSync('sysctl', ['-qw', `net.ipv6.conf.${device}.disable_ipv6=1`]);
    runIp(`link set ${device} up`);
  }
  await whenUp('left', 'right');
});

const EXPERIMENTAL = [0x88, 0xb5];

function frameOf(length: number, mark: number, type: number[] = EXPERIMENTAL): Uint8Array {
  const frame = new Uint8Array(length).fill(mark);
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, ...type]);
  return frame;
}

async function collect(socket: PacketSocket, count: number, act: () => void): Promise<Uint8Array[]> {
  const frames: Uint8Array[] = [];
  socket.receive((frame) => frames.push(frame.slice()));
  act();
  const deadline = Date.now() + 5000;
  while (frames.length < count && Date.now() < deadline)
    await new Promise((resolve) => setImmediate(resolve));
  expect(frames).toHaveLength(count);
  return frames;
}

describe('openPacketSocket', () => {
  it('carries single frames of any length unchanged', async () => {
    using left = openPacketSocket('left');
    using right = openPacketSocket('right');
    const sent = [frameOf(60, 1), frameOf(1514, 2), frameOf(9014, 3)];
    const got = await collect(right, 3, () => {
      for (const frame of sent) expect(left.send(frame)).toBe(true);
    });
    expect(got).toEqual(sent);
  });

  it('carries thousands in order', async () => {
    using left = openPacketSocket('left');
    using right = openPacketSocket('right');
    const got: number[] = [];
    right.receive((frame) => got.push(frame[20] ?? -1));
    const frames = Array.from({ length: 100 }, (_, i) => frameOf(60, i));
    for (let round = 0; round < 30; round++) {
      expect(left.sendMany(frames)).toBe(100);
      const deadline = Date.now() + 5000;
      while (got.length < (round + 1) * 100 && Date.now() < deadline)
        await new Promise((resolve) => setImmediate(resolve));
    }
    expect(got).toEqual(Array.from({ length: 3000 }, (_, i) => i % 100));
  });

  it('keeps VLAN tags, one or two', async () => {
    using left = openPacketSocket('left');
    using right = openPacketSocket('right');
    const sent = [
      frameOf(64, 1, [0x81, 0x00, 0x20, 0x64, ...EXPERIMENTAL]),
      frameOf(64, 2, [0x88, 0xa8, 0x00, 0x05, 0x81, 0x00, 0x00, 0x06, ...EXPERIMENTAL]),
    ];
    expect(await collect(right, 2, () => left.sendMany(sent))).toEqual(sent);
  });

  it('filters by EtherType, and does not hear its own device sending', async () => {
    using left = openPacketSocket('left');
    using right = openPacketSocket('right', { ethertype: 0x88b5 });
    using rightToo = openPacketSocket('right');
    left.receive(() => {
      throw new Error('nothing is sent towards left but by right');
    });
    left.close();
    using sender = openPacketSocket('left');
    const got = await collect(right, 1, () => {
      rightToo.send(frameOf(60, 8));
      sender.sendMany([frameOf(60, 1, [0x88, 0xb6]), frameOf(60, 2)]);
    });
    expect(got[0]?.[20]).toBe(2);
  });

  it('counts frames that are too long instead of handing out a part', async () => {
    using left = openPacketSocket('left');
    using right = openPacketSocket('right', { maxFrame: 100 });
    const got = await collect(right, 1, () => left.sendMany([frameOf(101, 1), frameOf(100, 2)]));
    expect(got[0]?.length).toBe(100);
    expect(right.truncated).toBe(1);
  });

  it('names the device and the remedy', () => {
    expect(() => openPacketSocket('nosuch')).toThrow(
      'device nosuch does not exist in this network namespace',
    );
    using left = openPacketSocket('left');
    expect(() => left.send(new Uint8Array(13))).toThrow(/frame of 13 bytes for left; give 14 to 16384/);
    expect(() => left.send(frameOf(9100, 1))).toThrow(/EMSGSIZE.*longer than the device's MTU/);
    runIp('link set left down');
    expect(() => left.send(frameOf(60, 1))).toThrow(/ENETDOWN.*ip link set left up/);
    runIp('link set left up');
  });
});
