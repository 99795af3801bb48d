//go:build linux

package inventory

import (
	"strconv"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"golang.org/x/time/rate"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Limits of a Trail. Whoever opens and closes ports without end must fill neither the log nor the memory.
const (
	trailRate    = 20               // lines a second, in the long run
	trailBurst   = 200              // lines at once
	trailSummary = 10 * time.Second // between lines that say how much was left out
)

// Trail logs changes, a line each. It keeps nobody waiting: it writes in a goroutine of its own. Of very many changes it logs some, and
// counts the others.
type Trail struct {
	logger log.Logger
	ended  chan struct{}

	mu      sync.Mutex
	limit   *rate.Limiter
	lines   chan Change // closed by Close
	closed  bool
	leftOut leftOut // since the last summary

	users UserNames // of the goroutine that writes
}

// leftOut is how many changes were not logged, and how many of them were of listeners that violate the registry.
type leftOut struct{ opened, closed, violations uint64 }

// NewTrail returns a trail that logs at level info. Close ends it.
func NewTrail(logger log.Logger) *Trail {
	t := &Trail{
		logger: logger, ended: make(chan struct{}), limit: rate.NewLimiter(trailRate, trailBurst),
		lines: make(chan Change, trailBurst), users: make(UserNames),
	}
	go t.run()
	return t
}

// Changed logs a change soon: see Options.Changed. After Close it does nothing.
func (t *Trail) Changed(c Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	if t.limit.Allow() {
		select {
		case t.lines <- c:
			return
		default: // nobody reads the log
		}
	}
	if c.Opened {
		t.leftOut.opened++
	} else {
		t.leftOut.closed++
	}
	if c.violates() {
		t.leftOut.violations++
	}
}

// Close returns when all changes so far are logged or counted in the log.
func (t *Trail) Close() {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.lines)
	}
	t.mu.Unlock()
	<-t.ended
}

func (t *Trail) run() {
	defer close(t.ended)
	ticker := time.NewTicker(trailSummary)
	defer ticker.Stop()
	for {
		select {
		case c, more := <-t.lines:
			if !more {
				t.summarize()
				return
			}
			t.write(c)
		case <-ticker.C:
			t.summarize()
		}
	}
}

// summarize logs how much was left out since the last summary.
func (t *Trail) summarize() {
	t.mu.Lock()
	left := t.leftOut
	t.leftOut = leftOut{}
	t.mu.Unlock()
	if left != (leftOut{}) {
		level.Warn(t.logger).Log("msg", "too many listeners opened or closed to log them all: some were left out",
			"opened", left.opened, "closed", left.closed, "violations", left.violations)
	}
}

// violates reports whether the listener violates the registry.
func (c *Change) violates() bool {
	return c.State != "" && c.State != StateOK && c.State != StateLeased && c.State != StateClient
}

// write logs a change. What users of the host choose, such as the names of processes, comes last: a text that looks like a field comes
// after that field.
func (t *Trail) write(c Change) {
	msg, precision := "listener closed", time.Millisecond
	if c.Opened {
		msg = "listener opened"
	}
	if c.Exact {
		precision = time.Microsecond
	}
	line := []any{
		"msg", msg, "at", c.At.UTC().Truncate(precision), "exact", c.Exact,
		"proto", c.Proto, "address", c.Addr.Addr().String(), "port", c.Addr.Port(), "scope", c.Scope, "range", c.Range,
	}
	add := func(key string, value any, known bool) {
		if text, is := value.(string); is {
			value, known = wording.Printable(text), text != ""
		}
		if known {
			line = append(line, key, value)
		}
	}
	add("lifetime", c.Lifetime.Round(precision), c.Lifetime > 0)
	add("state", c.State, true)
	add("service_name", c.Service, true)
	add("pid", c.Holder.PID, c.Holder.PID != 0)
	add("uid", c.Holder.UID, !c.Holder.UIDUnknown)
	if user := t.users.Of(c.Holder.Holder); user != strconv.FormatUint(uint64(c.Holder.UID), 10) {
		add("user", user, true)
	}
	add("netns", c.Netns, true)
	add("device", c.Device, true)
	add("unit", c.Holder.Unit, true)
	add("container_id", c.Holder.ContainerID, true)
	add("pod_uid", c.Holder.PodUID, true)
	add("process", c.Holder.Process, true)
	add("executable", c.Holder.Path, true)
	level.Info(t.logger).Log(line...)
}
