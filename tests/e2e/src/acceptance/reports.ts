// SPDX-License-Identifier: Apache-2.0
/** Reports attributes for nodes, as an agent on each of them would: again and again, until told otherwise, to the stats-collector over gRPC. */
import {
  GetScoresRequest,
  type NodeScore,
  ReportAttributesRequest,
  StatsCollectorClient,
} from '@detour/contracts';
import { waitFor } from '@detour/lab';
import { callUnary, connectClient } from '@detour/rpc';
import { type AcceptanceLab, grpcPorts } from './acceptance-lab.js';

export interface Reports extends AsyncDisposable {
  /** From now on these are what the node reports; the first report has been taken when this resolves. */
  set(node: string, attributes: Readonly<Record<string, number>>): Promise<void>;
  /** The node falls silent. @returns when its last report was taken, `performance.now()`. */
  silence(node: string): Promise<number>;
  /** One report of another reporter, by a clock that may be ahead; answers what was refused of it. */
  say(
    node: string,
    attributes: Readonly<Record<string, number>>,
    clock?: { readonly aheadMs: number },
  ): Promise<readonly string[]>;
  scores(): Promise<Map<string, NodeScore>>;
}

const EVERY_MS = 250;
const CALL = { deadlineMs: 10_000 } as const;

export async function startReports(bench: Pick<AcceptanceLab, 'reach'>): Promise<Reports> {
  const port = await bench.reach(grpcPorts['stats-collector'] ?? 0);
  const { client } = connectClient(StatsCollectorClient, `127.0.0.1:${port}`);
  const told = new Map<string, Readonly<Record<string, number>>>();
  const takenMs = new Map<string, number>();
  const tell = async (
    node: string,
    attributes: Readonly<Record<string, number>>,
    { reporter, aheadMs = 0 }: { readonly reporter: string; readonly aheadMs?: number },
  ): Promise<readonly string[]> => {
    const request = ReportAttributesRequest.fromPartial({
      node,
      reporter,
      atMs: BigInt(Date.now() + aheadMs),
      attributes: { ...attributes },
    });
    const { refused } = await callUnary(client.reportAttributes.bind(client), request, CALL);
    return refused;
  };
  const report = async (node: string, attributes: Readonly<Record<string, number>>): Promise<void> => {
    const refused = await tell(node, attributes, { reporter: node });
    if (refused.length > 0) throw new Error(`report of ${node}: ${refused.join('; ')}`);
    takenMs.set(node, performance.now());
  };
  let ended = false;
  let round: Promise<void> = Promise.resolve();
  const beat = setInterval(() => {
    round = round.then(async () => {
      for (const [node, attributes] of told) if (!ended) await report(node, attributes);
    });
  }, EVERY_MS);
  return {
    say: (node, attributes, clock) => tell(node, attributes, { reporter: `${node}-other`, ...clock }),
    async set(node, attributes) {
      told.set(node, attributes);
      await report(node, attributes);
    },
    async silence(node) {
      told.delete(node);
      await round;
      return takenMs.get(node) ?? Number.NaN;
    },
    async scores() {
      const { scores } = await callUnary(
        client.getScores.bind(client),
        GetScoresRequest.fromPartial({ node: '' }),
        CALL,
      );
      return new Map(scores.map((score) => [score.node, score]));
    },
    [Symbol.asyncDispose]: async () => {
      ended = true;
      clearInterval(beat);
      await round.catch(() => undefined);
      client.close();
    },
  };
}

/** Resolves when the gateway's own selection has these weights, by node (of chains with one hop). */
export async function awaitWeights(
  bench: Pick<AcceptanceLab, 'tables'>,
  weights: Readonly<Record<string, number>>,
): Promise<void> {
  let last: unknown;
  await waitFor(
    async () => {
      const { selections } = await bench.tables();
      const held = Object.fromEntries(
        (selections[0]?.shares ?? []).map((share) => [share.nodes.join(), share.weight]),
      );
      last = held;
      return Object.entries(weights).every(([node, weight]) => held[node] === weight);
    },
    { what: `weights ${JSON.stringify(weights)} at the gateway`, timeoutMs: 20_000, everyMs: 50 },
  ).catch((error: unknown) => {
    throw new Error(`the gateway has ${JSON.stringify(last)}`, { cause: error });
  });
}
