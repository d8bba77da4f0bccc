// SPDX-License-Identifier: Apache-2.0
// The committed ABI is the one that abi.h makes, and its codecs agree with what clang lays out.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import * as abi from '../packages/contracts/src/gen/abi.js';

const root = fileURLToPath(new URL('../', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'detour-abi-test-'));
afterAll(() => rmSync(directory, { recursive: true }));

describe('gen-abi', () => {
  it('makes the committed file again, byte for byte', () => {
    const out = join(directory, 'abi.ts');
    execFileSync('node', [join(root, 'tools/gen-abi.mjs'), '--out', out]);
    expect(readFileSync(out, 'utf8')).toBe(
      readFileSync(join(root, 'packages/contracts/src/gen/abi.ts'), 'utf8'),
    );
    execFileSync('node', [join(root, 'tools/gen-abi.mjs'), '--check']);
  });

  it('reads what C wrote and writes the same bytes: nested structs, arrays, network order, padding', () => {
    const source = join(directory, 'write.c');
    const program = join(directory, 'write');
    writeFileSync(
      source,
      `#include <stdio.h>
#include <arpa/inet.h>
#include "abi.h"
int main(void)
{
	struct event e = { .type = EVENT_REPIN, .packet_len = 60, .at_ns = 0x1122334455667788ull,
		.key = { .a = { [15] = 1 }, .b = { [0] = 0xfe, [15] = 2 }, .aport_be = htons(1234), .bport_be = htons(443), .vrf = 7, .proto = 6 },
		.norm = 1, .port = 300, .old_path = 70000, .next_hop = { [10] = 0xff, [11] = 0xff } };
	struct flow f = { .word = 1, .slot = 9, .out = { { .gen = 5 }, { .ifindex = 6, .dmac = { 1, 2, 3, 4, 5, 6 }, .mtu = 1500 } } };
	struct path p = { .chain = 3, .state = PATH_UP, .nhops = 2, .node = { 11, 12 }, .hop = { [8] = 13 } };

	fwrite(&e, sizeof(e), 1, stdout);
	fwrite(&f, sizeof(f), 1, stdout);
	fwrite(&p, sizeof(p), 1, stdout);
	return 0;
}
`,
    );
    execFileSync('clang', ['-I', join(root, 'datapath/include'), source, '-o', program]);
    const bytes = execFileSync(program); // a Buffer: what is decoded from it must be copies
    const event = abi.event.decode(bytes);
    expect(event).toMatchObject({
      type: abi.EventType.EVENT_REPIN,
      packetLen: 60,
      atNs: 0x1122334455667788n,
      norm: 1,
      port: 300,
      oldPath: 70000,
    });
    expect(event.key).toMatchObject({ aport: 1234, bport: 443, vrf: 7, proto: 6, scope: 0 });
    expect(event.key.b[0]).toBe(0xfe);
    const flow = abi.flow.decode(bytes, abi.event.size);
    expect(flow.out[1]).toMatchObject({ ifindex: 6, mtu: 1500, dmac: Uint8Array.of(1, 2, 3, 4, 5, 6) });
    const path = abi.path.decode(bytes, abi.event.size + abi.flow.size);
    expect([...path.node.subarray(0, 3)]).toEqual([11, 12, 0]);
    expect(path.hop[8]).toBe(13);
    const back = [abi.event.encode(event), abi.flow.encode(flow), abi.path.encode(path)];
    bytes.fill(0xaa, 0, abi.event.size);
    expect(event.key.b[0]).toBe(0xfe);
    expect(Buffer.concat(back).subarray(abi.event.size).equals(bytes.subarray(abi.event.size))).toBe(true);
    expect(abi.event.decode(back[0] ?? bytes)).toEqual(event);
  });

  it('refuses values that do not fit, naming the field', () => {
    const key = { ifindex: 1, vlan: 0, bank: 0, inner: 0 };
    expect(() => abi.portKey.encode({ ...key, vlan: 65536 })).toThrow(/port_key.vlan: 65536/);
    expect(() => abi.portKey.encode({ ...key, ifindex: -1 })).toThrow(/port_key.ifindex: -1/);
    expect(() => abi.ownKey.encode({ addr: new Uint8Array(4), vrf: 1, bank: 0 })).toThrow(
      /own_key.addr: 4 elements, it has 16/,
    );
    expect(() => abi.portKey.decode(new Uint8Array(7))).toThrow(/struct port_key: 12 bytes at 0 of 7/);
  });

  it('clears padding in memory that was used before', () => {
    const used = new Uint8Array(abi.tunnelKey.size).fill(0xff);
    const address = new Uint8Array(16);
    abi.tunnelKey.write({ src: address, dst: address, vni: 1, proto: 2, bank: 1 }, used);
    expect([...used.subarray(32)]).toEqual([1, 0, 0, 0, 2, 1, 0, 0]);
  });

  it('names enum values', () => {
    expect(abi.dropReasonName(abi.DropReason.DROP_SERVICE_LOOP)).toBe('DROP_SERVICE_LOOP');
    expect(abi.dropReasonName(9999)).toBeUndefined();
  });
});
