//go:build linux

package inventory

import (
	"errors"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// subjects are what a collector reads, for the log.
var subjects = map[string]string{
	TCP:               "listening tcp sockets",
	UDP:               "listening udp sockets",
	CollectorEvent:    "events of the kernel",
	CollectorNetns:    "all network namespaces",
	CollectorHolder:   "holders",
	CollectorRegistry: "the registry",
	CollectorTraffic:  "the traffic of ports",
}

// troubles logs what cannot be read: when that begins, changes and ends, and not at each snapshot.
type troubles struct {
	logger log.Logger
	last   map[string]string // the error of each subject; empty if there is none
}

// maxStack is how many bytes of a panic's stack are logged: those of its last calls.
const maxStack = 4096

// report logs whether a subject cannot be read, if that is news.
func (t *troubles) report(subject string, err error) {
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	if trouble == t.last[subject] {
		return
	}
	t.last[subject] = trouble
	if err == nil {
		level.Info(t.logger).Log("msg", "can read "+subject+" again")
		return
	}
	logger := level.Error(t.logger)
	var panicked interface{ Stack() []byte } // of a read, or of what goes on in the background
	if errors.As(err, &panicked) {
		stack := panicked.Stack()
		logger = log.With(logger, "stack", string(stack[:min(len(stack), maxStack)]))
	}
	logger.Log("msg", "cannot read "+subject, "err", err)
}
