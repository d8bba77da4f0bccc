// SPDX-License-Identifier: Apache-2.0
import { gzipSync } from 'node:zlib';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { describe, expect, it } from 'vitest';
import { createLab } from './lab.js';
import { startOtlpReceiver } from './otlp.js';
import { decodeSpans, type Span } from './otlp-spans.js';
import { renderTraceTree } from './trace-tree.js';

const message = (write: (writer: BinaryWriter) => BinaryWriter): Uint8Array =>
  write(new BinaryWriter()).finish();

function encodeSpan(
  id: string,
  parent: string,
  name: string,
  startUs: number,
  lenUs: number,
  code: number,
): Uint8Array {
  const ns = (us: number): string => String(BigInt(us) * 1_000n);
  return message((w) => {
    w.uint32(10).bytes(Buffer.from('0af7651916cd43dd8448eb211c80319c', 'hex'));
    w.uint32(18).bytes(Buffer.from(id, 'hex'));
    if (parent) w.uint32(34).bytes(Buffer.from(parent, 'hex'));
    w.uint32(42)
      .string(name)
      .uint32(57)
      .fixed64(ns(startUs))
      .uint32(65)
      .fixed64(ns(startUs + lenUs));
    w.uint32(74).bytes(encodeAttribute('detour.rule', (a) => a.uint32(10).string('web-out')));
    w.uint32(74).bytes(encodeAttribute('detour.path', (a) => a.uint32(24).int64(7)));
    w.uint32(74).bytes(encodeAttribute('detour.known', (a) => a.uint32(16).bool(true)));
    return w.uint32(122).bytes(message((status) => status.uint32(24).int32(code)));
  });
}

function encodeAttribute(key: string, value: (writer: BinaryWriter) => BinaryWriter): Uint8Array {
  return message((w) => w.uint32(10).string(key).uint32(18).bytes(message(value)));
}

function encodeRequest(service: string, spans: readonly Uint8Array[]): Uint8Array {
  const resource = message((w) =>
    w.uint32(10).bytes(encodeAttribute('service.name', (a) => a.uint32(10).string(service))),
  );
  const scope = message((w) => spans.reduce((all, span) => all.uint32(18).bytes(span), w));
  const resourceSpans = message((w) => w.uint32(10).bytes(resource).uint32(18).bytes(scope));
  return message((w) => w.uint32(10).bytes(resourceSpans));
}

const gateway = encodeRequest('tunnel-gw', [
  encodeSpan('00000000000000a1', '', 'flow set-up', 1_000, 1_500, 0),
]);
const classifier = encodeRequest('classifier', [
  encodeSpan('00000000000000b1', '00000000000000a1', 'Classify', 1_100, 200, 0),
]);
const selector = encodeRequest('path-selector', [
  encodeSpan('00000000000000c2', '00000000000000c1', 'redis SET', 1_450, 300, 2),
  encodeSpan('00000000000000c1', '00000000000000a1', 'SelectPath', 1_400, 600, 0),
]);

const tree = `tunnel-gw  flow set-up  1.50 ms
├─ classifier  Classify  0.20 ms
└─ path-selector  SelectPath  0.60 ms
   └─ path-selector  redis SET  0.30 ms  failed`;

describe('decodeSpans', () => {
  it('reads ids, times, attributes and status', () => {
    expect(decodeSpans(classifier)).toEqual([
      {
        service: 'classifier',
        name: 'Classify',
        traceId: '0af7651916cd43dd8448eb211c80319c',
        spanId: '00000000000000b1',
        parentId: '00000000000000a1',
        startNs: '1100000',
        durationUs: 200,
        attributes: { 'detour.rule': 'web-out', 'detour.path': 7, 'detour.known': true },
        isError: false,
      } satisfies Span,
    ]);
  });

  it('refuses every truncation, or reads fewer spans, without looping', () => {
    for (let length = 0; length < selector.length; length += 1) {
      let count = 0;
      try {
        count = decodeSpans(selector.subarray(0, length)).length;
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
      expect(count).toBe(0);
    }
  });
});

describe('renderTraceTree', () => {
  it('puts children below their parents in the order in which they started', () => {
    expect(renderTraceTree([selector, classifier, gateway].flatMap(decodeSpans))).toBe(tree);
  });

  it('shows a span whose parent is missing at the root', () => {
    expect(renderTraceTree(decodeSpans(classifier))).toBe('classifier  Classify  0.20 ms');
  });
});

describe('startOtlpReceiver', () => {
  it('collects what is posted to it inside a namespace, plain and gzipped', async () => {
    const spec = { namespaces: { a: {} }, links: [] };
    await using lab = await createLab(spec, { name: `lab-otlp-${process.pid}` });
    await using receiver = await startOtlpReceiver(lab, { ns: 'a', address: '127.0.0.1' });
    const post = async (body: Uint8Array, encoding: string): Promise<string> => {
      const script = `const body = Buffer.from(process.argv[2], 'base64');
        const headers = { 'content-type': 'application/x-protobuf', 'content-encoding': process.argv[3] };
        console.log((await fetch(process.argv[1], { method: 'POST', body, headers })).status);`;
      const argv = [
        '--input-type=module',
        '-e',
        script,
        receiver.endpoint,
        Buffer.from(body).toString('base64'),
        encoding,
      ];
      return (await lab.exec('a', [process.execPath, ...argv])).stdout.trim();
    };
    expect(await post(gateway, 'identity')).toBe('200');
    expect(await post(gzipSync(classifier), 'gzip')).toBe('200');
    expect(await post(selector, 'identity')).toBe('200');
    expect(await post(Buffer.from([255, 255]), 'identity')).toBe('400');
    await expect.poll(() => receiver.spans().length).toBe(4);
    expect(renderTraceTree(receiver.trace('0af7651916cd43dd8448eb211c80319c'))).toBe(tree);
  });
});
