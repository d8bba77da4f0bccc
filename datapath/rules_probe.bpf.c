/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rules_probe: the rule look-up of the datapath on its own, for tests and measurements. Each run answers the questions of one map into another,
 * as many as the first word of the frame behind its Ethernet header says, from the number in the next word on; with 0 in the third word none is looked up, and the run takes what the probe itself takes.
 */
#include "lib/maps.h"
#include "lib/packet.h"
#include "lib/count.h"
#include "lib/rules.h"

enum probe_size { QUESTIONS = 65536 };

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, QUESTIONS);
	__type(key, __u32);
	__type(value, struct rule_question);
MAP_END(questions);

MAP_BEGIN
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, QUESTIONS);
	__type(key, __u32);
	__type(value, struct rule_reply);
MAP_END(replies);

struct probe_run {
	__u32 from;
	__u32 lookups;
};

static long probe_one(__u32 index, struct probe_run *run)
{
	__u32 row = run->from + index, zero = 0;
	struct rule_question *question = bpf_map_lookup_elem(&questions, &row);
	struct rule_reply *reply = bpf_map_lookup_elem(&replies, &row);
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	struct packet p = {};

	if (!question || !reply || !c)
		return 1;
	p.key = question->key;
	p.norm = question->norm;
	p.port = question->port;
	p.bank = question->bank;
	if (run->lookups)
		reply->why = rules_find(&p, c, question->reversed, &reply->answer);
	return 0;
}

SEC("xdp")
int rules_probe(struct xdp_md *ctx)
{
	__u32 *words = packet_data(ctx) + sizeof(struct ethhdr) + 2;
	struct probe_run run;

	if ((void *)(words + 3) > packet_data_end(ctx))
		return XDP_ABORTED;
	run.from = words[1];
	run.lookups = words[2];
	bpf_loop(words[0], probe_one, &run, 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
