// SPDX-License-Identifier: Apache-2.0
// The node's end of BFD on loopback, against a peer that is played packet by packet.
import { createSocket, type Socket } from 'node:dgram';
import { type BfdPacket, bfdControlPort, encodeBfdPacket, parseBfdPacket } from '@detour/wire';
import { afterEach, expect, it } from 'vitest';
import { type BfdResponder, startBfd } from './bfd-responder.js';

const NODE = '127.0.7.2';
const GATEWAY = '127.0.7.1';
const timers = { desiredMinTxUs: 20_000, requiredMinRxUs: 20_000, detectMult: 3 };
const SAYS: BfdPacket = {
  diag: 0,
  state: 'down',
  poll: false,
  final: false,
  controlPlaneIndependent: false,
  demand: false,
  detectMult: 3,
  myDiscr: 77,
  yourDiscr: 0,
  desiredMinTxUs: 20_000,
  requiredMinRxUs: 20_000,
  requiredMinEchoRxUs: 0,
};

const opened: Socket[] = [];
let responder: BfdResponder | undefined;
afterEach(async () => {
  await responder?.[Symbol.asyncDispose]();
  for (const socket of opened.splice(0)) socket.close();
});
const open = (address: string, port = 0): Promise<Socket> =>
  new Promise((resolve) => {
    const socket = createSocket('udp4');
    opened.push(socket);
    socket.bind({ address, port, exclusive: true }, () => resolve(socket));
  });
async function until<T>(check: () => T | undefined | false, what: string): Promise<T> {
  const deadline = performance.now() + 5_000;
  for (;;) {
    const found = check();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`waited 5 s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

it('is silent until it is spoken to, comes up, and says so when it goes', async () => {
  const heard: { packet: BfdPacket; port: number }[] = [];
  const gateway = await open(GATEWAY, bfdControlPort);
  gateway.on('message', (data, { port }) => {
    const parsed = parseBfdPacket(data);
    if (parsed.ok) heard.push({ packet: parsed.packet, port });
  });
  const sender = await open(GATEWAY);
  const say = (packet: BfdPacket) => sender.send(encodeBfdPacket(packet), bfdControlPort, NODE);
  const changes: string[] = [];
  const running = startBfd({ local: NODE, peer: GATEWAY, timers }, () => changes.push(running.view().state));
  responder = running;
  const stranger = await open('127.0.7.9');
  await until(() => running.view().trouble === null, 'the port');
  stranger.send(encodeBfdPacket(SAYS), bfdControlPort, NODE);
  expect(heard).toEqual([]);
  await until(() => {
    say(SAYS);
    return heard.find(({ packet }) => packet.state === 'init');
  }, 'Init');
  const first = heard[0];
  expect(first?.port).toBeGreaterThanOrEqual(49_152);
  const yourDiscr = first?.packet.myDiscr ?? 0;
  await until(() => {
    say({ ...SAYS, state: 'up', yourDiscr: yourDiscr ^ 1 }); // of another session: not ours
    say({ ...SAYS, state: 'up', yourDiscr });
    return running.view().state === 'up';
  }, 'Up');
  await until(() => running.view().state === 'down', 'the silence of the gateway to be noticed');
  expect(running.view()).toMatchObject({ diag: 1 });
  expect(changes).toEqual(['init', 'up', 'down']);
  await until(() => {
    say({ ...SAYS, yourDiscr });
    return running.view().state === 'init';
  }, 'Init again');
  heard.length = 0;
  await running[Symbol.asyncDispose]();
  responder = undefined;
  const last = await until(() => heard.at(-1), 'the last packet');
  expect(last.packet).toMatchObject({ state: 'down', diag: 5 });
});

it('says who has the port, and takes it when it is free', async () => {
  const other = await open(NODE, bfdControlPort);
  const running = startBfd({ local: NODE, peer: GATEWAY, timers }, () => {});
  responder = running;
  await until(() => running.view().trouble?.includes('another BFD daemon'), 'the trouble');
  opened.splice(opened.indexOf(other), 1);
  other.close();
  await until(() => running.view().trouble === null, 'the port');
});
