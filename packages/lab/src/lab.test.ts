// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import { Fault } from '@detour/core';
import { describe, expect, it } from 'vitest';
import { createLab } from './lab.js';
import type { LabSpec } from './spec.js';

const own = (name: string): string => `lab-${name}-${process.pid}`; // other runs of this test must not meet

const spec: LabSpec = {
  namespaces: {
    left: { routes: [{ to: 'default', via: '10.9.0.1', table: 100 }] },
    middle: { bridges: [{ name: 'br0', mtu: 1600, addresses: ['10.9.0.1/24'] }] },
    right: { sysctls: { 'net.ipv4.ip_forward': 1 }, nft: 'table inet empty {\n}\n' },
  },
  links: [
    {
      a: {
        ns: 'left',
        device: 'eth0',
        addresses: ['10.9.0.2/24', '2001:db8::2/64'],
        txOffload: 'off',
        xdpPass: true,
      },
      b: { ns: 'middle', device: 'left', bridge: 'br0' },
      mtu: 1600,
    },
    {
      a: {
        ns: 'right',
        device: 'eth0',
        mac: '02:00:00:00:00:03',
        addresses: ['10.9.0.3/24', '2001:db8::3/64'],
      },
      b: { ns: 'middle', device: 'right', bridge: 'br0' },
      mtu: 1600,
    },
  ],
};

const connect = (host: string): string[] => [
  'python3',
  '-c',
  `import socket; print(socket.create_connection(('${host}', 7), 2).recv(9).decode())`,
];
const serve =
  "import socket; s = socket.create_server(('::', 7), family=socket.AF_INET6, dualstack_ipv6=True); print('up', flush=True)\nwhile True: s.accept()[0].send(b'right')";

describe('createLab', () => {
  it('builds what the data says and takes all of it down again', async () => {
    const lab = await createLab(spec, { name: own('t1') });
    expect(existsSync(`/run/netns/dt-${own('t1')}-left`)).toBe(true);
    const link = (await lab.exec('left', ['ip', '-d', '-j', 'link', 'show', 'eth0'])).stdout;
    expect(JSON.parse(link)[0]).toMatchObject({ mtu: 1600, operstate: 'UP', xdp: { mode: 1 } });
    expect((await lab.exec('left', ['ethtool', '-k', 'eth0'])).stdout).toMatch(/^tx-checksumming: off/m);
    expect((await lab.exec('left', ['ip', 'route', 'show', 'table', '100'])).stdout).toContain(
      'via 10.9.0.1',
    );
    expect((await lab.exec('right', ['cat', '/proc/sys/net/ipv4/ip_forward'])).stdout).toBe('1\n');
    // Also where the host routes, whose settings a new namespace takes.
    expect((await lab.exec('left', ['cat', '/proc/sys/net/ipv4/ip_forward'])).stdout).toBe('0\n');
    expect((await lab.exec('right', ['nft', 'list', 'tables'])).stdout).toBe('table inet empty\n');
    expect((await lab.exec('right', ['ip', '-br', 'link', 'show', 'eth0'])).stdout).toContain(
      '02:00:00:00:00:03',
    );

    const server = lab.spawn('right', ['python3', '-c', serve], { name: 'server' });
    await expect.poll(() => server.log()).toContain('up');
    expect((await lab.exec('left', connect('10.9.0.3'))).stdout).toBe('right\n');
    expect((await lab.exec('left', connect('2001:db8::3'))).stdout).toBe('right\n');

    await lab.close();
    expect(server.isRunning()).toBe(false);
    expect(existsSync(`/run/netns/dt-${own('t1')}-left`)).toBe(false);
    expect(existsSync(lab.dir)).toBe(false);
  });

  it('keeps two labs of the same shape apart', async () => {
    await using one = await createLab(spec, { name: own('t2') });
    await using two = await createLab(spec, { name: own('t3') });
    one.spawn('right', ['python3', '-c', serve], { name: 'server' });
    await expect.poll(() => one.process('right', 'server').log()).toContain('up');
    await expect(two.exec('left', connect('10.9.0.3'))).rejects.toThrow(/refused/);
    expect((await one.exec('left', connect('10.9.0.3'))).stdout).toBe('right\n');
  });

  it('refuses a name in use by a living owner and leaves that lab alone', async () => {
    await using lab = await createLab(spec, { name: own('t4') });
    await expect(createLab(spec, { name: own('t4') })).rejects.toThrow(
      /in use by process \d+: choose another/,
    );
    expect((await lab.exec('left', ['ip', '-br', 'addr', 'show', 'eth0'])).stdout).toContain('10.9.0.2/24');
  });

  it('names the failing command and leaves nothing behind when the data is wrong', async () => {
    const wrong: LabSpec = { ...spec, namespaces: { ...spec.namespaces, left: { nft: 'no such thing' } } };
    await expect(createLab(wrong, { name: own('t5') })).rejects.toThrow(Fault);
    expect(existsSync(`/run/netns/dt-${own('t5')}-left`)).toBe(false);
    await expect(createLab(spec, { name: 'Bad_Name' })).rejects.toThrow(/'Bad_Name': use 1 to 32/);
  });
});
