// SPDX-License-Identifier: Apache-2.0
// From a stored revision to one gateway's model. What this gateway cannot carry out is refused by name, and its old tables stay.
import { Fault, hashKeyFromHex } from '@detour/core';
import { nodeKey, pathKey, type Revision, steeredChains } from '@detour/intent';
import { armedNodeModels, servicePorts } from './desired-arms.js';
import { numberOf } from './desired-numbers.js';
import { attachModeOf, type PortContext, portModel } from './desired-ports.js';
import { nodeModel } from './desired-tunnels.js';
import type { GatewayModel, VrfModel } from './model.js';

/** @throws Fault `not_found` when the revision has no such gateway, `refused` naming what this gateway cannot do. */
export function gatewayModel(revision: Revision, gatewayName: string): GatewayModel {
  const { intent, numbers } = revision;
  const gateway = intent.gateways.find((row) => row.name === gatewayName);
  if (gateway === undefined) {
    throw new Fault(
      'not_found',
      `revision ${revision.revision} names no gateway ${gatewayName}: add it to gateways, or correct DETOUR_GATEWAY`,
    );
  }
  const vrfs = intent.vrfs.map(
    (vrf): VrfModel => ({
      name: vrf.name,
      table: vrf.table,
      number: numberOf(numbers.vrfs, vrf.name, 'vrf'),
    }),
  );
  const vrfOf = (name: string | undefined, what: string): VrfModel => {
    const vrf = vrfs.find((row) => row.name === name);
    if (vrf === undefined)
      throw new Fault(
        'refused',
        `${what} names VRF ${name}, which revision ${revision.revision} does not have`,
      );
    return vrf;
  };
  const underlayPort = gateway.ports.find(
    (port) => port.kind === 'underlay' && port.device === gateway.underlay.device,
  );
  const isShared: PortContext['isShared'] = (snat, vrf) =>
    intent.gateways.some(
      (other) =>
        other.name !== gatewayName &&
        other.ports.some((port) => 'snat' in port && port.snat === snat && port.vrf === vrf),
    );
  return {
    gateway: gatewayName,
    revision: revision.revision,
    hashKey: hashKeyFromHex(revision.selectionKey),
    alone: intent.gateways.length === 1,
    underlay: {
      device: gateway.underlay.device,
      address: gateway.underlay.address,
      attachMode: underlayPort === undefined ? 'auto' : attachModeOf(underlayPort, gatewayName),
    },
    vrfs,
    ports: gateway.ports.flatMap((port) => portModel(port, gateway, { numbers, vrfOf, isShared })),
    nodes: intent.nodes.flatMap((node) => nodeModel(node, gateway, intent, numbers, vrfOf)),
    servicePorts: servicePorts(gateway, numbers, vrfOf),
    armed: intent.nodes.flatMap((node) =>
      armedNodeModels({ node, gateway: gateway.name, intent, numbers, vrfOf }),
    ),
    pathNodes: pathNodes(revision),
    chainNames: namesByNumber(numbers.chains, (key) => key.slice(0, key.lastIndexOf('@'))),
    ruleNames: namesByNumber(numbers.rules),
  };
}

function namesByNumber(
  numbers: Readonly<Record<string, number>>,
  nameOf = (key: string): string => key,
): Map<number, string> {
  return new Map(Object.entries(numbers).map(([key, number]) => [number, nameOf(key)]));
}

function pathNodes({ intent, numbers }: Revision): Map<number, readonly number[]> {
  const nodesOf = new Map<number, readonly number[]>();
  for (const { chain, paths } of steeredChains(intent)) {
    for (const path of paths) {
      const number = numbers.paths[pathKey(chain.name, path)];
      if (number === undefined) continue;
      const nodes = intent.nodes.filter(({ name }) => path.nodes.includes(name));
      nodesOf.set(
        number,
        path.nodes.map((name) => {
          const node = nodes.find((row) => row.name === name);
          return numberOf(numbers.nodes, node === undefined ? name : nodeKey(node, path.vrf), 'node');
        }),
      );
    }
  }
  return nodesOf;
}
