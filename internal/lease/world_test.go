//go:build linux

package lease_test

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// The users of the tests. Nobody is registered as 4242.
const (
	alice      = 4242
	bob        = 4243
	nobodyUser = 65534
)

// firstPort is the first of the ports that the tests of this room bind in the namespace of the test.
const firstPort = 23100

// world is a host on which a manager gives ports. Its time is that of the bubble of synctest: it passes when the test sleeps.
type world struct {
	*lease.Manager
	t       *testing.T
	store   lease.Store
	options lease.Options
	ranges  []lease.Range
	refused map[uint16]string
	claimed map[uint16]string // refused by the registry
	problem error             // of the rules
	asked   atomic.Int64      // how often a port was asked for
}

// bubbleClock returns the clock of a bubble: the host was booted an hour before.
func bubbleClock() lease.Clock {
	start := time.Now().Add(-time.Hour)
	return lease.Clock{Boot: func() time.Duration { return time.Since(start) }, Wall: time.Now, BootID: "boot-1"}
}

// inWorld runs a test on a host where everybody may lease 10 ports of team ci.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	inWorldOf(t, nil, test)
}

// inWorldOf is inWorld with other options. Without a store there is one in a file.
func inWorldOf(t *testing.T, change func(*lease.Options), test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		clock := bubbleClock()
		w := &world{t: t, refused: make(map[uint16]string), claimed: make(map[uint16]string), options: lease.Options{
			Host: "here", MaxTTL: time.Hour, Clock: clock.Boot, Logger: log.NewNopLogger(),
		}}
		if change != nil {
			change(&w.options)
		}
		if w.options.Store == nil {
			store, err := lease.OpenFile(filepath.Join(t.TempDir(), "leases.db"), "here", clock)
			if err != nil {
				t.Fatal(err)
			}
			w.options.Store = store
		}
		w.store = w.options.Store
		w.lease(10, "ci", "*")
		var err error
		if w.Manager, err = lease.NewManager(w.options); err != nil {
			t.Fatal(err)
		}
		w.Use(w.rules)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.Run(ctx)
		}()
		defer func() {
			cancel()
			<-ended
		}()
		test(t, w)
	})
}

// lease makes so many ports, after those that are there, leasable.
func (w *world) lease(size int, team string, users ...string) {
	first := firstPort
	if n := len(w.ranges); n > 0 {
		first = int(w.ranges[n-1].Last) + 1
	}
	r := ports.Range{First: uint16(first), Last: uint16(first + size - 1)}
	w.ranges = append(w.ranges, lease.Range{Range: r, Team: team, Users: users})
}

// only makes so many ports all that can be leased.
func (w *world) only(size int) { w.ranges = nil; w.lease(size, "ci", "*") }

func (w *world) rules() (lease.Rules, error) {
	refused, claimed := maps.Clone(w.refused), maps.Clone(w.claimed)
	return lease.Rules{
		Ranges:  slices.Clone(w.ranges),
		Refuse:  func(port uint16) string { w.asked.Add(1); return refused[port] },
		Claim:   func(port uint16) string { return claimed[port] },
		Service: func(name string) bool { return name == "web" },
	}, w.problem
}

// take takes a lease, which must succeed.
func (w *world) take(r lease.Request) lease.Lease {
	w.t.Helper()
	l, repeated, err := w.Take(w.t.Context(), r)
	if err != nil || repeated {
		w.t.Fatalf("take %+v: %+v, repeated %t: %v", r, l, repeated, err)
	}
	return l
}

// refuse takes a lease, which must fail, and returns the error.
func (w *world) refuse(r lease.Request) error {
	w.t.Helper()
	l, _, err := w.Take(w.t.Context(), r)
	if err == nil {
		w.t.Fatalf("take %+v: %+v, want an error", r, l)
	}
	return err
}

// exhausted takes a lease of which no ports are left, and returns the error.
func (w *world) exhausted(r lease.Request) *lease.ExhaustedError {
	w.t.Helper()
	var exhausted *lease.ExhaustedError
	if err := w.refuse(r); !errors.As(err, &exhausted) {
		w.t.Fatalf("take %+v: %v, want an *ExhaustedError", r, err)
	}
	return exhausted
}

// look has a look begin now, in which these ports listen, and waits for what follows.
func (w *world) look(listening ...uint16) lease.View {
	w.t.Helper()
	w.Looked(w.Now(), listening, true)
	synctest.Wait()
	return w.View()
}

// get returns a lease as it is known now, if it is.
func (w *world) get(id string) (lease.Lease, bool) {
	v := w.View()
	i := slices.IndexFunc(v.Leases, func(l lease.Lease) bool { return l.ID == id })
	if i < 0 {
		return lease.Lease{}, false
	}
	return v.Leases[i], true
}

// state returns gone, held, overstayed or expired.
func (w *world) state(id string) string {
	l, ok := w.get(id)
	switch {
	case !ok:
		return "gone"
	case l.Overstayed != 0:
		return "overstayed"
	case !l.Alive(w.Now()):
		return "expired"
	}
	return "held"
}

func (w *world) wantState(id, want string) {
	w.t.Helper()
	if got := w.state(id); got != want {
		w.t.Errorf("the lease is %s, want %s", got, want)
	}
}
