//go:build linux

package page

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

func TestAListenerIsARow(t *testing.T) {
	tcp := func(change func(l *inventory.Listener)) inventory.Listener {
		l := listening(inventory.TCP, "0.0.0.0:80", inventory.ScopeAny)
		change(&l)
		return l
	}
	verdict := func(reason, service, purpose string) inventory.Listener {
		return judged(tcp(func(*inventory.Listener) {}), reason, service, purpose)
	}
	bind := verdict(inventory.ReasonBind, "web", "the shop")
	bind.Verdict.Declared = "10.0.0.0/8, loopback"
	// The row of a listener that is not judged, with changes.
	plain := func(change func(r *row)) row {
		r := row{
			State: state{levelNone, "not judged", ""}, Proto: "tcp", Address: "0.0.0.0", Port: 80, Scope: "any",
			Queue: queue{levelNone, "0 / 4096", 0, true}, Drops: "0", Netns: "main", Rank: rankRest,
		}
		change(&r)
		return r
	}
	for _, test := range []struct {
		name     string
		listener inventory.Listener
		want     row
	}{
		{"not judged", tcp(func(*inventory.Listener) {}), plain(func(*row) {})},
		{"as declared", verdict("", "web", "the shop"), plain(func(r *row) {
			r.State, r.Service, r.Purpose = state{levelGood, "as declared", ""}, "web", "the shop"
		})},
		{"a client", tcp(func(l *inventory.Listener) { l.Client = true }), plain(func(r *row) {
			r.State = state{levelNone, "ephemeral", ""}
		})},
		{"reserved, which names a team and no service", verdict(inventory.ReasonReserved, "alpha", ""), plain(func(r *row) {
			r.State, r.Rank = state{levelBad, "reserved", "the port is reserved for alpha"}, rankViolation
		})},
		{"bind, which says what is declared", bind, plain(func(r *row) {
			r.State, r.Rank = state{levelBad, "bind", "listens on a wider or another address than declared (10.0.0.0/8, loopback)"}, rankViolation
			r.Service, r.Purpose = "web", "the shop"
		})},
		{"a queue with something in it", tcp(func(l *inventory.Listener) { l.AcceptQueueLength = 1 }), plain(func(r *row) {
			r.Queue = queue{"", "1 / 4096", 1, true}
		})},
		{"a queue over half full", tcp(func(l *inventory.Listener) { l.AcceptQueueLength = 3072 }), plain(func(r *row) {
			r.Queue = queue{levelWarn, "3072 / 4096", 36, true}
		})},
		{"a full queue", tcp(func(l *inventory.Listener) { l.AcceptQueueLength = 4097 }), plain(func(r *row) {
			r.Queue, r.Rank = queue{levelBad, "4097 / 4096 full", barWidth, true}, rankFull
			r.State = state{levelBad, "full queue", "not judged, but drops new connections"}
		})},
		{"without netlink no limit and no drops are known", tcp(func(l *inventory.Listener) {
			l.Detailed, l.AcceptQueueLength, l.AcceptQueueLimit = false, 5, 0
		}), plain(func(r *row) {
			r.Queue, r.Drops = queue{Text: "5"}, "–"
		})},
		{"holders", tcp(func(l *inventory.Listener) {
			l.Holders, l.ManyHolders = []inventory.Holder{
				{Process: "nginx", Unit: "nginx.service"},
				{UID: 33},
				{Process: "a\x1b[31m\u202eb", ContainerID: strings.Repeat("ab", 32), PodUID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
			}, true
		}), plain(func(r *row) {
			r.Holders, r.Many = []inventory.Holder{
				{Process: "nginx", Unit: "nginx.service"},
				{Process: `a\x1b[31m\u202eb`, ContainerID: strings.Repeat("ab", 32), PodUID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
			}, true
		})},
		{"workers on a device, in another namespace, that were seen to appear", tcp(func(l *inventory.Listener) {
			l.Sockets, l.Device, l.Netns, l.FirstSeen = 3, "eth0", "blue", sampleTime
		}), plain(func(r *row) {
			r.Note, r.Netns = "on eth0, 3 sockets, since 2026-03-04 05:06:07 UTC", "blue"
		})},
		{"dual-stack", listening(inventory.TCP, "[::]:80", inventory.ScopeAny), plain(func(r *row) {
			r.Address, r.Note = "::", "also IPv4"
		})},
		{"UDP by procfs", inventory.Listener{
			Key: listening(inventory.UDP, "0.0.0.0:80", inventory.ScopeAny).Key, Sockets: 1, ReceiveQueueBytes: 1536, Drops: 7,
		}, plain(func(r *row) {
			r.Proto, r.Queue, r.Drops = "udp", queue{Text: "1.5 KiB"}, "7"
		})},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, newRow(&test.listener)); diff != "" {
				t.Errorf("the row (-want +got):\n%s", diff)
			}
		})
	}
}

// digest is the top of a page, and the ports below in their order.
type digest struct {
	Title   string
	Summary []count
	Notices []notice
	Missing []missing
	Ports   []uint16
	Empty   string
}

func digestOf(v *view) digest {
	d := digest{Title: v.Title(), Summary: v.Summary, Notices: v.Notices, Missing: v.Missing, Empty: v.Empty}
	for i := range v.Rows {
		d.Ports = append(d.Ports, v.Rows[i].Port)
	}
	return d
}

func TestASnapshotIsAPage(t *testing.T) {
	const host = "db-7.example.com"
	blind := &inventory.Snapshot{Reads: []inventory.Read{
		{Collector: inventory.TCP, Err: errors.New("read /proc/1/net/tcp:\npermission denied")},
	}}
	for _, test := range []struct {
		name     string
		snapshot *inventory.Snapshot
		want     digest
	}{
		{
			"what is wrong comes first", sample(),
			digest{
				Title: "2 missing services, 4 violations, 1 full queue: " + host,
				Summary: []count{
					{2, "missing services", true, false},
					{4, "violations", true, false},
					{1, "full queue", true, false},
					{9, "listeners", false, false},
					{7, "reachable from outside", false, false},
				},
				Missing: []missing{
					{"postgres", "the orders database", "", "tcp", "5432", "nothing listens as declared"},
					{"sessions", "who is logged in", "", "tcp", "6379", "the port is open, but not as declared"},
				},
				Ports: []uint16{4444, 5433, 6379, 30007, 443, 22, 22, 53, 10190},
			},
		},
		{
			"all is well", calm(),
			digest{
				Title: host,
				Summary: []count{
					{0, "missing services", false, false},
					{0, "violations", false, false},
					{5, "listeners", false, false},
					{4, "reachable from outside", false, false},
				},
				Ports: []uint16{22, 22, 53, 443, 10190},
			},
		},
		{
			"reads that failed, and all that is left out", trouble(),
			digest{
				Title: "UDP not read, 2 missing services, 4 violations, 1 full queue: " + host,
				Summary: []count{
					{2, "missing services", true, true},
					{4, "violations", true, true},
					{1, "full queue", true, true},
					{9, "listeners", false, true},
					{7, "reachable from outside", false, true},
				},
				Notices: []notice{
					{true, "UDP could not be read. Its listeners are not shown. Whether UDP services are missing is not known.", "read udp: permission denied"},
					{true, "The holders of the listeners could not be read.", "read holder: permission denied"},
					{true, "The last reload of the registry failed. Listeners are judged by the version of 2026-03-04 04:06:07 UTC.", ""},
					{true, "Not shown: 1200 listeners above the limit of --collector.max-ports.", ""},
					{false, "26 of 90 network namespaces were not read this time. Their listeners are from an earlier read.", ""},
				},
				Missing: []missing{
					{"postgres", "the orders database", "", "tcp", "5432", "nothing listens as declared"},
					{"sessions", "who is logged in", "", "tcp", "6379", "the port is open, but not as declared"},
				},
				Ports: []uint16{4444, 5433, 6379, 30007, 443, 22, 22, 10190, 5432},
			},
		},
		{
			"nothing could be read, which is another thing", blind,
			digest{
				Title:   "TCP not read: " + host,
				Summary: []count{{0, "listeners", false, true}, {0, "reachable from outside", false, true}},
				Notices: []notice{
					{false, "UDP is not read, because of --no-collector.udp.", ""},
					{true, "TCP could not be read. Its listeners are not shown.", `read /proc/1/net/tcp:\npermission denied`},
				},
				Empty: "No listener was found, but not everything could be read.",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := digestOf(newView(test.snapshot, sampleOptions, sampleTime))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the page (-want +got):\n%s", diff)
			}
		})
	}
}
