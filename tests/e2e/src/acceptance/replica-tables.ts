// SPDX-License-Identifier: Apache-2.0
/** The tables that replicas of a controller publish for the gateway, as the bytes that they send. */
import {
  ClassifierClient,
  PathSelectorClient,
  PathUpdate,
  RuleUpdate,
  type TableVersion,
  WatchRequest,
} from '@detour/contracts';
import { waitFor } from '@detour/lab';
import { openStream } from '@detour/rpc';
import { type AcceptanceLab, grpcPorts } from './acceptance-lab.js';

export interface ReplicaTable {
  readonly version: TableVersion;
  /** The whole update: version, every row, digest. */
  readonly bytes: Uint8Array;
  readonly digest: Uint8Array;
  readonly rows: number;
}

type Controller = 'classifier' | 'path-selector';

/** What a replica sends to a gateway that holds nothing yet. */
function readTable(controller: Controller, port: number): Promise<ReplicaTable> {
  const hello = WatchRequest.fromPartial({ gateway: 'edge1' });
  const address = `127.0.0.1:${port}`;
  return new Promise((resolve, reject) => {
    const take = (update: PathUpdate | RuleUpdate, bytes: Uint8Array) => {
      const { version, full, digest, upserts } = update;
      if (version === undefined || !full) reject(new Error('the first update is no full table'));
      else resolve({ version, bytes, digest, rows: upserts.length });
    };
    const stream =
      controller === 'path-selector'
        ? openStream(PathSelectorClient, address, (client) => client.watchPaths())
        : openStream(ClassifierClient, address, (client) => client.watchRules());
    const { call } = stream;
    call.on('error', reject);
    call.on('data', (update: PathUpdate | RuleUpdate) => {
      take(
        update,
        controller === 'path-selector'
          ? PathUpdate.encode(update as PathUpdate).finish()
          : RuleUpdate.encode(update as RuleUpdate).finish(),
      );
      stream.close();
    });
    call.write(hello);
  });
}

/** Tables of both replicas, of the same version: each follows the bucket by itself, so one may be a moment ahead. */
export async function readReplicas(
  bench: AcceptanceLab,
  controller: Controller,
): Promise<readonly [ReplicaTable, ReplicaTable]> {
  const ports = [
    await bench.reach(grpcPorts[controller] ?? 0),
    await bench.reach(grpcPorts[`${controller}-2`] ?? 0),
  ] as const;
  return waitFor(
    async () => {
      const [one, other] = [await readTable(controller, ports[0]), await readTable(controller, ports[1])];
      const same =
        one.version.epoch === other.version.epoch && one.version.sequence === other.version.sequence;
      return same ? ([one, other] as const) : undefined;
    },
    { what: `both replicas of ${controller} to publish the same version` },
  );
}
