// SPDX-License-Identifier: Apache-2.0
// Flow programming, out of band: a node says over gRPC what is to become of one flow that passes it. Believed only of a node that is on
// the path of a flow that has a record here; the action lives as long as the record, and a rule change that gives the flow another chain ends it.
import { FlowInstruction, type ProgramFlowRequest, type ProgramFlowResponse } from '@detour/contracts';
import { Fault, type FlowKey, flowKeyText, normaliseTuple } from '@detour/core';
import type { FlowTable } from './flow-table.js';
import { isServiced, unpackFlowWord } from './flow-word.js';
import { everyNode, type GatewayModel } from './model.js';

export interface ProgramFlowParts {
  readonly model: GatewayModel;
  readonly flows: FlowTable;
  /** Other gateways are to hear of it. */
  readonly onProgrammed: (key: FlowKey) => void;
}

/** @throws Fault `invalid` for a request that says nothing usable, `not_found` for an unknown node or flow, `refused` for a node off the flow's path */
export function programFlow(
  { model, flows, onProgrammed }: ProgramFlowParts,
  request: ProgramFlowRequest,
): ProgramFlowResponse {
  const { tuple } = request;
  const named = everyNode(model).filter(({ name }) => name === request.node);
  const node = named.find(({ vrf }) => vrf === tuple?.vrf) ?? named[0]; // one that serves several VRFs is a node in each
  if (node === undefined)
    throw new Fault('not_found', `gateway ${model.gateway} has no node "${request.node}"`);
  if (tuple === undefined || tuple.src.length !== 16 || tuple.dst.length !== 16)
    throw new Fault('invalid', 'the request needs a tuple with addresses of 16 bytes');
  const { key } = normaliseTuple({ ...tuple, vrf: tuple.vrf === 0 ? node.vrf : tuple.vrf });
  const record = flows.read(key);
  const word = record === null ? null : unpackFlowWord(record.flow.word);
  if (word === null || !isServiced(word))
    throw new Fault('not_found', `no flow ${flowKeyText(key)} is steered here`);
  const path = model.pathNodes.get(word.path) ?? [];
  if (!path.includes(node.number))
    throw new Fault(
      'refused',
      `flow ${flowKeyText(key)} does not pass ${node.name}: its path is ${word.path}`,
    );
  const generation = flows.program(key, actionOf(request.instruction, path.length));
  if (generation === null) throw new Fault('not_found', `flow ${flowKeyText(key)} has just ended`);
  onProgrammed(key);
  return { generation };
}

function actionOf(instruction: FlowInstruction, pathLength: number): 'allow' | 'drop' | 'steer' {
  switch (instruction) {
    case FlowInstruction.SKIP_ME:
      if (pathLength === 1) return 'allow';
      throw new Fault(
        'missing_feature',
        `SKIP_ME on a path of ${pathLength} nodes is not available: SKIP_ALL ends the whole service, DROP the flow`,
      );
    case FlowInstruction.SKIP_ALL:
      return 'allow';
    case FlowInstruction.DROP:
      return 'drop';
    case FlowInstruction.NONE:
      return 'steer';
    default:
      throw new Fault('invalid', `instruction ${instruction} is unknown: SKIP_ME, SKIP_ALL, DROP or NONE`);
  }
}
