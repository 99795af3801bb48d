//go:build linux

package page

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// changed returns a listener with changes.
func changed(l inventory.Listener, change func(l *inventory.Listener)) inventory.Listener {
	change(&l)
	return l
}

func TestWhatOneServiceOpensIsOneRow(t *testing.T) {
	any4 := listening(inventory.TCP, "0.0.0.0:22", inventory.ScopeAny, inventory.Holder{Process: "sshd"})
	any6 := listening(inventory.TCP, "[::]:22", inventory.ScopeAny, inventory.Holder{Process: "sshd"})
	loop4 := listening(inventory.TCP, "127.0.0.1:53", inventory.ScopeLoopback)
	loop6 := listening(inventory.TCP, "[::1]:53", inventory.ScopeLoopback)
	// ranged returns listeners on consecutive ports, each with its change.
	ranged := func(first, count int, change func(n int, l *inventory.Listener)) (list []inventory.Listener) {
		for n := range count {
			l := listening(inventory.TCP, fmt.Sprintf("10.0.0.1:%d", first+n), inventory.ScopePrivate, inventory.Holder{Process: "node"})
			change(n, &l)
			list = append(list, l)
		}
		return list
	}
	same := func(int, *inventory.Listener) {}
	for _, test := range []struct {
		name      string
		listeners []inventory.Listener
		want      []string // ports, addresses, and the number of listeners
	}{
		{"all addresses of both families", []inventory.Listener{any4, any6}, []string{"22 0.0.0.0, :: 2"}},
		{"both loopback addresses", []inventory.Listener{loop4, loop6}, []string{"53 127.0.0.1, ::1 2"}},
		{
			"another holder has its own row",
			[]inventory.Listener{any4, changed(any6, func(l *inventory.Listener) { l.Holders = []inventory.Holder{{Process: "nc"}} })},
			[]string{"22 0.0.0.0 1", "22 :: 1"},
		},
		{
			"what opened later has its own row",
			[]inventory.Listener{any4, changed(any6, func(l *inventory.Listener) { l.FirstSeen = sampleTime })},
			[]string{"22 0.0.0.0 1", "22 :: 1"},
		},
		{
			"another verdict has its own row",
			[]inventory.Listener{judged(any4, "", "ssh", ""), judged(any6, inventory.ReasonBind, "ssh", "")},
			[]string{"22 :: 1", "22 0.0.0.0 1"},
		},
		{
			"a full queue has its own row",
			[]inventory.Listener{any4, changed(any6, func(l *inventory.Listener) { l.AcceptQueueLength = 4097 })},
			[]string{"22 :: 1", "22 0.0.0.0 1"},
		},
		{
			"another interface has its own row",
			[]inventory.Listener{any4, changed(any6, func(l *inventory.Listener) { l.Device = "eth0" })},
			[]string{"22 0.0.0.0 1", "22 :: 1"},
		},
		{"a range of ports", ranged(8000, 30, same), []string{"8000–8029 10.0.0.1 30"}},
		{"few ports are no range", ranged(8000, leastFold-1, same), []string{"8000 10.0.0.1 1", "8001 10.0.0.1 1", "8002 10.0.0.1 1"}},
		{
			"a gap ends a range", append(ranged(8000, 4, same), ranged(8005, 4, same)...),
			[]string{"8000–8003 10.0.0.1 4", "8005–8008 10.0.0.1 4"},
		},
		{
			"another holder ends a range", ranged(8000, 8, func(n int, l *inventory.Listener) {
				if n >= 4 {
					l.Holders = nil
				}
			}),
			[]string{"8000–8003 10.0.0.1 4", "8004–8007 10.0.0.1 4"},
		},
		{
			"ports that open one by one, hours apart, are no range", ranged(8000, 4, func(n int, l *inventory.Listener) {
				l.FirstSeen = sampleTime.Add(time.Duration(n) * time.Hour)
			}),
			[]string{"8000 10.0.0.1 1", "8001 10.0.0.1 1", "8002 10.0.0.1 1", "8003 10.0.0.1 1"},
		},
		{
			"a range on another address does not end one", func() (list []inventory.Listener) {
				for _, l := range ranged(8000, 4, same) {
					list = append(list, l, changed(l, func(l *inventory.Listener) { l.Proto = inventory.UDP }))
				}
				return list
			}(),
			[]string{"8000–8003 10.0.0.1 4", "8000–8003 10.0.0.1 4"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newView(&inventory.Snapshot{Listeners: test.listeners}, Options{}, Query{}, sampleTime)
			var got []string
			for i := range v.Rows {
				r := &v.Rows[i]
				got = append(got, fmt.Sprint(r.Port, " ", r.Address, " ", r.Count()))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the rows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARangeSaysWhatItsPortsDo(t *testing.T) {
	s := sample()
	for i := range s.Listeners {
		if l := &s.Listeners[i]; l.Addr.Port() == 8017 {
			l.Drops, l.AcceptQueueLength = 5, 9
		}
	}
	for _, r := range newView(s, Options{}, Query{}, sampleTime).Rows {
		if r.Parts == nil {
			continue
		}
		got := []string{r.Ports(), r.Drops, r.Queue.Text, r.Holders[0].Process, r.Note}
		if diff := cmp.Diff([]string{"30 ports", "5", "9 / 4096", "node", ""}, got); diff != "" {
			t.Errorf("the range (-want +got):\n%s", diff)
		}
	}
}
