//go:build linux

package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

const (
	// filePatience is how long an operation waits for the file system, and the end of the store too.
	filePatience = 4 * time.Second
	// retryInterval is how often a file that could not be written is tried again.
	retryInterval = 2 * time.Second
	// maxBatch is how many operations share a write.
	maxBatch = 256
)

var errHangs = errors.New("the file system does not answer")

// file is the store of one host, in a file. Only one goroutine uses the file.
type file struct {
	path  string
	lock  *os.File // which is closed last
	db    *bbolt.DB
	info  os.FileInfo // of db
	clock Clock
	asked chan *operation
	ctx   context.Context
	stop  context.CancelFunc
	ended chan error // has what closing the file returned

	// mu is never held while the file system is at work.
	mu sync.Mutex
	// leases never change: each write makes others.
	leases []Lease
	err    error
	// unwritable is why a write has failed, until one that needs more space succeeds: on a full disk, leases can still be renewed.
	unwritable error
	// writing reports whether a write is under way, and hangs why somebody has given up waiting for it.
	writing bool
	hangs   error
}

// operation is a change that somebody waits for.
type operation struct {
	do    func(*draft) (Lease, error)
	lease Lease
	err   error
	done  chan struct{}
}

// draft is what the leases will be after a write.
type draft struct {
	leases  []Lease
	changed map[string]bool // by the ID
	grows   bool            // there is one more
}

func sortLeases(leases []Lease) {
	slices.SortFunc(leases, func(a, b Lease) int { return int(a.Ports[0]) - int(b.Ports[0]) })
}

func (f *file) start() {
	f.asked, f.ended = make(chan *operation), make(chan error, 1)
	f.ctx, f.stop = context.WithCancel(context.Background())
	go f.run()
}

// run does what it is asked to, until the store is closed.
func (f *file) run() {
	ticker := time.NewTicker(retryInterval)
	defer ticker.Stop()
	for {
		var retry <-chan time.Time
		if f.unwritable != nil {
			retry = ticker.C
		}
		select {
		case <-f.ctx.Done():
			f.ended <- errors.Join(guarded(f.db.Close), f.lock.Close())
			return
		case <-retry:
			f.tryAgain()
		case first := <-f.asked:
			batch := f.others([]*operation{first})
			f.commit(batch)
			for _, o := range batch {
				close(o.done)
			}
		}
	}
}

// others adds the operations that wait already: they share a write.
func (f *file) others(batch []*operation) []*operation {
	for len(batch) < maxBatch {
		select {
		case o := <-f.asked:
			batch = append(batch, o)
		default:
			return batch
		}
	}
	return batch
}

// commit does operations on a draft, and writes what they have changed. After a failure it writes everything.
func (f *file) commit(batch []*operation) {
	d := &draft{leases: slices.Clone(f.leases), changed: make(map[string]bool)}
	for _, o := range batch {
		o.lease, o.err = o.do(d)
	}
	if len(d.changed) == 0 && f.err == nil {
		return
	}
	f.setWriting()
	err := guarded(func() error {
		if !f.isThere() {
			return f.replace(d.leases)
		}
		return f.db.Update(func(tx *bbolt.Tx) error {
			if f.err != nil {
				return rewrite(tx, d.leases, f.clock)
			}
			return d.write(tx, f.clock)
		})
	})
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrAway, f.explain(err))
		for _, o := range batch {
			if o.err == nil {
				o.lease, o.err = Lease{}, err
			}
		}
		d.leases = f.leases
	}
	sortLeases(d.leases)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leases, f.err, f.writing, f.hangs = d.leases, err, false, nil
	if err != nil || d.grows {
		f.unwritable = err
	}
}

func (f *file) setWriting() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writing = true
}

// tryAgain tries to write after a write has failed. A new file shows that there is space again. Without that, what is written may still fit
// into the old one.
func (f *file) tryAgain() {
	f.setWriting()
	err := guarded(func() error { return f.replace(f.leases) })
	f.mu.Lock()
	f.writing, f.hangs = false, nil
	if err == nil {
		f.err, f.unwritable = nil, nil
	}
	f.mu.Unlock()
	if f.err != nil {
		f.commit(nil)
	}
}

func (d *draft) write(tx *bbolt.Tx, clock Clock) error {
	bucket := tx.Bucket(leasesBucket)
	for id := range d.changed {
		i := d.index(id)
		if i < 0 {
			if err := bucket.Delete([]byte(id)); err != nil {
				return err
			}
			continue
		}
		if err := put(bucket, &d.leases[i], clock); err != nil {
			return err
		}
	}
	return putCount(tx, len(d.leases))
}

func (d *draft) index(id string) int {
	return slices.IndexFunc(d.leases, func(l Lease) bool { return l.ID == id })
}

// ask has an operation done and waits for it.
func (f *file) ask(ctx context.Context, do func(*draft) (Lease, error)) (Lease, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, filePatience, errHangs)
	defer cancel()
	o := &operation{do: do, done: make(chan struct{})}
	select {
	case f.asked <- o:
		select {
		case <-o.done:
			return o.lease, o.err
		case <-ctx.Done():
		}
	case <-ctx.Done():
	case <-f.ctx.Done():
		return Lease{}, fmt.Errorf("%w: it is closed", ErrAway)
	}
	cause := context.Cause(ctx)
	err := fmt.Errorf("%w: %s: %w", ErrAway, f.path, cause)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.writing && errors.Is(cause, errHangs) {
		f.hangs = err
	}
	return Lease{}, err
}

// Take implements Store.
func (f *file) Take(ctx context.Context, l Lease) (Lease, error) {
	l.Ports = slices.Clone(l.Ports)
	return f.ask(ctx, func(d *draft) (Lease, error) {
		for _, other := range d.leases {
			if l.Key != "" && other.Key == l.Key && other.UID == l.UID {
				return other, nil
			}
		}
		for _, other := range d.leases {
			for _, port := range l.Ports {
				if slices.Contains(other.Ports, port) {
					return Lease{}, &TakenError{port, other}
				}
			}
		}
		l.Deadline = notZero(f.clock.Boot() + l.TTL)
		if r := recordOf(l, f.clock); r.check() != nil { // or the next start would refuse the file
			return Lease{}, fmt.Errorf("the lease cannot be stored: %w", r.check())
		}
		d.leases = append(d.leases, l)
		d.changed[l.ID], d.grows = true, true
		return l, nil
	})
}

// Renew implements Store.
func (f *file) Renew(ctx context.Context, id string) (Lease, error) {
	return f.change(ctx, id, func(l *Lease) { l.Deadline, l.Overstayed = notZero(f.clock.Boot()+l.TTL), 0 })
}

// Overstay implements Store.
func (f *file) Overstay(ctx context.Context, id string) error {
	_, err := f.change(ctx, id, func(l *Lease) {
		if l.Overstayed == 0 {
			l.Overstayed = notZero(f.clock.Boot())
		}
	})
	return err
}

func (f *file) change(ctx context.Context, id string, do func(*Lease)) (Lease, error) {
	return f.ask(ctx, func(d *draft) (Lease, error) {
		i := d.index(id)
		if i < 0 {
			return Lease{}, ErrNoLease
		}
		do(&d.leases[i])
		d.changed[id] = true
		return d.leases[i], nil
	})
}

// Remove implements Store.
func (f *file) Remove(ctx context.Context, id string) error {
	_, err := f.ask(ctx, func(d *draft) (Lease, error) {
		if i := d.index(id); i >= 0 {
			d.leases = slices.Delete(d.leases, i, i+1)
			d.changed[id] = true
		}
		return Lease{}, nil
	})
	return err
}

// Leases implements Store.
func (f *file) Leases() ([]Lease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leases, cmp.Or(f.hangs, f.err)
}

// Unwritable implements Store.
func (f *file) Unwritable() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unwritable
}

// Close implements Store.
func (f *file) Close() error {
	f.stop()
	select {
	case err := <-f.ended:
		f.ended <- err
		return err
	case <-time.After(filePatience):
		return fmt.Errorf("%s: %w", f.path, errHangs)
	}
}
