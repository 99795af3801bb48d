package server

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
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
func (p *panics) guard(subject string, do func() error) (err error) {
	defer func() {
		value := recover()
		if value == nil {
			return
		}
		if cause, isError := value.(error); isError && errors.Is(cause, http.ErrAbortHandler) {
			panic(value)
		}
		err = fmt.Errorf("panic: %v", value)
		p.mu.Lock()
		defer p.mu.Unlock()
		id := subject + err.Error()
		if p.logged[id] || len(p.logged) == maxPanics {
			return
		}
		if p.logged == nil {
			p.logged = make(map[string]bool)
		}
		p.logged[id] = true
		level.Error(p.logger).Log("msg", "cannot "+subject, "err", err, "stack", string(debug.Stack()))
	}()
	return do()
}
