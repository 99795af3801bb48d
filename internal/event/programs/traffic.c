// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The programs that count the packets and bytes of ports. The kernel runs them for each packet that has an IPv4 or IPv6 socket, in
// every cgroup. They never stop a packet.

#include "kernel.h"

// The kernel lets only programs under a licence that is compatible with the GPL read its types.
char licence[] SEC("license") = "Dual MIT/GPL";

const volatile u32 netns; // the inode of /proc/PID/ns/net of the namespace whose packets count. The loader sets it.

struct counters {
	u64 receive_packets;
	u64 receive_bytes;
	u64 transmit_packets;
	u64 transmit_bytes;
};

// The ports that count. User space adds and deletes them, and sets max_entries.
struct {
	NUMBER(type, BPF_MAP_TYPE_PERCPU_HASH);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	NUMBER(max_entries, 1);
	TYPE(key, u32); // the number of the protocol << 16 | the port
	TYPE(value, struct counters);
} ports SEC(".maps");

// counters_of returns the counters of the port that a packet comes to or leaves, or 0 if it does not count.
INLINE struct counters *counters_of(struct __sk_buff *packet)
{
	struct bpf_sock *socket = packet->sk;
	if (!socket)
		return 0;
	socket = bpf_sk_fullsock(socket);
	if (!socket)
		return 0;
	// What looks like the port of a raw socket is none.
	if (!(socket->type == SOCK_STREAM && socket->protocol == IPPROTO_TCP) && !(socket->type == SOCK_DGRAM && socket->protocol == IPPROTO_UDP))
		return 0;
	u32 port = socket->protocol << 16 | socket->src_port;
	struct counters *counters = bpf_map_lookup_elem(&ports, &port);
	if (!counters)
		return 0;

	// The verifier does not let a struct bpf_sock be read as the struct sock that it is. But the packet is a struct sk_buff.
	struct sk_buff *skb = (struct sk_buff *)packet;
	struct sock *sk;
	struct net *net;
	u32 number;
	if (READ(sk, skb->sk) || READ(net, sk->__sk_common.skc_net.net) || READ(number, net->ns.inum) || number != netns)
		return 0;
	return counters;
}

// packets_in returns how many packets a packet is on the wire: the kernel handles many of a TCP stream as one (GRO, GSO).
INLINE u64 packets_in(struct __sk_buff *packet)
{
	u32 segments = packet->gso_segs;
	return segments ? segments : 1;
}

enum { PASS = 1 };

// The counters are a CPU's own. Additions are atomic as a softirq may interrupt what sends, and sends too.

SEC("cgroup_skb/ingress")
int receive(struct __sk_buff *packet)
{
	struct counters *counters = counters_of(packet);
	if (counters) {
		__sync_fetch_and_add(&counters->receive_packets, packets_in(packet));
		__sync_fetch_and_add(&counters->receive_bytes, packet->len);
	}
	return PASS;
}

SEC("cgroup_skb/egress")
int transmit(struct __sk_buff *packet)
{
	struct counters *counters = counters_of(packet);
	if (counters) {
		__sync_fetch_and_add(&counters->transmit_packets, packets_in(packet));
		__sync_fetch_and_add(&counters->transmit_bytes, packet->len);
	}
	return PASS;
}
