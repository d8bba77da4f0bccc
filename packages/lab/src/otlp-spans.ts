// SPDX-License-Identifier: Apache-2.0
/**
 * Reads as much of OTLP's ExportTraceServiceRequest as a trace tree needs (opentelemetry-proto 1.x,
 * collector/trace/v1/trace_service.proto, trace/v1/trace.proto, common/v1/common.proto). Unknown fields are skipped.
 */
import { BinaryReader } from '@bufbuild/protobuf/wire';

export type AttributeValue = string | number | boolean;

export interface Span {
  /** `service.name` of the resource. */
  readonly service: string;
  readonly name: string;
  /** Lower-case hexadecimal. */
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for the first span of a trace. */
  readonly parentId: string;
  /** Nanoseconds since 1970, as text: beyond what a number holds. */
  readonly startNs: string;
  readonly durationUs: number;
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  readonly isError: boolean;
}

type Fields = Readonly<Record<number, (reader: BinaryReader) => void>>;

/** @throws Error when the bytes are no protobuf. */
export function decodeSpans(request: Uint8Array): Span[] {
  const spans: Span[] = [];
  read(request, {
    1: (resourceSpans) => {
      let service = '';
      const found: Omit<Span, 'service'>[] = [];
      read(resourceSpans.bytes(), {
        1: (resource) => {
          const attributes: Record<string, AttributeValue> = {};
          read(resource.bytes(), { 1: (attribute) => readAttribute(attribute.bytes(), attributes) });
          service = String(attributes['service.name'] ?? '');
        },
        2: (scopeSpans) => read(scopeSpans.bytes(), { 2: (span) => found.push(readSpan(span.bytes())) }),
      });
      for (const span of found) spans.push({ service, ...span });
    },
  });
  return spans;
}

function readSpan(bytes: Uint8Array): Omit<Span, 'service'> {
  let [traceId, spanId, parentId, name] = ['', '', '', ''];
  let [startNs, endNs] = [0n, 0n];
  let isError = false;
  const attributes: Record<string, AttributeValue> = {};
  read(bytes, {
    1: (field) => {
      traceId = toHex(field.bytes());
    },
    2: (field) => {
      spanId = toHex(field.bytes());
    },
    4: (field) => {
      parentId = toHex(field.bytes());
    },
    5: (field) => {
      name = field.string();
    },
    7: (field) => {
      startNs = BigInt(field.fixed64());
    },
    8: (field) => {
      endNs = BigInt(field.fixed64());
    },
    9: (field) => readAttribute(field.bytes(), attributes),
    15: (field) =>
      read(field.bytes(), {
        3: (code) => {
          isError = code.int32() === 2; // STATUS_CODE_ERROR
        },
      }),
  });
  const durationUs = Number(endNs - startNs) / 1_000;
  return { traceId, spanId, parentId, name, startNs: String(startNs), durationUs, attributes, isError };
}

/** KeyValue; of AnyValue the scalar kinds, others are left out. */
function readAttribute(bytes: Uint8Array, into: Record<string, AttributeValue>): void {
  let key = '';
  let value: AttributeValue | undefined;
  const set = (scalar: AttributeValue): void => {
    value = scalar;
  };
  read(bytes, {
    1: (field) => {
      key = field.string();
    },
    2: (field) =>
      read(field.bytes(), {
        1: (any) => set(any.string()),
        2: (any) => set(any.bool()),
        3: (any) => set(Number(any.int64())),
        4: (any) => set(any.double()),
      }),
  });
  if (value !== undefined) into[key] = value;
}

function read(bytes: Uint8Array, fields: Fields): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const readField = fields[number];
    if (readField) readField(reader);
    else reader.skip(wireType, number);
  }
}

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
