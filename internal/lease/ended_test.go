//go:build linux

package lease_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
)

func TestAViewHasWhatHasJustEnded(t *testing.T) {
	clock := lease.HostClock()
	now := clock.Boot()
	clock.Boot = func() time.Duration { return now }
	store, err := lease.OpenFile(filepath.Join(t.TempDir(), "leases.db"), "here", clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	m, err := lease.NewManager(lease.Options{Store: store, Host: "here", MaxTTL: time.Hour, Clock: clock.Boot})
	if err != nil {
		t.Fatal(err)
	}
	m.Use(func() (lease.Rules, error) {
		return lease.Rules{
			Ranges:  []lease.Range{{Range: ports.Range{First: 45010, Last: 45019}, Team: "ci", Users: []string{"*"}}},
			Refuse:  func(uint16) string { return "" },
			Claim:   func(uint16) string { return "" },
			Service: func(string) bool { return false },
			Version: 1,
		}, nil
	})
	l, _, err := m.Take(t.Context(), lease.Request{UID: 4242})
	if err != nil {
		t.Fatal(err)
	}
	began := now
	now += time.Minute
	if _, err := m.End(t.Context(), l.ID, 4242); err != nil {
		t.Fatal(err)
	}
	ended := now
	now += lease.EndedKept - 1
	v := m.View()
	if len(v.Leases) != 0 || len(v.Ended) != 1 || v.Ended[0].ID != l.ID || !v.WasAlive(&v.Ended[0], began) || v.WasAlive(&v.Ended[0], ended) {
		t.Errorf("%+v", v)
	}
	now++
	if later := m.View(); len(later.Ended) != 0 || len(v.Ended) != 1 {
		t.Errorf("%+v", later)
	}
}
