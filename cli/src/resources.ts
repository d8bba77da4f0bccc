// SPDX-License-Identifier: Apache-2.0
/** All resources of `detour get`, by name. */
import { chainsResource, pathsResource, rulesResource, vrfsResource } from './get-declared.js';
import { intentResource, revisionsResource } from './get-intent.js';
import { dropsResource, flowsResource, portsResource, sessionsResource } from './get-live.js';
import { scoresResource } from './get-scores.js';
import { alarmsResource, gatewaysResource, nodesResource } from './get-state.js';
import { policiesResource, ruleTableResource } from './get-tables.js';
import type { Resource } from './resource.js';

export const RESOURCES: Readonly<Record<string, Resource>> = {
  intent: intentResource,
  revisions: revisionsResource,
  vrfs: vrfsResource,
  ports: portsResource,
  nodes: nodesResource,
  chains: chainsResource,
  paths: pathsResource,
  rules: rulesResource,
  'rule-table': ruleTableResource,
  policies: policiesResource,
  flows: flowsResource,
  sessions: sessionsResource,
  scores: scoresResource,
  alarms: alarmsResource,
  drops: dropsResource,
  gateways: gatewaysResource,
};
