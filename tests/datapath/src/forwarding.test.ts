// SPDX-License-Identifier: Apache-2.0
// Real packets between real kernels: a client, a server, and a node that is nothing but the kernel's VXLAN device and IP forwarding.
import { type ChildProcess, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { attachXdp, ifindex, openObject } from '@detour/bpf';
import { abi } from '@detour/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CHAIN, NODES, PATH, UNDERLAY, VRF } from './ends.js';
import { disagreements } from './fate.js';
import { putFlow } from './flow-records.js';
import { type Machine, startMachine } from './machine.js';
import { CLIENT, macOf, SERVER, TABLE } from './network.js';
import { openRig, u32 } from './rig.js';
import { ownKey, publishAll, putPath, VTI_MAC } from './world.js';

const NODE = NODES[1];
const INNER = { ours: '169.254.1.1', theirs: '169.254.1.2' } as const;

const rig = openRig({ live: true });
const passer = openObject(fileURLToPath(new URL('../../../datapath/build/pass.bpf.o', import.meta.url)));
const machines: Machine[] = [];
const echoes: ChildProcess[] = [];
let client: Machine;
let server: Machine;
let node: Machine;

/** Moves the far end of a pair there, with an XDP program on it (so that redirected frames are taken) and without TX offload. */
function give(machine: Machine, device: string, lines: readonly string[]): void {
  attachXdp(passer.program('detour_pass'), ifindex(device), 'native');
  execFileSync('ethtool', ['-K', device, 'tx', 'off'], { stdio: 'ignore' });
  execFileSync('ip', ['link', 'set', device, 'netns', String(machine.pid)]);
  for (const line of [`link set ${device} up`, ...lines]) machine.ip(line);
}

beforeAll(async () => {
  for (let i = 0; i < 3; i++) machines.push(await startMachine());
  [client, server, node] = machines as [Machine, Machine, Machine];
  publishAll(rig);
  give(client, 'in1', [
    `link set in1 address ${CLIENT.mac}`,
    `address add ${CLIENT.ip4}/24 dev in1`,
    `neigh add 10.1.0.1 lladdr ${macOf('inside')} dev in1 nud permanent`,
    'route add default via 10.1.0.1',
    `-6 address add ${CLIENT.ip6}/64 dev in1 nodad`,
    `-6 neigh add 2001:db8:1::1 lladdr ${macOf('inside')} dev in1 nud permanent`,
    '-6 route add default via 2001:db8:1::1',
  ]);
  give(server, 'out1', [
    `link set out1 address ${SERVER.mac}`,
    `address add ${SERVER.ip4}/24 dev out1`,
    `neigh add 203.0.113.1 lladdr ${macOf('outside')} dev out1 nud permanent`,
    'route add default via 203.0.113.1',
    `-6 address add ${SERVER.ip6}/64 dev out1 nodad`,
    `-6 neigh add 2001:db8:2::1 lladdr ${macOf('outside')} dev out1 nud permanent`,
    '-6 route add default via 2001:db8:2::1',
  ]);
  give(node, 'ul1', [
    `link set ul1 address ${UNDERLAY.peerMac}`,
    `address add ${NODE.remote}/24 dev ul1`,
    `neigh add ${UNDERLAY.ip4} lladdr ${macOf('underlay')} dev ul1 nud permanent`,
    `link add vx0 type vxlan id ${NODE.vni} local ${NODE.remote} remote ${UNDERLAY.ip4} dstport 4789 noudpcsum`,
    `link set vx0 address ${NODE.innerDst} up`,
    `address add ${INNER.theirs}/30 dev vx0`,
    `route add default via ${INNER.ours}`,
    '-6 address add fd00::2/64 dev vx0 nodad',
    `-6 neigh add fd00::1 lladdr ${VTI_MAC} dev vx0 nud permanent`,
    '-6 route add default via fd00::1',
  ]);
  for (const setting of [
    'ipv4.ip_forward=1',
    'ipv4.conf.all.rp_filter=0',
    'ipv4.conf.vx0.rp_filter=0',
    'ipv4.conf.all.send_redirects=0',
    'ipv4.conf.vx0.send_redirects=0',
    'ipv6.conf.all.forwarding=1',
  ])
    node.run('sysctl', '-qw', `net.${setting}`);
  execFileSync('ethtool', ['-K', 'vt0', 'tx', 'off'], { stdio: 'ignore' });
  for (const line of [`link set vt0 address ${VTI_MAC}`, `address add ${INNER.ours}/30 dev vt0`])
    execFileSync('ip', line.split(' '));
  rig.put('own', ownKey(INNER.ours, VRF, 0), u32(1));
  rig.put(
    'ports',
    abi.portKey.encode({ ifindex: rig.ifindex.vtiInner, vlan: 0, inner: 0, bank: 0 }),
    abi.port.encode({
      number: 0,
      vrf: VRF,
      table: rig.tableRow(TABLE),
      kind: abi.PortKind.PORT_VTI_INNER,
      flags: 0,
      hop: 1,
      vtiIfindex: rig.ifindex.vtiInner,
      mac: new Uint8Array(6),
      node: 0,
    }),
  );
});

afterAll(() => {
  for (const echo of echoes) echo.kill('SIGKILL');
  for (const machine of machines) machine[Symbol.dispose]();
  passer.close();
  rig[Symbol.dispose]();
});

/** to, from: packets that node 1 was sent and gave back. */
function nodeCounts(): { to: bigint; from: bigint } {
  return { to: rig.count('node_counters', 1, 0), from: rig.count('node_counters', 1, 2) };
}

/** Answers every datagram to its port 7777, which it gets at any address. */
const ECHO_SERVER =
  "const s=require('node:dgram').createSocket({type:'udp6'});s.on('message',(m,r)=>s.send(m,r.port,r.address));s.bind(7777,'::',()=>process.stdout.write('on'))";

/** Sends datagrams one after the other from port 40000 and prints how many were answered; ends when all are, or after a second. */
function asker(address: string, count: number, ttl = 64): string {
  const family = address.includes(':') ? 'udp6' : 'udp4';
  return `const s=require('node:dgram').createSocket('${family}');let n=0;const end=()=>{process.stdout.write(String(n));process.exit()};
    s.on('message',()=>{n++;n<${count}?ask():end()});const ask=()=>s.send('x',7777,'${address}');
    s.bind(40000,()=>{s.setTTL(${ttl});ask();setTimeout(end,1000)})`;
}

async function listen(machine: Machine): Promise<void> {
  const echo = machine.node(ECHO_SERVER);
  echoes.push(echo);
  await once(echo.stdout ?? echo, 'data');
}

const UDP = { proto: 17, sport: 40_000, dport: 7777 } as const;

describe("the operator's side of a node's tunnel", () => {
  it('is an ordinary interface: ARP and datagrams cross it', async () => {
    await listen(node);
    expect(execFileSync(process.execPath, ['-e', asker(INNER.theirs, 3)], { encoding: 'utf8' })).toBe('3');
  });
});

describe('traffic through a node', () => {
  beforeAll(() => listen(server));

  it.each([
    ['IPv4', CLIENT.ip4, SERVER.ip4],
    ['IPv6', CLIENT.ip6, SERVER.ip6],
  ])('%s datagrams cross it in both directions', (_name, src, dst) => {
    putFlow(rig, { ...UDP, src, dst });
    const before = nodeCounts();
    expect(client.run(process.execPath, '-e', asker(dst, 5))).toBe('5');
    const after = nodeCounts();
    expect([after.to - before.to, after.from - before.from]).toEqual([10n, 10n]);
  });

  it('a TCP connection carries a megabyte', async () => {
    putFlow(rig, { src: CLIENT.ip4, dst: SERVER.ip4, sport: 40_000, dport: 8080 });
    const sink = server.node(
      "require('node:net').createServer(s=>{let n=0;s.on('data',d=>n+=d.length);s.on('end',()=>s.end(String(n)))}).listen(8080,()=>process.stdout.write('on'))",
    );
    await once(sink.stdout ?? sink, 'data');
    client.ip('route change default via 10.1.0.1 advmss 1400');
    server.ip('route change default via 203.0.113.1 advmss 1400');
    const before = nodeCounts();
    const said = client.run(
      process.execPath,
      '-e',
      "const s=require('node:net').connect({port:8080,host:'203.0.113.9',localPort:40000});s.on('data',d=>process.stdout.write(d));s.end(Buffer.alloc(1e6))",
    );
    sink.kill('SIGKILL');
    expect(said).toBe('1000000');
    const after = nodeCounts();
    expect(after.to - before.to).toBeGreaterThan(700n);
    expect(after.to - before.to).toBe(after.from - before.from);
  });

  it('when it is down with no other, nothing passes, and every packet is counted', () => {
    putFlow(rig, UDP);
    for (const path of [PATH.one, PATH.two])
      putPath(rig, 0, path, { chain: CHAIN.two, nodes: [1], state: abi.PathState.PATH_DOWN });
    const before = rig.drops('DROP_NODE_DOWN');
    expect(client.run(process.execPath, '-e', asker(SERVER.ip4, 5))).toBe('0');
    expect(rig.drops('DROP_NODE_DOWN') - before).toBe(1n);
  });

  it('all sums agree', async () => {
    // Live devices: what the kernel sends of itself (MLD, ND) may be counted between two of the readings.
    await expect.poll(() => disagreements(rig)).toEqual([]);
  });
});

describe('a TTL that ends at the gateway', () => {
  it('is answered by its kernel with time exceeded', () => {
    execFileSync('ip', ['address', 'add', '10.1.0.1/24', 'dev', 'in0']);
    execFileSync('ip', ['route', 'add', '203.0.113.0/24', 'dev', 'out0']);
    const before = timeExceededSent();
    expect(client.run(process.execPath, '-e', asker(SERVER.ip4, 1, 1))).toBe('0');
    expect(timeExceededSent() - before).toBe(1);
  });
});

/** ICMP time exceeded messages that this namespace's kernel has sent. */
function timeExceededSent(): number {
  const [names, values] = readFileSync('/proc/self/net/snmp', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('Icmp:'))
    .map((line) => line.split(' '));
  return Number(values?.[names?.indexOf('OutTimeExcds') ?? -1]);
}
