//go:build linux && etcd

package lease_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/host"
)

// link is a network between a store and etcd.
type link struct {
	listener net.Listener
	mu       sync.Mutex
	to       string
	isCut    bool
	// swallow is in the request from whose beginning on no answer comes back.
	swallow     []byte
	connections map[net.Conn]bool
}

func newLink(t *testing.T, to string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: listener, to: strings.TrimPrefix(to, "http://"), connections: make(map[net.Conn]bool)}
	t.Cleanup(func() {
		_ = listener.Close()
		l.cut()
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go l.serve(client)
		}
	}()
	return l
}

func (l *link) url() string { return "http://" + l.listener.Addr().String() }

// cut ends all connections, and no new one comes about until join.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut, l.swallow = true, nil
	for c := range l.connections {
		_ = c.Close()
	}
}

func (l *link) join(to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut, l.to = false, strings.TrimPrefix(to, "http://")
}

// loseAnswer has the next request that contains a text be done, and its answer lost.
func (l *link) loseAnswer(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.swallow = []byte(text)
}

func (l *link) serve(client net.Conn) {
	l.mu.Lock()
	server, err := net.Dial("tcp", l.to)
	if err != nil || l.isCut {
		l.mu.Unlock()
		_ = client.Close()
		return
	}
	l.connections[client], l.connections[server] = true, true
	l.mu.Unlock()
	var mu sync.Mutex
	lost := false
	go func() {
		defer func() { _ = client.Close() }()
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer)
			if err != nil {
				return
			}
			mu.Lock()
			drop := lost
			mu.Unlock()
			if !drop {
				_, _ = client.Write(buffer[:n])
			}
		}
	}()
	defer func() { _ = server.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		l.mu.Lock()
		if l.swallow != nil && bytes.Contains(buffer[:n], l.swallow) {
			mu.Lock()
			lost = true
			mu.Unlock()
		}
		l.mu.Unlock()
		if _, err := io.Copy(server, bytes.NewReader(buffer[:n])); err != nil {
			return
		}
	}
}

// TestATakeWhoseAnswerIsLost: with its key it is found again; without one its port is free as soon as etcd can be reached.
func TestATakeWhoseAnswerIsLost(t *testing.T) {
	for _, key := range []string{"", "build 7"} {
		t.Run(fmt.Sprintf("key %q", key), func(t *testing.T) {
			t.Parallel()
			etcd := host.StartEtcd(t, "127.0.0.1")
			way := newLink(t, etcd.URL)
			o := optionsOf(etcd)
			direct := openEtcd(t, o)
			defer closeStore(t, direct)
			o.Endpoints = []string{way.url()}
			s := openEtcd(t, o)
			defer closeStore(t, s)

			l := wanted(1, 30000)
			l.Key = key
			way.loseAnswer(l.ID)
			if _, err := s.Take(t.Context(), l); !errors.Is(err, lease.ErrAway) {
				t.Fatalf("error %v, want %v", err, lease.ErrAway)
			}
			await(t, "it is done nevertheless", lists(direct, l))
			way.cut()
			await(t, "the cut is found", func() error {
				if _, err := s.Leases(); err == nil {
					return errors.New("not yet")
				}
				return nil
			})
			way.join(etcd.URL)
			if key == "" {
				await(t, "it is given up", lists(direct))
				await(t, "the store knows", lists(s))
				return
			}
			await(t, "etcd is found", lists(s, l))
			again := wanted(2, 30001)
			again.Key = key
			got := mustTake(t, s, again)
			if got.ID != l.ID || got.Deadline <= 0 {
				t.Errorf("the same request gets %+v", got)
			}
			time.Sleep(6 * time.Second) // longer than until etcd is looked at again
			if err := lists(direct, l)(); err != nil {
				t.Errorf("it has not stayed: %v", err)
			}
		})
	}
}

// TestAStoreCatchesUpWithWhatHappenedWhileItCouldNotSeeIt: even if etcd does not have it step by step any more, or has forgotten
// everything.
func TestAStoreCatchesUpWithWhatHappenedWhileItCouldNotSeeIt(t *testing.T) {
	t.Parallel()
	etcd, empty := host.StartEtcd(t, "127.0.0.1"), host.StartEtcd(t, "127.0.0.1")
	way := newLink(t, etcd.URL)
	o := optionsOf(etcd)
	direct := openEtcd(t, o)
	defer closeStore(t, direct)
	o.Endpoints, o.Host = []string{way.url()}, "two"
	s := openEtcd(t, o)
	defer closeStore(t, s)
	stays, goes := mustTake(t, direct, wanted(1, 30000)), mustTake(t, direct, wanted(2, 30001))
	await(t, "both are seen", lists(s, stays, goes))

	way.cut()
	if err := direct.Remove(t.Context(), goes.ID); err != nil {
		t.Fatal(err)
	}
	comes := mustTake(t, direct, wanted(3, 30001))
	client := rawClient(t, etcd)
	now, err := client.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), now.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(2, len(leasesOf(s))); diff != "" {
		t.Errorf("leases while the link is cut (-want +got):\n%s", diff)
	}
	way.join(etcd.URL)
	await(t, "after the compaction", lists(s, stays, comes))
	way.cut()
	way.join(empty.URL)
	await(t, "another etcd", lists(s))
}

// TestAStoreFollowsAnEtcdThatIsRestoredFromABackup, which has the ID that it had, and more than the store began with.
func TestAStoreFollowsAnEtcdThatIsRestoredFromABackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, backup := filepath.Join(dir, "data"), filepath.Join(dir, "backup")
	etcd := host.StartEtcd(t, "127.0.0.1", "--data-dir="+data)
	restart := func(between func() error) {
		t.Helper()
		etcd.Kill()
		if err := errors.Join(between(), etcd.Start()); err != nil {
			t.Fatal(err)
		}
	}
	o := optionsOf(etcd)
	taker := openEtcd(t, o)
	defer closeStore(t, taker)
	o.Host = "two"
	s := openEtcd(t, o)
	defer closeStore(t, s)
	stays, lost := mustTake(t, taker, wanted(1, 30000)), wanted(2, 30001)
	restart(func() error { return os.CopyFS(backup, os.DirFS(data)) })
	await(t, "etcd is found", func() error { _, err := taker.Take(t.Context(), lost); return err })
	await(t, "both are seen", lists(s, stays, lost))
	restart(func() error { return errors.Join(os.RemoveAll(data), os.Rename(backup, data)) })
	await(t, "the backup", lists(s, stays))
}

// leasesOf returns what is listed, whether or not etcd can be reached.
func leasesOf(s lease.Store) []lease.Lease {
	leases, _ := s.Leases()
	return leases
}
