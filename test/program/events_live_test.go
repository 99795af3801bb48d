//go:build linux

package program_test

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/test/netnstest"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// value returns the value of the one series of a page that begins so, or -1 if there is none.
func value(t *testing.T, page, series string) float64 {
	t.Helper()
	for name, text := range program.Samples(t, page) {
		if strings.HasPrefix(name, series) {
			number, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			return number
		}
	}
	return -1
}

// openBriefly opens listeners one after the other, each for so long.
func openBriefly(t *testing.T, proto, address string, times int, lifetime time.Duration) {
	t.Helper()
	for range times {
		fd, err := netnstest.Listen(proto, address)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(lifetime)
		_ = unix.Close(fd)
	}
}

func TestTheKernelReportsWhatNoLookSees(t *testing.T) {
	program.Path(t) // before the test enters its namespace
	netnstest.Run(t, func(t *testing.T) {
		program.Listen(t, "tcp", "127.0.0.1:7001") // it was there before
		file := program.WriteFile(t, "ports.yml", `
services:
  - {name: echo, port: 7001-7002, proto: [tcp, udp], required: false}
forbidden:
  - {port: 23, reason: telnet is not used here}
`)
		e := program.StartLive(t, "--collector.netns=self", "--collector.events=on", "--collector.interval=1h", "--registry.file="+file)
		first := e.Scrape()
		if got := value(t, first, `host_listen_collector_success{collector="event"}`); got != 1 {
			t.Fatalf("events are not on: %v\n%s", got, e.Stderr.String())
		}
		openBriefly(t, "tcp", "127.0.0.1:7002", 1000, 0)
		openBriefly(t, "udp", "127.0.0.1:7002", 100, 0)
		openBriefly(t, "tcp", "0.0.0.0:23", 1, 200*time.Millisecond)
		openBriefly(t, "tcp", "0.0.0.0:4444", 2, time.Millisecond)
		for range 3 {
			c, err := net.Dial("tcp", "127.0.0.1:7001")
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
		}
		var page string
		e.Await("the last of the events", func() bool { // a look does not wait for all of a storm
			page = e.Scrape()
			return value(t, page, `host_listen_closed_total{proto="tcp"}`)-value(t, first, `host_listen_closed_total{proto="tcp"}`) >= 1003
		})
		for series, want := range map[string]float64{
			`host_listen_opened_total{proto="tcp"}`:                                            1003,
			`host_listen_closed_total{proto="tcp"}`:                                            1003,
			`host_listen_opened_total{proto="udp"}`:                                            100,
			`host_listen_closed_total{proto="udp"}`:                                            100,
			`host_listen_violations_total{reason="forbidden"}`:                                 1,
			`host_listen_violations_total{reason="unregistered"}`:                              2,
			`host_listen_events_lost_total`:                                                    0,
			`host_listen_port_connections_total{address="127.0.0.1",family="ipv4",port="7001"`: 3,
		} {
			before := max(value(t, first, series), 0)
			if got := value(t, page, series) - before; got != want {
				t.Errorf("%s rose by %v, want %v", series, got, want)
			}
		}
		last := value(t, page, `host_listen_port_last_connection_timestamp_seconds{address="127.0.0.1",family="ipv4",port="7001"`)
		if age := value(t, page, "host_listen_time_seconds") - last; age < -1 || age > 60 {
			t.Errorf("the last connection was %v s ago", age)
		}
		if lines := e.ErrorLines(); len(lines) > 0 {
			t.Errorf("errors: %q", lines)
		}
		e.Stop()
	})
}

func TestWithoutTheRightsForEventsAllElseWorks(t *testing.T) {
	program.Path(t)
	netnstest.Run(t, func(t *testing.T) {
		program.Listen(t, "tcp", "0.0.0.0:7001")
		e := program.StartNobody(t, "--collector.netns=self", "--collector.events=on")
		for range 2 {
			page := e.Scrape()
			e.WantListeners(page, "own", "tcp ipv4 0.0.0.0:7001 any user")
			if got := value(t, page, `host_listen_collector_success{collector="event"}`); got != 0 {
				t.Errorf("success is %v", got)
			}
			if got := value(t, page, "host_listen_events_lost_total"); got != -1 {
				t.Errorf("lost: %v", got)
			}
		}
		if lines := e.ErrorLines(); len(lines) != 1 || !strings.Contains(lines[0], "CAP_BPF") {
			t.Errorf("errors %q, want one that names the capability", lines)
		}
		e.Stop()

		e = program.StartNobody(t, "--collector.netns=self", "--collector.events=auto")
		if page := e.Scrape(); strings.Contains(page, `collector="event"`) {
			t.Error("auto, and there is a collector")
		}
		if lines := append(e.Warnings(), e.ErrorLines()...); len(lines) > 0 || len(e.Logged("CAP_BPF")) != 1 {
			t.Errorf("warnings and errors %q, want one other line", lines)
		}
		e.Stop()
	})
}
