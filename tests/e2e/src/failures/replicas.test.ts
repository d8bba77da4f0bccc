// SPDX-License-Identifier: Apache-2.0
import { ClassifierClient, PathSelectorClient, PathUpdate, RuleUpdate } from '@detour/contracts';
import { startForward, waitFor } from '@detour/lab';
import { openStream } from '@detour/rpc';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bothUp, lostPackets, type Rig, raiseRig } from './rig.js';

const management = '172.30.0.1';
/** Fixed, so that this process can ask each replica. */
const ports: Readonly<Record<string, number>> = {
  classifier: 7011,
  'classifier-2': 7012,
  'path-selector': 7021,
  'path-selector-2': 7022,
};
const firsts = ['classifier', 'path-selector', 'stats-collector'] as const;
const seconds = ['classifier-2', 'path-selector-2', 'stats-collector-2'] as const;

describe('two of each controller', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await raiseRig('fail-replicas', {
      replicas: { classifier: 2, 'path-selector': 2, 'stats-collector': 2 },
      env: (_service, id): Record<string, string> =>
        id in ports ? { DETOUR_LISTEN: `${management}:${ports[id]}` } : {},
    });
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  /** The whole table as a replica gives it to edge1, as bytes on the wire. */
  const tableOf = async (id: string): Promise<Uint8Array> => {
    await using forward = await startForward(rig.lab, 'mgmt', { address: management, port: ports[id] ?? 0 });
    const address = `127.0.0.1:${forward.port}`;
    const request = { gateway: 'edge1', have: undefined, ack: undefined };
    const first = <T>(call: NodeJS.ReadableStream): Promise<T> =>
      new Promise((resolve, reject) => {
        call.once('data', resolve);
        call.once('error', reject);
      });
    if (id.startsWith('classifier')) {
      const { call, close } = openStream(ClassifierClient, address, (client) => client.watchRules());
      call.write(request);
      const update = await first<RuleUpdate>(call).finally(close);
      return RuleUpdate.encode(update).finish();
    }
    const { call, close } = openStream(PathSelectorClient, address, (client) => client.watchPaths());
    call.write(request);
    const update = await first<PathUpdate>(call).finally(close);
    return PathUpdate.encode(update).finish();
  };
  const decidedByController = async (): Promise<void> => {
    const { decided } = await rig.status();
    await rig.until('a decision of the controllers', (now) => {
      void rig.get();
      return Number(now.decided.controller ?? 0n) > Number(decided.controller ?? 0n);
    });
  };

  it.each([
    ['classifier', 'classifier-2'],
    ['path-selector', 'path-selector-2'],
  ])('%s and %s give the same table, byte for byte, and it is the one in force', async (one, other) => {
    // A score may be published between the two reads: then they are of different versions, and are read again.
    const same = async (): Promise<boolean> => {
      const [mine, theirs] = await Promise.all([tableOf(one), tableOf(other)]);
      const decode = one === 'classifier' ? RuleUpdate.decode : PathUpdate.decode;
      const [a, b] = [decode(mine), decode(theirs)];
      if (a.version?.sequence !== b.version?.sequence) return false;
      expect(Buffer.from(theirs).toString('hex')).toBe(Buffer.from(mine).toString('hex'));
      expect(a.full && a.upserts.length > 0 && a.digest.length === 32).toBe(true);
      const status = await rig.status();
      const digest = one === 'classifier' ? status.rulesDigest : status.pathsDigest;
      return Buffer.compare(digest, a.digest) === 0;
    };
    await waitFor(same, { what: 'the same version of both, in force', timeoutMs: 40_000, everyMs: 100 });
  });

  it.each([
    ['first', firsts],
    ['second', seconds],
  ] as const)(
    'the %s of each is killed: no packet is lost, new flows are decided by the others',
    async (_which, ids) => {
      const stream = await rig.stream();
      await Promise.all(ids.map((id) => rig.stack.kill(id)));
      for (let i = 0; i < 5; i += 1) expect(await rig.get()).toMatchObject({ ok: true, status: 200 });
      await decidedByController();
      expect(await rig.stack.cli(['drain', 'fw1'])).toMatchObject({ code: 0 });
      const drained = async (): Promise<boolean> => (await rig.shares()).fw1 === 0;
      await waitFor(drained, { what: 'the drain in the tables', timeoutMs: 40_000, everyMs: 50 });
      expect(await rig.stack.cli(['undrain', 'fw1'])).toMatchObject({ code: 0 });
      for (const id of ids) await rig.stack.start(id);
      await rig.stack.ready(ids);
      await rig.until('both firewalls up', bothUp);
      expect(lostPackets(await stream.stop())).toBe(0);
    },
  );
});
