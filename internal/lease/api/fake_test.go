//go:build linux

package api

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/host"
)

// fake has leases of one team, and no rules but those of who may end one.
type fake struct {
	mu     sync.Mutex
	leases map[string]lease.Lease
	asked  []lease.Request // by Take
	fails  error           // of each method. View panics.
	away   error           // of View
	// taking is called by Take unless it is nil.
	taking func(ctx context.Context)
}

func (f *fake) Take(ctx context.Context, r lease.Request) (lease.Lease, bool, error) {
	if f.taking != nil {
		f.taking(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r)
	if f.fails != nil {
		return lease.Lease{}, false, f.fails
	}
	for _, kept := range f.leases {
		if r.Key != "" && kept.Key == r.Key && kept.UID == r.UID {
			return kept, true, nil
		}
	}
	ttl := max(r.TTL, lease.MinTTL)
	given := lease.Lease{
		ID: fmt.Sprintf("%032x", len(f.leases)), Team: "ci", Name: "web", Proto: "tcp", Ports: []uint16{uint16(30000 + len(f.leases))},
		UID: r.UID, User: strconv.Itoa(int(r.UID)), Host: "here", Key: r.Key, TTL: ttl, Deadline: f.Now() + ttl,
	}
	if f.leases == nil {
		f.leases = make(map[string]lease.Lease)
	}
	f.leases[given.ID] = given
	return given, false, nil
}

func (f *fake) Renew(_ context.Context, id string, uid uint32) (lease.Lease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept, is := f.leases[id]
	switch {
	case f.fails != nil:
		return lease.Lease{}, f.fails
	case !is:
		return lease.Lease{}, lease.ErrNoLease
	case uid != kept.UID && uid != 0:
		return lease.Lease{}, lease.ErrNotYours
	}
	return kept, nil
}

func (f *fake) End(ctx context.Context, id string, uid uint32) (lease.Lease, error) {
	kept, err := f.Renew(ctx, id, uid)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.leases, id)
	}
	return kept, err
}

func (f *fake) View() lease.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails != nil {
		panic(f.fails)
	}
	ended := lease.Lease{ID: anID, Team: "ci", Name: "ended", Proto: "udp", Ports: []uint16{29999}, User: "7", Host: "here", TTL: time.Second, Deadline: 1}
	v := lease.View{Err: f.away, Ended: []lease.Lease{ended}, Teams: []lease.Team{{Name: "ci", Leased: len(f.leases), Available: 100 - len(f.leases)}}}
	for n := range len(f.leases) {
		v.Leases = append(v.Leases, f.leases[fmt.Sprintf("%032x", n)])
	}
	return v
}

func (f *fake) Now() time.Duration { return time.Hour }

// serve serves leases on a socket, and returns its path. The test's end ends the server, which must not fail.
func serve(tb testing.TB, leases Leases) (path string) {
	tb.Helper()
	path = filepath.Join(host.OpenDir(tb), "lease.sock")
	run(tb, Options{Leases: leases, Address: "unix:" + path})
	return path
}

// run runs a server until the test's end.
func run(tb testing.TB, o Options) *Server {
	tb.Helper()
	o.Host, o.Logger, o.Toolkit = "here", log.NewNopLogger(), slog.New(slog.DiscardHandler)
	server, err := Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- server.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return server
}
