// SPDX-License-Identifier: Apache-2.0
// Bindings of flows that leave by ports with SNAT, as the datapath reads them: by flow, and by what comes back (datapath/include/abi-snat.h).
import { type BpfMap, readBatches } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { type FlowKey, formatAddress, PROTO, type SnatUse } from '@detour/core';
import { decodeFlowKey, encodeFlowKey } from './flow-table.js';

export interface SnatBinding {
  readonly address: number;
  readonly port: number; // outside; 0: as it is
  readonly outPort: number; // number of the port that it was made for
  readonly innerIsB: boolean;
  readonly scope: number; // of the flow's record
  readonly lastNs: bigint;
}

const MAPPED = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

/** An IPv4 address of 16 bytes as a number. */
export function ipv4Number(address: Uint8Array): number {
  return new DataView(address.buffer, address.byteOffset, 16).getUint32(12);
}

/** Its end points as those inside and outside: what its port is given for, and the port that it has inside. */
export function snatUse(
  key: FlowKey,
  { address, innerIsB }: Pick<SnatBinding, 'address' | 'innerIsB'>,
): { readonly use: SnatUse; readonly inner: { readonly address: number; readonly port: number } } {
  const { vrf, proto } = key;
  const [inner, remote] = innerIsB
    ? [
        { address: key.b, port: key.bport },
        { address: key.a, port: key.aport },
      ]
    : [
        { address: key.a, port: key.aport },
        { address: key.b, port: key.bport },
      ];
  const remotePort = proto === PROTO.icmp ? 0 : remote.port;
  return {
    use: { vrf, proto, address, remote: ipv4Number(remote.address), remotePort },
    inner: { address: ipv4Number(inner.address), port: inner.port },
  };
}

/** `198.51.100.1:40000`; the address alone where no port is translated. */
export function bindingText({ address, port }: Pick<SnatBinding, 'address' | 'port'>): string {
  const bytes = new Uint8Array(16);
  bytes.set(MAPPED);
  new DataView(bytes.buffer).setUint32(12, address);
  return port === 0 ? formatAddress(bytes) : `${formatAddress(bytes)}:${port}`;
}

export class SnatTable {
  constructor(private readonly maps: { readonly bindings: BpfMap; readonly inners: BpfMap }) {}

  get capacity(): number {
    return this.maps.bindings.maxEntries;
  }

  /** One binding for all records of a flow, whatever their scope. */
  read(key: FlowKey): SnatBinding | null {
    const held = this.maps.bindings.lookup(encodeFlowKey({ ...key, scope: 0 }));
    return held === undefined ? null : decode(held);
  }

  /** Who is inside, of what comes from this remote end to this port; null: nobody. */
  innerOf(use: SnatUse, port: number): { readonly address: number; readonly port: number } | null {
    const held = this.maps.inners.lookup(innerKey(use, port));
    if (held === undefined) return null;
    const { addr, port: inner } = abi.snatInner.decode(held);
    return { address: addr, port: inner };
  }

  /** What comes back first, so that no packet has left whose answer finds nobody. */
  write(key: FlowKey, binding: SnatBinding): void {
    const { use, inner } = snatUse(key, binding);
    const { bindings, inners } = this.maps;
    inners.update(
      innerKey(use, binding.port),
      abi.snatInner.encode({ addr: inner.address, port: inner.port }),
    );
    bindings.update(
      encodeFlowKey({ ...key, scope: 0 }),
      abi.snatBinding.encode({
        addr: binding.address,
        port: binding.port,
        outPort: binding.outPort,
        innerIsB: binding.innerIsB ? 1 : 0,
        scope: binding.scope,
        lastNs: binding.lastNs,
      }),
    );
  }

  remove(key: FlowKey, binding: SnatBinding): void {
    const { bindings, inners } = this.maps;
    bindings.delete(encodeFlowKey({ ...key, scope: 0 }));
    inners.delete(innerKey(snatUse(key, binding).use, binding.port));
  }

  /** All of them, in turns of the event loop. */
  async *all(signal?: AbortSignal): AsyncGenerator<{ readonly key: FlowKey; readonly binding: SnatBinding }> {
    for await (const { count, keys, values } of readBatches(this.maps.bindings, signal && { signal })) {
      for (let i = 0; i < count; i++)
        yield {
          key: decodeFlowKey(keys.slice(i * abi.flowKey.size, (i + 1) * abi.flowKey.size)),
          binding: decode(values.subarray(i * abi.snatBinding.size, (i + 1) * abi.snatBinding.size)),
        };
    }
  }
}

function decode(bytes: Uint8Array): SnatBinding {
  const { addr, port, outPort, innerIsB, scope, lastNs } = abi.snatBinding.decode(bytes);
  return { address: addr, port, outPort, innerIsB: innerIsB === 1, scope, lastNs };
}

function innerKey(use: SnatUse, port: number): Uint8Array {
  const { vrf, proto, address, remote, remotePort } = use;
  return abi.snatKey.encode({ addr: address, remote, port, remotePort, vrf, proto });
}
