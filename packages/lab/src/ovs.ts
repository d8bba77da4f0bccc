// SPDX-License-Identifier: Apache-2.0
/**
 * Open vSwitch's user-space datapath as the far end of a tunnel: an implementation of Geneve and GRE that is nobody's here.
 *
 * Two bridges in one namespace, as its documentation asks: `br-phy` has the underlay device and its address, `br-int` the tunnel and an internal port
 * to the namespace's kernel. The daemons belong to the lab and end with it.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from './lab.js';
import { waitFor } from './wait.js';

export interface OvsTunnel {
  readonly protocol: 'geneve' | 'gre';
  readonly remote: string;
  /** VNI, or GRE key. */
  readonly key?: number;
  readonly checksum?: boolean;
  /** GRE with IP packets inside. The other end has no MAC then: `peer` is a static neighbour. */
  readonly l3?: { readonly peer: string };
}

export interface OvsEnd {
  readonly ns: string;
  /** Loses its addresses to `br-phy`. */
  readonly underlayDevice: string;
  /** With prefix length. */
  readonly underlayAddress: string;
  /** The internal port that is made: name, MAC and addresses; MTU 1,500. */
  readonly device: string;
  readonly mac: string;
  readonly addresses: readonly string[];
  readonly tunnel: OvsTunnel;
}

const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';
const PEER_MAC = '02:fd:00:00:00:ff';

/** Resolves when the tunnel's port is in the datapath. @throws Fault of the command that failed, `timeout` when the daemons do not answer */
export async function startOvsEnd(lab: Lab, end: OvsEnd): Promise<void> {
  const { ns, tunnel } = end;
  const dir = join(lab.dir, ns, 'ovs');
  mkdirSync(dir, { recursive: true });
  const database = join(dir, 'conf.db');
  const socket = `unix:${join(dir, 'db.sock')}`;
  const env = { OVS_RUNDIR: dir, OVS_LOGDIR: dir };
  await lab.exec(ns, ['ovsdb-tool', 'create', database, SCHEMA]);
  lab.spawn(
    ns,
    ['ovsdb-server', database, `--remote=p${socket}`, `--unixctl=${join(dir, 'db.ctl')}`, '--no-chdir'],
    { name: 'ovsdb-server', env },
  );
  const vsctl = (args: readonly string[], okCodes?: 'any') =>
    lab.exec(ns, ['ovs-vsctl', `--db=${socket}`, '--timeout=10', ...args], okCodes && { okCodes });
  await waitFor(async () => (await vsctl(['--no-wait', 'init'], 'any')).code === 0, {
    what: `the Open vSwitch database in ${ns}`,
  });
  lab.spawn(ns, ['ovs-vswitchd', socket, `--unixctl=${join(dir, 'vs.ctl')}`, '--no-chdir'], {
    name: 'ovs-vswitchd',
    env,
  });
  const options = [
    `options:remote_ip=${tunnel.remote}`,
    ...(tunnel.key === undefined ? [] : [`options:key=${tunnel.key}`]),
    ...(tunnel.checksum === true ? ['options:csum=true'] : []),
    ...(tunnel.l3 === undefined ? [] : ['options:packet_type=legacy_l3']),
  ];
  await vsctl([
    ...bridge('br-phy'),
    ...['--', 'add-port', 'br-phy', end.underlayDevice],
    ...['--', ...bridge('br-int')],
    ...['--', 'add-port', 'br-int', end.device, '--', 'set', 'interface', end.device, 'type=internal'],
    ...['--', 'add-port', 'br-int', 'tunnel', '--', 'set', 'interface', 'tunnel'],
    ...[`type=${tunnel.protocol}`, ...options],
  ]);
  await lab.exec(ns, ['ip', '-batch', '-'], { input: deviceLines(end).join('\n') });
  if (tunnel.l3 === undefined) return;
  const flows = (flow: string) =>
    lab.exec(ns, ['ovs-ofctl', 'add-flow', `unix:${join(dir, 'br-int.mgmt')}`, flow]);
  await flows(`priority=100,in_port=tunnel,actions=set_field:${end.mac}->eth_dst,output:${end.device}`);
  await flows(`priority=100,in_port=${end.device},actions=output:tunnel`);
}

function bridge(name: string): string[] {
  return ['add-br', name, '--', 'set', 'bridge', name, 'datapath_type=netdev'];
}

function deviceLines({ underlayDevice, underlayAddress, device, mac, addresses, tunnel }: OvsEnd): string[] {
  return [
    `address flush dev ${underlayDevice}`,
    `address add ${underlayAddress} dev br-phy`,
    'link set dev br-phy up',
    'link set dev br-int up',
    `link set dev ${device} address ${mac} mtu 1500 up`,
    ...addresses.map(
      (address) => `address add ${address} dev ${device}${address.includes(':') ? ' nodad' : ''}`,
    ),
    ...(tunnel.l3 === undefined
      ? []
      : [`neigh replace ${tunnel.l3.peer} lladdr ${PEER_MAC} dev ${device} nud permanent`]),
  ];
}
