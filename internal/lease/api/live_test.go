//go:build linux

package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/host"
)

func TestWhoAsksIsTheUserOfTheProcess(t *testing.T) {
	host.NeedRoot(t)
	path := serve(t, new(fake))
	id := strings.Repeat("0", 32)
	notYours, noLease := fmt.Sprint("403 ", lease.ErrNotYours), fmt.Sprint("404 ", lease.ErrNoLease)
	for _, step := range []struct {
		uid  uint32
		ask  []string
		want string
	}{
		{1001, []string{"take", `{"key": "mine"}`}, id + " 1001"},
		{1001, []string{"take", `{"key": "mine"}`}, id + " 1001"},
		{1002, []string{"take", `{"key": "mine"}`}, id[1:] + "1 1002"},
		{65534, []string{"take", "{}"}, id[1:] + "2 65534"},
		{0, []string{"take", `{"key": "root's"}`}, id[1:] + "3 0"},
		{1001, []string{"list"}, "1001 mine\n1002 \n65534 \n0"},
		{0, []string{"list"}, "1001 \n1002 \n65534 \n0 root's"},
		{1002, []string{"renew", id}, notYours},
		{1002, []string{"end", id}, notYours},
		{65534, []string{"end", id[1:] + "3"}, notYours},
		{1001, []string{"renew", id}, id + " 1001"},
		{0, []string{"renew", id}, id + " 1001"},
		{0, []string{"end", id[1:] + "1"}, id[1:] + "1 1002"},
		{1001, []string{"end", id}, id + " 1001"},
		{1001, []string{"end", id}, noLease},
	} {
		if got := result(t, step.uid, append([]string{path}, step.ask...)...); got != step.want {
			t.Errorf("user %d, %q: %q, want %q", step.uid, step.ask, got, step.want)
		}
	}
}

func TestAUserWhomTheExportersNamespaceDoesNotHaveIsRefused(t *testing.T) {
	host.NeedRoot(t)
	path := filepath.Join(host.OpenDir(t), "lease.sock")
	cmd := as(0, roleServer, path)
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	server, err := host.StartReady(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	const unknown = "403 who asks is not known: user 65534 may be any user outside the exporter's user namespace: want one whom it maps"
	for uid, want := range map[uint32]string{
		70000: unknown, // is 65534 for the exporter
		65534: unknown, // may be any of those
		1001:  strings.Repeat("0", 32) + " 1001",
	} {
		if got := result(t, uid, path, "take", "{}"); got != want {
			t.Errorf("user %d: %q, want %q", uid, got, want)
		}
	}
}

// slow has a user open so many connections of each kind, until the test's end.
func slow(t *testing.T, path string, uid uint32, each int, kinds ...string) {
	t.Helper()
	client, err := host.StartReady(as(uid, roleSlow, append([]string{path, strconv.Itoa(each)}, kinds...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Input.Close()
		client.Kill()
	})
}

// TestUsersWhoseRequestsTakeLongKeepNobodyOut: none of these is cut off, as what it asks for may be done.
func TestUsersWhoseRequestsTakeLongKeepNobodyOut(t *testing.T) {
	host.NeedRoot(t)
	var taking atomic.Int64
	done := make(chan struct{})
	path := serve(t, &fake{taking: func(context.Context) {
		taking.Add(1)
		<-done
	}})
	t.Cleanup(func() { close(done) })
	const request = "POST /api/v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
	await := func(want int64) {
		t.Helper()
		if err := host.Await(time.Minute, func() error {
			if got := taking.Load(); got != want {
				return fmt.Errorf("%d requests are under way, want %d", got, want)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	slow(t, path, 1001, maxOfOne+10, request)
	await(maxOfOne)
	slow(t, path, 1002, maxOfOne+10, request)
	await(maxShared)
	for _, uid := range []uint32{1003, 1004, 0} {
		if got := result(t, uid, path, "list"); got != "" {
			t.Errorf("user %d: %q", uid, got)
		}
	}
	if open := connected(t, path); open < maxShared {
		t.Errorf("%d connections are open, want those of %d requests", open, maxShared)
	}
}

func TestRootGetsInWhereAllConnectionsAreTaken(t *testing.T) {
	conns := newConnections()
	open := func(owner string) *connection {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = theirs.Close() })
		c := &connection{Conn: ours, owner: owner, busy: true}
		conns.add(c)
		return c
	}
	for n := range maxConnections {
		if c := open(fmt.Sprint("user ", 1001+n)); conns.open[c.Conn] == nil {
			t.Fatalf("user %d, who has no other, is kept out", n)
		}
	}
	if c := open("user 1"); conns.open[c.Conn] != nil || len(conns.open) != maxConnections {
		t.Errorf("%d connections are open, want %d", len(conns.open), maxConnections)
	}
	for range maxOfOne {
		if c := open(root); conns.open[c.Conn] == nil {
			t.Fatal("root is kept out")
		}
	}
	if c := open(root); conns.open[c.Conn] != nil {
		t.Error("root has more connections than others may have")
	}
}

func TestSlowClientsKeepNobodyOut(t *testing.T) {
	host.NeedRoot(t)
	path := serve(t, new(fake))
	others := func(when string, most int) {
		t.Helper()
		began := time.Now()
		if _, err := newTestClient(t, "unix:"+path).Take(t.Context(), Request{}); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if took := time.Since(began); took > readHeaderTimeout {
			t.Errorf("%s: another user waited for %v", when, took)
		}
		for _, uid := range []uint32{1001, 1002} {
			if got := result(t, uid, path, "take", "{}"); !strings.HasSuffix(got, fmt.Sprint(" ", uid)) {
				t.Errorf("%s: user %d gets %q", when, uid, got)
			}
		}
		if now := connected(t, path); now > most {
			t.Errorf("%s: %d connections are open, want %d at most", when, now, most)
		}
	}
	slow(t, path, 1001, 10)
	others("with 50 slow connections of a user", 50)
	slow(t, path, 1001, 60)
	others("with 350 of a user", maxOfOne)
	for uid := range uint32(8) {
		slow(t, path, 2000+uid, 40)
	}
	others("with 200 each of 8 more", maxConnections)
	if testing.Short() {
		t.Skip("waits for timeouts")
	}
	gone := func() error {
		if now := connected(t, path); now > 0 {
			return fmt.Errorf("%d slow connections are still open", now)
		}
		return nil
	}
	if err := host.Await(readTimeout+idleTimeout+time.Minute, gone); err != nil {
		t.Error(err)
	}
}

func TestManyClientsOfOneUserAreServedAtOnce(t *testing.T) {
	path := serve(t, new(fake))
	client := newTestClient(t, "unix:"+path)
	failed := make(chan error, 64)
	parallel(64, func(int) {
		for range 20 {
			l, err := client.Take(t.Context(), Request{})
			if err == nil {
				_, err = client.Renew(t.Context(), l.ID)
			}
			if err != nil {
				failed <- err
				return
			}
		}
	})
	close(failed)
	for err := range failed {
		t.Error(err)
	}
}

func TestASignalLetsARequestFinishAndWaitsForNobodyElse(t *testing.T) {
	host.NeedRoot(t)
	path := filepath.Join(host.OpenDir(t), "lease.sock")
	server, err := host.StartReady(as(0, roleServer, path))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	slow, err := host.StartReady(as(1002, roleSlow, path, "10"))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Kill()
	client := as(1001, roleClient, path, "take", "{}")
	client.Stderr = os.Stderr
	answer := make(chan string)
	go func() {
		said, err := client.Output()
		answer <- fmt.Sprint(strings.TrimSpace(string(said)), errors.Unwrap(err))
	}()
	taking := func() error { _, err := os.Stat(path + ".taking"); return err }
	if err := host.Await(time.Minute, taking); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := server.Terminate(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > readHeaderTimeout {
		t.Errorf("the end took %v, although only a request of a second was to be answered", took)
	}
	if got, want := <-answer, strings.Repeat("0", 32)+" 1001<nil>"; got != want {
		t.Errorf("the client of that request got %q, want %q", got, want)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there")
	}
}

func TestASocketThatAKilledExporterLeftIsReplaced(t *testing.T) {
	host.NeedRoot(t)
	path := filepath.Join(host.OpenDir(t), "lease.sock")
	for range 2 {
		server, err := host.StartReady(as(0, roleServer, path))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open("unix:" + path); err == nil || !strings.Contains(err.Error(), "somebody listens on") {
			t.Errorf("a second one: %v", err)
		}
		if got := result(t, 1001, path, "take", "{}"); got != strings.Repeat("0", 32)+" 1001" {
			t.Errorf("the client got %q", got)
		}
		server.Kill()
	}
}
