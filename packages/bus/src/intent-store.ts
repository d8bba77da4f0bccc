// SPDX-License-Identifier: Apache-2.0
// Intent revisions as bytes, each under its own SHA-256, in an object store.
import { createHash } from 'node:crypto';
import { INTENT_STORE } from '@detour/contracts';
import { Fault } from '@detour/core';
import { jetstream } from '@nats-io/jetstream';
import { Objm } from '@nats-io/obj';
import type { Bus } from './connection.js';
import { faultOfNats } from './nats-fault.js';

const CALL_TIMEOUT_MS = 5_000;
/** Longest document that is stored. */
export const MAX_INTENT_BYTES = 8 * 1024 * 1024;

export interface IntentStore {
  /** Stores `bytes` and answers their SHA-256 in hex. @throws Fault `invalid` | `unavailable` | `timeout` */
  put(bytes: Uint8Array): Promise<string>;
  /** The bytes under `sha256`, verified. @throws Fault `not_found` | `internal` | `unavailable` | `timeout` */
  get(sha256: string): Promise<Uint8Array>;
}

const sha256Of = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

export function openIntentStore(bus: Bus): IntentStore {
  const withStore = async <T>(
    doing: string,
    act: (store: Awaited<ReturnType<Objm['create']>>) => Promise<T>,
  ): Promise<T> => {
    const connection = bus.connection();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const fault = new Fault('timeout', `${doing}: NATS did not answer within ${CALL_TIMEOUT_MS} ms`);
      timer = setTimeout(() => reject(fault), CALL_TIMEOUT_MS);
    });
    const work = async () => {
      const objects = new Objm(jetstream(connection, { timeout: CALL_TIMEOUT_MS }));
      return act(await objects.create(INTENT_STORE));
    };
    try {
      return await Promise.race([work(), late]);
    } catch (error) {
      throw faultOfNats(doing, error);
    } finally {
      clearTimeout(timer);
    }
  };
  return {
    put: async (bytes) => {
      if (bytes.length > MAX_INTENT_BYTES) {
        const detail = `the intent document has ${bytes.length} bytes: at most ${MAX_INTENT_BYTES} are stored`;
        throw new Fault('invalid', detail);
      }
      const sha256 = sha256Of(bytes);
      await withStore(`storing the intent ${sha256}`, async (store) => {
        if ((await store.info(sha256)) === null) await store.putBlob({ name: sha256 }, bytes);
      });
      return sha256;
    },
    get: async (sha256) => {
      const bytes = await withStore(`reading the intent ${sha256}`, (store) => store.getBlob(sha256));
      if (bytes === null) {
        throw new Fault('not_found', `no intent with SHA-256 ${sha256} is stored: apply it again`);
      }
      if (sha256Of(bytes) !== sha256) {
        throw new Fault(
          'internal',
          `the intent stored as ${sha256} has SHA-256 ${sha256Of(bytes)}: apply it again`,
        );
      }
      return bytes;
    },
  };
}
