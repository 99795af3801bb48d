//go:build linux

package netns

import (
	"cmp"
	"slices"
)

const (
	// newRounds is for how many rounds a process counts as new. Whoever starts a container forks, then makes the namespace, and
	// then runs the program: in its first round a process may still be in its parent's namespace.
	newRounds = 3
	// maxKnown is about how many processes that are not new are looked at in a round. A look costs 4 to 6 µs, most of it for an
	// inode that the kernel makes each time.
	maxKnown = 128
)

// pids chooses the processes to look at in each round, which is a call of [Finder.Find]: the new ones, and some of the others in
// turn. On a host of up to 128 processes each round looks at all of them; on one of 5 000 that takes 40 rounds.
//
// A process that got the pid of one in the last list is known to be new only if its beginning was seen, see [listing]. Otherwise it
// is looked at when its turn comes.
type pids struct {
	round int
	turns int       // in how many rounds each process is looked at
	last  []process // the last list, by pid
	spare []process
}

// process is a process that was listed.
type process struct{ pid, first int } // first is the round in which it was listed first

// turnEnds reports whether each process was looked at since this was so the last time.
func (p *pids) turnEnds() bool { return p.turns == 0 || p.round%p.turns == 0 }

// renew makes a process that may have taken the pid of another one count as new in the next round.
func (p *pids) renew(pid int) {
	at, known := slices.BinarySearchFunc(p.last, pid, func(one process, pid int) int { return cmp.Compare(one.pid, pid) })
	if known {
		p.last[at].first = p.round + 1
	}
}

// next begins a round with a sorted list of all processes. It returns those to look at, the new ones first, or all of them.
func (p *pids) next(listed []int, all bool) []int {
	p.round++
	p.turns = (len(listed) + maxKnown - 1) / maxKnown
	if all {
		p.turns = 1
	}
	last := p.last
	p.last, p.spare = p.spare[:0], p.last
	var recent, others []int
	for _, pid := range listed {
		for len(last) > 0 && last[0].pid < pid {
			last = last[1:]
		}
		first := p.round
		if len(last) > 0 && last[0].pid == pid {
			first = last[0].first
		}
		p.last = append(p.last, process{pid, first})
		if p.round-first < newRounds {
			recent = append(recent, pid)
		} else if (pid+p.round)%p.turns == 0 {
			others = append(others, pid)
		}
	}
	return append(recent, others...)
}
