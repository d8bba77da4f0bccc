// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Measured } from './attributes.js';
import { GatewayReadings } from './gateway-readings.js';

const values = (of: Partial<Record<Measured, number>>) => new Map(Object.entries(of) as [Measured, number][]);

describe('GatewayReadings', () => {
  it('means times and shares over the gateways, and adds up amounts', () => {
    const gateways = new GatewayReadings();
    gateways.take(
      'edge1',
      values({ rttMs: 1, loss: 0, flows: 10, bytesPerSecond: 500, dropsPerSecond: 1, retransmissions: 0.1 }),
      0,
    );
    gateways.take(
      'edge2',
      values({
        rttMs: 4,
        loss: 0.5,
        flows: 20,
        bytesPerSecond: 250,
        dropsPerSecond: 2,
        retransmissions: 0.3,
      }),
      0,
    );
    gateways.take('edge3', values({ flows: 1 }), 0);
    const of = (name: Parameters<GatewayReadings['merged']>[0]) => gateways.merged(name, 0, 1_000)?.value;
    expect([of('rttMs'), of('loss')]).toEqual([2.5, 0.25]);
    expect(of('retransmissions')).toBeCloseTo(0.2);
    expect([of('flows'), of('bytesPerSecond'), of('dropsPerSecond')]).toEqual([31, 750, 3]);
  });

  it('leaves out a gateway that says nothing any more, and tells when that will be', () => {
    const gateways = new GatewayReadings();
    gateways.take('edge1', values({ loss: 1 }), 0);
    gateways.take('edge2', values({ loss: 0 }), 400);
    expect(gateways.merged('loss', 1_000, 1_000)).toMatchObject({ value: 0.5, dueMs: 1_000 });
    expect(gateways.merged('loss', 1_001, 1_000)).toMatchObject({
      value: 0,
      dueMs: 1_400,
      from: 'mean of edge2 0',
    });
    expect(gateways.merged('loss', 1_401, 1_000)).toBeNull();
    expect(gateways.lastMs('loss')).toBe(400);
  });

  it('forgets gateways that are not declared, and believes of a gateway only the newest', () => {
    const gateways = new GatewayReadings();
    gateways.take('edge1', values({ rttMs: 5 }), 100);
    gateways.take('edge1', values({ rttMs: 9 }), 50);
    gateways.take('edge2', values({ rttMs: 7, cpu: 1 }), 100);
    gateways.keepOnly(new Set(['edge1']));
    expect(gateways.merged('rttMs', 100, 1_000)?.value).toBe(5);
    expect(gateways.names()).toEqual(['rttMs']);
  });

  it('is the same to the last bit in whatever order replicas heard the gateways', () => {
    const said = fc.array(fc.double({ min: 0, max: 60_000, noNaN: true }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(said, fc.infiniteStream(fc.nat()), (all, keys) => {
        const rows = all.map((rttMs, i) => [`edge${i}`, values({ rttMs, bytesPerSecond: rttMs })] as const);
        const order = rows
          .map((row) => [keys.next().value as number, row] as const)
          .sort(([x], [y]) => x - y);
        const [one, other] = [new GatewayReadings(), new GatewayReadings()];
        for (const [gateway, of] of rows) one.take(gateway, of, 0);
        for (const [, [gateway, of]] of order) other.take(gateway, of, 0);
        for (const name of ['rttMs', 'bytesPerSecond'] as const)
          expect(Object.is(one.merged(name, 0, 1)?.value, other.merged(name, 0, 1)?.value)).toBe(true);
      }),
    );
  });
});
