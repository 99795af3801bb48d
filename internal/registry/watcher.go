package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// patience is how long a file may be missing or its content bad before that counts: it may be half-written, or moved away for a
// moment.
const patience = time.Second

// Watcher holds the registry of a file that may change. It reads the file at each check and compares the content:
// notifications of the kernel would miss network file systems and swapped links. Goroutines may share it. Only Reload waits while
// another goroutine reads the file.
type Watcher struct {
	path, host string
	state      atomic.Pointer[state]

	mu sync.Mutex
	// content is what the file had when it was last read, and parsed or fault is the result.
	content []byte
	parsed  *Registry
	fault   error
	// badSince is when the file became bad, and reported is the last error that was returned. Both are zero while it is good.
	badSince time.Time
	reported string
}

// state is what is in force.
type state struct {
	registry *Registry
	ok       bool      // whether the file is good
	success  time.Time // when a good file was last loaded
}

// NewWatcher reads the file at path. It fails if that is not a registry, or if services conflict on host, the host to be judged.
func NewWatcher(path, host string) (*Watcher, error) {
	w := &Watcher{path: path, host: host}
	w.state.Store(&state{})
	if err := w.Reload(); err != nil {
		return nil, err
	}
	return w, nil
}

// Current returns the last good registry.
func (w *Watcher) Current() *Registry { return w.state.Load().registry }

// LastReload reports whether the file was good when it was last read, and when a good file was last loaded.
func (w *Watcher) LastReload() (ok bool, success time.Time) {
	last := w.state.Load()
	return last.ok, last.success
}

// Reload reads the file. If it is bad, the registry stays. If its content is unchanged, the registry stays too, and that is a
// success.
func (w *Watcher) Reload() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.update(time.Now(), true)
	return err
}

// Check reads the file, and reports whether there is a new registry. If the file is bad, the registry stays. Each error is returned
// once. A file that is missing or has Faults is not an error before it has been so for a second.
func (w *Watcher) Check(now time.Time) (changed bool, err error) {
	if !w.mu.TryLock() {
		return false, nil // another goroutine is reading
	}
	defer w.mu.Unlock()
	return w.update(now, false)
}

// update reads the file and puts its content in force. asked is set for Reload, whose caller wants every error.
func (w *Watcher) update(now time.Time, asked bool) (changed bool, err error) {
	last := w.state.Load()
	parsed, modified, err := w.read()
	if err != nil {
		if w.badSince.IsZero() {
			w.badSince = now
			if !modified.IsZero() && modified.Before(now) {
				w.badSince = modified
			}
		}
		mayPass := errors.Is(err, fs.ErrNotExist) || errors.As(err, new(Faults))
		if !asked && (mayPass && now.Sub(w.badSince) < patience || err.Error() == w.reported) {
			return false, nil
		}
		w.reported = err.Error()
		w.state.Store(&state{last.registry, false, last.success})
		return false, err
	}
	w.badSince, w.reported = time.Time{}, ""
	if changed = parsed != last.registry; changed || asked || !last.ok {
		w.state.Store(&state{parsed, true, now})
	}
	return changed, nil
}

// read reads the file, and parses its content unless it is what was last read.
func (w *Watcher) read() (parsed *Registry, modified time.Time, err error) {
	content, modified, err := readRegular(w.path)
	if err != nil {
		return nil, modified, fmt.Errorf("read the registry: %w", err)
	}
	if w.content == nil || !bytes.Equal(content, w.content) {
		w.content = content
		w.parsed, w.fault = Parse(w.path, content)
		if w.fault == nil {
			w.fault = w.parsed.conflictsOn(w.host)
		}
	}
	return w.parsed, modified, w.fault
}

var errNotRegular = errors.New("not a regular file: want one, which can be read again")

// readRegular returns the content of the regular file at path, and when it was modified. It does not wait for the writer of a
// pipe.
func readRegular(path string) (data []byte, modified time.Time, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, time.Time{}, &os.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	var content bytes.Buffer
	content.Grow(int(min(info.Size(), maxSize)) + bytes.MinRead)
	_, err = content.ReadFrom(io.LimitReader(f, maxSize+1)) // one byte more than Parse accepts
	return content.Bytes(), info.ModTime(), err
}
