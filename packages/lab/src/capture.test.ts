// SPDX-License-Identifier: Apache-2.0
import { buildFrame, parseFrame } from '@detour/wire';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startCapture } from './capture.js';
import { createLab, type Lab } from './lab.js';
import { parsePcap } from './pcap.js';
import { startRawSender } from './raw-sender.js';

let lab: Lab;
beforeAll(async () => {
  const links = [{ a: { ns: 'a', device: 'eth0' }, b: { ns: 'b', device: 'eth0' } }];
  lab = await createLab({ namespaces: { a: {}, b: {} }, links }, { name: `lab-cap-${process.pid}` });
});
afterAll(() => lab.close());

const frame = (srcPort: number): Uint8Array =>
  buildFrame({
    src: '10.0.0.1',
    dst: '10.0.0.2',
    transport: { kind: 'tcp', srcPort, dstPort: 80, flags: 2 },
  });

describe('startCapture and startRawSender', () => {
  it('see on one end, byte for byte and in order, what was sent on the other', async () => {
    await using capture = await startCapture(lab, 'b', 'eth0', { filter: 'tcp', direction: 'in' });
    await using sender = startRawSender(lab, 'a', 'eth0');
    const sent = Array.from({ length: 3_000 }, (_, i) => frame(1_000 + i));
    await sender.send(sent.slice(0, 1_000));
    await sender.send(sent.slice(1_000));
    const received = await capture.stop();
    expect(received.length).toBe(sent.length);
    const differing = received.filter(
      (packet, i) => Buffer.compare(packet.bytes, sent[i] ?? Buffer.alloc(0)) !== 0,
    );
    expect(differing).toEqual([]);
    const last = parseFrame(received.at(-1)?.bytes ?? new Uint8Array());
    expect(last).toMatchObject({ ok: true, value: { tcp: { srcPort: 3_999 } } });
  });

  it('keep to the filter', async () => {
    await using capture = await startCapture(lab, 'b', 'eth0', { filter: 'tcp src port 5' });
    await using sender = startRawSender(lab, 'a', 'eth0');
    await sender.send([frame(4), frame(5), frame(6)]);
    expect((await capture.stop()).length).toBe(1);
  });

  it('say what is wrong', async () => {
    await expect(startCapture(lab, 'b', 'eth0', { filter: 'no such filter' })).rejects.toThrow(
      /syntax error/,
    );
    await expect(startCapture(lab, 'b', 'eth9')).rejects.toThrow(/eth9/);
    await using sender = startRawSender(lab, 'a', 'eth9');
    await expect(sender.send([frame(1)])).rejects.toThrow(/eth9.*No such device/);
  });
});

describe('parsePcap', () => {
  it('leaves out a record that is still being written, at every length', () => {
    const file = Buffer.alloc(24 + 2 * (16 + 5), 7);
    file.writeUInt32LE(0xa1b2c3d4, 0);
    for (const at of [24, 24 + 21]) {
      file.writeUInt32LE(1, at);
      file.writeUInt32LE(500_000, at + 4);
      file.writeUInt32LE(5, at + 8);
    }
    const counts = Array.from(file, (_, length) => parsePcap(file.subarray(0, length)).length);
    expect(counts).toEqual(Array.from(file, (_, length) => (length < 24 + 21 ? 0 : 1)));
    expect(parsePcap(file)).toMatchObject([{ timestampUs: 1_500_000 }, { timestampUs: 1_500_000 }]);
  });

  it('refuses another format and absurd lengths', () => {
    expect(() => parsePcap(Buffer.alloc(24))).toThrow(/magic 0x0/);
    const file = Buffer.alloc(40, 0xff);
    file.writeUInt32LE(0xa1b2c3d4, 0);
    expect(() => parsePcap(file)).toThrow(/4294967295 bytes at offset 24/);
  });
});
