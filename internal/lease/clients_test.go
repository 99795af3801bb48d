//go:build linux

package lease_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// hosts are two that share a store.
var hosts = []string{"here", "there"}

const (
	// manyClients is how many ask for leases at the same time.
	manyClients = 64
	// leastOperations is how many they do, however slow the machine is.
	leastOperations = 500
)

func TestManyClientsNeverGetTheSamePort(t *testing.T) {
	t.Parallel()
	length := size(time.Minute, 2*time.Second)
	h := runClients(t, ports.Range{First: 21200, Last: 21399}, length, openFile(t))
	if err := h.check(); err != nil {
		t.Error(err)
	}
}

func TestTheCheckerFindsAStoreThatGivesAPortTwice(t *testing.T) {
	t.Parallel()
	h := runClients(t, ports.Range{First: 21400, Last: 21599}, 0, &forgetful{Store: openFile(t)})
	if err := h.check(); err == nil || !strings.Contains(err.Error(), "these cannot follow") {
		t.Errorf("got %v", err)
	}
}

// forgetful is a store that loses a lease now and then, so that its ports are given twice.
type forgetful struct {
	lease.Store
	count atomic.Int64
}

func (s *forgetful) Take(ctx context.Context, l lease.Lease) (lease.Lease, error) {
	l, err := s.Store.Take(ctx, l)
	if err == nil && s.count.Add(1)%10 == 0 {
		err = s.Remove(ctx, l.ID)
	}
	return l, err
}

func openFile(t *testing.T) lease.Store {
	t.Helper()
	store, err := lease.OpenFile(filepath.Join(t.TempDir(), "leases.db"), "here", lease.HostClock())
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// runClients has many clients ask managers for a while, of which each has one of the stores of a range, and returns what happened.
func runClients(t *testing.T, r ports.Range, length time.Duration, stores ...lease.Store) *history {
	t.Helper()
	h := &history{ports: portsOf(r), grace: 5 * time.Second}
	var mu sync.Mutex
	say := func(_ int, o operation) {
		if o.Outcome != "" {
			mu.Lock()
			defer mu.Unlock()
			h.operations = append(h.operations, o)
		}
	}
	enough := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(h.operations) >= leastOperations
	}
	ctx, stop := context.WithCancel(t.Context())
	var running, clients sync.WaitGroup
	end := time.Now().Add(length)
	for i, store := range stores {
		m, err := lease.NewManager(lease.Options{Store: store, Host: hosts[i], MaxTTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		m.Use(rulesOf(r))
		running.Go(func() { m.Run(ctx) })
		running.Go(func() { look(ctx, m, "", func(lease.View) {}) })
		known := new(leases)
		for n := range manyClients / len(stores) {
			clients.Go(func() {
				c := client{
					manager: m, number: i*manyClients + n, name: fmt.Sprintf("%d-%d", i, n), known: known, say: say,
					random: rand.New(rand.NewPCG(uint64(i), uint64(n))),
				}
				for (time.Now().Before(end) || !enough()) && !t.Failed() {
					if err := c.step(ctx); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	clients.Wait()
	stop()
	running.Wait()
	t.Logf("%d operations in %v: %v", len(h.operations), length, h.answers())
	return h
}
