// SPDX-License-Identifier: Apache-2.0
import { abi } from '@detour/contracts';
import { buildEthernet, buildPacket, concatBytes, macToBytes, toHex } from '@detour/wire';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NODES, PORT } from './ends.js';
import { disagreements, sendOne } from './fate.js';
import { clientFrame, flowKey, putFlow } from './flow-records.js';
import { CLIENT, macOf, SERVER } from './network.js';
import { openRig } from './rig.js';
import { startAfresh } from './world.js';

const rig = openRig();
beforeEach(() => startAfresh(rig));
afterEach(() => expect(disagreements(rig)).toEqual([]));
afterAll(() => rig[Symbol.dispose]());

const { FlowAction, InjectOp } = abi;
const end = (device: Parameters<typeof sendOne>[1], frame: Uint8Array): string =>
  sendOne(rig, device, frame).end;

function inject(
  fields: { op: number; port?: number; node?: number; reason?: number },
  frame: Uint8Array,
): Uint8Array {
  const header = abi.injectHdr.encode({
    dst: new Uint8Array(6),
    src: new Uint8Array(6),
    ethertype: abi.InjectEthertype.INJECT_ETHERTYPE,
    op: fields.op,
    reason: fields.reason ?? 0,
    port: fields.port ?? 0,
    node: fields.node ?? 0,
  });
  return concatBytes(header, frame);
}

function innerOf(node: 1 | 2, ends: { src: string; dst: string }, ttl = 64): Uint8Array {
  const packet = buildPacket({ ...ends, ttl, transport: { kind: 'tcp', srcPort: 40_000, dstPort: 443 } });
  const etherType = ends.src.includes(':') ? 0x86dd : 0x0800;
  return buildEthernet({ dst: NODES[node].innerSrc, src: NODES[node].innerDst, etherType }, packet);
}

describe('what tunnel-gw puts back', () => {
  it('goes on by the port where it was held, counted at the inject port, once in its flow', () => {
    const frame = clientFrame();
    expect(end('inside', frame)).toBe('punted');
    rig.map('embryos').delete(flowKey({}).key);
    putFlow(rig, { slot: 60 });
    const [flow, port] = [rig.count('flow_counters', 60, 0), rig.count('port_counters', PORT.inject, 0)];
    const fate = sendOne(rig, 'inject', inject({ op: InjectOp.INJECT_PORT, port: PORT.inside }, frame));
    expect(fate.end).toBe('forwarded');
    expect(toHex(fate.data)).toBe(toHex(sendOne(rig, 'inside', frame).data));
    expect(rig.count('port_counters', PORT.inject, 0) - port).toBe(1n);
    expect(rig.count('flow_counters', 60, 0) - flow).toBe(2n);
  });

  it('goes straight when the flow is allowed, without the inject header', () => {
    putFlow(rig, { action: FlowAction.FLOW_ALLOW });
    const frame = clientFrame();
    const fate = sendOne(rig, 'inject', inject({ op: InjectOp.INJECT_PORT, port: PORT.inside }, frame));
    const expected = clientFrame({ ttl: 63, dstMac: SERVER.mac, srcMac: macOf('outside') });
    expect([fate.end, toHex(fate.data)]).toEqual(['forwarded', toHex(expected)]);
  });

  it('goes on behind the node that had returned it, counted for the node only once', () => {
    putFlow(rig);
    const inner = innerOf(1, { src: CLIENT.ip4, dst: SERVER.ip4 });
    const from = rig.count('node_counters', 1, 2);
    const fate = sendOne(rig, 'inject', inject({ op: InjectOp.INJECT_RETURN, node: 1 }, inner));
    const packet = innerOf(1, { src: CLIENT.ip4, dst: SERVER.ip4 }, 63).subarray(12);
    const expected = concatBytes(macToBytes(SERVER.mac), macToBytes(macOf('outside')), packet);
    expect([fate.end, toHex(fate.data)]).toEqual(['forwarded', toHex(expected)]);
    expect(rig.count('node_counters', 1, 2)).toBe(from);
    expect(end('inject', inject({ op: InjectOp.INJECT_RETURN, node: 2 }, inner))).toBe('DROP_STRICT_RETURN');
  });

  it('of a branch goes on by its VTI port', () => {
    putFlow(rig, { src: '10.7.0.5', fwdPort: PORT.branch });
    const inner = innerOf(1, { src: '10.7.0.5', dst: SERVER.ip4 });
    expect(end('inject', inject({ op: InjectOp.INJECT_PORT, port: PORT.branch }, inner))).toBe('forwarded');
  });

  it('ends where tunnel-gw says so, under its reason', () => {
    const { DROP_ARP_FAIL, DROP_DECISION_TIMEOUT } = abi.DropReason;
    expect(end('inject', inject({ op: InjectOp.INJECT_DROP, reason: DROP_ARP_FAIL }, clientFrame()))).toBe(
      'DROP_ARP_FAIL',
    );
    expect(
      end('inject', inject({ op: InjectOp.INJECT_DROP, reason: DROP_DECISION_TIMEOUT }, clientFrame())),
    ).toBe('DROP_DECISION_TIMEOUT');
  });

  it('DROP_INJECT: anything else at the inject port', () => {
    const frame = clientFrame();
    expect(end('inject', frame)).toBe('DROP_INJECT');
    expect(end('inject', inject({ op: 0 }, frame))).toBe('DROP_INJECT');
    expect(end('inject', inject({ op: 9 }, frame))).toBe('DROP_INJECT');
    for (const port of [0, PORT.plain, PORT.underlay, PORT.inject, 256, 65_535]) {
      expect([port, end('inject', inject({ op: InjectOp.INJECT_PORT, port }, frame))]).toEqual([
        port,
        'DROP_INJECT',
      ]);
    }
    for (const node of [0, 77, 4096, 65_535]) {
      expect([node, end('inject', inject({ op: InjectOp.INJECT_RETURN, node }, frame))]).toEqual([
        node,
        'DROP_INJECT',
      ]);
    }
    expect(end('inject', inject({ op: InjectOp.INJECT_DROP, reason: 0 }, frame))).toBe('DROP_INJECT');
    expect(
      end('inject', inject({ op: InjectOp.INJECT_DROP, reason: abi.DropReason.DROP_REASONS }, frame)),
    ).toBe('DROP_INJECT');
    expect(
      end('inject', inject({ op: InjectOp.INJECT_PORT, port: PORT.inside }, frame).subarray(0, 20)),
    ).toBe('DROP_INJECT');
    expect(
      end('inject', inject({ op: InjectOp.INJECT_PORT, port: PORT.inside }, frame.subarray(0, 10))),
    ).toBe('DROP_MALFORMED');
  });

  it('for an own address goes up without the inject header', () => {
    const frame = clientFrame({ dst: '10.1.0.1' });
    const fate = sendOne(rig, 'inject', inject({ op: InjectOp.INJECT_PORT, port: PORT.inside }, frame));
    expect([fate.end, fate.verdict, toHex(fate.data)]).toEqual(['passed', 'pass', toHex(frame)]);
  });
});
