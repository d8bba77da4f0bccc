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

export interface SlotBookOptions {
  /** Makes them elsewhere. */
  readonly build: (members: readonly Member[], chain: number) => Promise<Uint16Array>;
  /** `build` failed: they are made here, where packets wait for it. */
  readonly onError: (text: string) => void;
}

/** More paths than this take longer than a failover may (16 paths: about 1 ms; 128: 30; 600: up to 600). */
const AT_ONCE_PATHS = 16;
/** Tables remembered of each chain: as it is, and as it was. */
const REMEMBERED = 3;

export class SlotBook {
  private readonly made = new Map<number, Made[]>();
  private readonly underWay = new Map<string, Promise<void>>();

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

  /** Resolves when `now` has them all. @throws Fault `invalid` for members that have no slots. */
  async build(wanted: readonly WantedSlots[]): Promise<void> {
    await Promise.all(wanted.map((one) => this.buildOne(one)));
  }

  private buildOne({ chain, members }: WantedSlots): Promise<void> {
    const key = keyOf(members);
    const mark = `${chain} ${key}`;
    const under = this.underWay.get(mark);
    if (under !== undefined) return under;
    const work = this.make(members, chain)
      .then((slots) => this.remember(chain, { key, paths: pathsOf(members), slots }))
      .finally(() => this.underWay.delete(mark));
    this.underWay.set(mark, work);
    return work;
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
