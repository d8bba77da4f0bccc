// SPDX-License-Identifier: Apache-2.0
// TCP ports on loopback that were free a moment ago.
import { createServer } from 'node:net';

export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  if (port === undefined) throw new Error('the kernel gave no port');
  return port;
}

/** So many different ones. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', resolve);
      });
      return server;
    }),
  );
  const addresses = servers.map((server) => server.address());
  await Promise.all(servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))));
  return addresses.map((address) => {
    if (address === null || typeof address === 'string') throw new Error('the kernel gave no port');
    return address.port;
  });
}
