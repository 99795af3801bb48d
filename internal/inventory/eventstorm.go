//go:build linux

package inventory

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/event"
	"github.com/listen-exporter/listen_exporter/internal/guard"
)

const (
	// drainTime is how long a look waits for the events that came before it. While there is a storm of more than stormRate events a second
	// it does not wait, and until it ends, or for restTime, none is taken in, nor for answerTime after it, in which a scrape writes its
	// answer. What is counted lags behind then, and scrapes do not.
	drainTime, restTime, answerTime = time.Second, 250 * time.Millisecond, 10 * time.Millisecond
	stormRate                       = 5000
	// stormWindow is the least time over which that is counted: a few events at once are no storm. It is also the least time between two
	// rests, so that scrapes that follow each other do not keep events from being taken in.
	stormWindow = 100 * time.Millisecond
	// restEvents is after how many events of a batch a rest may begin.
	restEvents = 128
	// After stormBatch events at once, others gather for stormPause before they are taken in. A goroutine that sleeps leaves the processor
	// to scrapes. One that waits in Read for the next event, which is there at once, does not.
	stormBatch, stormPause = 16, 2 * time.Millisecond
)

// waiter waits until the events up to a time have been taken in.
type waiter struct {
	until time.Duration // since boot
	done  chan struct{}
}

// run takes in events until the source is closed.
func (e *events) run() {
	err := guard.Do(func() error {
		var buffer []event.Event
		for {
			batch, err := e.source.Read(buffer[:0])
			e.refresh()
			for n := range batch {
				for n%restEvents == 0 && e.rests() {
					time.Sleep(stormPause)
				}
				e.take(&batch[n])
			}
			switch {
			case errors.Is(err, event.ErrFlushed):
				e.release(math.MaxInt64)
			case err != nil:
				return err
			case len(batch) > 0: // in a storm, the ring may never be empty
				e.release(batch[len(batch)-1].Time)
			}
			buffer = batch
			if len(batch) >= stormBatch {
				time.Sleep(stormPause)
			}
		}
	})
	e.mu.Lock()
	e.failure = err
	e.mu.Unlock()
	e.release(math.MaxInt64)
}

// release lets go on who waits for the events up to a time.
func (e *events) release(until time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = slices.DeleteFunc(e.waiting, func(w waiter) bool {
		if w.until < until {
			close(w.done)
		}
		return w.until < until
	})
}

// drainAll waits until the events that have happened are taken in, even in a storm.
func (e *events) drainAll(ctx context.Context) error {
	e.mu.Lock()
	e.storms = false
	e.mu.Unlock()
	return e.drain(ctx)
}

// drain waits until the events that have happened are taken in, and returns why none are any more.
func (e *events) drain(ctx context.Context) error {
	sinceBoot, _ := e.now()
	w := waiter{sinceBoot, make(chan struct{})}
	patience := drainTime
	e.mu.Lock()
	if e.storms {
		patience = 0
	}
	failure := e.failure
	if failure == nil {
		e.waiting = append(e.waiting, w)
	}
	e.mu.Unlock()
	if failure != nil {
		return failure
	}
	e.source.Flush()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-w.done:
	case <-late.C:
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.behind = slices.Contains(e.waiting, w)
	return e.failure
}

// beginLook has no event taken in for a while if there is a storm, unless that was so just before.
func (e *events) beginLook() {
	now, _ := e.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.resting = false
	if now < time.Duration(e.rest.Load())+stormWindow {
		return
	}
	if past := now - e.then; past >= stormWindow {
		e.storms = float64(e.taken-e.takenThen) > stormRate*past.Seconds()
		e.then, e.takenThen = now, e.taken
	}
	if e.storms {
		e.resting = true
		e.rest.Store(int64(now + restTime))
	}
}

// endLook has events taken in again, soon if they rested.
func (e *events) endLook() {
	now, _ := e.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.resting {
		e.rest.Store(int64(now + answerTime))
	}
}

// rests reports whether no event is to be taken in now.
func (e *events) rests() bool {
	now, _ := e.now()
	return now < time.Duration(e.rest.Load())
}
