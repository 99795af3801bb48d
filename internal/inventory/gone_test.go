//go:build linux

package inventory

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

func TestASettledPortThatIsGoneIsRememberedUntilItIsBackOrTimeIsOver(t *testing.T) {
	ssh, web, web6 := at("0.0.0.0:22", 1), at("0.0.0.0:80", 2), at("[::]:80", 3)
	b := newRememberingBench(t, heldBy{1: {Process: "sshd", Unit: "ssh.service"}, 2: {Process: "nginx", Unit: "nginx.service"}, 3: {Process: "nginx"}}, ssh, web, web6)
	want(t, "not settled", gone(b.look(59*time.Minute, ssh)))
	b.look(time.Minute, ssh, web, web6)
	b.look(time.Hour, ssh, web, web6)
	want(t, "open on another address", gone(b.look(time.Second, ssh, web6)))
	lost := "tcp 80 05:00:02 :: nginx "
	want(t, "gone", gone(b.look(time.Second, ssh)), lost)
	b.source.say(socket.TCP, answer{err: errors.New("permission denied")})
	want(t, "while nothing can be read", gone(b.Snapshot()), lost)
	want(t, "still gone", gone(b.look(23*time.Hour+59*time.Minute, ssh)), lost)
	want(t, "back", gone(b.look(time.Second, ssh, web)))
	want(t, "settled as before", gone(b.look(time.Second, ssh)), "tcp 80 04:59:04 0.0.0.0 nginx nginx.service")
	want(t, "long ago", gone(b.look(24*time.Hour, ssh)))
	want(t, "open again", gone(b.look(time.Second, ssh, web)))
	want(t, "not settled again", gone(b.look(59*time.Minute, ssh)))
}

func TestWhatIsNotKnownIsNotGone(t *testing.T) {
	b := newRememberingBench(t, nil, at("0.0.0.0:22", 1))
	b.advance(2 * time.Hour)
	b.source.say(socket.TCP, answer{err: errors.New("permission denied")})
	want(t, "a failed read", gone(b.Snapshot()))
	b.source.onRead = func() { b.advance(4 * time.Second) }
	for range goneAfter - 1 {
		want(t, "a read that may have passed over it", gone(b.look(0)))
	}
	if got := len(gone(b.look(0))); got != 1 {
		t.Errorf("%d ports are gone, want 1", got)
	}
}

func TestWhatMovesOrIsSomebodyElsesTaskIsNotRemembered(t *testing.T) {
	b := &bench{clock: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), holders: heldBy{1: {Process: "kubelet-app", PodUID: "6c2bfd4e"}}}
	b.openRemembering(t, func(o *Options) { _ = o.PortExclude.Set("8000-8100") })
	b.source.say(socket.TCP, has(at("0.0.0.0:9000", 1), at("0.0.0.0:8080", 2)))
	b.source.say(socket.UDP, has(at("0.0.0.0:40000", 3), at("0.0.0.0:514", 4), at("0.0.0.0:0", 5)))
	b.Snapshot()
	for range 2 { // a client is reported late
		b.advance(2 * time.Hour)
		b.Snapshot()
	}
	b.source.say(socket.UDP, has())
	want(t, "of a pod, excluded, a client, a service, and one that was closing", gone(b.look(time.Second)), "udp 514 07:00:01 0.0.0.0  ")
}

func TestAnEphemeralPortIsReplacedByAnotherOneOfItsHolder(t *testing.T) {
	statd, grpc := Holder{Process: "rpc.statd", Unit: "rpc-statd.service"}, Holder{Process: "server", Unit: "grpc.service"}
	shell := func(session string) Holder { return Holder{Process: "code-server", Unit: session} }
	holders := heldBy{1: statd, 2: grpc, 3: statd, 4: statd, 5: shell("session-1.scope"), 6: shell("session-2.scope"), 7: grpc}
	random, service, code := at("0.0.0.0:43211", 1), at("0.0.0.0:50051", 2), at("127.0.0.1:36001", 5)
	b := newRememberingBench(t, holders, random, service, code)
	b.look(2*time.Hour, random, service, code)
	want(t, "replaced at once, or lost", gone(b.look(time.Second, at("0.0.0.0:39999", 3), code)), "tcp 50051 05:00:01 0.0.0.0 server grpc.service")
	b.look(2*time.Hour, at("0.0.0.0:39999", 3), service, code)
	if got := gone(b.look(time.Second, service, code)); len(got) != 1 {
		t.Errorf("not replaced yet: %q", got)
	}
	want(t, "replaced later", gone(b.look(time.Minute, service, code, at("0.0.0.0:40404", 4))))
	want(t, "in another session", gone(b.look(time.Second, service, at("127.0.0.1:36002", 6), at("0.0.0.0:40404", 4))))
	want(t, "a port that came back is no random one", gone(b.look(time.Second, at("0.0.0.0:41000", 7), at("127.0.0.1:36002", 6), at("0.0.0.0:40404", 4))),
		"tcp 50051 07:01:04 0.0.0.0 server grpc.service")
}

func TestOnlyAnEphemeralPortIsReplacedAndEachReplacesOne(t *testing.T) {
	app := Holder{Process: "app", Unit: "app.service"}
	b := newRememberingBench(t, heldBy{1: app, 2: app, 3: app, 4: app, 5: app}, at("0.0.0.0:8080", 1), at("0.0.0.0:40001", 2), at("0.0.0.0:40002", 3))
	b.look(2*time.Hour, at("0.0.0.0:8080", 1), at("0.0.0.0:40001", 2), at("0.0.0.0:40002", 3))
	want(t, "another port for each of two", gone(b.look(time.Second, at("0.0.0.0:8081", 4), at("0.0.0.0:40003", 5))),
		"tcp 8080 05:00:01 0.0.0.0 app app.service", "tcp 40002 05:00:01 0.0.0.0 app app.service")
}

// TestAUserWithManySubordinateIDsTakesNoPlaceOfAnother: subuid(5) gives each user 65 536 of them.
func TestAUserWithManySubordinateIDsTakesNoPlaceOfAnother(t *testing.T) {
	var open []socket.Socket
	for n := range 2*maxRemembered + 60 {
		s := at(fmt.Sprintf("0.0.0.0:%d", 1+n), uint64(1+n))
		if n >= 60 {
			s.UID = uint32(100_000 + n)
		}
		open = append(open, s)
	}
	b := newRememberingBench(t, nil, open...)
	b.look(2*time.Hour, open...)
	all, roots := b.look(time.Second).Memory.Gone, 0
	for _, p := range all {
		if p.Port <= 60 {
			roots++
		}
	}
	if len(all) != maxRemembered || roots != 60 {
		t.Errorf("%d are gone, %d of root's 60", len(all), roots)
	}
}
