// SPDX-License-Identifier: Apache-2.0
/** Reads a BFD daemon's own view of its sessions: BIRD through birdc, FRR through vtysh. */

export interface BfdPeer {
  readonly address: string;
  readonly state: 'up' | 'down' | 'init' | 'admin-down';
}

/** Parses `birdc show bfd sessions`. */
export function parseBirdSessions(text: string): BfdPeer[] {
  return text.split('\n').flatMap((line) => {
    const [, address, state] = /^([0-9a-f.:]+)\s+\S+\s+(Up|Down|Init|AdminDown)\s/.exec(line) ?? [];
    return address === undefined || state === undefined ? [] : { address, state: toState(state) };
  });
}

/** Parses `vtysh -c 'show bfd peers json'`. */
export function parseFrrPeers(text: string): BfdPeer[] {
  const peers = JSON.parse(text) as { readonly peer: string; readonly status: string }[];
  return peers.map(({ peer, status }) => ({ address: peer, state: toState(status) }));
}

function toState(text: string): BfdPeer['state'] {
  const state = text.toLowerCase();
  if (state === 'up' || state === 'init') return state;
  return state === 'admindown' || state === 'shutdown' ? 'admin-down' : 'down';
}
