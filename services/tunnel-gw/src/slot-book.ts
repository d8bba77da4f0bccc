// SPDX-License-Identifier: Apache-2.0
// Selection tables by what they are made from. Few paths: made at once. Many: made by another thread, and remembered, so that a node that
// comes back finds the table of before. Until a table is there, an older one over the same paths does: the datapath steps over paths that
// are down.
import { describeError } from '@detour/core';
import { buildSelection, type Member } from '@detour/tables';

/** A chain's members, in the order of their path numbers. */
export interface WantedSlots {
  readonly chain: number;
  readonly members: readonly Member[];
}

interface Made {
  readonly key: string;
  readonly paths: string;
  readonly slots: Uint16Array;
}

/** One chain's building: what is wanted after what is being built, the latest only. */
interface UnderWay {
  next: WantedSlots | null;
  done: Promise<void>;
}

export interface SlotBookOptions {
  /** Makes them elsewhere. */
  readonly build: (members: readonly Member[], chain: number) => Promise<Uint16Array>;
  /** `build` failed: they are made here, where packets wait for it. */
  readonly onError: (text: string) => void;
}

/** More paths than this take longer than a failover may, on a busy machine and before the compiler is warm (warm, of one core: 16 paths 0.4 ms, 128 4 ms, 600 25 ms). */
const AT_ONCE_PATHS = 16;
/** Tables remembered of each chain: as it is, and as it was. */
const REMEMBERED = 3;

export class SlotBook {
  private readonly made = new Map<number, Made[]>();
  private readonly underWay = new Map<number, UnderWay>();

  /** Without options everything is made at once. */
  constructor(private readonly options: SlotBookOptions | null = null) {}

  /** The slots, if they are there or quickly made. */
  now({ chain, members }: WantedSlots): Uint16Array | null {
    const key = keyOf(members);
    const known = this.made.get(chain)?.find((one) => one.key === key);
    if (known !== undefined) {
      this.remember(chain, known);
      return known.slots;
    }
    if (this.options !== null && members.length > AT_ONCE_PATHS) return null;
    const slots = buildSelection(members, chain);
    this.remember(chain, { key, paths: pathsOf(members), slots });
    return slots;
  }

  /** The latest slots over the same paths, whatever these were worth then. */
  older({ chain, members }: WantedSlots): Uint16Array | null {
    const paths = pathsOf(members);
    return this.made.get(chain)?.find((one) => one.paths === paths)?.slots ?? null;
  }

  /**
   * Resolves when `now` has them all; or, of a chain for which others were wanted meanwhile, the latest of these: nodes that go one after the
   * other are not built for one by one. @throws Fault `invalid` for members that have no slots.
   */
  async build(wanted: readonly WantedSlots[]): Promise<void> {
    await Promise.all(wanted.map((one) => this.buildOne(one)));
  }

  private buildOne(wanted: WantedSlots): Promise<void> {
    const running = this.underWay.get(wanted.chain);
    if (running !== undefined) {
      running.next = wanted;
      return running.done;
    }
    const started: UnderWay = { next: wanted, done: Promise.resolve() };
    this.underWay.set(wanted.chain, started);
    started.done = this.buildLatest(started).finally(() => this.underWay.delete(wanted.chain));
    return started.done;
  }

  private async buildLatest(building: UnderWay): Promise<void> {
    for (let one = building.next; one !== null; one = building.next) {
      building.next = null;
      const { chain, members } = one;
      const key = keyOf(members);
      if (this.made.get(chain)?.some((made) => made.key === key) === true) continue;
      const slots = await this.make(members, chain);
      this.remember(chain, { key, paths: pathsOf(members), slots });
    }
  }

  private async make(members: readonly Member[], chain: number): Promise<Uint16Array> {
    const { options } = this;
    try {
      if (options !== null) return await options.build(members, chain);
    } catch (error) {
      options?.onError(`selection of chain ${chain} is built on the main thread: ${describeError(error)}`);
    }
    return buildSelection(members, chain);
  }

  private remember(chain: number, made: Made): void {
    const others = (this.made.get(chain) ?? []).filter((one) => one.key !== made.key);
    this.made.set(chain, [made, ...others].slice(0, REMEMBERED));
  }
}

function keyOf(members: readonly Member[]): string {
  return members.map(({ path, weight }) => `${path}:${weight}`).join();
}

function pathsOf(members: readonly Member[]): string {
  return members.map(({ path }) => path).join();
}
