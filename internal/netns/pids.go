package netns

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

const (
	// newRounds is for how many rounds a process counts as new. Whoever starts a container forks, then makes the namespace, and
	// then runs the program: in its first round a process may still be in its parent's namespace.
	newRounds = 3
	// maxKnown is about how many processes that are not new are looked at in a round. A look costs 4 to 6 µs, most of it for an
	// inode that the kernel makes each time.
	maxKnown = 256
)

// pids chooses the processes to look at in each round, which is a call of [Finder.Find]: the new ones, and some of the others in
// turn. On a host of up to 256 processes each round looks at all of them; on one of 5 000 that takes 20 rounds.
//
// The price is a listing of procfs in each round, about 0.5 µs for each process. A process that got the pid of one in the last
// listing is not known to be new: it is looked at when its turn comes.
type pids struct {
	round int
	turns int       // in how many rounds each process is looked at
	last  []process // the last listing, by pid
}

// process is a process that was listed.
type process struct{ pid, first int } // first is the round of its first listing

// next begins a round with a listing of all processes, which it sorts. It returns those to look at, the new ones first, or all of them.
func (p *pids) next(listed []int, all bool) []int {
	p.round++
	p.turns = (len(listed) + maxKnown - 1) / maxKnown
	if all {
		p.turns = 1
	}
	slices.Sort(listed)
	last := p.last
	p.last = make([]process, 0, len(listed))
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

// ListPIDs returns the pids of all processes in a procfs.
func ListPIDs(root *os.File) ([]int, error) {
	if _, err := root.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("list the processes in %s: %w", root.Name(), err)
	}
	names, err := root.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list the processes in %s: %w", root.Name(), err)
	}
	pids := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
