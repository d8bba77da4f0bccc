// SPDX-License-Identifier: Apache-2.0
// Options of every channel and server: bounds, keepalive that finds a frozen peer, quick reconnects.
import type { ChannelOptions } from '@grpc/grpc-js';

/** Longest message that is taken: a full table. */
export const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;

const KEEPALIVE: ChannelOptions = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  'grpc.keepalive_time_ms': 1_000,
  'grpc.keepalive_timeout_ms': 1_000,
};

export const SERVER_OPTIONS: ChannelOptions = { ...KEEPALIVE, 'grpc.max_concurrent_streams': 1_000 };

export const CLIENT_OPTIONS: ChannelOptions = {
  ...KEEPALIVE,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.min_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.enable_retries': 0,
  'grpc.enable_http_proxy': 0,
  'grpc.use_local_subchannel_pool': 1, // a new stream never waits in an old one's backoff
};
