//go:build linux

package inventory

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

const rememberedRegistry = `
services:
  - {name: ssh, port: 22}
  - {name: web, port: 80}
`

// services returns what is remembered of services, as short texts.
func services(s *Snapshot) []string {
	texts := []string{}
	clock := func(at time.Time) string {
		if at.IsZero() {
			return "-"
		}
		return at.UTC().Format(time.TimeOnly)
	}
	for _, m := range s.Memory.Services {
		texts = append(texts, fmt.Sprintf("%s down %s changed %s x%d %s", m.Name, clock(m.DownSince), clock(m.LastChange), m.Changes, strings.TrimSpace(lastText(m.Last))))
	}
	return texts
}

func TestServicesThatGoUpAndDownAreRemembered(t *testing.T) {
	b, file := newJudgedBench(t, rememberedRegistry, func(o *Options) { o.Remember = 24 * time.Hour })
	ssh, web := at("0.0.0.0:22", 1), at("0.0.0.0:80", 2)
	want(t, "down at the first look", services(b.look(0, ssh)), "web down 03:00:00 changed - x0 ")
	want(t, "still", services(b.look(time.Hour, ssh)), "web down 03:00:00 changed - x0 ")
	want(t, "up", services(b.look(time.Second, ssh, web)), "web down - changed 04:00:01 x1 ")
	want(t, "down", services(b.look(time.Second, ssh)), "web down 04:00:02 changed 04:00:02 x2 0.0.0.0")
	b.source.say(socket.TCP, answer{err: errors.New("permission denied")})
	want(t, "not known", services(b.Snapshot()), "web down 04:00:02 changed 04:00:02 x2 0.0.0.0")
	want(t, "restarted between two looks", services(b.look(time.Second, at("0.0.0.0:22", 7))),
		"ssh down - changed 04:00:03 x2 ", "web down 04:00:02 changed 04:00:02 x2 0.0.0.0")
	want(t, "one of two sockets is new", services(b.look(time.Second, at("0.0.0.0:22", 7), at("0.0.0.0:22", 8))),
		"ssh down - changed 04:00:03 x2 ", "web down 04:00:02 changed 04:00:02 x2 0.0.0.0")
	want(t, "and then the other", services(b.look(time.Second, at("0.0.0.0:22", 8))),
		"ssh down - changed 04:00:03 x2 ", "web down 04:00:02 changed 04:00:02 x2 0.0.0.0")
	if err := os.WriteFile(file, []byte("services: [{name: ssh, port: 22}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.ReloadRegistry(); err != nil {
		t.Fatal(err)
	}
	want(t, "no longer declared", services(b.look(time.Second, at("0.0.0.0:22", 8))), "ssh down - changed 04:00:03 x2 ")
	if got := gone(b.look(2 * time.Hour)); len(got) != 0 {
		t.Errorf("gone with a registry: %q", got)
	}
}

func TestNothingIsMissingWhileTheHostStarts(t *testing.T) {
	b, _ := newJudgedBench(t, rememberedRegistry)
	b.booted = b.clock.Add(-30 * time.Second)
	ssh, web := at("0.0.0.0:22", 1), at("0.0.0.0:80", 2)
	want(t, "just booted", services(b.look(0)))
	want(t, "one is up", services(b.look(time.Minute, ssh)), "ssh down - changed 03:01:00 x1 ")
	want(t, "before 5 minutes", services(b.look(3*time.Minute+29*time.Second, ssh)), "ssh down - changed 03:01:00 x1 ")
	want(t, "after 5 minutes", services(b.look(time.Second, ssh)), "ssh down - changed 03:01:00 x1 ", "web down 03:00:00 changed - x0 ")
	b.look(time.Second, ssh, web)
}

func TestAViolationGoesOnWhileItIsNotKnown(t *testing.T) {
	_, file := newJudgedBench(t, "services: [{name: helper, port: any, process: helperd}]\n")
	holders := &scriptedHolders{program: "nc"}
	b := &bench{clock: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), holders: holders}
	b.openRemembering(t, func(o *Options) { o.RegistryFiles, o.RegistryHost = []string{file}, "web-1" })
	start := startsOf(only(t, b.look(0, at("0.0.0.0:7000", 1)))).Violation
	*holders = scriptedHolders{err: errors.New("permission denied")}
	if l := only(t, b.look(time.Minute, at("0.0.0.0:7000", 1))); l.Judged {
		t.Fatal("there is a verdict without holders")
	}
	*holders = scriptedHolders{program: "nc", changed: true}
	if got := startsOf(only(t, b.look(time.Minute, at("0.0.0.0:7000", 1)))).Violation; start.IsZero() || !got.Equal(start) {
		t.Errorf("a violation since %s begins at %s", start, got)
	}
}

func TestItIsRememberedSinceWhenAListenerViolates(t *testing.T) {
	b, file := newJudgedBench(t, "services: [{name: web, port: 80, bind: loopback, required: false}]\n")
	start := func(s *Snapshot, port uint16) string {
		for _, l := range s.Listeners {
			if l.Addr.Port() == port && !startsOf(l).Violation.IsZero() {
				return startsOf(l).Violation.UTC().Format(time.TimeOnly)
			}
		}
		return "-"
	}
	web, rogue := at("0.0.0.0:80", 1), at("0.0.0.0:4444", 2)
	for _, step := range []struct {
		name       string
		open       []socket.Socket
		registry   string
		fails      bool
		web, rogue string
	}{
		{name: "first look", open: []socket.Socket{web}, web: "03:00:01", rogue: "-"},
		{name: "another", open: []socket.Socket{web, rogue}, web: "03:00:01", rogue: "03:00:02"},
		{name: "not known", fails: true, web: "-", rogue: "-"},
		{name: "as before", open: []socket.Socket{web, rogue}, web: "03:00:01", rogue: "03:00:02"},
		{name: "closed", open: []socket.Socket{web}, web: "03:00:01", rogue: "-"},
		{name: "again", open: []socket.Socket{web, rogue}, web: "03:00:01", rogue: "03:00:06"},
		{name: "declared", open: []socket.Socket{web, rogue}, registry: "services: [{name: web, port: 80, required: false}]\n", web: "-", rogue: "03:00:06"},
		{name: "for another reason", open: []socket.Socket{web, rogue}, registry: "forbidden: [{port: 4444, reason: a shell}]\n", web: "03:00:08", rogue: "03:00:08"},
	} {
		if step.registry != "" {
			if err := os.WriteFile(file, []byte(step.registry), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := b.ReloadRegistry(); err != nil {
				t.Fatal(err)
			}
		}
		b.advance(time.Second)
		b.source.say(socket.TCP, answer{rows: step.open})
		if step.fails {
			b.source.say(socket.TCP, answer{err: errors.New("permission denied")})
		}
		s := b.Snapshot()
		if got := start(s, 80) + " " + start(s, 4444); got != step.web+" "+step.rogue {
			t.Errorf("%s: %s, want %s %s", step.name, got, step.web, step.rogue)
		}
	}
}
