// The programs that the kernel runs where listeners open and close, and where they complete connections.
//
// There are two sets, of which the loader attaches one. The set "functions" sits at functions of the kernel that run only for
// listeners. The set "tracepoint" is for kernels that cannot attach there: it sits at each change of state of a TCP socket, and
// at the bind and the end of each socket of every cgroup.

#include "kernel.h"

// The kernel lets only programs under a licence that is compatible with the GPL read its types.
char licence[] SEC("license") = "Dual MIT/GPL";

// place is where a listener listens. It is a key: it has no byte that is not written.
struct place {
	u32 netns; // the inode of /proc/PID/ns/net
	u32 interface;
	u16 port; // host byte order
	u8 family;
	u8 proto;
	u32 addr[4]; // network byte order; an IPv4 address is in the first
};

// record is what is remembered of a listener while it is open.
struct record {
	u64 opened; // since boot, in nanoseconds, or 0 if it is not known
	u64 cgroup;
	u32 pid;
	u32 uid;
	struct place place;
	u8 kind;   // only in an event
	u8 others; // likewise: other sockets are open at the place
	u8 unused[2];
	char comm[16];
};

enum { OPENED = 1, CLOSED = 2 };

// event is what goes to user space. Package event decodes it.
struct event {
	u64 time; // since boot, in nanoseconds
	struct record record;
};

// state is that of a place at which sockets are open.
struct state {
	u64 connections;
	u64 last; // connection, since boot, in nanoseconds
	u32 sockets;
	u32 unused;
};

// The sizes are bounds: 64 Ki listeners are more than a network namespace has ports, and take 9 MiB.
struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 65536);
	TYPE(key, u64); // the address of the socket
	TYPE(value, struct record);
} listeners SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 65536);
	TYPE(key, struct place);
	TYPE(value, struct state);
} places SEC(".maps");

// 2 MiB hold some 23 800 events: those of 120 ms if 100 000 listeners a second open and close.
struct {
	NUMBER(type, BPF_MAP_TYPE_RINGBUF);
	NUMBER(max_entries, 2097152);
} events SEC(".maps");

// lost counts what a full ring or a full map has cost.
struct {
	NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u64);
} lost SEC(".maps");

INLINE u16 from_network(u16 port)
{
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap16(port) : port;
}

INLINE void lose(void)
{
	u32 first = 0;
	u64 *count = bpf_map_lookup_elem(&lost, &first);
	if (count)
		(*count)++;
}

INLINE void send(struct event *e, u8 kind)
{
	e->record.kind = kind;
	if (bpf_ringbuf_output(&events, e, sizeof(*e), 0))
		lose();
}

// read_place reads where a socket is bound.
INLINE void read_place(struct place *p, struct sock *sk)
{
	struct sock_common *common = &sk->__sk_common;
	p->netns = common->skc_net.net->ns.inum;
	p->interface = common->skc_bound_dev_if;
	p->port = common->skc_num;
	p->family = common->skc_family;
	p->proto = sk->sk_protocol;
	if (p->family == AF_INET6) {
		p->addr[0] = common->skc_v6_rcv_saddr.in6_u.u6_addr32[0];
		p->addr[1] = common->skc_v6_rcv_saddr.in6_u.u6_addr32[1];
		p->addr[2] = common->skc_v6_rcv_saddr.in6_u.u6_addr32[2];
		p->addr[3] = common->skc_v6_rcv_saddr.in6_u.u6_addr32[3];
	} else {
		p->addr[0] = common->skc_rcv_saddr;
	}
}

// enter notes a socket that is open at a place, and returns whether others are.
INLINE int enter(struct place *p)
{
	struct state first = {.sockets = 1}, *state;
	struct place key = *p;
	if (!bpf_map_update_elem(&places, &key, &first, BPF_NOEXIST))
		return 0;
	state = bpf_map_lookup_elem(&places, &key);
	if (!state) {
		lose();
		return 0;
	}
	__sync_fetch_and_add(&state->sockets, 1);
	return 1;
}

// leave notes that a socket ends at a place, and returns whether others stay. Of several that end at a time, one removes it.
INLINE int leave(struct place *p)
{
	struct place key = *p;
	struct state *state = bpf_map_lookup_elem(&places, &key);
	if (!state)
		return 0;
	__sync_fetch_and_add(&state->sockets, -1);
	return (int)state->sockets > 0 || bpf_map_delete_elem(&places, &key);
}

// opened reports the opening of a listener at a place, and remembers it under an id.
INLINE void opened(u64 id, struct event *e)
{
	struct record *r = &e->record;
	struct task_struct *task = (void *)bpf_get_current_task(), *leader = 0;
	u64 uid = bpf_get_current_uid_gid();
	e->time = bpf_ktime_get_boot_ns();
	r->opened = e->time;
	r->cgroup = bpf_get_current_cgroup_id();
	r->pid = bpf_get_current_pid_tgid() >> 32;
	r->uid = uid;
	// Not the thread's name, but the one in /proc/PID/comm.
	READ(leader, task->group_leader);
	READ(r->comm, leader->comm);
	if (bpf_map_update_elem(&listeners, &id, r, BPF_ANY))
		lose();
	if (r->place.port) {
		r->others = enter(&r->place);
		send(e, OPENED);
	}
}

// closed reports the end of a listener that was remembered under an id, and returns whether it was.
INLINE int closed(u64 id, u16 port)
{
	struct event e = {};
	struct record *r = bpf_map_lookup_elem(&listeners, &id);
	if (!r)
		return 0;
	e.record = *r;
	bpf_map_delete_elem(&listeners, &id);
	if (!e.record.place.port) { // a listen() without a bind(), at the tracepoint: the kernel chose a port later
		e.record.place.port = port;
		e.time = e.record.opened;
		send(&e, OPENED);
	}
	e.time = bpf_ktime_get_boot_ns();
	e.record.others = leave(&e.record.place);
	send(&e, CLOSED);
	return 1;
}

INLINE void tcp_opened(struct sock *sk)
{
	struct event e = {};
	if (sk->sk_protocol != IPPROTO_TCP)
		return;
	read_place(&e.record.place, sk);
	opened((u64)sk, &e);
}

INLINE void tcp_closed(struct sock *sk)
{
	struct event e = {};
	u16 port = sk->__sk_common.skc_num;
	if (sk->sk_protocol != IPPROTO_TCP)
		return;
	if (!port) { // the kernel chose the port, and has taken it back; this is a copy
		READ(port, ((struct inet_sock *)sk)->inet_sport);
		port = from_network(port);
	}
	if (closed((u64)sk, port))
		return;
	read_place(&e.record.place, sk);
	e.record.place.port = port;
	e.record.others = leave(&e.record.place);
	e.time = bpf_ktime_get_boot_ns();
	send(&e, CLOSED);
}

INLINE int count(struct place *p)
{
	struct state *state = bpf_map_lookup_elem(&places, p);
	if (!state)
		return 0;
	__sync_fetch_and_add(&state->connections, 1);
	state->last = bpf_ktime_get_boot_ns();
	return 1;
}

INLINE void connected(struct sock *listener)
{
	struct place p = {};
	read_place(&p, listener);
	count(&p);
}

// The set "functions".

// The arguments of the function are the first elements of the context. Those after the socket changed in Linux 5.17, and what the
// function returns comes after them. The state shows as well whether it succeeded.
SEC("fexit/inet_csk_listen_start")
int listen_start(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	if (sk->__sk_common.skc_state == TCP_LISTEN)
		tcp_opened(sk);
	return 0;
}

SEC("fentry/inet_csk_listen_stop")
int listen_stop(u64 *ctx)
{
	tcp_closed((void *)ctx[0]);
	return 0;
}

// struct sock *inet_csk_complete_hashdance(struct sock *sk, struct sock *child, struct request_sock *req, bool own_req)
SEC("fentry/inet_csk_complete_hashdance")
int hashdance(u64 *ctx)
{
	if ((u8)ctx[3]) // not a second packet that completes the same connection
		connected((void *)ctx[0]);
	return 0;
}

// A connection that a SYN cookie has opened (net.ipv4.tcp_syncookies) does not come by hashdance.
SEC("fentry/tcp_get_cookie_sock")
int cookie(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	if (sk->sk_ack_backlog <= sk->sk_max_ack_backlog) // otherwise it is refused
		connected(sk);
	return 0;
}

// int udp_lib_get_port(struct sock *sk, unsigned short snum, unsigned int hash2_nulladdr), of IPv4 and of IPv6. Without a port in
// snum, the kernel chooses one: most often for a client.
SEC("fexit/udp_lib_get_port")
int get_port(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	struct event e = {};
	if (!(u16)ctx[1] || (int)ctx[3] || sk->sk_protocol != IPPROTO_UDP)
		return 0;
	read_place(&e.record.place, sk);
	opened((u64)sk, &e);
	return 0;
}

// void udp_lib_unhash(struct sock *sk): the socket leaves its port, as it is closed.
SEC("fentry/udp_lib_unhash")
int unhash(u64 *ctx)
{
	closed(ctx[0], 0);
	return 0;
}

// The set "tracepoint".

// count_any counts a connection at a place that is bound to an interface, or at the same that is bound to none.
INLINE int count_any(struct place *p, u32 interface)
{
	p->interface = interface;
	if (count(p))
		return 1;
	p->interface = 0;
	return interface && count(p);
}

// A child of a listener is bound to the address that the client called, and to the interface of its listener, or for a link-local
// address to that of the client. Its family is that of its listener.
INLINE void child_connected(struct sock *child)
{
	struct place p = {};
	u32 interface;
	read_place(&p, child);
	interface = p.interface;
	if (count_any(&p, interface))
		return;
	p.addr[3] = 0;
	if (p.family == AF_INET6 && p.addr[2] && count_any(&p, interface)) // ::ffff:0.0.0.0
		return;
	p.addr[0] = p.addr[1] = p.addr[2] = 0;
	count_any(&p, interface);
}

// TP_PROTO(const struct sock *sk, const int oldstate, const int newstate). Almost all calls are for other changes: they end after
// the first comparisons.
SEC("tp_btf/inet_sock_set_state")
int set_state(u64 *ctx)
{
	int before = ctx[1], after = ctx[2];
	if (after == TCP_ESTABLISHED) {
		if (before == TCP_SYN_RECV)
			child_connected((void *)ctx[0]);
	} else if (after == TCP_LISTEN) {
		tcp_opened((void *)ctx[0]);
	} else if (before == TCP_LISTEN && after == TCP_CLOSE) {
		tcp_closed((void *)ctx[0]);
	}
	return 0;
}

// The context of these programs shows little of the socket: not the interface, nor the namespace. But its address is that of the
// socket, which a helper reads. Each lets the system call go on (1).

INLINE int bound(struct bpf_sock *ctx)
{
	struct sock_common *common = &((struct sock *)ctx)->__sk_common;
	struct event e = {};
	struct place *p = &e.record.place;
	struct net *net = 0;
	u16 family = 0;
	if (ctx->protocol != IPPROTO_UDP)
		return 1;
	READ(net, common->skc_net.net);
	READ(p->netns, net->ns.inum);
	READ(p->interface, common->skc_bound_dev_if);
	READ(p->port, common->skc_num);
	READ(family, common->skc_family);
	p->family = family;
	p->proto = IPPROTO_UDP;
	if (family == AF_INET6)
		READ(p->addr, common->skc_v6_rcv_saddr.in6_u.u6_addr32);
	else
		READ(p->addr[0], common->skc_rcv_saddr);
	opened((u64)ctx, &e);
	return 1;
}

SEC("cgroup/post_bind4")
int post_bind4(struct bpf_sock *ctx)
{
	return bound(ctx);
}

SEC("cgroup/post_bind6")
int post_bind6(struct bpf_sock *ctx)
{
	return bound(ctx);
}

SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *ctx)
{
	if (ctx->protocol == IPPROTO_UDP)
		closed((u64)ctx, 0);
	return 1;
}
