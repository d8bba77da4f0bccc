// SPDX-License-Identifier: Apache-2.0
import { INJECT_DEVICES } from '@detour/contracts';
import { revisionOf } from '@detour/testkit';
import { describe, expect, it } from 'vitest';
import { gatewayModel } from './desired.js';
import { attachedDevices, attachModesOf } from './gateway-devices.js';
import { EXAMPLE_PORTS, exampleText } from './testdata.js';

const FABRIC = '{ name: fabric, kind: underlay, device: eth0, attachMode: generic }';
const OURS = ['dtn1', 'vti-fw1', INJECT_DEVICES[1]];
const modelWith = (ports: readonly string[]) =>
  gatewayModel(revisionOf(exampleText({ ports: [...ports] })), 'edge1');

describe('attachModesOf', () => {
  it('leaves the choice to the driver where nothing is forced and everything runs natively', () => {
    const model = modelWith(EXAMPLE_PORTS);
    for (const device of attachedDevices(model))
      expect(attachModesOf(model)(device, [{ device: 'eth1', mode: 'native' }])).toBe('auto');
  });
  it("Detour's own devices are generic where one of the operator's is forced to be, which keeps its own mode", () => {
    const model = modelWith([...EXAMPLE_PORTS, FABRIC]);
    expect(OURS.map((device) => attachModesOf(model)(device, []))).toEqual(['generic', 'generic', 'generic']);
    expect(attachModesOf(model)('eth0', [])).toBe('generic');
    expect(attachModesOf(model)('eth1', [])).toBe('auto');
  });
  it('and where a driver has refused native mode; what they themselves got is no reason', () => {
    const model = modelWith(EXAMPLE_PORTS);
    const refused = [{ device: 'eth2', mode: 'generic' }];
    expect(OURS.map((device) => attachModesOf(model)(device, refused))).toEqual([
      'generic',
      'generic',
      'generic',
    ]);
    expect(attachModesOf(model)('vti-fw1', [{ device: 'dtn1', mode: 'generic' }])).toBe('auto');
  });
  it("the operator's devices come first, so that what they got is known", () => {
    const devices = attachedDevices(modelWith(EXAMPLE_PORTS));
    expect(devices.slice(0, 3)).toEqual(['eth1', 'eth2', 'eth0']);
    expect(devices.slice(3)).toEqual(expect.arrayContaining(OURS));
  });
});
