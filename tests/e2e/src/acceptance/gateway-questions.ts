// SPDX-License-Identifier: Apache-2.0
/** What tests ask a gateway over gRPC, and how they apply an intent. */
import {
  type CountersResponse,
  FlowRow,
  GatewayClient,
  type GatewayStatus,
  GetCountersRequest,
  GetFlowsRequest,
  GetStatusRequest,
  GetTablesRequest,
  type ProgramFlowRequest,
  type TablesResponse,
} from '@detour/contracts';
import type { IntentDocument } from '@detour/intent';
import type { Stack } from '@detour/lab';
import { callUnary, connectClient, readStream } from '@detour/rpc';

export interface GatewayQuestions extends AsyncDisposable {
  counters(): Promise<CountersResponse>;
  status(): Promise<GatewayStatus>;
  tables(): Promise<TablesResponse>;
  /** Every flow record of the gateway. */
  flows(): Promise<FlowRow[]>;
  /** What a node says of one flow; the record's flow-programming generation afterwards. @throws Fault */
  program(request: ProgramFlowRequest): Promise<number>;
}

/** @param port on loopback, that leads to the gateway's gRPC */
export function askGateway(port: number): GatewayQuestions {
  const { client } = connectClient(GatewayClient, `127.0.0.1:${port}`);
  const call = { deadlineMs: 20_000 };
  return {
    counters: () => callUnary(client.getCounters.bind(client), GetCountersRequest.fromPartial({}), call),
    status: () => callUnary(client.getStatus.bind(client), GetStatusRequest.fromPartial({}), call),
    tables: () => callUnary(client.getTables.bind(client), GetTablesRequest.fromPartial({}), call),
    async flows() {
      const rows: FlowRow[] = [];
      const request = GetFlowsRequest.fromPartial({ limit: 1_000_000 });
      for await (const row of readStream(client.getFlows(request))) rows.push(FlowRow.fromPartial(row));
      return rows;
    },
    program: async (request) => {
      const { generation } = await callUnary(client.programFlow.bind(client), request, call);
      return generation;
    },
    [Symbol.asyncDispose]: async () => client.close(),
  };
}

export async function applyIntent(stack: Stack, intent: IntentDocument, withinMs = 30_000): Promise<void> {
  const { code, stdout, stderr } = await stack.cli(
    ['apply', '--wait', '--timeout', `${withinMs}ms`, '-f', '-'],
    { input: JSON.stringify(intent), timeoutMs: withinMs + 5_000 },
  );
  if (code !== 0) throw new Error(`detour apply: exit code ${code}: ${stdout}${stderr}`);
}
