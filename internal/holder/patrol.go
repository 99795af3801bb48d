package holder

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of the patrols.
const (
	// patrolEvery is how long after the begin of a round the next one begins at the earliest.
	patrolEvery = 25 * time.Second
	// memberShare and otherShare are how much of one CPU a round takes at most: through the processes of the sockets' cgroups, and
	// through all processes.
	memberShare = 0.05
	otherShare  = 0.01
	// patrolSlice is for how long a patrol works without a pause.
	patrolSlice = time.Millisecond
	// patrolEnds is how long after the last Find a patrol ends.
	patrolEnds = 10 * time.Minute
	// maxSightings is how many sightings are kept for the next Find. The next round sees others again.
	maxSightings = 1024
)

// patrol looks for processes that get a known socket later: by fork, from another process, or because they take over. It works in
// the background, where it delays no Find, and most of the time it sleeps.
type patrol struct {
	processes
	every time.Duration
	share float64
	pids  func(beat) ([]int, error) // where it looks

	mu       sync.Mutex
	running  bool
	lastFind time.Time
	beat     beat
	seen     []sighting
	err      error // why the last round failed
}

// beat is what a patrol looks for. It is never changed.
type beat struct {
	wanted  map[uint64]*attribution     // by inode; a patrol does not look into them
	known   map[*attribution][]identity // who is known to have them open
	groups  []string                    // the directories of the sockets' cgroups
	threads bool                        // a socket has no holder: a thread with a descriptor table of its own may be it
}

// sighting is a process that has a socket open, and was not known to.
type sighting struct {
	of *attribution
	by witness
}

// newPatrols returns a patrol through the processes of the sockets' cgroups, and one through all processes.
func newPatrols(p processes, every time.Duration) []*patrol {
	return []*patrol{
		{processes: p, every: every, share: memberShare, pids: p.pidsOf},
		{processes: p, every: every, share: otherShare, pids: func(beat) ([]int, error) { return p.list() }},
	}
}

// pidsOf returns the processes of the sockets' cgroups.
func (p processes) pidsOf(b beat) (pids []int, err error) {
	for _, dir := range b.groups {
		members, err := p.pidsIn(dir)
		if isShortage(err) {
			return nil, err
		}
		pids = append(pids, members...)
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// nextBeat returns what the patrols are to look for now.
func (f *Finder) nextBeat() beat {
	b := beat{wanted: make(map[uint64]*attribution), known: make(map[*attribution][]identity)}
	for _, a := range f.order {
		if a.socket.Inode == 0 {
			continue
		}
		b.wanted[a.socket.Inode] = a
		for _, w := range a.witnesses {
			b.known[a] = append(b.known[a], w.identity)
		}
		b.threads = b.threads || !a.served()
		if at := f.cgroups.paths[a.socket.Cgroup]; at != "" && at != "/" {
			b.groups = append(b.groups, f.cgroups.root+at)
			if name, isSocket := strings.CutSuffix(at, ".socket"); isSocket {
				b.groups = append(b.groups, f.cgroups.root+name+".service")
			}
		}
	}
	slices.Sort(b.groups)
	b.groups = slices.Compact(b.groups)
	return b
}

// send has the patrols look for what is wanted now, unless nothing changed since the last Find.
func (f *Finder) send(changed bool) {
	var next beat
	for n, p := range f.patrols {
		p.mu.Lock()
		p.lastFind = time.Now()
		if changed || !p.running {
			if n == 0 || next.wanted == nil {
				next = f.nextBeat()
			}
			p.beat = next
		}
		if !p.running {
			p.running = true
			go p.run()
		}
		p.mu.Unlock()
	}
}

// hear adds what the patrols have seen since the last Find.
func (f *Finder) hear() (changed bool, err error) {
	for _, p := range f.patrols {
		p.mu.Lock()
		seen, failed := p.seen, p.err
		p.seen, p.err = nil, nil
		p.mu.Unlock()
		err = errors.Join(err, failed)
		for _, s := range seen {
			if f.known[s.of.socket] != s.of {
				continue
			}
			s.of.addWitness(s.by)
			s.of.wanted = !s.of.served()
			updated, failed := f.update(s.of)
			changed = changed || updated
			if failed != nil && !errors.Is(failed, errUnfinished) {
				err = errors.Join(err, failed)
			}
		}
	}
	return changed, err
}

// run makes rounds until there are no Finds anymore.
func (p *patrol) run() {
	for pause := p.every; ; {
		time.Sleep(pause)
		p.mu.Lock()
		p.running = time.Since(p.lastFind) < max(patrolEnds, 2*pause)
		ends := !p.running
		p.mu.Unlock()
		if ends {
			return
		}
		start := time.Now()
		hidden, err := p.round()
		pause = p.every - time.Since(start)
		if hidden && p.share == otherShare {
			pause = hiddenFor
		}
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
	}
}

// round looks at each process once. hidden reports whether none but this one showed its descriptors.
func (p *patrol) round() (hidden bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("look for later holders: panic: %v\n%s", r, debug.Stack())
		}
	}()
	worked := time.Now()
	rest := func() error {
		if busy := time.Since(worked); busy >= patrolSlice {
			time.Sleep(time.Duration(float64(busy) * (1/p.share - 1)))
			worked = time.Now()
		}
		return nil
	}
	pids, err := p.pids(p.current())
	if err != nil {
		return false, err
	}
	hidden = true
	h := &hunt{processes: p.processes, found: p.sight, pause: rest}
	for _, pid := range pids {
		now := p.current()
		h.wanted, h.threads = now.wanted, now.threads
		visible, _, err := h.process(pid)
		if err != nil {
			return false, err
		}
		hidden = hidden && (!visible || pid == os.Getpid())
		_ = rest()
	}
	return hidden, nil
}

func (p *patrol) current() beat {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.beat
}

// sight notes that a process has a socket open, unless that is known.
func (p *patrol) sight(of *attribution, by witness) {
	p.mu.Lock()
	defer p.mu.Unlock()
	isKnown := slices.Contains(p.beat.known[of], by.identity) ||
		slices.ContainsFunc(p.seen, func(s sighting) bool { return s.of == of && s.by.identity == by.identity })
	if !isKnown && len(p.seen) < maxSightings {
		p.seen = append(p.seen, sighting{of, by})
	}
}
