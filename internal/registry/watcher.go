//go:build linux

package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// reloadTime is how long the files may take. One on a network may never answer.
const reloadTime = 10 * time.Second

// ErrNoAnswer is the error of files that cannot be read in time.
var ErrNoAnswer = errors.New("no answer")

// Watcher holds the registry of files that may change. It compares their content, because notifications of the kernel would miss
// network file systems and swapped links. Goroutines may share it.
type Watcher struct {
	paths      []string
	host       string
	reloadTime time.Duration
	state      atomic.Pointer[state]

	// reading has an element while the files are read.
	reading chan struct{}
	// mu guards what follows: what was found at the last look, and what was last loaded.
	mu           sync.Mutex
	seen, loaded content
}

// content is what the files have, or why they cannot be read.
type content struct {
	files []Source
	err   error
}

func (c content) equal(o content) bool {
	if c.err != nil || o.err != nil {
		return c.err != nil && o.err != nil && c.err.Error() == o.err.Error()
	}
	return slices.EqualFunc(c.files, o.files, func(a, b Source) bool { return a.Name == b.Name && string(a.Data) == string(b.Data) })
}

// state is what is in force.
type state struct {
	table *Table
	err   error // why what was last loaded is not in force
	good  *Good // what the table was made of
}

// Good is what the files at paths had when they were last good.
type Good struct {
	Paths  []string  `json:"paths"`
	Files  []Source  `json:"files"`
	Loaded time.Time `json:"loaded"`
}

// NewWatcher reads the files at paths, as [Load] does. It fails if they are not regular, if they are not a registry, or if services
// conflict on host, the host to be judged. If it is known what these files had when they were last good, that is in force then, and there
// is a watcher as well as the error. last may be nil.
func NewWatcher(paths []string, host string, last *Good) (*Watcher, error) {
	w := &Watcher{paths: paths, host: host, reloadTime: reloadTime, reading: make(chan struct{}, 1)}
	w.state.Store(&state{})
	if last != nil && slices.Equal(last.Paths, paths) && w.load(content{files: last.Files}) == nil {
		w.state.Store(&state{table: w.Current(), good: last})
	}
	err := w.Reload()
	if w.Current() == nil {
		return nil, err
	}
	return w, err
}

// Current returns what the last good registry declares for the host.
func (w *Watcher) Current() *Table { return w.state.Load().table }

// LastReload reports whether the files were good when they were last loaded, and when good files were last loaded.
func (w *Watcher) LastReload() (ok bool, success time.Time) {
	last := w.state.Load()
	return last.err == nil, last.good.Loaded
}

// Unanswered returns an ErrNoAnswer if the files were to be loaded last and did not answer, or nil.
func (w *Watcher) Unanswered() error {
	if err := w.state.Load().err; errors.Is(err, ErrNoAnswer) {
		return err
	}
	return nil
}

// Good returns what is in force. It is the same memory while nothing is loaded.
func (w *Watcher) Good() *Good { return w.state.Load().good }

// Reload loads the files. If one of them is bad, the registry stays. If the content is unchanged, the registry stays too, and that is
// a success. It fails if the files cannot be read within 10 s.
func (w *Watcher) Reload() error {
	found := w.read()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = found
	return w.load(found)
}

// Check loads the files if they have changed, and are as they were at the last check: files that still change may be half-written.
// It returns an error once.
func (w *Watcher) Check() error {
	found := w.read()
	w.mu.Lock()
	defer w.mu.Unlock()
	settled := found.equal(w.seen)
	w.seen = found
	if !settled || found.equal(w.loaded) {
		return nil
	}
	return w.load(found)
}

// read reads the files. While a read hangs, there is no other.
func (w *Watcher) read() content {
	timeout := time.NewTimer(w.reloadTime)
	defer timeout.Stop()
	noAnswer := content{err: fmt.Errorf("read the registry: %s: %w within %s: want a file system that answers", strings.Join(w.paths, ", "), ErrNoAnswer, w.reloadTime)}
	select {
	case w.reading <- struct{}{}:
	case <-timeout.C:
		return noAnswer
	}
	read := make(chan content, 1)
	go func() {
		defer func() { <-w.reading }()
		files, err := readFiles(w.paths, openRegular)
		read <- content{files, err}
	}()
	select {
	case found := <-read:
		return found
	case <-timeout.C:
		return noAnswer
	}
}

// load puts content in force.
func (w *Watcher) load(found content) error {
	last := w.state.Load()
	next := &state{last.table, found.err, last.good}
	good := &Good{w.paths, found.files, time.Now()}
	switch {
	case found.err != nil:
	case last.err == nil && found.equal(w.loaded):
		next.good = good
	default:
		var r *Registry
		if r, next.err = ParseAll(found.files); next.err == nil {
			next.err = r.conflictsOn(w.host)
		}
		if next.err == nil {
			next.table, next.good = r.For(w.host), good
		}
	}
	w.loaded = found
	w.state.Store(next)
	return next.err
}
