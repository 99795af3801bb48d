//go:build linux

package inventory

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// reopened returns a bench like another one, with what that remembered. It has gone through a file.
func reopened(t *testing.T, b *bench, booted time.Time, boot string, edit ...func(*Options)) *bench {
	t.Helper()
	text, err := json.Marshal(b.Remembered())
	if err != nil {
		t.Fatal(err)
	}
	var r Remembered
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	next := &bench{clock: b.clock, booted: booted, set: b.set, holders: b.holders}
	next.openRemembering(t, append(edit, func(o *Options) { o.Procfs, o.Remembered = bootedAs(t, boot), &r })...)
	return next
}

// bootedAs returns a procfs that says which boot of the host this is.
func bootedAs(t *testing.T, boot string) string {
	t.Helper()
	dir := t.TempDir()
	random := filepath.Join(dir, "sys/kernel/random")
	if err := os.MkdirAll(random, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(random, "boot_id"), []byte(boot+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestWhatIsRememberedOutlastsTheExporter(t *testing.T) {
	ssh, web, dns, late := at("0.0.0.0:22", 1), at("0.0.0.0:80", 2), at("0.0.0.0:53", 3), at("0.0.0.0:81", 4)
	b := &bench{clock: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), holders: heldBy{1: {Process: "sshd", Unit: "ssh.service"}, 3: {Process: "named"}}}
	b.openRemembering(t, func(o *Options) { o.Procfs = bootedAs(t, "one") })
	if b.Remembered() != nil {
		t.Error("something is remembered before the first look")
	}
	b.look(0, ssh, web, dns)
	b.look(2*time.Hour, ssh, web, dns)
	b.look(time.Second, ssh, dns)
	b.look(time.Second, ssh, dns, late)

	next := reopened(t, b, b.booted, "one")
	s := next.look(10*time.Minute, dns, late, at("0.0.0.0:82", 5))
	want(t, "gone", gone(s), "tcp 80 05:00:01 0.0.0.0  ", "tcp 22 05:10:02 0.0.0.0 sshd ssh.service")
	if !s.Memory.Loaded || s.Memory.Changes[0] != (Changes{Proto: TCP}) {
		t.Errorf("loaded %t, changes %+v", s.Memory.Loaded, s.Memory.Changes)
	}
	var seen []string
	for _, l := range s.Listeners {
		if !l.FirstSeen.IsZero() {
			seen = append(seen, fmt.Sprint(l.Addr.Port(), l.FirstSeen.UTC().Format(" 15:04:05")))
		}
	}
	want(t, "first seen", seen, "81 05:00:02", "82 05:10:02")

	// A wall clock that NTP slewed while nobody watched moves nothing.
	next.set = -longestStep * 9 / 10
	slewed := reopened(t, next, next.booted, "one")
	want(t, "gone by a slewed clock", gone(slewed.look(0, dns)), "tcp 80 05:00:01 0.0.0.0  ", "tcp 22 05:10:02 0.0.0.0 sshd ssh.service")

	// A step of the wall clock while nobody watched, in the same boot.
	next.set = time.Hour
	stepped := reopened(t, next, next.booted, "one")
	want(t, "gone by another clock", gone(stepped.look(time.Second, dns)), "tcp 80 06:00:01 0.0.0.0  ", "tcp 22 06:10:02 0.0.0.0 sshd ssh.service")
}

func TestAPortThatDoesNotComeBackAfterAPowerCutIsGone(t *testing.T) {
	ssh, web, young := at("0.0.0.0:22", 1), at("0.0.0.0:80", 2), at("0.0.0.0:8000", 3)
	b := &bench{clock: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), holders: heldBy{1: {Process: "sshd"}}}
	b.openRemembering(t, func(o *Options) { o.Procfs = bootedAs(t, "one") })
	b.look(0, ssh, web)
	b.look(2*time.Hour, ssh, web, young)
	b.advance(90 * time.Minute)
	next := reopened(t, b, b.clock.Add(-20*time.Second), "two")
	want(t, "while the host starts", gone(next.look(0)))
	want(t, "one is back", gone(next.look(time.Minute, web)))
	want(t, "some minutes later", gone(next.look(4*time.Minute, web)), "tcp 22 06:30:00 0.0.0.0 sshd ")
}

func TestServicesAndViolationsOutlastTheExporter(t *testing.T) {
	b, file := newJudgedBench(t, rememberedRegistry)
	ssh, rogue := at("0.0.0.0:22", 1), queued(2, 1)
	rogue.Addr, rogue.ID = at("0.0.0.0:4444", 2).Addr, 2
	b.source.detailed = true
	b.look(0, ssh, rogue)
	b.look(time.Minute)
	for range 4 {
		b.look(time.Minute, ssh, rogue)
	}
	next := reopened(t, b, b.booted, "", func(o *Options) { o.Holders, o.RegistryFiles, o.RegistryHost = false, []string{file}, "web-1" })
	next.source.detailed = true
	s := next.look(time.Hour, rogue)
	want(t, "services", services(s), "ssh down 04:05:00 changed 04:05:00 x1 0.0.0.0", "web down 03:00:00 changed - x0 ")
	l := only(t, s)
	if got := startsOf(l).Violation.UTC().Format(time.TimeOnly) + startsOf(l).Full.UTC().Format(" 15:04:05"); got != "03:02:00 03:02:00" {
		t.Errorf("violation and full since %s", got)
	}
}

func TestAFileWithAnythingIsNoHarm(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":           `{}`,
		"no listener":       `{"ports": [{"proto": "tcp", "port": 80, "settled": true}]}`,
		"no address":        `{"ports": [{"proto": "tcp", "port": 80, "listeners": [{"address": ""}]}]}`,
		"another protocol":  `{"ports": [{"proto": "sctp", "port": 80, "listeners": [{"address": "::"}]}]}`,
		"times of nowhere":  `{"offset": 9223372036854775807, "ports": [{"proto": "tcp", "port": 80, "settled": true, "since": "0001-01-01T00:00:00Z", "gone": "9999-01-01T00:00:00Z", "listeners": [{"address": "::", "first_seen": "9999-01-01T00:00:00Z", "full_start": "1677-01-01T00:00:00Z"}]}]}`,
		"times to come":     `{"ports": [{"proto": "tcp", "port": 80, "settled": true, "since": "2026-11-01T00:00:00Z", "gone": "2100-01-01T00:00:00Z", "listeners": [{"address": "::"}]}]}`,
		"a service of none": `{"services": [{"name": "x", "proto": "y", "ports": "z"}, {"name": "web", "proto": "tcp", "ports": "80", "addresses": [""]}]}`,
	} {
		var r Remembered
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b := &bench{clock: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)}
		b.openRemembering(t, func(o *Options) { o.Remembered = &r })
		s := b.look(0, at("0.0.0.0:22", 1))
		for _, p := range s.Memory.Gone {
			if p.Since.After(s.Time) {
				t.Errorf("%s: %+v", name, p)
			}
		}
		if _, err := json.Marshal(b.Remembered()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLostPacketsOutlastTheExporterForAMinute(t *testing.T) {
	lost := at("0.0.0.0:514", 1)
	b := newBench(t)
	for range 5 {
		b.source.say(socket.UDP, has(lost))
		b.Snapshot()
		lost.Drops += 100
		b.advance(5 * time.Second)
	}
	next := reopened(t, b, b.booted, "")
	next.source.say(socket.UDP, has(lost))
	for _, want := range []bool{true, true, false} {
		if l := only(t, next.Snapshot()); startsOf(l).Dropping.IsZero() == want {
			t.Errorf("after %s it loses packets since %s", next.clock.Sub(b.clock), startsOf(l).Dropping)
		}
		next.advance(40 * time.Second)
	}
}

func TestARegistrySaysWhatMustListenInsteadOfTheMemory(t *testing.T) {
	b := newRememberingBench(t, nil, at("0.0.0.0:80", 1))
	b.look(time.Hour, at("0.0.0.0:80", 1))
	want(t, "without", gone(b.look(time.Hour)), "tcp 80 05:00:00 0.0.0.0  ")
	_, file := newJudgedBench(t, rememberedRegistry)
	next := reopened(t, b, b.booted, "", func(o *Options) { o.RegistryFiles = []string{file} })
	want(t, "with", gone(next.look(time.Second)))
}

func TestWhatOtherFlagsLeaveOutAfterARestartIsNotGone(t *testing.T) {
	open := []socket.Socket{at("0.0.0.0:22", 1), at("127.0.0.1:80", 2), at("0.0.0.0:8080", 3)}
	b := newRememberingBench(t, nil, append(open, at("0.0.0.0:8081", 4))...)
	b.look(time.Hour, append(open, at("0.0.0.0:8081", 4))...)
	want(t, "gone", gone(b.look(time.Minute, open...)), "tcp 8081 04:01:00 0.0.0.0  ")
	next := reopened(t, b, b.booted, "", func(o *Options) {
		_ = o.PortExclude.Set("8080-8081")
		o.ScopeExclude = ScopeSet{ScopeLoopback}
	})
	want(t, "gone after the restart", gone(next.look(time.Minute, open...)))

	// A socket that is bound to an interface that reaches only this host has the scope of that interface.
	local := at("0.0.0.0:22", 1)
	local.Loopback, local.Device = true, "dummy0"
	b = newRememberingBench(t, nil, local)
	b.look(time.Hour, local)
	next = reopened(t, b, b.booted, "", func(o *Options) { o.ScopeExclude = ScopeSet{ScopeLoopback} })
	want(t, "on an interface", gone(next.look(time.Minute, local)))
}

func TestWhatIsNoLongerJudgedIsNotRemembered(t *testing.T) {
	b, file := newJudgedBench(t, rememberedRegistry)
	ssh, rogue := at("0.0.0.0:22", 1), at("0.0.0.0:4444", 2)
	b.look(0, ssh, rogue)
	without := reopened(t, b, b.booted, "", func(o *Options) { o.Holders = false })
	want(t, "services without a registry", services(without.look(time.Hour, ssh, rogue)))

	registry := func(o *Options) { o.Holders, o.RegistryFiles, o.RegistryHost = false, []string{file}, "web-1" }
	unread := reopened(t, b, b.booted, "", registry, func(o *Options) { o.TCP = false })
	want(t, "services of a protocol that is not read", services(unread.look(time.Hour)))

	again := reopened(t, without, b.booted, "", registry)
	s := again.look(time.Minute, ssh, rogue)
	want(t, "services with it again", services(s), "web down 04:01:00 changed - x0 ")
	for _, l := range s.Listeners {
		if l.Addr.Port() == 4444 && !startsOf(l).Violation.Equal(again.clock) {
			t.Errorf("violation since %s, before there was a registry", startsOf(l).Violation)
		}
	}
}

func TestWhatOtherFlagsShowAfterARestartIsNotNew(t *testing.T) {
	seen := func(s *Snapshot) []string {
		texts := []string{}
		for _, l := range s.Listeners {
			if !l.FirstSeen.IsZero() {
				texts = append(texts, l.Addr.String())
			}
		}
		return texts
	}
	open := []socket.Socket{at("0.0.0.0:22", 1), at("0.0.0.0:80", 2), at("127.0.0.1:8080", 3)}
	for name, before := range map[string]func(*Options){
		"a protocol": func(o *Options) { o.TCP = false },
		"a port":     func(o *Options) { _ = o.PortExclude.Set("80") },
		"ports":      func(o *Options) { _ = o.PortInclude.Set("22") },
		"a scope":    func(o *Options) { o.ScopeExclude = ScopeSet{ScopeLoopback} },
	} {
		b := &bench{clock: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)}
		b.openRemembering(t, before)
		b.look(0, open...)
		next := reopened(t, b, b.booted, "")
		want(t, name, seen(next.look(time.Minute, open...)))
		last := reopened(t, next, b.booted, "")
		want(t, name+", and then a port", seen(last.look(time.Minute, append(open, at("0.0.0.0:81", 4))...)), "0.0.0.0:81")
	}

	// On so many addresses that not all are saved.
	var many []socket.Socket
	for n := range uint64(maxSavedListeners + 3) {
		many = append(many, at(fmt.Sprintf("192.0.2.%d:123", n+1), n+1))
	}
	b := newRememberingBench(t, nil, many...)
	next := reopened(t, b, b.booted, "")
	want(t, "on many addresses", seen(next.look(time.Minute, many...)))
}

func TestTheMemoryOfOneNetworkNamespaceIsNotAnothers(t *testing.T) {
	b := newRememberingBench(t, nil, at("0.0.0.0:22", 1))
	b.look(2*time.Hour, at("0.0.0.0:22", 1))
	for netns, lost := range map[string][]string{"all": {"tcp 22 05:01:00 0.0.0.0  "}, "self": nil} {
		next := reopened(t, b, b.booted, "", func(o *Options) { o.Netns = netns })
		s := next.look(time.Minute, at("0.0.0.0:9100", 2))
		want(t, netns, gone(s), lost...)
		if s.Memory.Loaded != (lost != nil) {
			t.Errorf("%s: loaded %t", netns, s.Memory.Loaded)
		}
	}
}
