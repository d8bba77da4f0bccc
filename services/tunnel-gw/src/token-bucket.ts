// SPDX-License-Identifier: Apache-2.0
// How many packets of its own a gateway sends in a second, whoever causes them.

export class TokenBucket {
  private tokens: number;
  private atMs: number;

  /** Holds what one second gives. */
  constructor(
    private readonly perS: number,
    private readonly monoMs: () => number,
  ) {
    this.tokens = perS;
    this.atMs = monoMs();
  }

  /** Takes all of `count`, or nothing. */
  take(count: number): boolean {
    const now = this.monoMs();
    this.tokens = Math.min(this.perS, this.tokens + ((now - this.atMs) * this.perS) / 1000);
    this.atMs = now;
    if (this.tokens < count) return false;
    this.tokens -= count;
    return true;
  }
}
