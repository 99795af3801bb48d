//go:build linux

package inventory

import (
	"context"
	"errors"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/guard"
)

// background runs one read at a time, in a goroutine of its own. A read that hangs or takes long does not hold up whoever waits for
// it. The zero value is ready to use, by one goroutine at a time.
type background struct {
	began time.Time
	end   chan struct{} // closed when the read under way has ended; nil if there is none
	err   error         // of the read that has ended
}

const (
	// hungAfter is how long after its begin a read is not waited for any more: it hangs, or takes too long for any scrape.
	hungAfter = 10 * time.Second
	// leastWait is how long a read is waited for in any case: most take far less, even if one before it took all of the time.
	leastWait = 50 * time.Millisecond
)

// errStillReading is why nothing is known of what a read reads: it has not ended. Its data must not be touched.
var errStillReading = errors.New("still being read")

// start starts a read, unless an earlier one is under way or its result was not waited for yet.
func (b *background) start(read func() error) {
	if b.end != nil {
		return
	}
	end := make(chan struct{})
	b.began, b.end = time.Now(), end
	go func() {
		defer close(end)
		b.err = guard.Do(read)
	}()
}

// wait waits until the read has ended, hangs, or ctx is done. It returns the read's error, errStillReading, or nil if none was
// started.
func (b *background) wait(ctx context.Context) error {
	if b.end == nil {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, b.began.Add(hungAfter))
	defer cancel()
	select {
	case <-b.end:
	case <-ctx.Done():
		least := time.NewTimer(leastWait)
		defer least.Stop()
		select {
		case <-b.end:
		case <-least.C:
			return errStillReading
		}
	}
	b.end = nil
	return b.err
}

// do starts a read as start does, and waits for it.
func (b *background) do(ctx context.Context, read func() error) error {
	b.start(read)
	return b.wait(ctx)
}
