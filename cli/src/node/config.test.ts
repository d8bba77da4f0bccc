// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { checkConfig, configOfFlags, readConfig } from './config.js';

const WHOLE = `
node: fw1
underlay: { device: eth0, address: 192.0.2.11 }
attach: { kind: tunnel, protocol: geneve, vni: 5001 }
gateways: [{ address: 192.0.2.1, local: 169.254.1.2, peer: 169.254.1.1 }]
`;
const ARMS = '{ in: { device: eth1, nextHop: 10.20.1.2 }, out: { device: eth2, nextHop: 10.20.2.2 } }';
const refusal = (text: string): string => {
  try {
    readConfig(text, 'node.yaml');
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return 'accepted';
};

describe('the document of a node', () => {
  it('is filled up with defaults and names', () => {
    expect(readConfig(WHOLE, 'node.yaml')).toMatchObject({
      attach: { inner: 'l2' },
      pair: { in: 'fw1-in', out: 'fw1-out', link: 'fw1-link', forward: 'route', ipv6: false, table: 3784 },
      bfd: { minTxMs: 50, minRxMs: 50, multiplier: 3 },
      xdp: 'auto',
    });
  });

  it('with the arms of a router has their devices for sides', () => {
    const { pair } = readConfig(`${WHOLE}pair: { arms: ${ARMS} }`, 'node.yaml');
    expect(pair).toMatchObject({ in: 'eth1', out: 'eth2', link: 'fw1-link' });
  });

  it('says the same as flags', () => {
    const flags = {
      node: 'fw1',
      device: 'eth0',
      address: '192.0.2.11',
      kind: 'tunnel',
      protocol: 'geneve',
      vni: 5001,
      gateway: ['192.0.2.1,169.254.1.2,169.254.1.1'],
    };
    expect(checkConfig(configOfFlags(flags), 'flags')).toEqual(readConfig(WHOLE, 'node.yaml'));
  });

  it('with several problems names them all, each with the value', () => {
    const said = refusal(`
node: Fw 1
underlay: { device: eth0, address: 192.0.2 }
attach: { kind: tunnel, protocol: vxlan, vni: 0 }
gateways: [{ address: 192.0.2.1 }]
bogus: 1
`);
    expect(said).toContain('node: Fw 1 is no name');
    expect(said).toContain('underlay.address: 192.0.2 is no IP address');
    expect(said).toContain('attach.vni: 0 ');
    expect(said).toContain('has no key bogus');
  });

  it.each([
    ['', 'document: is no object'],
    ['node: [', 'is no YAML'],
    [WHOLE.replace('underlay:', '#'), 'underlay: is missing'],
    [WHOLE.replace(', peer: 169.254.1.1', ''), 'gateways.0: needs local and peer'],
    [WHOLE.replace('192.0.2.1,', '2001:db8::1,'), 'another family than the underlay address 192.0.2.11'],
    [WHOLE.replace(/attach: .*/, 'attach: { kind: gwlb }'), 'gwlb has none'],
    [`${WHOLE}pair: { in: eth0 }`, 'must have four different names'],
    [`${WHOLE}pair: { arms: ${ARMS.replace('eth2', 'eth1')} }`, 'eth0, eth1, eth1, fw1-link must have four'],
    [`${WHOLE}pair: { arms: ${ARMS}, in: a }`, 'pair.arms: are the sides: leave in and out out'],
    [`${WHOLE}pair: { arms: ${ARMS}, forward: bridge }`, 'pair.arms: lead to a router'],
    [`${WHOLE}pair: { arms: ${ARMS}, ipv6: true }`, 'leave forward and ipv6 out'],
    [
      `${WHOLE}pair: { arms: { in: { device: eth1 }, out: { device: eth2 } } }`,
      'pair.arms.in.nextHop: is missing',
    ],
    [`${WHOLE}report: { to: nowhere }`, 'report.to: nowhere is no gRPC address'],
  ])('is refused: %#', (text, want) => {
    expect(refusal(text)).toContain(want);
  });
});
