// SPDX-License-Identifier: Apache-2.0
/** Which processes a stack has, where each runs, and with what environment; pure. */
import { fileURLToPath } from 'node:url';

export const controllerServices = ['classifier', 'path-selector', 'stats-collector'] as const;
export const gatewayServices = ['tunnel-gw', 'bfd'] as const;
export type ServiceName = (typeof controllerServices)[number] | (typeof gatewayServices)[number];

export interface GatewayPlace {
  /** The gateway's name in the intent. */
  readonly name: string;
  readonly ns: string;
  /** Its address on the management network. */
  readonly management: string;
  /** Devices that are guarded before the first revision is live. */
  readonly guardDevices: readonly string[];
  /** What its routing daemon announces while it steers; default nothing. */
  readonly announce?: string;
  /** Routers that speak BFD with it, as `DETOUR_ROUTERS` takes them. */
  readonly routers?: readonly string[];
}

export interface StackOptions {
  /** Where NATS, Redis and the controllers run; default `mgmt`. */
  readonly ns?: string;
  /** Their address; default 172.30.0.1. */
  readonly address?: string;
  /** Default: edge1 of the standard lab. */
  readonly gateways?: readonly GatewayPlace[];
  /** Which services are started; default all five. */
  readonly services?: readonly ServiceName[];
  /** How many of each controller; default 1. The second classifier is called `classifier-2`. */
  readonly replicas?: Partial<Record<(typeof controllerServices)[number], number>>;
  /** Where traces go; default nowhere. */
  readonly otlp?: string;
  /** Share of new flows that are traced, 0 to 1; default 1 with `otlp`. */
  readonly traceRatio?: number;
  /** Default `info`. */
  readonly logLevel?: string;
  /** More environment, or other values, per process; `id` as in `PlannedProcess`. */
  readonly env?: (service: ServiceName, id: string) => Readonly<Record<string, string>>;
}

export interface PlannedProcess {
  /** Unique in the stack: the service's name, with `-2`, `-3` … for replicas and `@GATEWAY` on gateways after the first. */
  readonly id: string;
  readonly service: ServiceName;
  readonly ns: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Where its readiness and metrics are served. */
  readonly metrics: { readonly address: string; readonly port: number };
}

export const natsPort = 4222;
export const natsMonitorPort = 8222;
export const redisPort = 6379;
const firstMetricsPort = 9401;

const standardGateway: GatewayPlace = {
  name: 'edge1',
  ns: 'edge1',
  management: '172.30.0.2',
  guardDevices: ['eth1', 'eth2'],
};

export interface LabPaths {
  /** The lab's directory. */
  readonly dir: string;
  /** Start of the lab's pin paths. */
  readonly pinPrefix: string;
}

export function planStack(options: StackOptions, paths: LabPaths): PlannedProcess[] {
  const ns = options.ns ?? 'mgmt';
  const address = options.address ?? '172.30.0.1';
  let port = firstMetricsPort;
  const plan = (
    service: ServiceName,
    id: string,
    place: { ns: string; address: string },
    own: Record<string, string>,
  ): PlannedProcess => {
    const metrics = { address: place.address, port };
    port += 1;
    const env = {
      DETOUR_NATS: `nats://${address}:${natsPort}`,
      DETOUR_REDIS: `unix:${redisSocket(paths)}`,
      DETOUR_LISTEN: `${place.address}:0`,
      DETOUR_METRICS: `${metrics.address}:${metrics.port}`,
      DETOUR_INSTANCE: id.replace('@', '-'),
      DETOUR_LOG: options.logLevel ?? 'info',
      ...(options.otlp && { DETOUR_OTLP: options.otlp, DETOUR_TRACE_RATIO: String(options.traceRatio ?? 1) }),
      ...own,
      ...options.env?.(service, id),
    };
    const main = fileURLToPath(new URL(`../../../services/${service}/dist/main.js`, import.meta.url));
    return { id, service, ns: place.ns, argv: [process.execPath, main], env, metrics };
  };
  const controllers = controllerServices.flatMap((service) =>
    Array.from({ length: options.replicas?.[service] ?? 1 }, (_, i) =>
      plan(service, i === 0 ? service : `${service}-${i + 1}`, { ns, address }, {}),
    ),
  );
  const gateways = (options.gateways ?? [standardGateway]).flatMap((gateway, i) =>
    gatewayServices.map((service) =>
      plan(
        service,
        i === 0 ? service : `${service}@${gateway.name}`,
        { ns: gateway.ns, address: gateway.management },
        {
          DETOUR_GATEWAY: gateway.name,
          DETOUR_RUN_DIR: `${paths.dir}/run-${gateway.name}`,
          DETOUR_PIN_DIR: `${paths.pinPrefix}${gateway.name}`,
          DETOUR_GUARD_DEVICES: gateway.guardDevices.join(','),
          ...(gateway.announce && { DETOUR_ANNOUNCE: gateway.announce }),
          ...(gateway.routers && {
            DETOUR_ROUTERS: gateway.routers.join(','),
            DETOUR_ROUTER_MULTIPLIER: '5',
          }),
        },
      ),
    ),
  );
  const { services } = options;
  return [...controllers, ...gateways].filter(({ service }) => services?.includes(service) ?? true);
}

export function redisSocket(paths: LabPaths): string {
  return `${paths.dir}/redis.sock`;
}
