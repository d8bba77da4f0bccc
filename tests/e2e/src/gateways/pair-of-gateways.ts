// SPDX-License-Identifier: Apache-2.0
/** Two gateways with all of Detour, routers on both sides, firewalls that know only connections that they saw begin, and ways to look at them. */
import {
  type CountersResponse,
  type FlowRow,
  GatewayClient,
  type GatewayStatus,
  HealthState,
  type TablesResponse,
} from '@detour/contracts';
import type { IntentDocument } from '@detour/intent';
import {
  createLab,
  type Firewall,
  firewallOfEach,
  firewallRefusals,
  type GatewayRouters,
  killGateway,
  type Lab,
  type LabSpec,
  openFirewall,
  processOf,
  reviveGateway,
  type Stack,
  type StackOptions,
  startForward,
  startGatewayRouters,
  startStack,
  startTraffic,
  type TrafficAgent,
  twoGateways,
  twoGatewaysIntent,
  twoGatewaysLab,
  waitFor,
} from '@detour/lab';
import { callUnary, connectClient, readStream } from '@detour/rpc';

/** Where each gateway is asked; forwards are known by their port. */
const gatewayPorts: Readonly<Record<string, number>> = { edge1: 7001, edge2: 7011 };
export const gatewayNames: readonly string[] = twoGateways.map(({ name }) => name);
const callMs = 10_000;
/** Detection within half a second: later than a busy machine delays a packet. */
const bfd = { intervalMs: 100, multiplier: 5 } as const;

export interface GatewayPairOptions {
  readonly firewalls?: number;
  readonly intent?: (standard: IntentDocument) => IntentDocument;
  readonly env?: StackOptions['env'];
  /** What the lab has beside that of two gateways. */
  readonly spec?: (standard: LabSpec) => LabSpec;
  /** Networks behind the clients' router, beside the clients' own. */
  readonly inside?: readonly string[];
}

/** What a test asks one gateway, whatever has become of NATS and the controllers. */
export interface GatewayView {
  status(): Promise<GatewayStatus>;
  flows(): Promise<FlowRow[]>;
  counters(): Promise<CountersResponse>;
  tables(): Promise<TablesResponse>;
  /** How many slots of the selection table each node has. */
  shares(): Promise<Record<string, number>>;
}

export interface GatewayPair extends AsyncDisposable {
  readonly lab: Lab;
  readonly stack: Stack;
  readonly routers: GatewayRouters;
  readonly client: TrafficAgent;
  readonly intent: IntentDocument;
  readonly firewalls: readonly Firewall[];
  at(gateway: string): GatewayView;
  /** Resolves when both gateways run it; or, without waiting, once it is published. */
  apply(intent: IntentDocument, how?: { readonly wait?: boolean }): Promise<void>;
  /** Other capacities, in force at these gateways (default: both): new flows are spread otherwise from here on. */
  reweigh(capacities: Readonly<Record<'fw1' | 'fw2' | 'fw3', number>>, at?: readonly string[]): Promise<void>;
  /** SIGKILL to everything that runs on the machine, and every link of it down. */
  killMachine(gateway: string): Promise<void>;
  /** Links and processes as before; resolves when both routers use it again. */
  reviveMachine(gateway: string): Promise<void>;
  /** The firewall that has each connection, by the client's address and port, as the firewalls themselves know it. */
  firewallOfEach(): Promise<Map<string, string>>;
  /** Packets that the firewalls dropped since they began: of connections that they do not know. */
  refusals(): Promise<number>;
}

export async function raiseGatewayPair(name: string, options: GatewayPairOptions = {}): Promise<GatewayPair> {
  const count = options.firewalls ?? 3;
  const spec = twoGatewaysLab({ firewalls: count, bfd, clientAddresses: 16 });
  const lab = await createLab(options.spec?.(spec) ?? spec, { name });
  const open: AsyncDisposable[] = [lab];
  const close = async (): Promise<void> => {
    for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
  };
  try {
    const routers = await startGatewayRouters(lab, { inside: options.inside ?? [] });
    const stack = await startStack(lab, {
      gateways: twoGateways,
      env: (service, id) => {
        const place = twoGateways.find((gateway) => id === processOf('tunnel-gw', gateway.name));
        return {
          ...(service === 'tunnel-gw' &&
            place && { DETOUR_LISTEN: `${place.management}:${gatewayPorts[place.name]}` }),
          ...options.env?.(service, id),
        };
      },
    });
    open.push(stack);
    const client = startTraffic(lab, 'client');
    open.push(client);
    const views = new Map<string, GatewayView>();
    for (const { name: gateway, management } of twoGateways) {
      const forward = await startForward(lab, 'mgmt', {
        address: management,
        port: gatewayPorts[gateway] ?? 0,
      });
      open.push(forward);
      views.set(gateway, viewOf(forward.port));
    }
    const standard = twoGatewaysIntent({ firewalls: count, bfd });
    const intent = options.intent?.(standard) ?? standard;
    const firewalls = Array.from({ length: count }, (_, i) => openFirewall(lab, `fw${i + 1}`));
    const at = (gateway: string): GatewayView => {
      const view = views.get(gateway);
      if (view === undefined) throw new RangeError(`no gateway ${gateway}: there are ${[...views.keys()]}`);
      return view;
    };
    const awaitServing = async (gateway: string): Promise<void> =>
      void (await waitFor(async () => isServing(await at(gateway).status()), serving(gateway)));
    const pair: GatewayPair = {
      ...{ lab, stack, routers, client, intent, firewalls, at },
      async apply(document, { wait = true } = {}) {
        const applied = await stack.cli(
          ['apply', '-f', '-', ...(wait ? ['--wait', '--timeout', '60s'] : [])],
          { input: JSON.stringify(document), timeoutMs: 90_000 },
        );
        if (applied.code !== 0) throw new Error(`apply: exit code ${applied.code}: ${applied.stderr}`);
      },
      async reweigh(capacities, gateways = gatewayNames) {
        const capacityOf = new Map<string, number>(Object.entries(capacities));
        const nodes = intent.nodes?.map((node) => ({ ...node, capacity: capacityOf.get(node.name) ?? 100 }));
        const wait = gateways.length === gatewayNames.length;
        await pair.apply({ ...intent, ...(nodes && { nodes }) }, { wait });
        const isInForce = async (): Promise<boolean> => {
          const shares = await Promise.all(gateways.map((gateway) => at(gateway).shares()));
          return shares.every(({ fw1 = 0, fw3 = 0 }) => fw3 > fw1 === capacities.fw3 > capacities.fw1);
        };
        await waitFor(isInForce, {
          ...{
            what: `${JSON.stringify(capacities)} at ${gateways.join(' and ')}`,
            timeoutMs: 20_000,
            everyMs: 50,
          },
        });
      },
      killMachine: (gateway) => killGateway(pair, gateway),
      async reviveMachine(gateway) {
        await reviveGateway(pair, gateway, () => awaitServing(gateway));
        await awaitSpread(routers, 2);
      },
      firewallOfEach: () => firewallOfEach(firewalls),
      refusals: () => firewallRefusals(firewalls),
      [Symbol.asyncDispose]: close,
    };
    await pair.apply(intent);
    for (const { name: gateway } of twoGateways) await awaitServing(gateway);
    await awaitSpread(routers, 2);
    return pair;
  } catch (error) {
    await close();
    throw error;
  }
}

function viewOf(port: number): GatewayView {
  const ask = async <T>(question: (gateway: GatewayClient) => Promise<T>): Promise<T> => {
    using connection = connectClient(GatewayClient, `127.0.0.1:${port}`);
    return await question(connection.client);
  };
  const tables = (): Promise<TablesResponse> =>
    ask((gateway) => callUnary(gateway.getTables.bind(gateway), {}, { deadlineMs: callMs }));
  return {
    status: () => ask((gateway) => callUnary(gateway.getStatus.bind(gateway), {}, { deadlineMs: callMs })),
    tables,
    async shares() {
      const { selections } = await tables();
      const rows = selections.flatMap(({ shares }) => shares);
      return Object.fromEntries(rows.map(({ nodes, slots }) => [nodes.join(), slots]));
    },
    counters: () =>
      ask((gateway) => callUnary(gateway.getCounters.bind(gateway), {}, { deadlineMs: callMs })),
    flows: () =>
      ask(async (gateway) => {
        const rows: FlowRow[] = [];
        const request = {
          node: '',
          path: '',
          chain: '',
          limit: 1_000_000,
          address: new Uint8Array(),
          vrf: '',
        };
        for await (const row of readStream(gateway.getFlows(request), {
          signal: AbortSignal.timeout(callMs),
        }))
          rows.push(row);
        return rows;
      }),
  };
}

/** Every node may get flows, and the ways to all of them are known. */
function isServing({ nodes }: GatewayStatus): boolean {
  return nodes.length > 0 && nodes.every((node) => node.health === HealthState.UP && node.hopReady);
}

const serving = (gateway: string) => ({
  what: `every node up at ${gateway}`,
  ...{ timeoutMs: 60_000, everyMs: 50 },
});

/** Resolves when both routers spread over this many gateways. */
export async function awaitSpread(
  routers: GatewayRouters,
  count: number,
  { everyMs = 50 } = {},
): Promise<void> {
  await waitFor(
    async () => {
      const spread = await Promise.all([routers.spreadOver('inside'), routers.spreadOver('outside')]);
      return spread.every((over) => over.length === count);
    },
    { what: `both routers to use ${count} gateways`, timeoutMs: 30_000, everyMs },
  );
}
