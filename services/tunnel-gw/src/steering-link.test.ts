// SPDX-License-Identifier: Apache-2.0
// Words over a real unix socket to a bfd that notes them.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BfdService, type SteeringReport } from '@detour/contracts';
import { Fault, manualClock, silentLog } from '@detour/core';
import { implement, serve, unary } from '@detour/rpc';
import { revisionOf, until } from '@detour/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { gatewayModel } from './desired.js';
import type { GatewayModel } from './model.js';
import { SteeringLink } from './steering-link.js';
import { exampleText } from './testdata.js';

const dir = mkdtempSync(join(tmpdir(), 'steering-link-'));
const address = `unix:${dir}/bfd.sock`;
afterAll(() => rmSync(dir, { recursive: true }));

const unasked = () => {
  throw new Fault('missing_feature', 'nobody asks for it here');
};

/** Answers that this gateway is announced, unless it is withheld. */
async function startBfd() {
  const heard: SteeringReport[] = [];
  const service = implement(BfdService, {
    watchHealth: unasked,
    listSessions: unary(unasked),
    setAdminDown: unary(unasked),
    reportSteering: unary(async (report) => {
      heard.push(report);
      return { announced: report.withhold === '', why: report.withhold };
    }),
  });
  const server = await serve({ address, services: [service], log: silentLog });
  return { heard, stop: () => server[Symbol.asyncDispose]() };
}

describe('SteeringLink', () => {
  it('is silent until a version is live, then speaks every second and when it is asked to', async () => {
    const bfd = await startBfd();
    const clock = manualClock();
    let model: GatewayModel | null = null;
    let withhold = '';
    const options = { address, model: () => model, withhold: () => withhold, clock, log: silentLog };
    using link = new SteeringLink(options);
    const turn = async (): Promise<void> => {
      await new Promise((resolve) => setImmediate(resolve)); // its timer is set when it has spoken
      clock.advance(1_000);
    };
    await turn();
    expect(bfd.heard).toEqual([]);
    expect(link.announced).toBe('');

    model = gatewayModel(revisionOf(exampleText()), 'edge1');
    link.published();
    await until(() => link.announced === 'yes');
    for (let tables = 0; tables < 100; tables++) {
      link.published();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(bfd.heard).toEqual([{ devices: ['eth1', 'eth2', 'eth0'], withhold: '' }]);
    model = gatewayModel(revisionOf(exampleText()), 'edge1'); // another revision
    link.published();
    await until(() => bfd.heard.length === 2);
    await until(async () => {
      await turn();
      return bfd.heard.length > 3;
    });
    withhold = 'drained';
    link.tell();
    await until(() => link.announced === 'drained');
    await bfd.stop();
  });

  it('is heard by the next bfd within a second or so, however long there was none', async () => {
    const clock = manualClock();
    const model = gatewayModel(revisionOf(exampleText()), 'edge1');
    const options = { address, model: () => model, withhold: () => '', clock, log: silentLog };
    using link = new SteeringLink(options);
    const first = await startBfd();
    const speaks = (heard: readonly unknown[]) =>
      until(() => {
        clock.advance(1_000);
        return heard.length > 0;
      });
    await speaks(first.heard);
    await first.stop();
    await until(() => {
      clock.advance(1_000);
      return link.announced === '';
    });
    const second = await startBfd();
    await speaks(second.heard);
    await until(() => link.announced === 'yes');
    await second.stop();
  });
});
