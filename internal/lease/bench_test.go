//go:build linux

package lease_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// benchManager returns a manager of nearly all ports, with so many leases that do not expire.
func benchManager(b *testing.B, leases int) *lease.Manager {
	b.Helper()
	s, err := lease.OpenFile(filepath.Join(b.TempDir(), "leases.db"), "here", lease.HostClock())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	m, err := lease.NewManager(lease.Options{Store: s, Host: "here", MaxTTL: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	m.Use(func() (lease.Rules, error) {
		return lease.Rules{
			Ranges:  []lease.Range{{Range: ports.Range{First: 1024, Last: 65535}, Team: "ci", Users: []string{"*"}}},
			Refuse:  func(uint16) string { return "" },
			Claim:   func(uint16) string { return "" },
			Service: func(string) bool { return false },
			Version: 1,
		}, nil
	})
	for given := 0; given < leases; given += lease.MaxCount {
		if _, _, err := m.Take(b.Context(), lease.Request{Count: lease.MaxCount, TTL: time.Hour}); err != nil {
			b.Fatal(err)
		}
	}
	return m
}

// BenchmarkLook is what leases add to each look, with 1 024 leased ports, 1 000 that listen and ranges of 64 512.
func BenchmarkLook(b *testing.B) {
	m := benchManager(b, 1024)
	listening := make([]uint16, 1000)
	for i := range listening {
		listening[i] = uint16(30000 + i)
	}
	for b.Loop() {
		m.Looked(m.Now(), listening, true)
	}
}

// BenchmarkTakeAndEnd is a lease that is given and ended, by 64 clients at the same time. Each waits for two writes to the disk, which they
// share.
func BenchmarkTakeAndEnd(b *testing.B) {
	m := benchManager(b, 64)
	b.SetParallelism(64)
	var failed atomic.Pointer[error]
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l, _, err := m.Take(b.Context(), lease.Request{})
			if err == nil {
				_, err = m.End(b.Context(), l.ID, 0)
			}
			if err != nil {
				failed.Store(&err)
			}
		}
	})
	if err := failed.Load(); err != nil {
		b.Error(*err)
	}
}
