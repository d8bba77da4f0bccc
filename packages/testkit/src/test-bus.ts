// SPDX-License-Identifier: Apache-2.0
// A nats-server with any number of connections to it, all closed together.
import { type Bus, connectBus } from '@detour/bus';
import { Fault, silentLog } from '@detour/core';
import { type NatsServer, startNats } from './nats.js';

export interface TestBus extends AsyncDisposable {
  readonly nats: NatsServer;
  /** Ends the process's life, as its connections see it. */
  readonly life: AbortController;
  /** A new connection, in the background; to this server unless another URL is given. */
  connect(url?: string): Bus;
}

export async function startTestBus(): Promise<TestBus> {
  const nats = await startNats();
  const life = new AbortController();
  const open: Bus[] = [];
  return {
    nats,
    life,
    connect: (url = nats.url) => {
      const bus = connectBus({ servers: [url], name: 'test', signal: life.signal, log: silentLog });
      open.push(bus);
      return bus;
    },
    [Symbol.asyncDispose]: async () => {
      for (const bus of open.splice(0)) await bus[Symbol.asyncDispose]();
      life.abort();
      await nats[Symbol.asyncDispose]();
    },
  };
}

/** The code of the Fault with which `work` ends; null when it succeeds. @throws what is no Fault */
export async function faultCodeOf(work: Promise<unknown>): Promise<Fault['code'] | null> {
  try {
    await work;
    return null;
  } catch (error) {
    if (error instanceof Fault) return error.code;
    throw error;
  }
}
