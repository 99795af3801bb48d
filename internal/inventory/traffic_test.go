//go:build linux

package inventory

import (
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/event"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// everyPacket counts one packet for each watched port whenever it is read.
type everyPacket struct {
	ports map[event.Port]event.Counters
	err   error // of the next SetPorts
}

func (e *everyPacket) SetPorts(ports iter.Seq[event.Port]) error {
	watched := make(map[event.Port]event.Counters)
	for port := range ports {
		watched[port] = e.ports[port]
	}
	e.ports = watched
	err := e.err
	e.err = nil
	return err
}

func (e *everyPacket) Read(yield func(event.Port, event.Counters)) error {
	for port, counters := range e.ports {
		counters.ReceivePackets++
		e.ports[port] = counters
		yield(port, counters)
	}
	return nil
}

func (*everyPacket) Close() error { return nil }

func TestTrafficIsThatOfThePortsThatAreReported(t *testing.T) {
	b := newBench(t)
	counter := new(everyPacket)
	b.traffic = newTraffic(counter)
	counted := func(proto string, port uint16, packets uint64) PortTraffic {
		return PortTraffic{proto, port, event.Counters{ReceivePackets: packets}}
	}
	ssh, web, everywhere := at("0.0.0.0:22", 1), at("127.0.0.1:80", 2), at("0.0.0.0:80", 3)
	b.source.say(socket.UDP, has(at("0.0.0.0:80", 4)))
	for step, test := range []struct {
		says   []answer
		failed error // of SetPorts
		want   []PortTraffic
	}{
		{[]answer{has(ssh, web, everywhere)}, nil, []PortTraffic{counted(TCP, 22, 1), counted(TCP, 80, 1), counted(UDP, 80, 1)}},
		{[]answer{has(ssh, everywhere)}, nil, []PortTraffic{counted(TCP, 22, 2), counted(TCP, 80, 2), counted(UDP, 80, 2)}},
		// A failed read does not end the count.
		{[]answer{{err: errors.New("no")}}, nil, []PortTraffic{counted(UDP, 80, 3)}},
		{[]answer{has(ssh, everywhere)}, errors.New("no"), nil},
		{[]answer{has(ssh, everywhere)}, nil, []PortTraffic{counted(TCP, 22, 4), counted(TCP, 80, 4), counted(UDP, 80, 4)}},
		{slices.Repeat([]answer{has(ssh)}, goneAfter+1), nil, []PortTraffic{counted(TCP, 22, 5), counted(UDP, 80, 5)}},
		{[]answer{has(ssh, web)}, nil, []PortTraffic{counted(TCP, 22, 6), counted(TCP, 80, 1), counted(UDP, 80, 6)}},
	} {
		b.source.say(socket.TCP, test.says...)
		counter.err = test.failed
		s := b.Snapshot()
		if diff := cmp.Diff(test.want, s.Traffic); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", step, diff)
		}
		if s.Succeeded(CollectorTraffic) == (test.failed != nil) {
			t.Errorf("step %d: reads: %+v", step, s.Reads)
		}
	}
	if got := slices.Collect(maps.Keys(counter.ports)); len(got) != 3 {
		t.Errorf("watches %v", got)
	}
}

func TestTrafficThatCannotBeCountedIsLoggedOnce(t *testing.T) {
	b := newBench(t)
	b.traffic = newTraffic(nil)
	b.traffic.err = errors.New("the process lacks CAP_NET_ADMIN")
	b.source.say(socket.TCP, has(at("0.0.0.0:22", 1)))
	for range 3 {
		s := b.Snapshot()
		wantPorts(t, s, "tcp 0.0.0.0:22")
		if !s.Asked(CollectorTraffic) || s.Succeeded(CollectorTraffic) || s.Traffic != nil {
			t.Errorf("reads %+v, traffic %v", s.Reads, s.Traffic)
		}
	}
	if got := strings.Count(b.log.String(), "level=error"); got != 1 {
		t.Errorf("%d errors were logged, want 1:\n%s", got, b.log.String())
	}
	b.Close()
}
