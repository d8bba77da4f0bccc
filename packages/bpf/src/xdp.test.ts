// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Fault } from '@detour/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  attachXdp,
  ifindex,
  linkProgramId,
  openObject,
  openPacketSocket,
  openXdpLink,
  programInfo,
  progTestRun,
  unpin,
} from './index.js';
import { compileTestObjects, enterOwnNetwork, runIp, whenUp } from './testdata.js';

const objects = compileTestObjects('basic');
const pins = `/run/detour-bpf-xdp-test-${process.pid}`;
let left = 0;

beforeAll(async () => {
  enterOwnNetwork();
  runIp('link add left type veth peer name right');
  runIp('link set left up');
  runIp('link set right up');
  await whenUp('left', 'right');
  left = ifindex('left');
  mkdirSync(pins, { recursive: true });
  execFileSync('mount', ['-t', 'bpf', 'bpf', pins]);
});
afterAll(() => {
  execFileSync('umount', [pins]);
  rmSync(pins, { recursive: true });
  objects[Symbol.dispose]();
});

function deviceXdp(): { mode: string; id: number } | undefined {
  const [row] = JSON.parse(execFileSync('ip', ['-j', 'link', 'show', 'left']).toString()) as {
    xdp?: { mode: number; prog?: { id: number } };
  }[];
  if (row?.xdp === undefined) return undefined;
  return { mode: row.xdp.mode === 1 ? 'native' : 'generic', id: row.xdp.prog?.id ?? 0 };
}

function caught(work: () => unknown): Fault {
  try {
    work();
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error('no Fault');
}

describe('attachXdp', () => {
  it.each(['native', 'generic'] as const)('attaches in mode %s, and detaches when closed', (mode) => {
    using object = openObject(objects.object('basic'));
    const link = attachXdp(object.program('note'), left, mode);
    expect(deviceXdp()).toEqual({ mode, id: programInfo(object.program('note').fd).id });
    expect(linkProgramId(link)).toBe(deviceXdp()?.id);
    link.close();
    expect(deviceXdp()).toBeUndefined();
  });

  it('auto takes native where it can, generic where not, and says why', () => {
    using object = openObject(objects.object('basic'));
    using veth = attachXdp(object.program('note'), left, 'auto');
    expect(veth.mode).toBe('native');
    expect(veth.nativeRefused).toBeUndefined();
    using loopback = attachXdp(object.program('note'), ifindex('lo'), 'auto');
    expect(loopback.mode).toBe('generic');
    expect(loopback.nativeRefused).toMatch(/on lo, mode native: EOPNOTSUPP/);
  });

  it('keeps a pinned link at work without its opener, reopens, replaces its program, detaches', async () => {
    const pin = join(pins, 'left');
    {
      using object = openObject(objects.object('basic'), {
        pinDir: join(pins, 'maps'),
        rodata: { verdict: 2 },
      });
      using link = attachXdp(object.program('note'), left, 'native');
      link.pin(pin);
    }
    const firstId = deviceXdp()?.id;
    expect(firstId).toBeGreaterThan(0);
    using next = openObject(objects.object('basic'), { pinDir: join(pins, 'maps') });
    using link = openXdpLink(pin);
    expect({ ifindex: link.ifindex, mode: link.mode, id: linkProgramId(link) }).toEqual({
      ifindex: left,
      mode: 'native',
      id: firstId,
    });
    expect(caught(() => link.update(next.program('note'), next.program('swap')))).toMatchObject({
      code: 'conflict',
    });
    expect(deviceXdp()?.id).toBe(firstId);
    link.update(next.program('note'));
    expect(deviceXdp()?.id).toBe(programInfo(next.program('note').fd).id);
    link.update(next.program('swap'), next.program('note'));
    expect(deviceXdp()?.id).toBe(programInfo(next.program('swap').fd).id);
    link.detach();
    expect(deviceXdp()).toBeUndefined();
    expect(unpin(pin)).toBe(true);
    expect(unpin(pin)).toBe(false);
    expect(caught(() => openXdpLink(pin))).toMatchObject({ code: 'not_found' });
  });

  it('tells a reopened generic link from a native one, and a link whose device is gone', () => {
    using object = openObject(objects.object('basic'));
    runIp('link add gone type veth peer name gone2');
    const pin = join(pins, 'gone');
    {
      using link = attachXdp(object.program('note'), ifindex('gone'), 'generic');
      link.pin(pin);
    }
    {
      using link = openXdpLink(pin);
      expect(link.mode).toBe('generic');
    }
    runIp('link del gone');
    expect(caught(() => openXdpLink(pin)).detail).toMatch(/its device is gone; remove the pin/);
    unpin(pin);
  });

  it('runs on received frames, and test runs can name the device', async () => {
    using object = openObject(objects.object('basic'), { rodata: { verdict: 1 } });
    using _link = attachXdp(object.program('note'), left, 'native');
    using right = openPacketSocket('right');
    const seen = (): bigint => {
      const value = object.map('shared').lookup(new Uint8Array(4));
      return value === undefined ? 0n : new DataView(value.buffer).getBigUint64(0, true);
    };
    right.send(new Uint8Array(60));
    const deadline = Date.now() + 5000;
    while (seen() >> 32n !== BigInt(left) && Date.now() < deadline)
      await new Promise((resolve) => setImmediate(resolve));
    expect(seen() >> 32n).toBe(BigInt(left));
    progTestRun(object.program('note'), { data: new Uint8Array(60) });
    expect(seen() >> 32n).toBe(1n);
    progTestRun(object.program('note'), { data: new Uint8Array(60), ctx: { ifindex: left, rxQueue: 0 } });
    expect(seen() >> 32n).toBe(BigInt(left));
  });

  it('puts live frames through a device', async () => {
    using object = openObject(objects.object('basic'));
    using link = attachXdp(object.program('note'), left, 'native');
    using peer = attachXdp(object.program('note'), ifindex('right'), 'native');
    using right = openPacketSocket('right');
    let frames = 0;
    right.receive((frame) => {
      if (frame[1] === 7 && frame[0] === 2) frames++;
    });
    const frame = new Uint8Array(60);
    frame.set([7, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    // swap writes [2, 7, …] and answers XDP_TX, which leaves by the device that the context names. One run: pages are recycled.
    progTestRun(object.program('swap'), { data: frame, ctx: { ifindex: left }, liveFrames: true, repeat: 1 });
    const deadline = Date.now() + 5000;
    while (frames < 1 && Date.now() < deadline) await new Promise((resolve) => setImmediate(resolve));
    expect(frames).toBe(1);
    expect([link.mode, peer.mode]).toEqual(['native', 'native']);
  });

  it('explains refusals', () => {
    using object = openObject(objects.object('basic'));
    using _link = attachXdp(object.program('note'), left, 'native');
    const busy = caught(() => attachXdp(object.program('swap'), left, 'auto'));
    expect(busy.code).toBe('conflict');
    expect(busy.detail).toMatch(/swap on left, mode native: EBUSY.*ip link set dev left xdp off/);
    expect(caught(() => attachXdp(object.program('note'), 99_999, 'auto')).detail).toMatch(
      /no device with ifindex 99999/,
    );
    expect(caught(() => attachXdp(object.program('note'), ifindex('lo'), 'native')).detail).toMatch(
      /on lo, mode native: EOPNOTSUPP.*attachMode generic/,
    );
    expect(caught(() => ifindex('nosuch'))).toMatchObject({ code: 'not_found' });
  });
});
