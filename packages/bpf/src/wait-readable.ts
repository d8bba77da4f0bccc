// SPDX-License-Identifier: Apache-2.0
// Calls back whenever a descriptor is readable, on the event loop, and keeps the handle alive as long as it is wanted.
import koffi from 'koffi';

/** Handles in use. koffi stops calling back, without a word, once a handle is collected. */
const live = new Set<ReturnType<typeof koffi.node.poll>>();

/** Level-triggered: called again on the next turn of the loop while data is left. Returns the function that stops it. */
export function waitReadable(fd: number, onReadable: () => void): () => void {
  const handle = koffi.node.poll(fd, { readable: true }, onReadable);
  live.add(handle);
  return () => {
    if (!live.delete(handle)) return;
    handle.stop();
    handle.close();
  };
}
