// SPDX-License-Identifier: Apache-2.0
/** What a gateway's status says of its drain, in a sentence. Pure. */
import type { GatewayStatus } from '@detour/contracts';

/** No packet for so long: routers have left. */
export const QUIET_MS = 2_000;

export interface DrainProgress {
  readonly done: boolean;
  /** asked | recording | announced | arriving | quiet; undrain: drained | withdrawn | serving. Either: silent | absent. */
  readonly step: string;
  /** For people. */
  readonly text: string;
  /** Pins that Redis is not known to have. */
  readonly unrecorded?: number;
  /** Packets since routers were told. */
  readonly arrived?: number;
  readonly quietMs?: number;
}

export function drainProgress({ gateway, drain, announced }: GatewayStatus): DrainProgress {
  if (drain === undefined) return { done: false, step: 'asked', text: `${gateway} has not begun yet` };
  const [unrecorded, arrived, quietMs] = [drain.unrecorded, drain.arrived, drain.quietMs].map(Number);
  const figures = { unrecorded: unrecorded ?? 0, arrived: arrived ?? 0, quietMs: quietMs ?? 0 };
  const at = (done: boolean, step: string, text: string): DrainProgress => ({ done, step, text, ...figures });
  if (drain.recording)
    return at(
      false,
      'recording',
      `${gateway} records the pins of its flows: Redis is not known to have ${figures.unrecorded} of them`,
    );
  if (announced === 'yes') return at(false, 'announced', `${gateway} is still announced to routers`);
  if (figures.quietMs < QUIET_MS)
    return at(
      false,
      'arriving',
      `packets still arrive at ${gateway}: ${figures.arrived} since routers were told, the last ${figures.quietMs} ms ago${
        announced === ''
          ? '. Whether it is announced is not known: bfd is away, or has nothing to announce there and your routers must be told by yourself'
          : ''
      }`,
    );
  return at(
    true,
    'quiet',
    `${gateway} is drained: ${figures.arrived} packets arrived after routers were told, none for ${(figures.quietMs / 1000).toFixed(1)} s`,
  );
}

export function undrainProgress({ gateway, drain, announced }: GatewayStatus): DrainProgress {
  if (drain !== undefined) return { done: false, step: 'drained', text: `${gateway} is drained still` };
  if (announced === '' || announced === 'yes')
    return { done: true, step: 'serving', text: `${gateway} may be used by routers again` };
  return { done: false, step: 'withdrawn', text: `${gateway} is not announced to routers: ${announced}` };
}
