// SPDX-License-Identifier: Apache-2.0
// Connections to TCP ports of nodes, as appliances of gateway load balancers expect to be asked: one after the other, each with a deadline. One that is
// taken is enough for up; `multiplier` in a row that are not mean down. This says that a daemon answers, nothing of packets through the node.
import { connect } from 'node:net';
import type { Clock } from '@detour/core';
import type { SessionSpec, TcpCheckSpec, TcpState } from './loop-messages.js';

interface Check {
  readonly spec: TcpCheckSpec;
  state: TcpState;
  failed: number;
  cancel: () => void;
}

export class TcpChecks implements Disposable {
  readonly #checks = new Map<string, Check>();

  constructor(
    private readonly clock: Clock,
    private readonly onState: (id: string, state: TcpState) => void,
  ) {}

  /** Exactly these are asked from now on; one whose port and times are unchanged keeps its state. All are told again: the sessions may be new. */
  follow(sessions: readonly SessionSpec[]): void {
    const wanted = new Map(
      sessions.flatMap(({ id, tcp }) => (tcp === undefined ? [] : [[id, tcp] as const])),
    );
    for (const [id, check] of this.#checks) {
      const spec = wanted.get(id);
      if (spec !== undefined && JSON.stringify(spec) === JSON.stringify(check.spec)) continue;
      check.cancel();
      this.#checks.delete(id);
    }
    for (const [id, spec] of wanted) {
      const known = this.#checks.get(id);
      if (known !== undefined) {
        this.onState(id, known.state);
        continue;
      }
      const check: Check = { spec, state: 'unknown', failed: 0, cancel: () => {} };
      this.#checks.set(id, check);
      this.#ask(id, check);
    }
  }

  #ask(id: string, check: Check): void {
    const { address, port, everyMs, multiplier } = check.spec;
    const startedMs = this.clock.monoMs();
    const socket = connect({ host: address, port, timeout: everyMs });
    let settled = false;
    const settle = (answered: boolean): void => {
      if (settled) return;
      settled = true;
      socket.destroy();
      check.failed = answered ? 0 : check.failed + 1;
      const state = answered ? 'up' : check.failed >= multiplier ? 'down' : check.state;
      if (state !== check.state) {
        check.state = state;
        this.onState(id, state);
      }
      const waitMs = Math.max(0, startedMs + everyMs - this.clock.monoMs());
      check.cancel = this.clock.after(waitMs, () => this.#ask(id, check));
    };
    check.cancel = () => {
      settled = true;
      socket.destroy();
    };
    socket.on('connect', () => settle(true));
    socket.on('timeout', () => settle(false));
    socket.on('error', () => settle(false));
  }

  [Symbol.dispose](): void {
    for (const check of this.#checks.values()) check.cancel();
    this.#checks.clear();
  }
}
