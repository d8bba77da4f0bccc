// SPDX-License-Identifier: Apache-2.0
// Notices a device that takes frames and does not send them: a redirect can fail after the datapath's verdict, and nothing says so where the far
// side has no NAPI (a container bridge's veth). What the datapath handed to a device is held against the device's own count.

/** One device at one moment. */
export interface DeviceTally {
  readonly device: string;
  readonly ifindex: number;
  /** Frames that the datapath handed to it. */
  readonly handed: bigint;
  /** Frames that it says it sent, the kernel's own among them. */
  readonly sent: bigint;
}

export interface SilentDevice {
  readonly device: string;
  readonly handed: bigint;
  readonly sent: bigint;
}

/** So many frames are judged together: fewer may be on their way between the two readings. */
const ENOUGH = 16n;

export class DeliveryWatch {
  private readonly since = new Map<string, DeviceTally>();
  private readonly silent = new Map<string, SilentDevice>();

  /**
   * Every device that is silent now: it sent less than half of what it was handed since it was last judged. A device keeps its verdict until
   * enough frames were handed to it for another.
   */
  look(tallies: readonly DeviceTally[]): SilentDevice[] {
    const present = new Set(tallies.map(({ device }) => device));
    for (const device of [...this.since.keys()]) if (!present.has(device)) this.forget(device);
    for (const now of tallies) {
      const before = this.since.get(now.device);
      if (before === undefined || before.ifindex !== now.ifindex || now.handed < before.handed) {
        this.forget(now.device);
        this.since.set(now.device, now);
        continue;
      }
      const handed = now.handed - before.handed;
      if (handed < ENOUGH) continue;
      const sent = now.sent - before.sent;
      if (sent * 2n < handed) this.silent.set(now.device, { device: now.device, handed, sent });
      else this.silent.delete(now.device);
      this.since.set(now.device, now);
    }
    return [...this.silent.values()];
  }

  private forget(device: string): void {
    this.since.delete(device);
    this.silent.delete(device);
  }
}

/** What an operator is told. */
export function silentText(port: string, { device, handed, sent }: SilentDevice): string {
  return (
    `port ${port}: ${handed} frames were handed to ${device}, which says that it sent ${sent}: native XDP does not reach its far side ` +
    `(a container bridge's veth takes none); set attachMode: generic for all ports, or see ethtool -S ${device}`
  );
}

/** Frames sent by each device of this thread's network namespace; `text` is /proc/thread-self/net/dev (proc(5)). */
export function parseSentPackets(text: string): Map<string, bigint> {
  return new Map(
    text.split('\n').flatMap((line): [string, bigint][] => {
      const match = /^\s*([^\s:]+):\s*(?:\d+\s+){9}(\d+)\s/.exec(line);
      return match?.[1] === undefined || match[2] === undefined ? [] : [[match[1], BigInt(match[2])]];
    }),
  );
}
