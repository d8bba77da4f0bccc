// SPDX-License-Identifier: Apache-2.0
/** What operators do to nodes and sessions: drain, undrain, admin-down, up. */
import { BfdClient, type DrainValue, stateKey } from '@detour/contracts';
import { Fault } from '@detour/core';
import { nearestWord } from '@detour/intent';
import { askAll, askInstance, askOnce, instancesAt } from './ask.js';
import type { Cluster } from './cluster.js';
import { isDrained } from './get-state.js';
import { loadCurrent } from './history.js';

/** Drains a node (no new flows, old ones finish) or ends that. False: it was so already. @throws Fault `not_found` */
export async function setDrain(
  cluster: Cluster,
  node: string,
  want: { draining: boolean; by: string },
): Promise<boolean> {
  const { revision } = await loadCurrent(cluster);
  const names = revision.intent.nodes.map(({ name }) => name);
  // A node that left the intent can still be undrained, so that it does not come back drained.
  if (!names.includes(node) && (want.draining || !isDrained(cluster, node))) {
    const nearest = nearestWord(node, names);
    const hint = nearest === undefined ? `nodes are ${names.join(', ')}` : `did you mean "${nearest}"?`;
    throw new Fault('not_found', `there is no node "${node}" in the intent: ${hint}`);
  }
  if (isDrained(cluster, node) === want.draining) return false;
  const value: DrainValue = { draining: want.draining, by: want.by, atMs: Date.now() };
  await cluster.state.put(stateKey.drain(node), value);
  return true;
}

/** Tells the bfd that has the session; answers the gateways where it was done. @throws Fault `not_found` | `invalid` | `unavailable` */
export async function setSessionAdminDown(
  cluster: Cluster,
  id: string,
  want: { adminDown: boolean; gateway?: string },
): Promise<string> {
  const instances = instancesAt(cluster, 'bfd', want.gateway);
  const listed = await askAll(instances, BfdClient, (client) =>
    askOnce(client.listSessions.bind(client), {}),
  );
  const having = listed.answers.filter(({ answer }) => answer.sessions.some((session) => session.id === id));
  const [first] = having;
  if (first === undefined) {
    if (listed.missing.length > 0) throw new Fault('unavailable', listed.missing.join('; '));
    const known = [
      ...new Set(listed.answers.flatMap(({ answer }) => answer.sessions.map((session) => session.id))),
    ].sort();
    const hint = known.length === 0 ? 'there are none' : `sessions are ${known.join(', ')}`;
    throw new Fault('not_found', `there is no session "${id}": ${hint}`);
  }
  if (having.length > 1) {
    const gateways = having
      .map(({ instance }) => instance.gateway)
      .sort()
      .join(', ');
    throw new Fault(
      'invalid',
      `session "${id}" exists on several gateways: give --gateway one of ${gateways}`,
    );
  }
  await askInstance(first.instance, BfdClient, (client) =>
    askOnce(client.setAdminDown.bind(client), { id, adminDown: want.adminDown }),
  );
  return first.instance.gateway;
}
