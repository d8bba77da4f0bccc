// SPDX-License-Identifier: Apache-2.0
/** Act 2: what a rule names goes through a firewall, both ways; what none names goes straight; the firewall filters. */
import { standardAddresses, standardPorts } from '../standard-lab.js';
import { type Act, expectThat, ms } from './act.js';

const web = standardPorts.http[0];
const forbidden = standardPorts.http[2];

export const steerAct: Act = {
  number: 2,
  title: 'Traffic that a rule names passes a firewall',
  async play({ traffic, fw1, fw2 }, tell) {
    const get = (port: number) =>
      traffic.httpGet({ remote: { address: standardAddresses.server, port }, path: '/', timeoutMs: 2_500 });
    const seen = async (destinationPort: number) =>
      (
        await Promise.all(
          [fw1, fw2].map(async (firewall) =>
            (
              await firewall.conntrack({ protocol: 'tcp', destinationPort })
            ).map((row) => ({ firewall, row })),
          ),
        )
      ).flat();

    await tell.step('HTTP from client to server passes a firewall in both directions', async () => {
      const answer = await get(web);
      expectThat(answer.ok && answer.status === 200, `no answer: ${JSON.stringify(answer)}`);
      const rows = (await seen(web)).filter(({ row }) => row.sourcePort === answer.localPort);
      const [only] = rows;
      expectThat(only !== undefined && rows.length === 1, `${rows.length} firewalls know the connection`);
      const { row, firewall } = only;
      const { packets = 0, replyPackets = 0 } = row;
      expectThat(
        row.replied && packets >= 4 && replyPackets >= 4,
        `${firewall.name} saw ${packets} packets out, ${replyPackets} back`,
      );
      return `${firewall.name} saw ${packets} packets out and ${replyPackets} back (${row.state}); 200 in ${ms(answer.tookMs)}, the first packet held while it was decided`;
    });
    await tell.step('traffic that no rule names goes straight', async () => {
      const answer = await get(standardPorts.httpUnruled);
      expectThat(answer.ok && answer.status === 200, `no answer: ${JSON.stringify(answer)}`);
      const rows = await seen(standardPorts.httpUnruled);
      expectThat(rows.length === 0, `${rows.length} firewalls know the connection`);
      return `port ${standardPorts.httpUnruled}: 200 in ${ms(answer.tookMs)}; 0 of 2 firewalls know the connection`;
    });
    await tell.step('the forbidden port is blocked, by the firewall', async () => {
      const dropped = async (): Promise<number> =>
        (await Promise.all([fw1.counters(), fw2.counters()])).reduce(
          (sum, { forbidden: counter }) => sum + (counter?.packets ?? Number.NaN),
          0,
        );
      const before = await dropped();
      const answer = await get(forbidden);
      expectThat(!answer.ok, `port ${forbidden} answered`);
      const packets = (await dropped()) - before;
      expectThat(packets > 0, 'no firewall counted a packet to it');
      return `port ${forbidden}: ${answer.error} after ${ms(answer.tookMs)}; nftables dropped ${packets} packets`;
    });
  },
};
