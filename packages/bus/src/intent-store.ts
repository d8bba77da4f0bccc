// SPDX-License-Identifier: Apache-2.0
// Intent revisions as bytes, each under its own SHA-256, in an object store.
import { createHash } from 'node:crypto';
import { INTENT_STORE } from '@detour/contracts';
import { Fault } from '@detour/core';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/nats-core';
import { type ObjectStore, Objm } from '@nats-io/obj';
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

function openObjects(connection: NatsConnection): Promise<ObjectStore> {
  return new Objm(jetstream(connection, { timeout: CALL_TIMEOUT_MS })).create(INTENT_STORE);
}

/**
 * A document of one chunk, by two direct gets: opening the store and reading by a consumer takes six round trips, in which packets are
 * still treated by the revision before. Null for whatever is not read so: a long document, one that this server does not have yet, no store.
 * The layout is that of JetStream object stores (NATS ADR-20): `$O.<store>.M.<name>` describes, `$O.<store>.C.<nuid>` are the chunks.
 */
async function readShort(connection: NatsConnection, sha256: string): Promise<Uint8Array | null> {
  const { direct } = await jetstreamManager(connection, { checkAPI: false, timeout: CALL_TIMEOUT_MS });
  const last = (subject: string) =>
    direct.getMessage(`OBJ_${INTENT_STORE}`, { last_by_subj: `$O.${INTENT_STORE}.${subject}` });
  try {
    const name = Buffer.from(sha256).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
    const described: unknown = (await last(`M.${name}`))?.json();
    if (typeof described !== 'object' || described === null) return null;
    const { nuid, chunks, deleted } = described as Record<string, unknown>;
    if (typeof nuid !== 'string' || !/^\w+$/.test(nuid) || chunks !== 1 || deleted === true) return null;
    const bytes = (await last(`C.${nuid}`))?.data ?? null;
    return bytes !== null && sha256Of(bytes) === sha256 ? bytes : null;
  } catch {
    return null; // the way around says what is wrong, if anything is
  }
}

export function openIntentStore(bus: Bus): IntentStore {
  const inTime = async <T>(doing: string, act: (connection: NatsConnection) => Promise<T>): Promise<T> => {
    const connection = bus.connection();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const fault = new Fault('timeout', `${doing}: NATS did not answer within ${CALL_TIMEOUT_MS} ms`);
      timer = setTimeout(() => reject(fault), CALL_TIMEOUT_MS);
    });
    try {
      return await Promise.race([act(connection), late]);
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
      await inTime(`storing the intent ${sha256}`, async (connection) => {
        const store = await openObjects(connection);
        if ((await store.info(sha256)) === null) await store.putBlob({ name: sha256 }, bytes);
      });
      return sha256;
    },
    get: async (sha256) => {
      const bytes = await inTime(
        `reading the intent ${sha256}`,
        async (connection) =>
          (await readShort(connection, sha256)) ?? (await openObjects(connection)).getBlob(sha256),
      );
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
