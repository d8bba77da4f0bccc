// SPDX-License-Identifier: Apache-2.0
/** `detour drain-gateway` and `undrain-gateway`: routers leave a gateway, and this returns when they have. */
import { type DrainValue, GatewayClient, stateKey } from '@detour/contracts';
import { Fault, systemClock } from '@detour/core';
import { type Intent, nearestWord } from '@detour/intent';
import { askInstance, askOnce } from './ask.js';
import { authorOf, type Cluster, openCluster } from './cluster.js';
import type { Console } from './console.js';
import { type DrainProgress, drainProgress, undrainProgress } from './drain-progress.js';
import { EXIT } from './exit-codes.js';
import { isGatewayDrained } from './get-state.js';
import { loadCurrent } from './history.js';
import { type Format, render } from './render.js';

const LOOK_EVERY_MS = 250;

interface DrainOptions {
  readonly draining: boolean;
  /** Also the last one. */
  readonly alone: boolean;
  readonly wait: boolean;
  readonly timeoutMs: number;
  readonly output: Format;
}

export async function drainGateway(
  console: Console,
  gateway: string,
  options: DrainOptions,
): Promise<number> {
  const { draining, alone, wait, timeoutMs, output } = options;
  await using cluster = await openCluster(console);
  const changed = await setGatewayDrain(cluster, gateway, { draining, alone, by: authorOf(console.env) });
  const said = { text: '' };
  const progress = wait
    ? await waitFor(cluster, { gateway, draining, timeoutMs, signal: console.signal }, ({ step, text }) => {
        if (step !== said.text && text !== '') console.err(`${text}\n`);
        said.text = step;
      })
    : null;
  const asked = draining ? 'is to be left by routers' : 'may be used by routers';
  const text = progress === null ? `${gateway} ${asked}\n` : progress.done ? `${progress.text}\n` : '';
  const { done = null, step = null, ...figures } = progress ?? {};
  const data = { gateway, draining, changed, done, step, ...figures, text: undefined };
  console.out(render({ data, table: text }, output));
  if (progress === null || progress.done) return EXIT.ok;
  const absent = progress.step === 'absent';
  console.err(`detour: ${absent ? '' : `after ${timeoutMs / 1000} s `}${progress.text}\n`);
  return absent ? EXIT.unavailable : EXIT.timeout;
}

/** False: it was so already. @throws Fault `not_found`, or `refused` where no other gateway would be left. */
async function setGatewayDrain(
  cluster: Cluster,
  gateway: string,
  want: { draining: boolean; alone: boolean; by: string },
): Promise<boolean> {
  const { intent } = (await loadCurrent(cluster)).revision;
  const names = intent.gateways.map(({ name }) => name);
  const drained = isGatewayDrained(cluster, gateway);
  // One that left the intent can still be undrained, so that it does not come back drained.
  if (!names.includes(gateway) && (want.draining || !drained)) {
    const nearest = nearestWord(gateway, names);
    const hint = nearest === undefined ? `gateways are ${names.join(', ')}` : `did you mean "${nearest}"?`;
    throw new Fault('not_found', `there is no gateway "${gateway}" in the intent: ${hint}`);
  }
  if (drained === want.draining) return false;
  if (want.draining && !want.alone) requireOther(cluster, intent, gateway);
  const value: DrainValue = { draining: want.draining, by: want.by, atMs: Date.now() };
  await cluster.state.put(stateKey.gatewayDrain(gateway), value);
  return true;
}

function requireOther(cluster: Cluster, intent: Intent, gateway: string): void {
  const registered = new Set(cluster.instances('tunnel-gw').map((instance) => instance.gateway));
  const others = intent.gateways.flatMap(({ name }) => {
    if (name === gateway) return [];
    return [
      { name, why: isGatewayDrained(cluster, name) ? 'is drained' : registered.has(name) ? '' : 'is absent' },
    ];
  });
  if (others.some(({ why }) => why === '')) return;
  const list = others.map(({ name, why }) => `${name} ${why}`).join(', ');
  throw new Fault(
    'refused',
    `no gateway would be left without ${gateway}${list === '' ? '' : ` (${list})`}: --alone drains it all the same`,
  );
}

/** Asks the gateway again and again; the last answer, when it is done, is not there at all, or the time is over. */
async function waitFor(
  cluster: Cluster,
  want: { gateway: string; draining: boolean; timeoutMs: number; signal: AbortSignal },
  onProgress: (progress: DrainProgress) => void,
): Promise<DrainProgress> {
  const { gateway, draining, timeoutMs, signal } = want;
  const clock = systemClock();
  const endMs = clock.monoMs() + timeoutMs;
  for (;;) {
    const progress = await progressOf(cluster, gateway, draining);
    const over = signal.aborted || clock.monoMs() >= endMs;
    if (progress.done || progress.step === 'absent' || over) return progress;
    onProgress(progress);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(finish, LOOK_EVERY_MS);
      signal.addEventListener('abort', finish);
      function finish(): void {
        clearTimeout(timer);
        signal.removeEventListener('abort', finish);
        resolve();
      }
    });
  }
}

async function progressOf(cluster: Cluster, gateway: string, draining: boolean): Promise<DrainProgress> {
  const instance = cluster.instances('tunnel-gw').find((one) => one.gateway === gateway);
  if (instance === undefined) {
    const text = `no tunnel-gw of ${gateway} is registered: it hears of this when it starts`;
    return { done: false, step: 'absent', text };
  }
  try {
    const status = await askInstance(instance, GatewayClient, (client) =>
      askOnce(client.getStatus.bind(client), {}),
    );
    return draining ? drainProgress(status) : undrainProgress(status);
  } catch (error) {
    if (error instanceof Fault) return { done: false, step: 'silent', text: error.detail };
    throw error;
  }
}
