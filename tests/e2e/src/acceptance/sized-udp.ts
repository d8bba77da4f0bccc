// SPDX-License-Identifier: Apache-2.0
/** UDP datagrams of an exact size from a real stack, with DF or without; each from a socket of its own, so that it is a flow of its own. */
import { type Lab, standardPorts } from '@detour/lab';

export interface SizedUdp {
  readonly address: string;
  /** Of the whole IP packet. */
  readonly bytes: number;
  readonly count: number;
  /** DF is set and the kernel's own idea of the path's MTU is not asked; without it the kernel may fragment, but needs not. */
  readonly dontFragment: boolean;
}

/** What became of one datagram: its echo came back the same, or an ICMP error said what fits, or nothing was heard for 4 seconds. */
export type SizedFate =
  | { readonly fate: 'echoed' }
  | { readonly fate: 'told'; readonly mtu: number; readonly by: string; readonly origin: number }
  | { readonly fate: 'lost' };

/** Sends one after the other. @throws Error when the sender fails. */
export async function sendSized(lab: Lab, options: SizedUdp): Promise<SizedFate[]> {
  const argv = [
    options.address,
    standardPorts.echo,
    options.bytes,
    options.count,
    options.dontFragment ? 1 : 0,
  ];
  const { code, stdout, stderr } = await lab.exec('client', ['python3', '-c', SENDER, ...argv.map(String)], {
    timeoutMs: 10_000 + 5_000 * options.count,
  });
  if (code !== 0) throw new Error(`the sender: exit code ${code}: ${stderr}`);
  return JSON.parse(stdout) as SizedFate[];
}

const SENDER = `
import json, select, socket, struct, sys, time
address, port, size, count, df = sys.argv[1], *map(int, sys.argv[2:])
v6 = ':' in address
family = socket.AF_INET6 if v6 else socket.AF_INET
level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
DISCOVER, RECVERR, PROBE, DONT = (23, 25, 3, 0) if v6 else (10, 11, 3, 0)
def fate(s, payload):
    until = time.monotonic() + 4
    while time.monotonic() < until:
        poll = select.poll()
        poll.register(s, select.POLLIN)
        for _, events in poll.poll(100):
            if events & select.POLLERR:
                _, control, _, _ = s.recvmsg(4096, 1024, socket.MSG_ERRQUEUE)
                for at, _, data in control:
                    if at != level: continue
                    errno, origin, kind, code, _, mtu, _ = struct.unpack('IBBBBII', data[:16])
                    raw = data[24:40] if v6 else data[20:24]
                    by = socket.inet_ntop(family, raw)
                    return {'fate': 'told', 'mtu': mtu, 'by': by, 'origin': origin}
            elif events & select.POLLIN and s.recv(65535) == payload:
                return {'fate': 'echoed'}
    return {'fate': 'lost'}
out = []
for n in range(count):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.setsockopt(level, DISCOVER, PROBE if df else DONT)
        if df: s.setsockopt(level, RECVERR, 1)
        s.connect((address, port))
        payload = bytes((n + i) & 255 for i in range(size - (48 if v6 else 28)))
        s.send(payload)
        out.append(fate(s, payload))
print(json.dumps(out))
`;
