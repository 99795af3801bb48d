//go:build linux

package page

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

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
	bind.Verdict.Declared, bind.Starts = "10.0.0.0/8, loopback", &inventory.Starts{Violation: sampleTime.Add(-119 * time.Second)}
	inside := listening(inventory.TCP, "127.0.0.1:80", inventory.ScopeLoopback)
	// The row of a listener that is not judged, with changes.
	plain := func(change func(r *row)) row {
		r := row{
			State: state{levelNone, "not judged", ""}, Proto: "tcp", Address: "0.0.0.0", Port: "80", Scope: "any",
			Queue: queue{Level: levelNone, Text: "0 / 4096"}, Drops: "0", Netns: "main", Rank: rankRest,
		}
		change(&r)
		return r
	}
	nginx := inventory.Holder{Process: "nginx", Unit: "nginx.service", UID: 33}
	other := inventory.Holder{
		Process: "a\x1b[31m\u202eb", ContainerID: strings.Repeat("ab", 32), PodUID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", UIDUnknown: true,
	}
	processes := []inventory.Process{{Holder: other, PID: 6}}
	for _, pid := range []int{5, 4, 3, 2, 1, 1} { // two sockets have one process
		processes = append(processes, inventory.Process{Holder: nginx, PID: pid})
	}
	m := rows{
		made: sampleTime, users: inventory.UserNames{33: "www\x1b"},
		processes: map[inventory.Key][]inventory.Process{bind.Key: processes},
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
			r.State = state{levelNone, "ephemeral", "most often a client"}
		})},
		{"reserved, which names a team and no service", verdict(inventory.ReasonReserved, "alpha", ""), plain(func(r *row) {
			r.State, r.Rank = state{levelBad, "reserved", "the port is reserved for alpha"}, 0
		})},
		{"bind, which says what is declared", bind, plain(func(r *row) {
			r.State, r.Rank = state{levelBad, "bind", "listens on a wider or another address than declared (10.0.0.0/8, loopback), for 1 minute"}, 0
			r.Service, r.Purpose = "web", "the shop"
		})},
		{"a queue with something in it", tcp(func(l *inventory.Listener) { l.AcceptQueueLength = 1 }), plain(func(r *row) {
			r.Queue = queue{Text: "1 / 4096", Bar: 1}
		})},
		{"a queue over half full", tcp(func(l *inventory.Listener) { l.AcceptQueueLength = 3072 }), plain(func(r *row) {
			r.Queue = queue{Level: levelWarn, Text: "3072 / 4096", Bar: 48}
		})},
		{"a full queue", tcp(func(l *inventory.Listener) {
			l.AcceptQueueLength, l.Starts = 4097, &inventory.Starts{Full: sampleTime.Add(-2 * time.Hour)}
		}), plain(func(r *row) {
			r.Queue, r.Rank = queue{Level: levelBad, Text: "4097 / 4096 full", Bar: barWidth}, rankFull
			r.State = state{levelBad, "full queue", "not judged, but drops new connections for 2 hours"}
		})},
		{"without netlink no limit and no drops are known", tcp(func(l *inventory.Listener) {
			l.Detailed, l.AcceptQueueLength, l.AcceptQueueLimit = false, 5, 0
		}), plain(func(r *row) {
			r.Queue, r.Drops = queue{Text: "5"}, "–"
		})},
		{"holders", tcp(func(l *inventory.Listener) {
			l.Holders, l.ManyHolders = []inventory.Holder{
				nginx, {UID: 33}, other,
			}, true
		}), plain(func(r *row) {
			r.Holders, r.Many = []holder{
				{Process: "nginx", Unit: "nginx.service", Detail: `PIDs 1, 2, 3, 4 and 1 more, user www\x1b`},
				{Process: `a\x1b[31m\u202eb`, ContainerID: strings.Repeat("ab", 32), PodUID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", Detail: "PID 6"},
			}, true
		})},
		{"workers on a device, in another namespace, that were seen to appear", tcp(func(l *inventory.Listener) {
			l.Sockets, l.Device, l.Netns, l.FirstSeen = 3, "eth0", "blue", sampleTime
		}), plain(func(r *row) {
			r.Note, r.Netns, r.Since = "on eth0, 3 sockets", "blue", sampleTime
		})},
		{"dual-stack", listening(inventory.TCP, "[::]:80", inventory.ScopeAny), plain(func(r *row) {
			r.Address, r.Note = "::", "also IPv4"
		})},
		{"a violation that reaches less far comes later", judged(inside, inventory.ReasonUnregistered, "", ""), plain(func(r *row) {
			r.State, r.Rank = state{levelBad, "unregistered", "no service declares the port"}, 5
			r.Address, r.Scope = "127.0.0.1", "loopback"
		})},
		{"lost packets", tcp(func(l *inventory.Listener) {
			l.Drops, l.Starts = 7, &inventory.Starts{Dropping: sampleTime.Add(-50 * time.Hour)}
		}), plain(func(r *row) {
			r.Drops, r.Dropping = "7", "for 2 days"
		})},
		{"UDP by procfs", inventory.Listener{
			Key: listening(inventory.UDP, "0.0.0.0:80", inventory.ScopeAny).Key, Sockets: 1, ReceiveQueueBytes: 1536, Drops: 7,
		}, plain(func(r *row) {
			r.Proto, r.Queue, r.Drops, r.Guessed = "udp", queue{Text: "1.5 KiB"}, "7", true
		})},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, m.of(&test.listener), cmpopts.IgnoreUnexported(row{}, queue{})); diff != "" {
				t.Errorf("the row (-want +got):\n%s", diff)
			}
		})
	}
}

// digest is the top of a page, and the ports below in their order.
type digest struct {
	Title   string
	Summary []string // with an exclamation mark at what is a problem
	Notices []notice
	Missing []missing
	Ports   []string
	Empty   string
}

func digestOf(v *view) digest {
	d := digest{Title: v.Title(), Notices: v.Notices, Missing: v.Missing, Empty: v.Empty}
	for _, c := range v.Summary {
		text := fmt.Sprint(c.Number, " ", c.Text)
		if c.Least {
			text = "at least " + text
		}
		if c.Bad {
			text += "!"
		}
		d.Summary = append(d.Summary, text)
	}
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
				Title:   "2 missing services, 4 violations, 1 full queue: " + host,
				Summary: []string{"2 missing services!", "4 violations!", "1 full queue!", "39 listeners", "7 reachable from outside", "1 opened in the last 24 hours"},
				Missing: []missing{
					{"postgres", "the orders database", "", "tcp", "5432", "nothing listens as declared, for 7 minutes", "postgres, postgresql.service"},
					{"sessions", "who is logged in", "", "tcp", "6379", "the port is open, but not as declared", ""},
				},
				Ports: []string{"6379", "4444", "30007", "5433", "443", "22", "53", "8000–8029", "10190"},
			},
		},
		{
			"all is well", calm(),
			digest{
				Title:   host,
				Summary: []string{"0 missing services", "0 violations", "35 listeners", "4 reachable from outside"},
				Ports:   []string{"22", "53", "443", "8000–8029", "10190"},
			},
		},
		{
			"reads that failed, and all that is left out", trouble(),
			digest{
				Title: "UDP not read, 2 missing services, 4 violations, 1 full queue: " + host,
				Summary: []string{
					"at least 2 missing services!", "at least 4 violations!", "at least 1 full queue!", "at least 39 listeners",
					"at least 7 reachable from outside", "at least 1 opened in the last 24 hours",
				},
				Notices: []notice{
					{true, "UDP could not be read. Its listeners are not shown. Whether UDP services are missing is not known.", "read udp: permission denied"},
					{true, "The holders of the listeners could not be read.", "read holder: permission denied"},
					{true, "The last reload of the registry failed. Listeners are judged by the version of 2026-03-04 04:06:07 UTC.", ""},
					{true, "Not shown: 1200 listeners above the limit of --collector.max-ports.", ""},
					{false, "26 of 90 network namespaces were not read this time. Their listeners are from an earlier read.", ""},
				},
				Missing: []missing{
					{"postgres", "the orders database", "", "tcp", "5432", "nothing listens as declared, for 7 minutes", "postgres, postgresql.service"},
					{"sessions", "who is logged in", "", "tcp", "6379", "the port is open, but not as declared", ""},
				},
				Ports: []string{"6379", "4444", "30007", "5433", "443", "22", "8000–8029", "10190", "5432"},
			},
		},
		{
			"nothing could be read, which is another thing", blind,
			digest{
				Title:   "TCP not read: " + host,
				Summary: []string{"at least 0 listeners", "at least 0 reachable from outside"},
				Notices: []notice{
					{false, "UDP is not read, because of --no-collector.udp.", ""},
					{true, "TCP could not be read. Its listeners are not shown.", `read /proc/1/net/tcp:\npermission denied`},
				},
				Empty: "No listener was found, but not everything could be read.",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := digestOf(newView(test.snapshot, sampleOptions, Query{}, sampleTime))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the page (-want +got):\n%s", diff)
			}
		})
	}
}
