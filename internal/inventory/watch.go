//go:build linux

package inventory

import (
	"context"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

const (
	// watchShare is which part of one CPU's time the watcher may use: one of so many.
	watchShare = 100
	// watchCredit is how much of its time the watcher may have saved for a look that takes longer than most.
	watchCredit = 20 * time.Second
	// maxConfirming is how many looks in a row may make sure that something is gone before the watcher saves their time again.
	maxConfirming = 8
)

// Watch looks each Options.Interval, until ctx is done: it makes a snapshot, which remembers what happened. It uses at most 1 % of
// one CPU. Where a look takes long, it looks less often and logs so, except while it makes sure that something is gone.
func (i *Inventory) Watch(ctx context.Context, logger log.Logger) {
	p := pace{interval: i.options.Interval}
	slow := false
	for first := true; ; first = false {
		before := i.cpuTime()
		s := i.Snapshot(context.WithoutCancel(ctx)) // a look that is cut off would be a failed read
		cost := i.cpuTime() - before
		if first { // it finds all holders, once
			cost = 0
		}
		wait := p.next(cost, s.confirming)
		i.watch.Store(int64(p.every()))
		switch {
		case !slow && p.slow():
			slow = true
			level.Warn(logger).Log("msg", "looking less often than --collector.interval: a look takes too long for 1 % of a CPU",
				"interval", p.interval, "every", p.every().Round(time.Second))
		case slow && p.every() == p.interval:
			slow = false
			level.Info(logger).Log("msg", "looking each --collector.interval again", "interval", p.interval)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// pace is how often the watcher looks.
type pace struct {
	interval   time.Duration
	mean       time.Duration // processor time of a look
	owed       time.Duration // how long it must not look for the last looks to have had their share
	confirming int           // looks in a row
}

// next returns how long to wait after a look that took so much processor time.
func (p *pace) next(cost time.Duration, confirming bool) time.Duration {
	p.mean += (cost - p.mean) / 4
	p.owed += watchShare * cost
	p.confirming++
	if !confirming || p.confirming > maxConfirming {
		p.confirming = 0
	}
	wait := max(p.interval, p.owed)
	if p.confirming > 0 {
		wait = p.interval
	}
	p.owed = max(p.owed-wait, -watchCredit)
	return wait
}

// every returns how often the watcher looks.
func (p *pace) every() time.Duration { return max(p.interval, watchShare*p.mean) }

// slow reports whether it looks less often than it should, by more than chance.
func (p *pace) slow() bool { return p.every() > p.interval*3/2 }

// watched returns how often Watch looks now, or 0 if it does not.
func (i *Inventory) watched() time.Duration { return time.Duration(i.watch.Load()) }
