//go:build linux

package server

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// maxPatience is how long an answer may take to be sent, at most.
const maxPatience = 10 * time.Second

// reader is a client that waits for an answer or is being sent one.
type reader struct {
	ctx    context.Context // of getting the answer
	cancel context.CancelCauseFunc
	conn   *connection
	quick  bool // conn.quick when the request came

	mu    sync.Mutex
	since time.Time // when sending began; zero before it and after it
}

// errCut is why a reader gets no answer.
var errCut = errors.New("other clients need what this one has taken: try again later")

// newReader returns the client of a request. The caller cancels it in the end.
func newReader(request *http.Request) *reader {
	ctx, cancel := context.WithCancelCause(request.Context())
	conn := connectionOf(request)
	return &reader{ctx: ctx, cancel: cancel, conn: conn, quick: conn.quick.Load()}
}

// cutOff ends the waiting or the sending. It closes the connection of who is being sent an answer, as in HTTP/2 nothing less ends a write
// when the client reads nothing.
func (r *reader) cutOff() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancel(errCut)
	if !r.since.IsZero() && r.conn.Conn != nil {
		abort(r.conn.Conn)
	}
}

// begin begins the sending. It returns false if the reader was cut off, or has gone.
func (r *reader) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return false
	}
	r.since = time.Now()
	return true
}

// end ends the sending: from now on the connection serves another request.
func (r *reader) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = time.Time{}
}

// sentFor returns for how long an answer has been sent, or 0.
func (r *reader) sentFor() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since.IsZero() {
		return 0
	}
	return time.Since(r.since)
}

// send sends a body. A client that does not take it in time is cut off.
func (r *reader) send(w http.ResponseWriter, request *http.Request, body sendable, patience time.Duration) {
	w.Header().Set("Content-Length", strconv.Itoa(body.size()))
	if !r.begin() {
		panic(http.ErrAbortHandler)
	}
	defer r.end()
	defer time.AfterFunc(patience, r.cutOff).Stop()
	if request.Method == http.MethodHead {
		return
	}
	if err := body.write(w); err != nil {
		panic(http.ErrAbortHandler) // the client has a part: it must not take it for the whole
	}
	if err := http.NewResponseController(w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		panic(http.ErrAbortHandler)
	}
	r.conn.quick.Store(r.sentFor() < grace)
}

// places are for a limited number of readers, or for any number if the limit is 0.
type places struct {
	limit int
	mu    sync.Mutex
	taken map[*reader]struct{}
}

func newPlaces(limit int) *places { return &places{limit: limit, taken: make(map[*reader]struct{})} }

// take takes a place for a reader. If none is free, another reader may have to give up its own. It returns false if there is none.
func (p *places) take(r *reader) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit > 0 && len(p.taken) >= p.limit {
		other := p.yielding(r)
		if other == nil {
			return false
		}
		other.cutOff()
		delete(p.taken, other)
	}
	p.taken[r] = struct{}{}
	return true
}

// yielding returns who must give up its place for a reader: whoever has been sent an answer for longest, of those
//   - whose grace is over
//   - of a host that has more places than that of the reader would have
//   - who are not known to be quick, while the reader is. A scraper keeps its connection: it is known.
//
// It returns nil if there is nobody.
func (p *places) yielding(r *reader) *reader {
	of := make(map[netip.Prefix]int) // places by host
	for other := range p.taken {
		of[other.conn.host]++
	}
	var slowest *reader
	longest := time.Duration(-1)
	for other := range p.taken {
		sent := other.sentFor()
		isSlow := sent >= grace || r.quick && !other.quick
		if sent > longest && (isSlow || of[other.conn.host] > of[r.conn.host]+1) {
			slowest, longest = other, sent
		}
	}
	return slowest
}

// giveBack gives a place back.
func (p *places) giveBack(r *reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, r)
}
