//go:build linux

package server

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// grace is how long a client may take, even if it keeps others waiting.
const grace = time.Second

var errBusy = errors.New("slow clients hold up the next answer: try again later")

// content returns the body for a request of what a page holds, and sets the header of the answer. The error is that of a context that is
// done before.
type content func(ctx context.Context, request *http.Request, header http.Header) (*body, error)

// pages makes pages of snapshots, which clients share. At most two are in memory: the newest, and the one before while it is being
// sent.
type pages struct {
	snapshot func(context.Context) *inventory.Snapshot
	// make makes the content of a page. It is not called twice at the same time.
	make func(*inventory.Snapshot) (content, error)
	// transient says that a page is not kept without readers.
	transient bool

	making sync.Mutex // held while a page is made

	mu     sync.Mutex
	asked  uint64 // how many snapshots were asked for
	latest taken  // of which the next page will be made: those who wait for it hold no snapshot of their own
	newest *sharedPage
	before *sharedPage // nil unless it is being sent
}

// taken is a snapshot.
type taken struct {
	*inventory.Snapshot
	asked uint64 // pages.asked when it was asked for
}

// sharedPage is a page and those who read it.
type sharedPage struct {
	content    content
	of         taken
	superseded time.Time
	readers    map[*reader]struct{}
	unread     chan struct{} // closed when it is superseded and no reader is left
}

// open returns a page whose snapshot overlaps the call, or is later. r reads it until it is closed. It must have been read in limit. The
// error is errBusy if there was no room for another page in time, why r was canceled, or one of make.
func (p *pages) open(r *reader, limit time.Duration) (*sharedPage, error) {
	ctx, cancel := context.WithTimeout(r.ctx, limit)
	defer cancel()
	for {
		if err := p.makeRoom(ctx); err != nil {
			return nil, err
		}
		p.mu.Lock()
		p.asked++
		asked := p.asked
		p.mu.Unlock()
		p.keep(taken{p.snapshot(ctx), asked})
		if r.ctx.Err() != nil {
			return nil, context.Cause(r.ctx)
		}
		if opened, err := p.since(asked, r); opened != nil || err != nil {
			return opened, err
		}
	}
}

// keep keeps a snapshot unless there is a later one.
func (p *pages) keep(s taken) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.asked > p.latest.asked {
		p.latest = s
	}
}

// makeRoom waits until only the newest page is being sent. It cuts off the readers of the one before when their grace is over.
func (p *pages) makeRoom(ctx context.Context) error {
	for {
		p.mu.Lock()
		before := p.before
		var left time.Duration
		if before != nil {
			left = grace - time.Since(before.superseded)
		}
		if left <= 0 {
			p.dropBefore()
			p.mu.Unlock()
			return nil
		}
		p.mu.Unlock()
		select {
		case <-before.unread:
		case <-time.After(left):
		case <-ctx.Done():
			return errBusy
		}
	}
}

// dropBefore cuts off those who still read the page before the newest.
func (p *pages) dropBefore() {
	if p.before == nil {
		return
	}
	for r := range p.before.readers {
		r.cutOff()
	}
	p.before = nil
}

// since opens a page of the snapshot that was asked for as the asked-th one, or of a later one. It returns nil if there is no room for it.
func (p *pages) since(asked uint64, r *reader) (*sharedPage, error) {
	p.making.Lock()
	defer p.making.Unlock()
	if r.ctx.Err() != nil {
		return nil, context.Cause(r.ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.newest == nil || p.newest.of.asked < asked && p.newest.of.Snapshot != p.latest.Snapshot {
		s := p.latest
		if p.before != nil || s.Snapshot == nil {
			return nil, nil
		}
		made, err := p.made(s.Snapshot)
		if err != nil {
			return nil, err
		}
		if last := p.newest; last != nil && len(last.readers) > 0 {
			last.superseded, p.before = time.Now(), last
		}
		p.newest = &sharedPage{content: made, of: s, readers: make(map[*reader]struct{}), unread: make(chan struct{})}
	}
	p.newest.readers[r] = struct{}{}
	return p.newest, nil
}

// made makes the content of a page. Meanwhile others can read.
func (p *pages) made(s *inventory.Snapshot) (content, error) {
	p.mu.Unlock()
	defer p.mu.Lock()
	return p.make(s)
}

// close ends the reading of a page.
func (p *pages) close(read *sharedPage, r *reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(read.readers, r)
	switch {
	case len(read.readers) > 0:
	case read == p.before:
		p.before = nil
		close(read.unread)
	case read == p.newest && p.transient:
		if p.newest = nil; p.latest == read.of {
			p.latest = taken{}
		}
	}
}
