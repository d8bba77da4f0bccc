// SPDX-License-Identifier: Apache-2.0
/**
 * The lab of an acceptance test: the standard one with three firewalls, the stack with addresses that are known beforehand, a crowd, and
 * the questions that tests ask the gateway over gRPC.
 */
import type { CountersResponse, FlowRow, GatewayStatus, TablesResponse } from '@detour/contracts';
import { Fault } from '@detour/core';
import type { IntentDocument } from '@detour/intent';
import {
  createLab,
  type Firewall,
  type Lab,
  type LabSpec,
  openFirewall,
  type Stack,
  type StackOptions,
  standardIntent,
  standardLab,
  startForward,
  startStack,
  waitFor,
} from '@detour/lab';
import { type Crowd, startCrowd, withCrowdAddresses } from './crowd.js';
import { applyIntent, askGateway, type GatewayQuestions } from './gateway-questions.js';

export const controllersAt = '172.30.0.1';
/** gRPC ports of this stack's processes, by id. */
export const grpcPorts: Readonly<Record<string, number>> = {
  classifier: 7001,
  'path-selector': 7002,
  'stats-collector': 7003,
  'tunnel-gw': 7004,
  bfd: 7005,
  'classifier-2': 7011,
  'path-selector-2': 7012,
  'stats-collector-2': 7013,
};
export const gatewayAt = '172.30.0.2';

/**
 * The default formula without what gateways measure of nodes: where shares are compared with scores to the last digit, the packets of this
 * machine's own crowd must not move them.
 */
export const usageFormula = 'capacity * (1 - max(cpu, memory, connections / maxConnections)) * zoneFactor';

export interface AcceptanceOptions {
  readonly firewalls?: number;
  readonly intent?: (standard: IntentDocument) => IntentDocument;
  /** What the lab has beside the standard one. */
  readonly spec?: (standard: LabSpec) => LabSpec;
  /** More settings of tunnel-gw. */
  readonly gateway?: Readonly<Record<string, string>>;
  /** The same of path-selectors. */
  readonly pathSelector?: Readonly<Record<string, string>>;
  readonly replicas?: StackOptions['replicas'];
  /** Runs when the lab stands and no service is started yet. */
  readonly beforeStack?: (lab: Lab) => Promise<void>;
  /** Which nodes must be up before the test begins; default all. */
  readonly awaitUp?: readonly string[];
}

export interface AcceptanceLab extends AsyncDisposable {
  readonly lab: Lab;
  readonly stack: Stack;
  readonly crowd: Crowd;
  readonly firewalls: readonly Firewall[];
  firewall(name: string): Firewall;
  apply(intent: IntentDocument): Promise<void>;
  counters(): Promise<CountersResponse>;
  status(): Promise<GatewayStatus>;
  tables(): Promise<TablesResponse>;
  /** Every flow record of the gateway. */
  flows(): Promise<FlowRow[]>;
  program: GatewayQuestions['program'];
  /** Resolves when the gateway shows these nodes as up (or not up). */
  awaitNodes(names: readonly string[], up: boolean): Promise<void>;
  /** Port on loopback that leads to an address of the management network. */
  reach(port: number, address?: string): Promise<number>;
}

/** Health is found out as in the standard lab, a little slower: the machine may be busy with the test's own traffic. */
const bfd = { intervalMs: 100, multiplier: 3 } as const;

/** The stack, the firewalls and the crowd; the intent is applied, and the nodes are up. */
export async function startAcceptanceLab(
  name: string,
  options: AcceptanceOptions = {},
): Promise<AcceptanceLab> {
  const count = options.firewalls ?? 3;
  const standardSpec = standardLab({ firewalls: count, bfd, daemons: Array(count).fill('bird') });
  const spec = withCrowdAddresses(options.spec?.(standardSpec) ?? standardSpec);
  const lab = await createLab(spec, { name: `${name}-${process.pid}` });
  const closers: AsyncDisposable[] = [lab];
  const close = async (): Promise<void> => {
    for (const one of closers.reverse()) await one[Symbol.asyncDispose]();
  };
  try {
    await options.beforeStack?.(lab);
    const stack = await startStack(lab, {
      ...(options.replicas && { replicas: options.replicas }),
      env: (service, id) => ({
        DETOUR_LISTEN: `${service === 'tunnel-gw' || service === 'bfd' ? gatewayAt : controllersAt}:${grpcPorts[id]}`,
        ...(service === 'tunnel-gw' && { ...gatewayLimits, ...options.gateway }),
        ...(service === 'path-selector' && { DETOUR_REDIS_BUDGET: '1s', ...options.pathSelector }),
      }),
    });
    closers.push(stack);
    const reach = async (port: number, address = controllersAt): Promise<number> => {
      const forward = await startForward(lab, 'mgmt', { address, port });
      closers.push(forward);
      return forward.port;
    };
    const port = await reach(grpcPorts['tunnel-gw'] ?? 0, gatewayAt);
    const gateway = askGateway(port);
    closers.push(gateway);
    const crowd = startCrowd(lab);
    closers.push(crowd);
    const firewalls = Array.from({ length: count }, (_, i) => openFirewall(lab, `fw${i + 1}`));
    const made: AcceptanceLab = {
      lab,
      stack,
      crowd,
      firewalls,
      firewall: (which) => firewalls.find((one) => one.name === which) ?? openFirewall(lab, which),
      apply: (intent) => applyIntent(stack, intent),
      counters: () => again(gateway.counters),
      status: () => again(gateway.status),
      tables: gateway.tables,
      flows: gateway.flows,
      program: gateway.program,
      awaitNodes: async (names, up) => {
        await waitFor(
          async () => {
            const { policies } = await made.tables();
            return names.every((node) =>
              policies.some((row) => row.path === node && (row.bfd === 'up') === up),
            );
          },
          { what: `${names.join(', ')} to be ${up ? 'up' : 'not up'}`, timeoutMs: 30_000, everyMs: 25 },
        );
      },
      reach,
      [Symbol.asyncDispose]: close,
    };
    const standard = standardIntent({ firewalls: count, bfd });
    await made.apply(options.intent?.(standard) ?? standard);
    await made.awaitNodes(options.awaitUp ?? firewalls.map((one) => one.name), true);
    return made;
  } catch (error) {
    await close();
    throw error;
  }
}

/** A test that computes for a second misses keepalives, and its connection is closed: the question is asked anew. */
async function again<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof Fault && error.code === 'unavailable') return ask();
    throw error;
  }
}

/** Room for the crowds of these tests, and time for questions on a busy machine: what is tested is which answer, not how soon. */
export const gatewayLimits = {
  DETOUR_MAX_FLOWS: '262144',
  DETOUR_MAX_EMBRYOS: '262144',
  DETOUR_DECIDE_WITHIN: '3s',
};
