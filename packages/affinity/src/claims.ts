// SPDX-License-Identifier: Apache-2.0
// Who has what, by key: ports of SNAT addresses that gateways share. The first to ask has it until it expires; nobody writes over another.
import type { Answer, Link } from './link.js';

export interface Claim {
  readonly key: string;
  readonly holder: string;
  readonly ttlS: number;
}

export interface Claims {
  /** Who has each key now: the one who asks, where nobody had it (SET NX GET EX). */
  claim(claims: readonly Claim[], options: { readonly budgetMs: number }): Promise<Answer<string>[]>;
  /** null: nobody. */
  holders(keys: readonly string[], options: { readonly budgetMs: number }): Promise<Answer<string | null>[]>;
  /** Moves expiries, many at once; no packet waits for it. Those that Redis did not have are claimed anew. Answers how many others have by now. */
  extend(claims: readonly Claim[]): Promise<number>;
}

const CHUNK = 1_000;
const EXTEND_BUDGET_MS = 2_000;
const keyOf = ({ key }: { readonly key: string }) => key;

export function openClaims(link: Link): Claims {
  const claimAll = (claims: readonly Claim[], budgetMs: number) =>
    link.each(claims, {
      ...{ budgetMs, writes: true, keyOf },
      command: (to, { key, holder, ttlS }) => to.set(key, holder, 'EX', ttlS, 'NX', 'GET'),
      read: (reply, { holder }) => (typeof reply === 'string' ? reply : holder),
    });
  return {
    claim: (claims, { budgetMs }) => claimAll(claims, budgetMs),
    holders: (keys, { budgetMs }) =>
      link.each(keys, {
        ...{ budgetMs, writes: false, keyOf: (key: string) => key },
        command: (to, key) => to.get(key),
        read: (reply) => (typeof reply === 'string' ? reply : null),
      }),
    extend: async (claims) => {
      let lost = 0;
      for (let i = 0; i < claims.length; i += CHUNK) {
        const chunk = claims.slice(i, i + CHUNK);
        const held = await claimAll(chunk, EXTEND_BUDGET_MS);
        const own = chunk.filter(({ holder }, at) => {
          const answer = held[at];
          if (answer?.ok === true && answer.value !== holder) lost++;
          return answer?.ok === true && answer.value === holder;
        });
        await link.each(own, {
          ...{ budgetMs: EXTEND_BUDGET_MS, writes: false, keyOf },
          command: (to, { key, ttlS }) => to.expire(key, ttlS, 'GT'),
          read: () => null,
        });
      }
      return lost;
    },
  };
}
