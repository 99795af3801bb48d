package server

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// maxPatience is how long an answer may take to be sent, at most.
const maxPatience = 10 * time.Second

// reader is a client that waits for an answer or is being sent one.
type reader struct {
	mu         sync.Mutex
	controller *http.ResponseController
	since      time.Time // when sending began; zero before it and after it
	isCut      bool
}

// cutOff ends the sending, if need be before it begins.
func (r *reader) cutOff() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isCut = true
	if !r.since.IsZero() {
		_ = r.controller.SetWriteDeadline(time.Unix(1, 0)) // the connection may be gone
	}
}

// begin begins the sending, for which there is a time limit. It returns false if the reader was cut off.
func (r *reader) begin(patience time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = time.Now()
	_ = r.controller.SetWriteDeadline(r.since.Add(patience)) // a recorder of a test has none
	return !r.isCut
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
func (r *reader) send(w http.ResponseWriter, request *http.Request, pieces [][]byte, patience time.Duration) {
	size := 0
	for _, piece := range pieces {
		size += len(piece)
	}
	w.Header().Set("Content-Length", strconv.Itoa(size))
	if !r.begin(patience) {
		panic(http.ErrAbortHandler)
	}
	defer r.end()
	if request.Method == http.MethodHead {
		return
	}
	for _, piece := range pieces {
		if _, err := w.Write(piece); err != nil {
			panic(http.ErrAbortHandler) // the client has a part: it must not take it for the whole
		}
	}
}

// places are for a limited number of readers, or for any number if the limit is 0.
type places struct {
	limit int
	mu    sync.Mutex
	taken map[*reader]struct{}
}

func newPlaces(limit int) *places { return &places{limit: limit, taken: make(map[*reader]struct{})} }

// take takes a place for a reader. If none is free, that of whoever has been sent an answer for longest is taken away, once its grace is
// over. It returns false if there is none.
func (p *places) take(r *reader) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit > 0 && len(p.taken) >= p.limit {
		var slowest *reader
		longest := grace
		for other := range p.taken {
			if sent := other.sentFor(); sent >= longest {
				slowest, longest = other, sent
			}
		}
		if slowest == nil {
			return false
		}
		slowest.cutOff()
		delete(p.taken, slowest)
	}
	p.taken[r] = struct{}{}
	return true
}

// giveBack gives a place back.
func (p *places) giveBack(r *reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, r)
}
