// SPDX-License-Identifier: Apache-2.0
/** The intent that the demo applies: the standard lab's, with a scoring formula whose inputs differ between namespaces of one machine. */
import type { IntentDocument } from '@detour/intent';
import { standardIntent } from '../standard-intent.js';

/** Connections at which a firewall's score is 0. */
export const maxConnections = 10_000;

/**
 * Connections are counted per namespace, so they are the firewalls' own; CPU and memory would be the whole machine's, the
 * same for both firewalls and for everything else that runs on it.
 */
export function demoIntent(): IntentDocument {
  return {
    ...standardIntent({ maxConnections }),
    scoring: { default: { formula: 'capacity * (1 - connections / maxConnections)' } },
  };
}
