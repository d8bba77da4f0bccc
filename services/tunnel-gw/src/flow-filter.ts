// SPDX-License-Identifier: Apache-2.0
// Which flows `detour get flows` asks for: told from a record's bytes as they are, so that those that do not match cost next to nothing.
import { abi, type GetFlowsRequest } from '@detour/contracts';
import { compareAddresses, Fault } from '@detour/core';
import type { FlowHead } from './flow-head.js';
import { everyNode, type GatewayModel } from './model.js';

/** `key` is a struct flow_key. */
export type FlowFilter = (key: Uint8Array, head: Pick<FlowHead, 'path' | 'chain'>) => boolean;

const AT = abi.flowKey.offsets;
const LITTLE = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
const ADDRESS_BYTES = 16;

/**
 * Only what the request names counts; a name that this gateway does not know matches nothing.
 * @throws Fault `invalid` for a path that is no number, or an address that is not 16 bytes long.
 */
export function flowFilter(model: GatewayModel, request: GetFlowsRequest): FlowFilter {
  const { node, path, chain, vrf, address } = request;
  if (path !== '' && !/^\d{1,8}$/.test(path))
    throw new Fault('invalid', `path "${path}" is no number: see detour get paths`);
  if (address.length !== 0 && address.length !== ADDRESS_BYTES)
    throw new Fault('invalid', `an address of ${address.length} bytes: give 16, or none`);
  const paths = node === '' ? null : pathsThrough(model, node);
  const chains = chain === '' ? null : numbersOf(model.chainNames, chain);
  const wantedVrf = vrf === '' ? null : (model.vrfs.find(({ name }) => name === vrf)?.number ?? UNKNOWN);
  const wantedPath = path === '' ? null : Number(path);
  return (key, head) =>
    (wantedPath === null || head.path === wantedPath) &&
    (paths === null || paths.has(head.path)) &&
    (chains === null || chains.has(head.chain)) &&
    (wantedVrf === null || vrfOf(key) === wantedVrf) &&
    (address.length === 0 ||
      compareAddresses(key.subarray(AT.a, AT.a + ADDRESS_BYTES), address) === 0 ||
      compareAddresses(key.subarray(AT.b, AT.b + ADDRESS_BYTES), address) === 0);
}

/** Of no VRF. */
const UNKNOWN = -1;

function vrfOf(key: Uint8Array): number {
  return new DataView(key.buffer, key.byteOffset, abi.flowKey.size).getUint16(AT.vrf, LITTLE);
}

/** Paths with a node of this name; the name alone stands for the node in all its VRFs. */
function pathsThrough(model: GatewayModel, wanted: string): ReadonlySet<number> {
  const nodes = new Set(
    everyNode(model).flatMap(({ name, label, number }) =>
      name === wanted || label === wanted ? [number] : [],
    ),
  );
  return new Set(
    [...model.pathNodes].flatMap(([path, through]) => (through.some((one) => nodes.has(one)) ? [path] : [])),
  );
}

function numbersOf(names: ReadonlyMap<number, string>, wanted: string): ReadonlySet<number> {
  return new Set([...names].flatMap(([number, name]) => (name === wanted ? [number] : [])));
}
