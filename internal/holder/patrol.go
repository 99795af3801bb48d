//go:build linux

package holder

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/listen-exporter/listen_exporter/internal/guard"
)

// Limits of the patrols.
const (
	// patrolEvery is how long after the begin of a round the next one begins at the earliest.
	patrolEvery = 25 * time.Second
	// memberShare and otherShare are how much of one CPU a round takes at most: through the processes of the sockets' cgroups, and
	// through all processes.
	memberShare = 0.1
	otherShare  = 0.01
	// patrolSlice is for how long a patrol works without a pause.
	patrolSlice = time.Millisecond
	// patrolEnds is how long after the last Find a patrol ends. Some people scrape once an hour.
	patrolEnds = 2 * time.Hour
	// maxSightings is how many sightings are kept for the next Find. The next round sees others again.
	maxSightings = 1024
)

// patrol looks for processes that get a known socket later: by fork, from another process, or because they take over. The one through
// the processes of the sockets' cgroups also looks whether what is known is still so. A patrol works in the background, where it
// delays no Find, and most of the time it sleeps.
type patrol struct {
	processes
	every   time.Duration
	share   float64
	members bool // it looks only at the processes of the sockets' cgroups

	mu       sync.Mutex
	running  bool
	lastFind time.Time
	beat     beat
	seen     []sighting
	changed  []*attribution // what is known of their holders is not so anymore
	err      error          // why the last round failed
}

// beat is what a patrol looks for. It is never changed.
type beat struct {
	wanted  map[uint64]*attribution    // by inode; a patrol reads nothing but their sockets
	known   map[*attribution][]witness // who is known to have them open
	guesses []guess
	groups  []string // the directories of the sockets' cgroups
	threads bool     // a socket has no holder: a thread with a descriptor table of its own may be it
}

// guess is what is known of a socket without a witness: its cgroup, and the one name of the processes in it.
type guess struct {
	of   *attribution
	dir  string
	id   uint64
	name string
}

// sighting is a process that has a socket open, and was not known to.
type sighting struct {
	of *attribution
	by witness
}

// newPatrols returns a patrol through the processes of the sockets' cgroups, and one through all processes.
func newPatrols(p processes, every time.Duration) []*patrol {
	return []*patrol{
		{processes: p, every: every, share: memberShare, members: true},
		{processes: p, every: every, share: otherShare},
	}
}

// pids returns the processes that the patrol looks at.
func (p *patrol) pids(b beat) (pids []int, err error) {
	if !p.members {
		return p.list()
	}
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
	b := beat{wanted: make(map[uint64]*attribution), known: make(map[*attribution][]witness)}
	for _, a := range f.order {
		at := f.cgroups.paths[a.socket.Cgroup]
		if len(a.witnesses) == 0 && at != "" {
			b.guesses = append(b.guesses, guess{a, f.cgroups.root + at, a.socket.Cgroup, a.guess})
		}
		if a.socket.Inode == 0 {
			continue
		}
		b.wanted[a.socket.Inode] = a
		if len(a.witnesses) > 0 {
			b.known[a] = slices.Clone(a.witnesses)
		}
		b.threads = b.threads || !a.served()
		if at != "" && at != "/" {
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

// send has the patrols look for what is wanted now, unless nothing changed since the last Find. After only one Find, as of a command
// that ends soon, they do not go yet.
func (f *Finder) send(changed bool) {
	var next beat
	if changed {
		next = f.nextBeat()
	}
	for _, p := range f.patrols {
		p.mu.Lock()
		p.lastFind = time.Now()
		if changed {
			p.beat = next
		}
		if f.ran && !p.running {
			p.running = true
			go p.run()
		}
		p.mu.Unlock()
	}
}

// hear takes over what the patrols have seen since the last Find. The sockets whose holders that may change become pending.
func (f *Finder) hear() (err error) {
	for _, p := range f.patrols {
		p.mu.Lock()
		seen, changed, failed := p.seen, p.changed, p.err
		p.seen, p.changed = nil, nil
		p.mu.Unlock()
		err = errors.Join(err, failed)
		for _, a := range changed {
			if f.known[a.socket] == a {
				f.checkWitnesses(a)
				f.setPending(a)
			}
		}
		for _, s := range seen {
			if f.known[s.of.socket] == s.of {
				s.of.addWitness(s.by)
				f.setPending(s.of)
			}
		}
	}
	return err
}

// run makes rounds until there are no Finds anymore.
func (p *patrol) run() {
	for pause := p.every; ; {
		time.Sleep(pause)
		p.mu.Lock()
		p.running = time.Since(p.lastFind) < patrolEnds
		ends := !p.running
		p.mu.Unlock()
		if ends {
			return
		}
		start := time.Now()
		hidden := false
		err := guard.Do(func() (err error) {
			hidden, err = p.round()
			return err
		})
		if errors.As(err, new(*guard.Panic)) {
			err = fmt.Errorf("look for later holders: %w", err)
		}
		pause = p.every - time.Since(start)
		if hidden && !p.members {
			pause = hiddenFor
		}
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
	}
}

// round looks at each process once. hidden reports whether none but this one showed its descriptors.
func (p *patrol) round() (hidden bool, err error) {
	worked := time.Now()
	rest := func() error {
		if busy := time.Since(worked); busy >= patrolSlice {
			time.Sleep(time.Duration(float64(busy) * (1/p.share - 1)))
			worked = time.Now()
		}
		return nil
	}
	if p.members {
		if err := p.check(p.current(), rest); err != nil {
			return false, err
		}
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

// check notes the sockets of which something is known that is not so anymore.
func (p *patrol) check(b beat, rest func() error) error {
	var changed []*attribution
	for a, witnesses := range b.known {
		differs := func(w witness) bool {
			now, ok := p.holds(w, a.socket.Inode)
			return !ok || now != w.identity
		}
		if slices.ContainsFunc(witnesses, differs) {
			changed = append(changed, a)
		}
		_ = rest()
	}
	groups := make(map[string]members)
	for _, g := range b.guesses {
		all, read := groups[g.dir]
		if !read {
			var err error
			if all, err = p.readMembers(g.dir); err != nil {
				return err
			}
			groups[g.dir] = all
		}
		if id, err := inode(g.dir); err != nil || id != g.id || all.name != g.name {
			changed = append(changed, g.of)
		}
		_ = rest()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed = changed
	return nil
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
	isKnown := slices.ContainsFunc(p.beat.known[of], func(w witness) bool { return w.identity == by.identity }) ||
		slices.ContainsFunc(p.seen, func(s sighting) bool { return s.of == of && s.by.identity == by.identity })
	if !isKnown && len(p.seen) < maxSightings {
		p.seen = append(p.seen, sighting{of, by})
	}
}
