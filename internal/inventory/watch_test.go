//go:build linux

package inventory

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// watchedBench runs a test next to a watcher that looks each 5 s, in a bubble of its own time. Each read takes some time, and each look
// costs some processor time.
func watchedBench(t *testing.T, readTime time.Duration, test func(b *bench, looks func() int, cost func(time.Duration))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *Options) { o.Interval = 5 * time.Second })
		b.source.say(socket.TCP, has(at("0.0.0.0:22", 1)))
		b.source.onRead = func() { b.advance(readTime) }
		var looks, costs atomic.Int64
		b.source.onReading = func() {
			looks.Add(1)
			b.cpuTime.Add(costs.Load())
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.Watch(ctx, log.NewLogfmtLogger(&b.log))
		}()
		synctest.Wait()
		test(b, func() int { synctest.Wait(); return int(looks.Load()) }, func(each time.Duration) { costs.Store(int64(each)) })
		cancel()
		<-done
	})
}

func TestTheWatcherLooksEachIntervalWithinItsShareOfACPU(t *testing.T) {
	watchedBench(t, 0, func(b *bench, looks func() int, cost func(time.Duration)) {
		time.Sleep(time.Minute)
		if got := looks(); got != 13 {
			t.Errorf("%d looks in a minute, want 13", got)
		}
		if got := b.Snapshot().WatchInterval; got != 5*time.Second {
			t.Errorf("the interval is %s, want 5 s", got)
		}

		const slow = "level=warn msg=\"looking less often than --collector.interval: a look takes too long for 1 % of a CPU\""
		cost(400 * time.Millisecond)
		before := b.cpuTime.Load()
		time.Sleep(time.Hour)
		if used := time.Duration(b.cpuTime.Load() - before); used > time.Hour/100+time.Second || used < time.Hour/120 {
			t.Errorf("%s of processor time in an hour, want 1 %%", used)
		}
		if got := strings.Count(b.log.String(), slow); got != 1 {
			t.Errorf("%d lines in the log, want 1: %s", got, b.log.String())
		}
		if got := b.Snapshot().WatchInterval; got < 39*time.Second || got > 41*time.Second {
			t.Errorf("the interval is %s, want 40 s", got)
		}

		cost(0)
		time.Sleep(10 * time.Minute)
		if got := b.Snapshot().WatchInterval; got != 5*time.Second {
			t.Errorf("the interval is %s, want 5 s", got)
		}
		if !strings.Contains(b.log.String(), `level=info msg="looking each --collector.interval again" interval=5s`) {
			t.Errorf("the log does not say that it looks often again: %s", b.log.String())
		}
	})
}

func TestOneLookThatTakesLongDoesNotMakeTheWatcherSlow(t *testing.T) {
	watchedBench(t, 0, func(b *bench, looks func() int, cost func(time.Duration)) {
		time.Sleep(time.Minute + 2*time.Second)
		before := looks()
		cost(200 * time.Millisecond)
		time.Sleep(5 * time.Second)
		cost(0)
		time.Sleep(55 * time.Second)
		if got := looks() - before; got != 12 {
			t.Errorf("%d looks in a minute, want 12", got)
		}
		if b.log.Len() > 0 {
			t.Errorf("the log: %s", b.log.String())
		}
	})
}

func TestTheWatcherMakesSureThatAListenerIsGoneAndSavesTheTimeAfterwards(t *testing.T) {
	watchedBench(t, 4*time.Second, func(b *bench, looks func() int, cost func(time.Duration)) {
		cost(time.Second)
		time.Sleep(30 * time.Minute)
		b.source.say(socket.TCP, has())
		before := looks()
		for looks() == before {
			time.Sleep(time.Second)
		}
		begin := time.Now()
		for len(b.Remembered().Ports) > 0 && time.Since(begin) < time.Hour {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("it took %s to make sure that a listener is gone", took)
		}
		used := b.cpuTime.Load()
		time.Sleep(time.Hour)
		if used := time.Duration(b.cpuTime.Load() - used); used > time.Hour/100-6*time.Second {
			t.Errorf("%s of processor time in the hour after", used)
		}
	})
}

// Somebody whose ports come and go all the time does not make the watcher look all the time.
func TestTheWatcherDoesNotMakeSureWithoutEnd(t *testing.T) {
	watchedBench(t, 4*time.Second, func(b *bench, _ func() int, cost func(time.Duration)) {
		one, other := has(at("0.0.0.0:22", 1)), has(at("0.0.0.0:80", 2))
		b.source.say(socket.TCP, slices.Repeat([]answer{one, one, one, one, other, other, other, other}, 1000)...)
		cost(time.Second)
		time.Sleep(time.Hour)
		if used := time.Duration(b.cpuTime.Load()); used > time.Hour/100+10*time.Second {
			t.Errorf("%s of processor time in an hour", used)
		}
	})
}
