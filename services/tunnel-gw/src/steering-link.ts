// SPDX-License-Identifier: Apache-2.0
// Tells this machine's bfd that this gateway steers, once a second and at once when asked to: bfd has it announced to routers, until this falls silent
// for long. Nothing is said before a version is live, for a restart must look like silence and not like an end.
import { type Announced, BfdClient, type SteeringReport } from '@detour/contracts';
import { type Clock, describeError, type Log } from '@detour/core';
import { callUnary, connectClient } from '@detour/rpc';
import { operatorDevices } from './gateway-devices.js';
import type { GatewayModel } from './model.js';

export interface SteeringLinkOptions {
  readonly address: string; // unix:/…
  /** Null while no version is live. */
  readonly model: () => GatewayModel | null;
  /** Why routers are not to send traffic here though this gateway steers; '' when they are. */
  readonly withhold: () => string;
  readonly clock: Clock;
  readonly log: Log;
}

const EVERY_MS = 1_000;
const DEADLINE_MS = 1_000;

export class SteeringLink implements Disposable {
  private latest: Announced | null = null;
  private telling = false;
  private again = false; // asked to tell while it told
  private closed = false;
  private told: GatewayModel | null = null;
  private cancel = (): void => {};
  private connection: ReturnType<typeof connectClient<BfdClient>> | null = null;

  constructor(private readonly options: SteeringLinkOptions) {
    this.tell();
  }

  /** What bfd answered last: yes, or why not; '' when it is not asked to announce anything, or has not answered. */
  get announced(): string {
    if (this.latest?.announced === true) return 'yes';
    return this.latest?.why ?? '';
  }

  /** Says at once how things are, and again after a second. */
  tell(): void {
    this.again = this.telling;
    if (this.telling || this.closed) return;
    this.telling = true;
    this.cancel();
    void this.report().then(() => {
      this.telling = false;
      if (this.again) this.tell();
      else if (!this.closed) this.cancel = this.options.clock.after(EVERY_MS, () => this.tell());
    });
  }

  /** A version is live: bfd hears at once of another model, which may have other devices; of tables, which may change a hundred times a second, it does not. */
  published(): void {
    if (this.options.model() !== this.told) this.tell();
  }

  private async report(): Promise<void> {
    const { address, withhold, log } = this.options;
    const model = this.options.model();
    if (model === null) return;
    this.told = model;
    const report: SteeringReport = { devices: operatorDevices(model), withhold: withhold() };
    try {
      this.connection ??= connectClient(BfdClient, address);
      const { client } = this.connection;
      this.latest = await callUnary(client.reportSteering.bind(client), report, { deadlineMs: DEADLINE_MS });
    } catch (error) {
      // A new connection next time: this one would wait longer and longer before it tries again.
      this.disconnect();
      this.latest = null;
      log.debug({}, `bfd was not told that this gateway steers: ${describeError(error)}`);
    }
  }

  private disconnect(): void {
    this.connection?.[Symbol.dispose]();
    this.connection = null;
  }

  [Symbol.dispose](): void {
    this.closed = true;
    this.cancel();
    this.disconnect();
  }
}
