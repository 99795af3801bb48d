//go:build linux

package incidents

import (
	"errors"
	"fmt"
	"time"
)

// loops stops and starts a service until the act ends: it is up and down for so long, by turns.
func (s *service) loops(up, down time.Duration, want ...string) *incident {
	return s.loopsBy(fmt.Sprintf("a crash loop: %s up, %s down", up, down), up, func(int) time.Duration { return down }, want...)
}

// backsOff is the loop of a supervisor that waits twice as long after each crash.
func (s *service) backsOff(want ...string) *incident {
	return s.loopsBy("a crash loop with back-off", 5*time.Second, func(crash int) time.Duration {
		return min(10*time.Second<<crash, 5*time.Minute)
	}, want...)
}

func (s *service) loopsBy(name string, up time.Duration, down func(crash int) time.Duration, want ...string) *incident {
	loop := repeated(func(wait func(time.Duration) bool) error {
		for crash := 0; wait(up / speed); crash++ {
			if err := s.stop(); err != nil {
				return err
			}
			wait(down(crash) / speed)
			if err := s.start(); err != nil {
				return err
			}
		}
		return nil
	})
	return s.incident(name, loop.begin, loop.end, want)
}

// comesAndGoes is a program in no registry that is open and closed for so long, by turns.
func (h *machine) comesAndGoes(name, socket string, open, closed time.Duration, want ...string) *incident {
	s := &service{host: h, program: name, sockets: []string{socket}}
	i := s.loops(open, closed, want...)
	i.name = fmt.Sprintf("%s opens for %s and closes for %s", name, open, closed)
	begin, end := i.begin, i.end
	i.begin = func() error { return errors.Join(s.start(), begin()) }
	i.end = func() error { return errors.Join(end(), s.stop()) }
	return i
}

// hops is a program that listens on another port the kernel chooses each time that it starts.
func (h *machine) hops() *incident {
	n := 0
	s := &service{host: h, program: "hopper"}
	loop := repeated(func(wait func(time.Duration) bool) error {
		for ; wait(20 * time.Second / speed); n++ {
			if err := s.moveTo(fmt.Sprintf("tcp/0.0.0.0:%d", 40_000+7*n)); err != nil {
				return err
			}
		}
		return s.stop()
	})
	return h.on("a program chooses another port each time", loop.begin, loop.end)
}

// inTime is how long it takes until a port has opened four times that opens every four and a half minutes, and a little.
const inTime = 20 * time.Minute / speed

// loops is crash loops and what looks like one.
func (s *script) loops() *stage {
	declared, plain := s.servers("loops")
	const second = time.Second
	return newStage("loops", []*machine{declared, plain}, act{watch: inTime, incidents: []*incident{
		declared.service("apid").loops(30*second, 30*second, flapping+" api"),
		declared.service("shopd").loops(100*second, 20*second, flapping+" shop"),
		declared.service("proxyd").backsOff(flapping + " proxy"),
		declared.service("syslogd").loops(30*second, 30*second, flapping+" syslog"),
		declared.comesAndGoes("bindshell", "tcp/0.0.0.0:4444", 240*second, 30*second, flapping),
		declared.comesAndGoes("telnetd", "tcp/0.0.0.0:23", 30*second, 30*second, flapping),
		declared.hasClients(),
		declared.service("redis").restarts(),

		plain.service("apid").loops(30*second, 30*second, flapping),
		plain.service("shopd").loops(100*second, 20*second, flapping),
		plain.service("proxyd").backsOff(flapping),
		plain.comesAndGoes("bindshell", "tcp/0.0.0.0:4444", 240*second, 30*second, flapping),
		plain.comesAndGoes("rpcbind", "tcp/0.0.0.0:111", 120*second, 120*second, flapping),
		plain.hasClients(),
		plain.hops(),
	}})
}

// rareLoops is services that go and come back more rarely, which is no loop.
func (s *script) rareLoops() *stage {
	declared, plain := s.servers("rare")
	var incidents []*incident
	for _, h := range []*machine{declared, plain} {
		twice := h.service("shopd")
		i := twice.incident("a service restarts twice within a few minutes", func() error {
			var err error
			for range 2 {
				err = errors.Join(err, twice.stop())
				time.Sleep(20 * time.Second / speed)
				err = errors.Join(err, twice.start())
				time.Sleep(3 * time.Minute / speed)
			}
			return err
		}, nil, nil)
		incidents = append(incidents, i, h.service("apid").loops(8*time.Minute, time.Minute))
	}
	return newStage("rare", []*machine{declared, plain}, act{incidents: incidents, watch: 30 * time.Minute / speed}).inFull()
}
