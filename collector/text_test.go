//go:build linux

package collector

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// promhttpText returns what promhttp writes of a snapshot, or false if it refuses.
func promhttpText(t *testing.T, s *inventory.Snapshot, logLinesDropped func() uint64) (string, bool) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	c := newCollector(func() *inventory.Snapshot { return s })
	c.logLinesDropped = logLinesDropped
	registry.MustRegister(c)
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).
		ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	return answer.Body.String(), answer.Code == http.StatusOK
}

// checkText compares what a Text and promhttp write of a snapshot.
func checkText(t *testing.T, text *Text, s *inventory.Snapshot) {
	t.Helper()
	want, accepted := promhttpText(t, s, text.logLinesDropped)
	if !accepted {
		t.Fatal(want)
	}
	var got strings.Builder
	for _, family := range text.Families(s) {
		got.Write(family.Text)
		if !strings.HasPrefix(string(family.Text), "# HELP "+family.Name+" ") {
			t.Errorf("%s has the text %q", family.Name, family.Text)
		}
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("text (-promhttp +ours):\n%s", diff)
	}
}

// One Text writes a host on which everything changes in turns: listeners, what they are judged as, who holds them, and numbers.
func TestTextIsWhatPromhttpWrites(t *testing.T) {
	text := NewText(func() uint64 { return 7 })
	checkText(t, text, new(inventory.Snapshot))
	checkText(t, text, example())
	checkText(t, text, judgedExample())
	checkText(t, text, example())
	random := rand.New(rand.NewPCG(1, 2))
	s := example()
	for range 300 {
		s = changed(random, s)
		checkText(t, text, s)
	}
	alike := *s
	alike.Gone = append(alike.Gone, inventory.Listener{Key: key("udp", "[::]:65535", inventory.ScopeAny, inventory.RangeUser), Drops: 1})
	checkText(t, text, &alike) // whose listeners are the same list
	checkText(t, text, new(inventory.Snapshot))
}

// A text is megabytes, and a listener that is gone is remembered for an hour.
func TestNothingKeepsAnEarlierTextInMemory(t *testing.T) {
	text := NewText(nil)
	portsText := func(s *inventory.Snapshot) (found weak.Pointer[byte]) {
		for _, family := range text.Families(s) {
			if family.Name == "host_listen_port" {
				found = weak.Make(&family.Text[0])
			}
		}
		return found
	}
	before := portsText(example())
	later := example()
	later.Listeners, later.Gone = later.Listeners[1:], append(later.Gone, later.Listeners[0])
	after := portsText(later)
	runtime.GC()
	if before.Value() != nil {
		t.Error("the text that has the listener is still in memory")
	}
	if after.Value() == nil {
		t.Error("the present text is not kept")
	}
	runtime.KeepAlive(text)
}

// changed returns a snapshot in which a few listeners are others than in s, as an inventory makes it: in a list of its own.
func changed(random *rand.Rand, s *inventory.Snapshot) *inventory.Snapshot {
	after := *s
	after.Listeners, after.Gone = nil, nil
	if random.IntN(3) == 0 {
		after.Memory = &inventory.Memory{Flapping: []inventory.FlappingPort{{
			Proto: "tcp", Port: uint16(random.Uint32()), Openings: random.IntN(300),
			Last: inventory.Last{Processes: []string{hostileNames[random.IntN(len(hostileNames))]}},
		}}}
	}
	for _, l := range s.Listeners {
		switch random.IntN(20) {
		case 0:
			after.Gone = append(after.Gone, inventory.Listener{Key: l.Key, Drops: l.Drops})
			continue
		case 1:
			continue
		case 2:
			l.Holders = append(append([]inventory.Holder(nil), l.Holders...), randomHolder(random))
		case 3:
			l.Holders = nil
		case 7:
			l.ManyHolders = !l.ManyHolders
		case 4:
			l = judged(l, []string{"", inventory.ReasonBind, inventory.ReasonProcess}[random.IntN(3)], hostileNames[random.IntN(len(hostileNames))])
		case 5:
			l.Drops += random.Uint64N(3_000_000)
			l.AcceptQueueLength = math.MaxUint64 >> random.IntN(64)
		case 6:
			l.FirstSeen = time.UnixMilli(random.Int64N(2e12))
		case 8:
			l.Starts = &inventory.Starts{Violation: time.UnixMilli(random.Int64N(2e12)), Dropping: time.UnixMilli(random.Int64N(2e12))}
		}
		after.Listeners = append(after.Listeners, l)
	}
	for range random.IntN(3) {
		l := inventory.Listener{
			Key:      key([]string{"tcp", "udp"}[random.IntN(2)], randomAddress(random), inventory.ScopeAny, inventory.RangeUser),
			Sockets:  1 + random.IntN(3),
			Detailed: random.IntN(2) == 0,
			Holders:  []inventory.Holder{randomHolder(random)},
		}
		l.Device, l.Netns = hostileNames[random.IntN(len(hostileNames))], hostileNames[random.IntN(len(hostileNames))]
		known := false
		for _, other := range after.Listeners {
			known = known || other.Key == l.Key
		}
		if !known {
			after.Listeners = append(after.Listeners, l)
		}
	}
	return &after
}

// hostileNames are names that programs, interfaces and namespaces can give themselves. No two are equal in the text.
var hostileNames = []string{"", "eth0", "a b", "new\nline", `qu"ote`, `back\slash`, "!", "{}", "\xff", "ä", "\x01", "\u2028", `\n`, "a", "a\x00"}

func randomHolder(random *rand.Rand) inventory.Holder {
	name := func() string { return hostileNames[random.IntN(len(hostileNames))] }
	return inventory.Holder{
		Process: name() + fmt.Sprint(random.Uint64()), Unit: name(), ContainerID: name(), PodUID: name(),
		UID: random.Uint32(), UIDUnknown: random.IntN(3) == 0,
	}
}

func randomAddress(random *rand.Rand) string {
	address := netip.AddrFrom4([4]byte{127, 0, 0, byte(random.IntN(4))})
	if random.IntN(2) == 0 {
		address = netip.AddrFrom16([16]byte{0xfd, 15: byte(random.IntN(4))})
	}
	return netip.AddrPortFrom(address, uint16(random.IntN(100))).String()
}

func FuzzTextIsWhatPromhttpWrites(f *testing.F) {
	for _, name := range hostileNames {
		f.Add(name, name, name, name, name, name, uint64(1), int64(1))
	}
	f.Add("", "eth0", "(many)", "a.service", "blue", "web", uint64(math.MaxUint64), int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, device, netns, process, unit, container, service string, number uint64, at int64) {
		s := example()
		s.Source = service
		l := &s.Listeners[1]
		l.Device, l.Netns, l.Drops, l.AcceptQueueLength = device, netns, number, number>>32
		l.FirstSeen = time.Unix(0, at)
		l.Holders = append(l.Holders, inventory.Holder{Process: process, Unit: unit, ContainerID: container, PodUID: netns, UID: uint32(number)})
		*l = judged(*l, device+"x", service)
		s.Compliance = &inventory.Compliance{
			Services: []inventory.ServiceState{required(service, process, uint16(number), true)},
			Reserved: []inventory.TeamUse{{Team: unit, Size: int(number), Used: int(at)}},
		}
		if _, accepted := promhttpText(t, s, nil); !accepted {
			return // two holders have the same labels
		}
		text := NewText(nil)
		checkText(t, text, s)
		checkText(t, text, example())
		checkText(t, text, s)
	})
}

func TestOnlyFamiliesThatChangeAreWrittenAgain(t *testing.T) {
	text := NewText(nil)
	before := make(map[string][]byte)
	for _, family := range text.Families(judgedExample()) {
		before[family.Name] = family.Text
	}
	later := judgedExample()
	later.Listeners[0].Sockets++
	later.Reads[0].Duration++
	for _, family := range text.Families(later) {
		isSame := &family.Text[0] == &before[family.Name][0]
		mayChange := family.Name == "host_listen_port_sockets" || family.Name == "host_listen_collector_duration_seconds"
		if isSame == mayChange || isSame != bytes.Equal(family.Text, before[family.Name]) {
			t.Errorf("%s is the same memory: %t", family.Name, isSame)
		}
	}
}

func TestAScrapeOfKnownListenersAndServicesCostsNoAllocationForEach(t *testing.T) {
	allocations := func(count uint16) float64 {
		var snapshots [2]inventory.Snapshot
		for n := range snapshots {
			s := &snapshots[n]
			s.Compliance = new(inventory.Compliance)
			for port := range count {
				l := judged(inventory.Listener{
					Key: key("tcp", fmt.Sprintf("0.0.0.0:%d", port+1), inventory.ScopeAny, inventory.RangeUser), Detailed: true, Drops: uint64(n),
					Holders: []inventory.Holder{{Process: "x", UID: 1000}},
				}, inventory.ReasonBind, "web")
				s.Listeners = append(s.Listeners, l)
			}
		}
		service := required("web", "tcp", 80, true)
		for n := range snapshots {
			for range count {
				snapshots[n].Compliance.Services = append(snapshots[n].Compliance.Services, service)
			}
		}
		text, n := NewText(nil), 0
		return testing.AllocsPerRun(10, func() {
			text.Families(&snapshots[n%2]) // in which each listener has another number
			n++
		})
	}
	if few, many := allocations(10), allocations(1000); many > few {
		t.Errorf("%.0f allocations for 10 listeners and services, %.0f for 1000", few, many)
	}
}

func BenchmarkText(b *testing.B) {
	for _, changes := range []bool{false, true} {
		b.Run(fmt.Sprintf("changes=%t", changes), func(b *testing.B) {
			var snapshots [2]inventory.Snapshot
			for n := range snapshots {
				for port := range 10_000 {
					snapshots[n].Listeners = append(snapshots[n].Listeners, inventory.Listener{
						Key: key("tcp", fmt.Sprintf("0.0.0.0:%d", port+1), inventory.ScopeAny, inventory.RangeUser), Detailed: true, Drops: uint64(n),
						Holders: []inventory.Holder{{Process: "x", UID: 1000}},
					})
				}
			}
			text := NewText(nil)
			text.Families(&snapshots[0])
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				s := &snapshots[0]
				if changes {
					s = &snapshots[n%2]
				}
				text.Families(s)
			}
		})
	}
}
