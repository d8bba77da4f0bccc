// SPDX-License-Identifier: Apache-2.0
// The gRPC service Gateway: what operators and tests ask of a gateway. Answers are read from what is live, at the moment of the question.
import {
  type CountersResponse,
  type FlowRow,
  GatewayService,
  type GatewayStatus,
  type GetFlowsRequest,
  type ProgramFlowRequest,
  type TablesResponse,
  type TraceRequest,
  type TraceResponse,
} from '@detour/contracts';
import { Fault, type FlowKey } from '@detour/core';
import { implement, serverStream, unary } from '@detour/rpc';
import { type CounterMaps, readDrops, readExamples, readPort, readRule, readStats } from './counters.js';
import { type FlowRowSources, flowRows } from './flow-rows.js';
import type { FlowTable } from './flow-table.js';
import type { GatewayCore } from './gateway-core.js';
import type { HealthBook } from './health.js';
import { everyNode } from './model.js';
import { programFlow } from './program-flow.js';
import type { TableSet } from './table-book.js';
import { tablesResponse } from './table-rows.js';
import { tracePacket } from './trace.js';
import type { TraceView } from './trace-answer.js';

export interface GatewayServiceOptions {
  readonly core: GatewayCore;
  readonly health: HealthBook;
  readonly counters: CounterMaps;
  readonly flows: (set: TableSet) => FlowRowSources;
  readonly traceView: (set: TableSet) => TraceView;
  readonly status: () => GatewayStatus;
  readonly flowTable: FlowTable;
  /** A node has said of a flow what becomes of it. */
  readonly onProgrammed: (key: FlowKey) => void;
}

export function gatewayService(options: GatewayServiceOptions): ReturnType<typeof implement> {
  const running = (): TableSet => {
    const set = options.core.running;
    if (set === null)
      throw new Fault('unavailable', `no revision is live on this gateway yet: see detour status`);
    return set;
  };
  return implement(GatewayService, {
    trace: unary((request: TraceRequest) => trace(options.traceView(running()), request)),
    getFlows: serverStream(
      (request: GetFlowsRequest, { signal }: { signal: AbortSignal }): AsyncIterable<FlowRow> =>
        flowRows(options.flows(running()), request, signal),
    ),
    getStatus: unary(async () => options.status()),
    getCounters: unary(async () => countersResponse(options.counters, options.core.running)),
    programFlow: unary(async (request: ProgramFlowRequest) =>
      programFlow(
        { model: running().model, flows: options.flowTable, onProgrammed: options.onProgrammed },
        request,
      ),
    ),
    getTables: unary(async (): Promise<TablesResponse> => {
      const set = running();
      return tablesResponse(set, options.core.liveTables?.chains ?? new Map(), options.health);
    }),
  });
}

async function trace(view: TraceView, request: TraceRequest): Promise<TraceResponse> {
  const { tuple } = request;
  if (tuple === undefined || tuple.src.length !== 16 || tuple.dst.length !== 16) {
    throw new Fault('invalid', 'the request needs a tuple with addresses of 16 bytes');
  }
  const known = [
    ...view.model.ports.map((row) => row.name),
    ...everyNode(view.model).map((row) => row.label),
  ];
  if (!known.includes(request.port)) {
    throw new Fault(
      'not_found',
      `gateway ${view.model.gateway} has no port or node ${request.port}: it has ${known.join(', ')}`,
    );
  }
  const answer = await tracePacket(view, {
    port: request.port,
    tuple,
    syn: request.syn,
    lengthBytes: request.length === 0 ? 60 : request.length,
    ttl: request.ttl === 0 ? 64 : request.ttl,
  });
  return { ...answer, steps: [...answer.steps] };
}

function countersResponse(maps: CounterMaps, set: TableSet | null): CountersResponse {
  const ports = [...(set?.model.ports ?? []), ...(set?.model.servicePorts ?? [])];
  return {
    drops: readDrops(maps),
    stats: readStats(maps),
    ports: ports.map((port) => {
      const row = readPort(maps, port.number);
      return { name: port.name, ...row };
    }),
    rules: [...(set?.ruleRows ?? [])].map((rule) => ({ name: rule.name, ...readRule(maps, rule.number) })),
    examples: readExamples(maps).map((example) => ({
      reason: example.reason,
      tuple: { ...example.tuple },
      port: ports.find((port) => port.number === example.port)?.name ?? '',
      agoMs: BigInt(example.agoMs),
    })),
  };
}
