//go:build linux

package inventory

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// changes are short texts of what was reported.
type changes struct {
	mu    sync.Mutex
	texts []string
}

func (c *changes) note(o *Options) {
	o.Changed = func(change Change) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.texts = append(c.texts, changeText(change))
	}
}

func changeText(c Change) string {
	words := []string{c.At.UTC().Format(time.TimeOnly), "closed", c.Netns, c.Proto, c.Addr.String(), c.State, c.Service, c.Holder.Process, c.Holder.Unit}
	if c.Opened {
		words[1] = "opened"
	}
	if c.Holder.PID != 0 {
		words = append(words, fmt.Sprint("pid ", c.Holder.PID))
	}
	if !c.Holder.UIDUnknown {
		words = append(words, fmt.Sprint("uid ", c.Holder.UID))
	}
	if c.Lifetime != 0 {
		words = append(words, "after "+c.Lifetime.String())
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}

// want compares what was reported since the last call.
func (c *changes) want(t *testing.T, what string, texts ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	want(t, what, append([]string{}, c.texts...), texts...)
	c.texts = nil
}

// heldExactly is heldBy with the PIDs of processes.
type heldExactly struct {
	heldBy
	pids map[uint64]int
}

func (h heldExactly) Processes(s holder.Socket) []holder.Process {
	if pid, known := h.pids[s.ID]; known {
		return []holder.Process{{Holder: h.heldBy[s.ID], PID: pid}}
	}
	return nil
}

func TestEachListenerThatOpensOrClosesIsReported(t *testing.T) {
	var reported changes
	nginx := Holder{Process: "nginx", Unit: "nginx.service", UID: 33}
	b := &bench{clock: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), holders: heldExactly{
		heldBy{1: {Process: "sshd"}, 2: nginx, 3: nginx}, map[uint64]int{2: 200, 3: 300},
	}}
	b.openRemembering(t, reported.note)
	ssh, web, unknown := at("0.0.0.0:22", 1), at("0.0.0.0:80", 2), at("127.0.0.1:8080", 9)
	b.look(0, ssh)
	b.look(5*time.Second, ssh)
	reported.want(t, "what was there at the start")

	b.look(5*time.Second, ssh, web, unknown)
	b.look(5*time.Second, ssh, web, unknown)
	reported.want(t, "two that opened",
		"03:00:10 opened tcp 0.0.0.0:80 nginx nginx.service pid 200 uid 33", "03:00:10 opened tcp 127.0.0.1:8080")

	b.look(5*time.Second, ssh, at("0.0.0.0:80", 3), unknown)
	reported.want(t, "one that restarted between two looks",
		"03:00:20 closed tcp 0.0.0.0:80 nginx nginx.service pid 200 uid 33 after 10s",
		"03:00:20 opened tcp 0.0.0.0:80 nginx nginx.service pid 300 uid 33")

	b.look(time.Hour, ssh, at("0.0.0.0:80", 3))
	reported.want(t, "one that closed", "04:00:20 closed tcp 127.0.0.1:8080 after 1h0m10s")
	b.look(time.Minute)
	if got := len(reported.texts); got != 2 {
		t.Fatalf("%d lines, want 2: %q", got, reported.texts)
	}
	reported.want(t, "all others", sorted(reported.texts[0], reported.texts[1],
		"04:01:20 closed tcp 0.0.0.0:22 sshd uid 0", // which was there at the start
		"04:01:20 closed tcp 0.0.0.0:80 nginx nginx.service pid 300 uid 33 after 1h1m0s")...)
}

// sorted returns the last two of four texts in the order of the first two: listeners that close at the same look have none.
func sorted(first, second, one, other string) []string {
	if first == other && second == one {
		return []string{other, one}
	}
	return []string{one, other}
}

func TestAChangeHasTheVerdictOfTheRegistry(t *testing.T) {
	var reported changes
	b, _ := newJudgedBench(t, webRegistry, reported.note)
	b.look(0)
	open := []socket.Socket{at("0.0.0.0:22", 1), at("0.0.0.0:443", 2), at("0.0.0.0:9001", 3), at("0.0.0.0:9500", 4)}
	b.look(time.Second, open...)
	reported.want(t, "opened",
		"03:00:01 opened tcp 0.0.0.0:22 ok ssh", "03:00:01 opened tcp 0.0.0.0:443 bind web",
		"03:00:01 opened tcp 0.0.0.0:9001 reserved alpha", "03:00:01 opened tcp 0.0.0.0:9500 unregistered")
	b.look(time.Second, open[:3]...)
	reported.want(t, "closed", "03:00:02 closed tcp 0.0.0.0:9500 unregistered after 1s")
}

func TestOnlyListenersThatPassTheFiltersAreReportedAndNoClients(t *testing.T) {
	var reported changes
	b, _ := newJudgedBench(t, "services: [{name: vpn, port: 51820, proto: udp}]\n", reported.note, func(o *Options) {
		o.ScopeExclude = ScopeSet{ScopeLoopback}
	})
	b.look(0)
	vpn := at("0.0.0.0:51820", 2)
	b.source.say(socket.UDP, has(at("0.0.0.0:40000", 1), vpn))
	b.look(time.Second, at("127.0.0.1:80", 3))
	b.look(2*time.Minute, at("127.0.0.1:80", 3))
	reported.want(t, "opened", "03:00:01 opened udp 0.0.0.0:51820 ok vpn")
	b.source.say(socket.UDP, has(vpn))
	b.look(time.Second)
	reported.want(t, "closed")
}

func TestAFailedReadIsNoChange(t *testing.T) {
	var reported changes
	b := newBench(t, reported.note)
	failed := func(after time.Duration) {
		b.advance(after)
		b.source.say(socket.TCP, answer{err: errors.New("no answer")})
		b.Snapshot()
	}
	failed(0)
	ssh := at("0.0.0.0:22", 1)
	b.look(time.Second, ssh)
	failed(time.Second)
	b.look(time.Second, ssh)
	reported.want(t, "changes")
}

func TestListenersOfOtherNamespacesAreReported(t *testing.T) {
	var reported changes
	withHost(t, func(t *testing.T, h *host) {
		old := h.add(80)
		h.round()
		h.round()
		reported.want(t, "what was there at the start")
		opened := time.Now().UTC().Format(time.TimeOnly)
		h.add(81)
		h.round()
		closed := time.Now().UTC().Format(time.TimeOnly)
		h.set(func() { old.listen(socket.TCP) })
		h.round()
		reported.want(t, "changes",
			opened+" opened unknown-4026532002 tcp 0.0.0.0:81",
			closed+" closed unknown-4026532001 tcp 0.0.0.0:80")
	}, reported.note)
}
