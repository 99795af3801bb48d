package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// patience is how long a file may be missing or its content bad before that counts: it may be half-written, or moved away for a
// moment.
const patience = time.Second

// reloadTime is how long a reload may take. A file on a network may never answer.
const reloadTime = 10 * time.Second

// Watcher holds the registry of a file that may change. It reads the file at each check and compares the content:
// notifications of the kernel would miss network file systems and swapped links. Goroutines may share it. Check and Reload wait while
// another goroutine reads the file.
type Watcher struct {
	path, host string
	reloadTime time.Duration
	state      atomic.Pointer[state]

	// reading has an element while the file is read. Only that read may touch what follows.
	reading chan struct{}
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
	w := &Watcher{path: path, host: host, reloadTime: reloadTime, reading: make(chan struct{}, 1)}
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
// success. It fails if the file cannot be read within 10 s.
func (w *Watcher) Reload() error {
	timeout := time.NewTimer(w.reloadTime)
	defer timeout.Stop()
	select {
	case w.reading <- struct{}{}:
	case <-timeout.C:
		return w.noAnswer()
	}
	read := make(chan file, 1)
	go func() { read <- readRegular(w.path) }()
	select {
	case f := <-read:
		defer w.release()
		return w.update(f, time.Now(), true)
	case <-timeout.C:
		go func() { <-read; w.release() }() // until then nobody else hangs there
		return w.noAnswer()
	}
}

func (w *Watcher) release() { <-w.reading }

// noAnswer notes that the reload failed, unless a read has just ended. It returns the error.
func (w *Watcher) noAnswer() error {
	last := w.state.Load()
	w.state.CompareAndSwap(last, &state{last.registry, false, last.success})
	return fmt.Errorf("read the registry: %s: no answer within %s: want a file system that answers", w.path, w.reloadTime)
}

// Check reads the file. If it is bad, the registry stays. Each error is returned once. A file that is missing or has Faults is not an
// error before it has been so for a second. Check waits as long as the file takes.
func (w *Watcher) Check(now time.Time) error {
	w.reading <- struct{}{}
	defer w.release()
	return w.update(readRegular(w.path), now, false)
}

// update puts the content of the file in force. asked is set for Reload, whose caller wants every error.
func (w *Watcher) update(f file, now time.Time, asked bool) error {
	last := w.state.Load()
	parsed, err := w.parse(f)
	if err != nil {
		if w.badSince.IsZero() {
			w.badSince = now
			if !f.modified.IsZero() && f.modified.Before(now) {
				w.badSince = f.modified
			}
		}
		mayPass := errors.Is(err, fs.ErrNotExist) || errors.As(err, new(Faults))
		if !asked && (mayPass && now.Sub(w.badSince) < patience || err.Error() == w.reported) {
			return nil
		}
		w.reported = err.Error()
		w.state.Store(&state{last.registry, false, last.success})
		return err
	}
	w.badSince, w.reported = time.Time{}, ""
	if parsed != last.registry || asked || !last.ok {
		w.state.Store(&state{parsed, true, now})
	}
	return nil
}

// parse parses the content of the file, unless it is what was last read.
func (w *Watcher) parse(f file) (*Registry, error) {
	if f.err != nil {
		return nil, fmt.Errorf("read the registry: %w", f.err)
	}
	if w.content == nil || !bytes.Equal(f.content, w.content) {
		w.content = f.content
		w.parsed, w.fault = Parse(w.path, f.content)
		if w.fault == nil {
			w.fault = w.parsed.conflictsOn(w.host)
		}
	}
	return w.parsed, w.fault
}

// file is what a read of the file had as its result.
type file struct {
	content  []byte
	modified time.Time
	err      error
}

var errNotRegular = errors.New("not a regular file: want one, which can be read again")

// readRegular reads the regular file at path. It does not wait for the writer of a pipe.
func readRegular(path string) file {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return file{err: err}
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return file{err: err}
	}
	if !info.Mode().IsRegular() {
		return file{err: &os.PathError{Op: "open", Path: path, Err: errNotRegular}}
	}
	var content bytes.Buffer
	content.Grow(int(min(info.Size(), maxSize)) + bytes.MinRead)
	_, err = content.ReadFrom(io.LimitReader(f, maxSize+1)) // one byte more than Parse accepts
	return file{content.Bytes(), info.ModTime(), err}
}
