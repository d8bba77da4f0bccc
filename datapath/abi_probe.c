/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Names every type of abi.h, so that its BTF reaches the object file (clang drops types and enums that nothing uses). */
#include "abi.h"

#define NAME(kind, name) kind name *probe_##name
NAME(struct, flow_key); NAME(struct, port_key); NAME(struct, tunnel_key); NAME(struct, own_key); NAME(struct, egress_key); NAME(struct, source_key); NAME(struct, datagram_key); NAME(struct, datagram);
NAME(struct, control); NAME(struct, port); NAME(struct, tunnel); NAME(struct, hop); NAME(struct, path); NAME(struct, chain); NAME(struct, selection);
NAME(struct, nexthop); NAME(struct, flow); NAME(struct, free_slots); NAME(struct, flow_front); NAME(struct, way); NAME(struct, flow_counters); NAME(struct, node_counters); NAME(struct, pair_counters);
NAME(struct, port_counters); NAME(struct, drop_example); NAME(struct, punt_bucket); NAME(struct, event); NAME(struct, inject_hdr);
NAME(struct, geneve_path); NAME(struct, hop_tags); NAME(struct, rules_line); NAME(struct, rule_answer); NAME(struct, rule_question); NAME(struct, rule_reply);
NAME(struct, node_settings); NAME(struct, node_gateway); NAME(struct, node_gateway_counters); NAME(struct, node_back); NAME(struct, node_flow); NAME(struct, node_stranger);
NAME(struct, snat_binding); NAME(struct, snat_key); NAME(struct, snat_inner);
#define NAME_ENUM(name) enum name probe_enum_##name
NAME_ENUM(detour_limit); NAME_ENUM(port_kind); NAME_ENUM(port_flag); NAME_ENUM(tunnel_proto); NAME_ENUM(tunnel_flag); NAME_ENUM(hop_flag); NAME_ENUM(geneve_option); NAME_ENUM(geneve_path_flag); NAME_ENUM(flow_action); NAME_ENUM(on_failure);
NAME_ENUM(on_node_down); NAME_ENUM(on_rule_change); NAME_ENUM(affinity); NAME_ENUM(path_state); NAME_ENUM(hop_kind); NAME_ENUM(tunnel_kind); NAME_ENUM(chain_decides); NAME_ENUM(source_purpose); NAME_ENUM(mss_clamp);
NAME_ENUM(flow_word); NAME_ENUM(flow_word_flag); NAME_ENUM(flow_seen); NAME_ENUM(drop_reason); NAME_ENUM(stat); NAME_ENUM(event_type); NAME_ENUM(event_first); NAME_ENUM(inject_op);
NAME_ENUM(inject_ethertype); NAME_ENUM(rules_limit); NAME_ENUM(rules_head); NAME_ENUM(rules_lengths); NAME_ENUM(rules_entry); NAME_ENUM(rules_entry_port);
NAME_ENUM(rules_list); NAME_ENUM(rules_verdict); NAME_ENUM(rule_action); NAME_ENUM(rule_flag); NAME_ENUM(rules_why); NAME_ENUM(rules_match);
NAME_ENUM(node_limit); NAME_ENUM(node_scope);
NAME_ENUM(own_flag); NAME_ENUM(egress_flag);
