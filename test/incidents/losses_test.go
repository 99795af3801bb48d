//go:build linux

package incidents

import (
	"errors"
	"fmt"
	"time"
)

// omissions is what a limit or a queue of the host leaves in doubt.
func (s *script) omissions() *stage {
	idle, h := s.server("idle", ""), s.server("omitting", "")
	idle.runs("lazyd", lazy, "tcp/0.0.0.0:8444")
	lazyd := idle.service("lazyd")
	h.exporter.flags = []string{"--collector.max-ports=12"}
	n := 0
	opener := &service{host: h, program: "opener"}
	opening := repeated(func(wait func(time.Duration) bool) error {
		for ; wait(scrapeInterval * 3 / 2); n++ { // another ten each time
			var sockets []string
			for port := range 10 {
				sockets = append(sockets, fmt.Sprintf("tcp/127.0.0.1:%d", 20_000+10*n+port))
			}
			if err := opener.startOn(sockets...); err != nil {
				return err
			}
			wait(scrapeInterval * 3 / 2)
			if err := opener.stop(); err != nil {
				return err
			}
		}
		return nil
	})
	waiting := repeated(func(wait func(time.Duration) bool) error {
		for wait(2 * scrapeInterval) {
			_ = lazyd.connect() // the one before may still wait
		}
		return nil
	})
	return newStage("omissions", []*machine{idle, h}, act{incidents: []*incident{
		lazyd.incident("listen(0), with a client that waits at every second scrape", waiting.begin, waiting.end, nil),
		h.on("ports are left out now and then", opening.begin, opening.end, omitted),
	}})
}

// losses is ports that are lost on hosts without a registry, or look like it.
func (s *script) losses() *stage {
	h, long := s.server("losing", ""), s.server("lost", "")
	h.exporter.root = true
	h.runs("grpcd", "tcp/0.0.0.0:50051")
	h.runs("dual", "tcp/0.0.0.0:7000", "tcp/[::1]:7000")
	h.runs("wide", "tcp/0.0.0.0:7001", "tcp/127.0.0.2:7001")
	h.runs("rpcd", "tcp/0.0.0.0:50100")
	h.runs("local", "tcp/127.0.0.1:7002")
	dual, wide, rpc := h.service("dual"), h.service("wide"), h.service("rpcd")
	wide.sockets = wide.sockets[:1]
	long.exporter.flags = []string{"--collector.remember=" + promDuration(20*time.Minute/speed)}
	long.runs("oldd", "tcp/0.0.0.0:9999")
	young := &service{host: h, program: "young", sockets: []string{"tcp/0.0.0.0:7003"}}
	return newStage("losses", []*machine{h, long}, act{incidents: []*incident{
		h.service("grpcd").stops(vanished),
		h.service("local").stops(vanished),
		h.service("statsd").stops(vanished),
		dual.incident("IPv6 is lost while IPv4 stays", func() error { return dual.moveTo(dual.sockets[0]) },
			func() error { return dual.moveTo(dual.sockets...) }, nil),
		wide.incident("one of two addresses is lost", func() error { return wide.moveTo(wide.sockets[0]) }, nil, nil),
		young.incident("a port that was open for five minutes is lost", func() error {
			err := young.start()
			time.Sleep(5 * time.Minute / speed)
			return errors.Join(err, young.stop())
		}, nil, nil),
		h.on("an ephemeral port is replaced by another of the same program", func() error { return rpc.moveTo("tcp/0.0.0.0:50101") },
			func() error { return rpc.moveTo(rpc.sockets...) }),
		long.service("oldd").stopsForGood(vanished),
	}}, act{incidents: []*incident{
		long.on("what was lost for good was forgotten", nil, nil),
		h.service("grpcd").restarts(),
	}})
}
