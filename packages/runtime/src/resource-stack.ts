// SPDX-License-Identifier: Apache-2.0
// Ordered closing: what was opened last is closed first, and one failure does not keep the rest open.

/** What AsyncDisposableStack will be once Node has it. */
export class ResourceStack implements AsyncDisposable {
  #closers: { name: string; close: () => unknown }[] = [];
  #closing: string | null = null;

  /** Closes `resource` with the stack; returns it. */
  use<T extends AsyncDisposable | Disposable>(resource: T, name = 'resource'): T {
    this.defer(
      () => (Symbol.asyncDispose in resource ? resource[Symbol.asyncDispose]() : resource[Symbol.dispose]()),
      name,
    );
    return resource;
  }

  /** Closes `value` by `close`; returns it. */
  adopt<T>(value: T, close: (value: T) => unknown, name = 'resource'): T {
    this.defer(() => close(value), name);
    return value;
  }

  /** Runs `close` (and awaits it) with the stack. */
  defer(close: () => unknown, name = 'resource'): void {
    this.#closers.push({ name, close });
  }

  /** The name of what is being closed at this moment. */
  get closing(): string | null {
    return this.#closing;
  }

  /** Closes everything, last opened first. @throws AggregateError of what failed, after all were tried. */
  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = [];
    for (let next = this.#closers.pop(); next !== undefined; next = this.#closers.pop()) {
      this.#closing = next.name;
      try {
        await next.close();
      } catch (error) {
        failures.push(error);
      }
    }
    this.#closing = null;
    if (failures.length > 0) throw new AggregateError(failures, 'not everything could be closed');
  }
}
