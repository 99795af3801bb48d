//go:build linux

package incidents

import (
	"fmt"
	"time"
)

// ofEachKind is an incident of each kind on a server with a registry.
func (h *machine) ofEachKind() []*incident {
	return []*incident{
		h.service("apid").stops(missing + " api"),
		h.service("shopd").restarts(),
		h.service("redis").moves("tcp/0.0.0.0:6379", exposed+" redis"),
		h.service("gitd").isReplaced("another program takes a port", taken+" git"),
		h.appears("a rogue high port", "backdoor", []string{"tcp/0.0.0.0:31337"}, unknown),
		h.appears("a forbidden port", "telnetd", []string{"tcp/0.0.0.0:23"}, forbidden),
		h.appears("an undeclared port on loopback", "debugger", []string{"tcp/127.0.0.1:9229"}),
		h.service("proxyd").isFull(full),
		h.service("syslogd").drops(dropping),
	}
}

// ofEachPlainKind is an incident of each kind on a server without a registry.
func (h *machine) ofEachPlainKind() []*incident {
	return []*incident{
		h.service("apid").stops(vanished),
		h.service("shopd").restarts(),
		h.service("redis").moves("tcp/0.0.0.0:6379"),
		h.appears("a rogue privileged listener", "rpcbind", []string{"tcp/0.0.0.0:111"}, privileged),
		h.appears("a rogue high port", "backdoor", []string{"tcp/0.0.0.0:31337"}),
		h.service("proxyd").isFull(full),
		h.service("statsd").drops(dropping),
	}
}

// servers returns a server with a registry and one without, whose name has a p more.
func (s *script) servers(name string) (declared, plain *machine) {
	return s.server(name, ports), s.server(name+"p", "")
}

// spoiled is a stage on which something happens to the scrapes of two servers while each kind of incident happens.
func (s *script) spoiled(stage, what string, scrapes func(int64) fault, want ...string) *stage {
	declared, plain := s.servers(stage)
	var incidents []*incident
	for _, h := range []*machine{declared, plain} {
		h.proxy = new(proxy)
		incidents = append(incidents, h.on(what, func() error { return h.proxy.spoils(scrapes) },
			func() error { return h.proxy.spoils(every(1, none)) }, want...))
	}
	incidents = append(append(incidents, declared.ofEachKind()...), plain.ofEachPlainKind()...)
	return newStage(stage, []*machine{declared, plain}, act{incidents: incidents})
}

func newStage(name string, hosts []*machine, acts ...act) *stage {
	return &stage{name: name, hosts: hosts, acts: acts}
}

// inFull makes a stage one of those that are only played with all others.
func (s *stage) inFull() *stage {
	s.full = true
	return s
}

// refused is scrapes that are refused now and then.
func (s *script) refused(stage string, nth int64) *stage {
	return s.spoiled(stage, fmt.Sprintf("one of %d scrapes is refused", nth), every(nth, refused), unsteady)
}

// late is scrapes of which two of three last longer than their timeout.
func (s *script) late() *stage {
	return s.spoiled("late", "two of three scrapes time out", func(scrape int64) fault {
		if scrape%3 == 0 {
			return none
		}
		return late
	}, unsteady).inFull()
}

// killed is an exporter that runs out of memory again and again.
func (s *script) killed() *stage {
	declared, plain := s.servers("oom")
	var incidents []*incident
	for _, h := range []*machine{declared, plain} {
		killing := repeated(func(wait func(time.Duration) bool) error {
			for wait(time.Minute / speed) {
				if err := h.exporter.crash(); err != nil {
					return err
				}
				wait(20 * time.Second / speed)
				if err := h.exporter.start(); err != nil {
					return err
				}
			}
			return nil
		})
		incidents = append(incidents, h.on("the exporter is killed every minute", killing.begin, killing.end, unsteady))
	}
	incidents = append(append(incidents, declared.ofEachKind()...), plain.ofEachPlainKind()...)
	return newStage("oom", []*machine{declared, plain}, act{incidents: incidents})
}

// skewed is hosts whose clocks are hours ahead and behind.
func (s *script) skewed() *stage {
	declared, plain := s.servers("skewed")
	declared.proxy, plain.proxy = new(proxy), new(proxy)
	declared.proxy.skew.Store(3 * 3600)
	plain.proxy.skew.Store(-3 * 3600)
	return newStage("skewed", []*machine{declared, plain},
		act{incidents: append(declared.ofEachKind(), plain.ofEachPlainKind()...)}).inFull()
}
