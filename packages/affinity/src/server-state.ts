// SPDX-License-Identifier: Apache-2.0
// What is known of one Redis server (or of the only one): whether it is silent, late, or refuses writes. Times in ms of a steady clock.

/** Silence after which callers are answered at once, between two probes then, and within which a server answers that is in order. */
export const SILENT_MS = 100;
/** Silence or lateness for which others are told. */
export const TELL_AFTER_MS = 1_000;
/** Between two attempts to write to a server that refuses it. */
export const REFUSAL_PROBE_MS = 1_000;

/** Replies with which a server says that it does not do its work now, whatever it is asked to write. */
const REFUSALS =
  /^-?(OOM|READONLY|MISCONF|NOREPLICAS|CLUSTERDOWN|LOADING|MASTERDOWN|NOAUTH|WRONGPASS|NOPERM|BUSY|UNKILLABLE)\b/;

export class ServerState {
  /** When the oldest of an unbroken row of unanswered calls was made; null: it speaks. */
  private silentSinceMs: number | null = null;
  /** Since when it is silent, late or unreachable; over with the first prompt answer to a probe. */
  private troubleSinceMs: number | null = null;
  private refusal: { readonly why: string; probedMs: number } | null = null;
  /** A key of this server, to ask it about. */
  probeKey = '';
  private lastWhy = '';
  private lateMs: number | null = null;

  isSilent(nowMs: number): boolean {
    return this.silentSinceMs !== null && nowMs - this.silentSinceMs > SILENT_MS;
  }

  get inTrouble(): boolean {
    return this.troubleSinceMs !== null;
  }

  /** In trouble for so long that others should know. */
  isWorthTelling(nowMs: number): boolean {
    return this.troubleSinceMs !== null && nowMs - this.troubleSinceMs >= TELL_AFTER_MS;
  }

  /** What is amiss. */
  get why(): string {
    return this.lateMs === null ? this.lastWhy : `answers after ${Math.round(this.lateMs)} ms`;
  }

  get refuses(): string | null {
    return this.refusal?.why ?? null;
  }

  /** No answer to a call made at `askedMs`, or no connection to send it by. */
  unanswered({ askedMs, key, why }: { askedMs: number; key: string; why: string }): void {
    this.silentSinceMs ??= askedMs;
    this.troubleSinceMs ??= askedMs;
    this.probeKey = key;
    this.lastWhy = why;
  }

  spoke(): void {
    this.silentSinceMs = null;
  }

  /** What was amiss was of another connection. */
  reconnected(): void {
    this.silentSinceMs = null;
    this.troubleSinceMs = null;
    this.lateMs = null;
  }

  /** A probe was answered: in time, or late. */
  probed(tookMs: number): void {
    this.silentSinceMs = null;
    this.lateMs = tookMs > SILENT_MS ? tookMs : null;
    if (this.lateMs === null) this.troubleSinceMs = null;
  }

  /** What a command was refused with. */
  refused(error: Error, key: string, nowMs: number): void {
    if (!REFUSALS.test(error.message)) return;
    this.refusal = { why: error.message, probedMs: this.refusal?.probedMs ?? nowMs };
    this.probeKey = key;
  }

  wrote(): void {
    this.refusal = null;
  }

  /** Whether it is time to try whether it still refuses writes. */
  takeRefusalProbe(nowMs: number): boolean {
    if (this.refusal === null || nowMs - this.refusal.probedMs < REFUSAL_PROBE_MS) return false;
    this.refusal.probedMs = nowMs;
    return true;
  }
}
