// SPDX-License-Identifier: Apache-2.0
// Which of many timers is due next: a binary heap whose members can be moved in place, O(log n) each.

/** Members with one deadline each; a deadline of +Infinity is never due. */
export class DeadlineHeap<T extends object> {
  readonly #members: T[] = [];
  readonly #at: number[] = [];
  readonly #places = new Map<T, number>();

  /** The earliest deadline; +Infinity when there is none. */
  get next(): number {
    return this.#at[0] ?? Number.POSITIVE_INFINITY;
  }

  get size(): number {
    return this.#members.length;
  }

  /** The member that is due at `now` or before, earliest first. */
  due(now: number): T | undefined {
    return this.next <= now ? this.#members[0] : undefined;
  }

  /** Adds a member or moves its deadline. */
  set(member: T, at: number): void {
    const place = this.#places.get(member) ?? this.#members.length;
    this.#put(place, member, at);
    this.#settle(place);
  }

  remove(member: T): void {
    const place = this.#places.get(member);
    if (place === undefined) return;
    this.#places.delete(member);
    const last = this.#members.pop();
    const lastAt = this.#at.pop();
    if (last === undefined || lastAt === undefined || last === member) return;
    this.#put(place, last, lastAt);
    this.#settle(place);
  }

  #put(place: number, member: T, at: number): void {
    this.#members[place] = member;
    this.#at[place] = at;
    this.#places.set(member, place);
  }

  #swap(x: number, y: number): void {
    const member = this.#members[x];
    const other = this.#members[y];
    const at = this.#at[x];
    const otherAt = this.#at[y];
    if (member === undefined || other === undefined || at === undefined || otherAt === undefined) return;
    this.#put(x, other, otherAt);
    this.#put(y, member, at);
  }

  #atOf(place: number): number {
    return this.#at[place] ?? Number.POSITIVE_INFINITY;
  }

  #settle(from: number): void {
    let place = from;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (this.#atOf(parent) <= this.#atOf(place)) break;
      this.#swap(place, parent);
      place = parent;
    }
    for (;;) {
      const left = 2 * place + 1;
      const child = this.#atOf(left + 1) < this.#atOf(left) ? left + 1 : left;
      if (child >= this.#members.length || this.#atOf(place) <= this.#atOf(child)) return;
      this.#swap(place, child);
      place = child;
    }
  }
}
