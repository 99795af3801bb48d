//go:build linux

package api

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

// unread is the end of a connection from which nobody reads.
type unread struct {
	http.ResponseWriter
	full, end chan struct{}
}

func (u unread) Write(text []byte) (int, error) {
	u.full <- struct{}{}
	<-u.end
	return len(text), nil
}

// manyLeases has so many leases, and as many that have just ended.
type manyLeases struct {
	Leases
	view lease.View
}

func (m manyLeases) View() lease.View { return m.view }

func TestAListThatNobodyReadsTakesLittleMemory(t *testing.T) {
	const readers, leases, most = 32, 4096, 64 << 10
	many := make([]lease.Lease, leases)
	for i := range many {
		many[i] = lease.Lease{ID: anID, Team: "ci", Name: "web", Proto: "tcp", Ports: make([]uint16, lease.MaxCount), User: "alice", Host: "here", Deadline: 1}
	}
	h := &handler{
		leases: manyLeases{new(fake), lease.View{Leases: many, Ended: many}}, logger: log.NewNopLogger(),
		who:   func(*http.Request) (uint32, error) { return 7, nil },
		begin: func(*http.Request) bool { return true },
	}
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // for what sync.Pool has
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	full, end := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	for range readers {
		all.Go(func() {
			w := unread{httptest.NewRecorder(), full, end}
			h.mux().ServeHTTP(w, httptest.NewRequest(http.MethodGet, leasesPath, nil))
		})
		<-full
	}
	if each := (inUse() - before) / readers; each > most {
		t.Errorf("each takes %d bytes, want at most %d", each, most)
	}
	go func() {
		for range full {
		}
	}()
	close(end)
	all.Wait()
	close(full)
	runtime.KeepAlive(many)
}
