// SPDX-License-Identifier: Apache-2.0
// Captures what libbpf says while it loads an object, so that a refusal can be explained instead of printed on stderr.
import koffi from 'koffi';
import { native, type Pointer } from './native.js';

/** libbpf grows the verifier's log up to 16 MiB; a buffer is only touched as far as text arrives. */
const LARGEST_MESSAGE = (16 << 20) + 4096;
/** enum libbpf_print_level: 0 warn, 1 info, 2 debug. */
const DEBUG = 2;

/** Runs `work` (synchronously) and returns its result with the warnings that libbpf gave meanwhile. */
export function captureLibbpfLog<T>(work: () => T): { result: T; log: string } {
  const { bpf, c } = native();
  const buffer = Buffer.allocUnsafeSlow(LARGEST_MESSAGE);
  const parts: string[] = [];
  const callback = koffi.register((level: number, format: Pointer, args: Pointer): number => {
    if (level >= DEBUG) return 0;
    const length = c.vsnprintf(buffer, buffer.length, format, args);
    if (length > 0) parts.push(buffer.toString('utf8', 0, Math.min(length, buffer.length - 1)));
    return 0;
  }, koffi.pointer(printType()));
  const before = bpf.setPrint(callback);
  try {
    return { result: work(), log: parts.join('') };
  } finally {
    bpf.setPrint(before);
    koffi.unregister(callback);
  }
}

let type: ReturnType<typeof koffi.proto> | undefined;

/** libbpf_print_fn_t. va_list travels as a pointer in every 64-bit Linux calling convention, and vsnprintf takes it back. */
function printType(): ReturnType<typeof koffi.proto> {
  type ??= koffi.proto('int detour_libbpf_print(int level, void *format, void *args)');
  return type;
}

/** What a load log says about its failure. */
export interface LoadFailure {
  /** The program that the verifier refused, when it was one. */
  readonly program?: string;
  /** The verifier's last lines, without its statistics. */
  readonly verifier: readonly string[];
  /** libbpf's own warnings, without the verifier's log. */
  readonly warnings: readonly string[];
}

const VERIFIER_TAIL = 12;

/** Finds the refused program and the telling lines in libbpf's warnings. */
export function explainLoadLog(log: string): LoadFailure {
  const begin = /prog '([^']+)': -- BEGIN PROG LOAD LOG --\n/.exec(log);
  const end = log.indexOf('-- END PROG LOAD LOG --');
  const verifierText =
    begin === null ? '' : log.slice(begin.index + begin[0].length, end < 0 ? undefined : end);
  const outside = begin === null ? log : log.slice(0, begin.index) + (end < 0 ? '' : log.slice(end));
  const lines = (text: string): string[] => text.split('\n').filter((line) => line.trim() !== '');
  const verifier = lines(verifierText)
    .filter((line) => !/^(processed \d+ insns|verification time|stack depth)/.test(line))
    .slice(-VERIFIER_TAIL);
  const warnings = lines(outside).filter((line) => !line.includes('PROG LOAD LOG --'));
  return begin?.[1] === undefined ? { verifier, warnings } : { program: begin[1], verifier, warnings };
}
