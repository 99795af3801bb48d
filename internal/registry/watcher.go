package registry

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// clockTick is how long a file may change without a new time of change: FAT counts in two seconds, which is the coarsest.
const clockTick = 2 * time.Second

// Watcher holds the registry of a file that may change. It polls: a notification of the kernel would be lost on a network
// file system and at a swap of links. It may be used by several goroutines; none waits while another reads the file, but in
// Reload.
type Watcher struct {
	path    string
	rest    time.Duration // how long a file is left alone before it counts as whole
	current atomic.Pointer[Registry]
	outcome atomic.Pointer[outcome]

	mu sync.Mutex
	// The content that was read last, good or bad.
	seen    identity
	readAt  time.Time
	sum     [sha256.Size]byte
	content error
	// trouble is why the file could not be taken over, as it was told last; empty if it was.
	trouble string
	success time.Time
}

// outcome is how taking over the file went last, and when it last went well.
type outcome struct {
	ok      bool
	success time.Time
}

// NewWatcher reads the file at path. It fails if that is no good registry.
func NewWatcher(path string) (*Watcher, error) {
	w := &Watcher{path: path, rest: settleTime}
	if err := w.Reload(); err != nil {
		return nil, err
	}
	return w, nil
}

// Current returns the registry as it was read last while the file was good.
func (w *Watcher) Current() *Registry { return w.current.Load() }

// LastReload tells whether the file could be taken over when it was last looked at, and when that last succeeded.
func (w *Watcher) LastReload() (ok bool, success time.Time) {
	last := w.outcome.Load()
	return last.ok, last.success
}

// Reload reads the file whether it changed or not. A bad file leaves the registry as it was, and so does one with the same
// content, which is a success all the same.
func (w *Watcher) Reload() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	_, err := w.load(now)
	if err == nil {
		w.success = now
	}
	w.settle(err)
	return err
}

// Check reads the file if it may have changed since it was read, and tells whether there is a new registry. A bad file
// leaves the registry as it was; its error is returned once, not at each check.
func (w *Watcher) Check(now time.Time) (changed bool, err error) {
	if !w.mu.TryLock() {
		return false, nil // somebody is at it
	}
	defer w.mu.Unlock()
	info, err := os.Stat(w.path)
	if err == nil && identityOf(info) == w.seen && w.readAt.Sub(w.seen.latest()) >= clockTick {
		err = w.content
		if err == nil && w.trouble != "" {
			w.success = now
		}
	} else {
		changed, err = w.load(now)
	}
	told := w.trouble
	if w.settle(err); w.trouble == told {
		return changed, nil
	}
	return changed, err
}

// settle remembers how taking over the file went.
func (w *Watcher) settle(err error) {
	w.trouble = ""
	if err != nil {
		w.trouble = err.Error()
	}
	w.outcome.Store(&outcome{ok: err == nil, success: w.success})
}

// load reads the file and takes its content over, if that is another than before and good.
func (w *Watcher) load(now time.Time) (changed bool, err error) {
	data, id, err := readRegular(w.path, w.rest)
	if errors.Is(err, fs.ErrNotExist) && w.current.Load() != nil && w.trouble == "" {
		// Editors move a file away before they write the new one.
		time.Sleep(w.rest)
		data, id, err = readRegular(w.path, w.rest)
	}
	if err != nil {
		return false, fmt.Errorf("read the registry: %w", err)
	}
	w.seen, w.readAt = id, now
	if sum := sha256.Sum256(data); sum != w.sum {
		w.sum = sum
		var r *Registry
		if r, w.content = Parse(w.path, data); w.content == nil {
			w.current.Store(r)
			w.success = now
			return true, nil
		}
	}
	if w.content == nil && w.trouble != "" {
		w.success = now
	}
	return false, w.content
}
