//go:build linux

package server

import (
	"errors"
	"net/http"
	"sync"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/guard"
)

// maxPanics is how many panics are logged. More have no news.
const maxPanics = 100

// panics logs panics, each once.
type panics struct {
	logger log.Logger
	mu     sync.Mutex
	logged map[string]bool // by subject and value
}

// guard calls do. A panic is an error, and its stack is logged unless it was before.
func (p *panics) guard(subject string, do func() error) error {
	err := guard.Do(do)
	var panicked *guard.Panic
	if !errors.As(err, &panicked) {
		return err
	}
	if cause, isError := panicked.Value.(error); isError && errors.Is(cause, http.ErrAbortHandler) {
		panic(panicked.Value)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id := subject + err.Error()
	if p.logged[id] || len(p.logged) == maxPanics {
		return err
	}
	if p.logged == nil {
		p.logged = make(map[string]bool)
	}
	p.logged[id] = true
	level.Error(p.logger).Log("msg", "cannot "+subject, "err", err, "stack", string(panicked.Stack()))
	return err
}
