// SPDX-License-Identifier: Apache-2.0
/** The standard lab with all of Detour running in it, and a way to ask the gateway itself, which needs neither NATS nor a controller. */
import {
  BfdClient,
  type CountersResponse,
  type FlowRow,
  GatewayClient,
  type GatewayStatus,
  HealthState,
  type SelectionRow,
} from '@detour/contracts';
import type { IntentDocument } from '@detour/intent';
import {
  createLab,
  type Forward,
  type HttpResult,
  type Lab,
  type RunResult,
  type Stack,
  type StackOptions,
  standardAddresses,
  standardIntent,
  standardLab,
  standardPorts,
  startForward,
  startStack,
  startTraffic,
  type TrafficAgent,
  type UdpReport,
  type UdpStream,
  waitFor,
} from '@detour/lab';
import { callUnary, connectClient, readStream } from '@detour/rpc';

/** Detection within half a second: sooner than any test waits, later than a busy machine delays a packet. */
export const bfdTiming = { intervalMs: 100, multiplier: 5 } as const;

const gatewayPort = 7001;
const bfdPort = 7002;
const callMs = 10_000;

export interface RigOptions {
  /** The datapath decides new connections, as it does by default; else every flow is asked about, for tests of who answers. */
  readonly datapathDecides?: boolean;
  readonly replicas?: StackOptions['replicas'];
  /** More environment, per process. */
  readonly env?: StackOptions['env'];
  /** Runs when the lab stands and no service is started yet. */
  readonly beforeStack?: (lab: Lab) => Promise<void>;
  /** How often node exporters are read, ms; stale after three times that. Default 1,000. */
  readonly scrapeEveryMs?: number;
  /** Whether the intent is applied and both nodes are awaited; default true. */
  readonly apply?: boolean;
}

/** Edge1 with fw1 (BIRD) and fw2 (FRR), its clients and its servers. */
export interface Rig extends AsyncDisposable {
  readonly lab: Lab;
  readonly stack: Stack;
  readonly client: TrafficAgent;
  readonly intent: IntentDocument;
  apply(document: IntentDocument, ...flags: readonly string[]): Promise<RunResult>;
  /** What tunnel-gw says of itself. @throws Fault `unavailable` while it does not answer. */
  status(): Promise<GatewayStatus>;
  flows(): Promise<FlowRow[]>;
  /** Drops by reason, verdicts (rx, forwarded, passed, punted, dropped …) and ports as the datapath counted them. */
  counters(): Promise<CountersResponse>;
  health(): Promise<Record<string, string>>;
  /** How many slots of the selection table each node has: 0 takes no new flows. */
  shares(): Promise<Record<string, number>>;
  /** Generation of each chain's selection table: it moves whenever what its flows depend on moves. */
  generations(): Promise<Record<string, number>>;
  bfdSessions(): Promise<{ id: string; state: string; downs: number; health: string }[]>;
  /** A new TCP flow with one request; `localPort` makes it known in `flows`. */
  get(options?: { readonly port?: number; readonly timeoutMs?: number }): Promise<HttpResult>;
  /** A numbered stream to the echo server, steered, once each of its flows is established in the datapath. */
  stream(options?: { readonly flows?: number; readonly pps?: number }): Promise<UdpStream>;
  /** Waits until `check` holds of what tunnel-gw says; while it does not answer, it does not hold. */
  until(what: string, check: (status: GatewayStatus) => boolean, timeoutMs?: number): Promise<GatewayStatus>;
  untilCounters(what: string, check: (counted: CountersResponse) => boolean): Promise<void>;
  untilFlows(what: string, check: (rows: readonly FlowRow[]) => boolean): Promise<void>;
}

const healthNames: Readonly<Record<number, string>> = {
  [HealthState.UP]: 'up',
  [HealthState.DOWN]: 'down',
  [HealthState.ADMIN_DOWN]: 'admin-down',
  [HealthState.UNKNOWN]: 'unknown',
  [HealthState.STALE]: 'stale',
};

/** @param name of the lab; give each test file its own. */
export async function raiseRig(name: string, options: RigOptions = {}): Promise<Rig> {
  const lab = await createLab(standardLab({ bfd: bfdTiming }), { name });
  const open: AsyncDisposable[] = [lab];
  const close = async (): Promise<void> => {
    for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
  };
  try {
    const listen: Readonly<Record<string, string>> = {
      'tunnel-gw': `${standardAddresses.edgeManagement}:${gatewayPort}`,
      bfd: `${standardAddresses.edgeManagement}:${bfdPort}`,
    };
    await options.beforeStack?.(lab);
    const stack = await startStack(lab, {
      ...(options.replicas && { replicas: options.replicas }),
      env: (service, id) => ({
        ...(listen[id] && { DETOUR_LISTEN: listen[id] }),
        ...(service === 'tunnel-gw' && options.datapathDecides !== true && { DETOUR_BEGIN_RATE: '0' }),
        ...options.env?.(service, id),
      }),
    });
    open.push(stack);
    const client = startTraffic(lab, 'client');
    open.push(client);
    const forwardTo = async (port: number): Promise<Forward> => {
      const forward = await startForward(lab, 'mgmt', { address: standardAddresses.edgeManagement, port });
      open.push(forward);
      return forward;
    };
    const gateway = await forwardTo(gatewayPort);
    const bfd = await forwardTo(bfdPort);
    const { scrapeEveryMs = 1_000 } = options;
    const intent = standardIntent({ bfd: bfdTiming, scrapeEveryMs });
    const rig = rigOf({ lab, stack, client, intent, close }, { gateway, bfd });
    if (options.apply !== false) {
      const applied = await rig.apply(intent, '--wait', '--timeout', '60s');
      if (applied.code !== 0) throw new Error(`apply: exit code ${applied.code}: ${applied.stderr}`);
      await rig.until('both firewalls up', bothUp, 60_000);
    }
    return rig;
  } catch (error) {
    await close();
    throw error;
  }
}

/** Both firewalls may get new flows, and the ways to them are known. */
export function bothUp({ nodes }: GatewayStatus): boolean {
  return nodes.length === 2 && nodes.every((node) => node.health === HealthState.UP && node.hopReady);
}

/** Health as tunnel-gw shows it, by node: `up`, `stale` … */
export function healthOf({ nodes }: GatewayStatus): Record<string, string> {
  return Object.fromEntries(nodes.map((node) => [node.name, healthNames[node.health] ?? 'unspecified']));
}

type Parts = Pick<Rig, 'lab' | 'stack' | 'client' | 'intent'> & { readonly close: () => Promise<void> };

function rigOf(parts: Parts, at: { readonly gateway: Forward; readonly bfd: Forward }): Rig {
  const { lab, stack, client, intent, close } = parts;
  const useGateway = async <T>(ask: (gateway: GatewayClient) => Promise<T>): Promise<T> => {
    using connection = connectClient(GatewayClient, `127.0.0.1:${at.gateway.port}`);
    return await ask(connection.client);
  };
  const status = (): Promise<GatewayStatus> =>
    useGateway((gateway) => callUnary(gateway.getStatus.bind(gateway), {}, { deadlineMs: callMs }));
  const flows = (): Promise<FlowRow[]> =>
    useGateway(async (gateway) => {
      const rows: FlowRow[] = [];
      const request = { node: '', path: '', chain: '', limit: 10_000, address: new Uint8Array(), vrf: '' };
      const signal = AbortSignal.timeout(callMs);
      for await (const row of readStream(gateway.getFlows(request), { signal })) rows.push(row);
      return rows;
    });
  const counters = (): Promise<CountersResponse> =>
    useGateway((gateway) => callUnary(gateway.getCounters.bind(gateway), {}, { deadlineMs: callMs }));
  const selectionRows = async (): Promise<SelectionRow[]> => {
    const ask = (gateway: GatewayClient) =>
      callUnary(gateway.getTables.bind(gateway), {}, { deadlineMs: callMs });
    return (await useGateway(ask)).selections;
  };
  const until: Rig['until'] = (what, check, timeoutMs = 40_000) =>
    waitFor(
      async () => {
        const now = await status().catch(() => undefined);
        return now !== undefined && check(now) ? now : undefined;
      },
      { what, timeoutMs, everyMs: 50 },
    );
  return {
    lab,
    stack,
    client,
    intent,
    status,
    flows,
    until,
    apply: (document, ...flags) =>
      stack.cli(['apply', '-f', '-', ...flags], { input: JSON.stringify(document), timeoutMs: 90_000 }),
    counters,
    async untilCounters(what, check) {
      await waitFor(async () => check(await counters()), { what, timeoutMs: 40_000, everyMs: 50 });
    },
    async untilFlows(what, check) {
      await waitFor(async () => check(await flows()), { what, timeoutMs: 40_000, everyMs: 50 });
    },
    health: async () => healthOf(await status()),
    async shares() {
      const rows = (await selectionRows()).flatMap(({ shares }) => shares);
      return Object.fromEntries(rows.map(({ nodes, slots }) => [nodes.join(), slots]));
    },
    async generations() {
      const selections = await selectionRows();
      return Object.fromEntries(selections.map(({ chain, gen }) => [chain, gen]));
    },
    async bfdSessions() {
      using connection = connectClient(BfdClient, `127.0.0.1:${at.bfd.port}`);
      const ask = connection.client.listSessions.bind(connection.client);
      const { sessions } = await callUnary(ask, {}, { deadlineMs: callMs });
      return sessions.map(({ id, state, downs, health }) => ({
        ...{ id, state, downs },
        health: healthNames[health] ?? 'unspecified',
      }));
    },
    get: ({ port = 80, timeoutMs = 5_000 } = {}) =>
      client.httpGet({ remote: { address: standardAddresses.server, port }, path: '/', timeoutMs }),
    async stream({ flows: count = 8, pps = 400 } = {}) {
      const remote = { address: standardAddresses.server, port: standardPorts.echo };
      const stream = await client.startUdp({
        ...{ remote, localAddresses: [standardAddresses.client], flows: count, pps },
      });
      const ports = new Set(stream.localPorts.map(({ port }) => port));
      const established = async (): Promise<boolean> => {
        const rows = await flows();
        return rows.filter((row) => row.established && ports.has(row.tuple?.sport ?? 0)).length === count;
      };
      await waitFor(established, { what: `${count} established flows`, timeoutMs: 40_000, everyMs: 50 });
      return stream;
    },
    [Symbol.asyncDispose]: close,
  };
}

/** Packets that did not come back although the path was there: loss of the measurement itself is taken off. */
export function lostPackets(report: UdpReport): number {
  return Math.max(0, report.lost - report.receiveBufferErrors);
}

/** The node through which the flow from this local port goes; undefined when there is no such flow. */
export function nodeOf(rows: readonly FlowRow[], localPort: number): string | undefined {
  return rows.find((row) => row.tuple?.sport === localPort || row.tuple?.dport === localPort)?.nodes[0];
}
