// SPDX-License-Identifier: Apache-2.0
/** Waits for what the gateway makes of a node. */
import { waitFor } from '../wait.js';
import type { SessionRow } from './detour.js';
import type { Stage } from './stage.js';

/** Resolves when bfd says so and the gateway's table gives the node a share of new flows, or none, accordingly. */
export function awaitNode(
  { detour, signal }: Stage,
  node: string,
  state: 'up' | 'down',
): Promise<SessionRow> {
  const isSo = async (): Promise<SessionRow | undefined> => {
    const [session, shares] = await Promise.all([detour.session(node), detour.shares()]);
    const isChosen = (shares.get(node) ?? 0) > 0;
    return (session.health === 'up') === (state === 'up') && isChosen === (state === 'up')
      ? session
      : undefined;
  };
  return waitFor(isSo, { what: `${node} to be ${state}`, timeoutMs: 20_000, everyMs: 200, signal });
}

/** Resolves with the share of new flows that the gateway gives a node, once it is as wanted. */
export function awaitShare(
  { detour, signal }: Stage,
  node: string,
  isWanted: (share: number) => boolean,
): Promise<number> {
  const isSo = async (): Promise<{ readonly share: number } | undefined> => {
    const share = (await detour.shares()).get(node);
    return share !== undefined && isWanted(share) ? { share } : undefined;
  };
  return waitFor(isSo, { what: `another share of new flows for ${node}`, everyMs: 200, signal }).then(
    ({ share }) => share,
  );
}
