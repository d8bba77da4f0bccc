// SPDX-License-Identifier: Apache-2.0
/** Nothing is imported from a service: it is reached as a process, by gRPC and NATS. */
export {};
