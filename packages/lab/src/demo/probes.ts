// SPDX-License-Identifier: Apache-2.0
/** New HTTP connections begun at a steady pace, each remembered with when it was begun and whether it got an answer. */
import { standardAddresses, standardPorts } from '../standard-lab.js';
import type { TrafficAgent } from '../traffic.js';

const everyMs = 25;
/** Shorter than TCP's first retransmission (1 s), so that an answer means that nothing was lost. */
const timeoutMs = 900;

export interface Probe {
  /** As `performance.now()`. */
  readonly begunMs: number;
  readonly isAnswered: boolean;
}

export interface Probes {
  /** What is known now. */
  done(): readonly Probe[];
  /** Begins no more, and waits for those under way. */
  stop(): Promise<readonly Probe[]>;
}

export function startProbes(traffic: TrafficAgent): Probes {
  const done: Probe[] = [];
  const underWay = new Set<Promise<void>>();
  const begin = (): void => {
    const begunMs = performance.now();
    const remote = { address: standardAddresses.server, port: standardPorts.http[0] };
    const probe = traffic
      .httpGet({ remote, path: '/', timeoutMs })
      .then(
        (answer) => void done.push({ begunMs, isAnswered: answer.ok }),
        () => void done.push({ begunMs, isAnswered: false }), // the agent is gone: the demo is being ended
      )
      .finally(() => underWay.delete(probe));
    underWay.add(probe);
  };
  const timer = setInterval(begin, everyMs).unref(); // a story that ends early does not wait for it
  return {
    done: () => done,
    async stop() {
      clearInterval(timer);
      await Promise.all(underWay);
      return [...done].sort((a, b) => a.begunMs - b.begunMs);
    },
  };
}
