// SPDX-License-Identifier: Apache-2.0
// A server in a container with an address of its own in a network of its own, through testcontainers. Nothing is pulled.
import type { ContainerRuntimeClient, StartedTestContainer } from 'testcontainers';
import type { BreakableServer } from './breakable.js';
import { until } from './until.js';

export interface ContainerSpec {
  readonly image: string;
  readonly port: number;
  readonly command: readonly string[];
  /** What its log says once it serves. */
  readonly ready: RegExp;
  readonly answers: (host: string, port: number) => Promise<boolean>;
}

const LABEL = 'org.detour.test';
const START_MS = 30_000;
let begun = 0;

/** The engine, if it answers and has the image; why not, otherwise. DETOUR_TEST_SERVERS=process does not ask it. */
export async function dockerFor(
  image: string,
): Promise<{ readonly client: ContainerRuntimeClient } | { readonly why: string }> {
  if (process.env.DETOUR_TEST_SERVERS === 'process') return { why: 'DETOUR_TEST_SERVERS=process' };
  // Its watchdog is an image of its own, which cannot be had everywhere; what is started here is removed by label.
  process.env.TESTCONTAINERS_RYUK_DISABLED = 'true';
  const { getContainerRuntimeClient } = await import('testcontainers');
  let client: ContainerRuntimeClient;
  try {
    client = await getContainerRuntimeClient();
  } catch {
    return { why: 'no Docker answers' };
  }
  try {
    await client.container.dockerode.getImage(image).inspect();
    return { client };
  } catch {
    return { why: `Docker has no image ${image}` };
  }
}

export async function containerServer(
  client: ContainerRuntimeClient,
  spec: ContainerSpec,
  urlOf: (host: string, port: number) => string,
): Promise<BreakableServer> {
  const { GenericContainer, Wait } = await import('testcontainers');
  const { dockerode } = client.container;
  begun += 1;
  const name = `detour-test-${process.pid}-${begun}`;
  const removeAll = async (): Promise<void> => {
    const filters = { label: [`${LABEL}=${name}`] };
    for (const { Id } of await dockerode.listContainers({ all: true, filters }))
      await dockerode.getContainer(Id).remove({ force: true, v: true });
    for (const { Id } of await dockerode.listNetworks({ filters })) await dockerode.getNetwork(Id).remove();
  };
  try {
    const { network, address } = await makeNetwork(client, name);
    let container: StartedTestContainer;
    const handle = () => dockerode.getContainer(container.getId());
    const connect = () =>
      network.connect({
        Container: container.getId(),
        EndpointConfig: { IPAMConfig: { IPv4Address: address } },
      });
    const disconnect = () => network.disconnect({ Container: container.getId(), Force: true });
    const answers = () =>
      until(() => spec.answers(address, spec.port), { timeoutMs: START_MS, what: `${spec.image} answers` });
    const boot = async (): Promise<void> => {
      container = await new GenericContainer(spec.image)
        .withCommand([...spec.command])
        .withNetworkMode(name)
        .withLabels({ [LABEL]: name })
        .withPullPolicy({ shouldPull: () => false })
        .withWaitStrategy(Wait.forLogMessage(spec.ready))
        .withStartupTimeout(START_MS)
        .start();
      await disconnect(); // the engine chose the address; it gets the one that it keeps
      await connect();
      await answers();
    };
    await boot();
    const start = async (): Promise<void> => {
      await handle().start();
      await answers();
    };
    const stop = async (): Promise<void> => void (await handle().stop({ t: 5 }));
    return {
      url: urlOf(address, spec.port),
      where: `in a container of ${spec.image}`,
      start,
      stop,
      pause: async () => void (await handle().pause()),
      resume: async () => void (await handle().unpause()),
      restart: async (data) => {
        await stop();
        if (data === 'keep') return start();
        await handle().remove({ v: true });
        await boot();
      },
      cut: async () => void (await disconnect()),
      mend: async () => {
        await connect();
        await answers();
      },
      [Symbol.asyncDispose]: removeAll,
    };
  } catch (error) {
    await removeAll();
    throw error;
  }
}

/** A network with a subnet of the benchmark prefix (RFC 2544) that no other network of the engine has. */
async function makeNetwork(client: ContainerRuntimeClient, name: string) {
  const { dockerode } = client.container;
  for (let tries = 0; ; tries++) {
    const prefix = `198.19.${(process.pid + 7 * begun + tries) % 256}`;
    try {
      const network = await dockerode.createNetwork({
        Name: name,
        Labels: { [LABEL]: name },
        IPAM: { Driver: 'default', Config: [{ Subnet: `${prefix}.0/24`, Gateway: `${prefix}.1` }] },
      });
      return { network, address: `${prefix}.10` };
    } catch (error) {
      if (tries === 16 || !(error instanceof Error && error.message.includes('overlaps'))) throw error;
    }
  }
}
