// SPDX-License-Identifier: Apache-2.0
/** One HTTP GET of an exporter, bounded in time and size. */
import { describeError, Fault } from '@detour/core';

/** Largest answer of an exporter that is read. */
export const MAX_SCRAPE_BYTES = 8 * 1024 * 1024;

export interface ScrapeOptions {
  readonly url: string;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/** The exporter's answer as text. Throws a Fault: timeout, unavailable (no or no good answer), exhausted (too large). */
export async function scrapeText({ url, deadlineMs, signal }: ScrapeOptions): Promise<string> {
  const deadline = AbortSignal.timeout(deadlineMs);
  try {
    const response = await fetch(url, {
      signal: AbortSignal.any([deadline, signal]),
      headers: { accept: 'text/plain;version=0.0.4' },
      redirect: 'error',
    });
    if (!response.ok) {
      await response.body?.cancel();
      throw new Fault(
        'unavailable',
        `${url} answered HTTP ${response.status}; give the exporter's metrics URL`,
      );
    }
    return await readBounded(url, response);
  } catch (error) {
    if (error instanceof Fault) throw error;
    if (deadline.aborted)
      throw new Fault('timeout', `${url} gave no whole answer within ${deadlineMs} ms`, error);
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    throw new Fault('unavailable', `${url} cannot be read: ${describeError(cause)}`, error);
  }
}

async function readBounded(url: string, response: Response): Promise<string> {
  if (response.body === null) return '';
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let text = '';
  let lenBytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    lenBytes += value.byteLength;
    if (lenBytes > MAX_SCRAPE_BYTES) {
      await reader.cancel();
      throw new Fault(
        'exhausted',
        `${url} answers with more than ${MAX_SCRAPE_BYTES} bytes; limit what the exporter collects`,
      );
    }
    text += decoder.decode(value, { stream: true });
  }
}
