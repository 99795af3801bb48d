package netns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// rounds is how many calls it takes to look at every process again. A look costs 4 µs or so, most of it for an inode that the
	// kernel makes each time: on a host of 5 000 processes that is 0.6 ms a call.
	rounds = 32
	// minSlice is how many names of a listing are read at least: a small host is looked at in fewer calls.
	minSlice = 32
	// minNumbers is how many numbers may always be tried before a listing is preferred. To find that there is no process takes
	// about 1 µs.
	minNumbers = 1024

	// youngFor and youngCalls are for how long, and in how many calls, a process is looked at again after it was first seen. Who
	// starts a container forks, then makes the namespace, and then runs the program.
	youngFor   = time.Minute
	youngCalls = 3
	// settleTime is more than a pid stays without a process: the kernel gives the number out first, and shows the process when
	// all else of it is made.
	settleTime = time.Second
)

// pids chooses the processes to look at. It knows all of them from a listing of procfs, and learns of new ones by their numbers:
// pids are given out in rising order, and procfs tells the last one.
//
// What this misses is found by reading the listing on, a piece each time: a process that is not young and enters another
// namespace; one that was made with a number of its maker's choice (clone3(2), set_tid); new ones, where more pids than there
// are were given out between two calls.
type pids struct {
	root *os.File
	now  func() time.Time
	// lastPID returns the number that was given out last, or 0 if that cannot be known.
	lastPID func() int

	// settled is a pid that was the last at a time after which all new ones must be tried, or 0.
	settled int
	// marks are later ones, oldest first.
	marks []mark
	// first and last are the range of the new ones of this call: above first, up to last. It is empty if last is 0. top is
	// the highest number, after which they start anew.
	first, last, top int

	young, before map[int]youth

	names   int // how many names the last whole listing had
	reading int // how many names were read of the one that has begun
	round   int // its number
}

// mark is the pid that was given out last at a time.
type mark struct {
	at   time.Time
	last int
}

// youth is how old a process is, at most.
type youth struct {
	since time.Time
	calls int
}

// candidate is a pid to be looked at.
type candidate struct {
	pid    int
	listed bool // it is a process. Otherwise there may be nothing, or a thread
}

// newPIDs takes an open procfs.
func newPIDs(root *os.File) *pids {
	p := &pids{root: root, now: time.Now, lastPID: func() int { return 0 }}
	if ownPIDNamespace(root) {
		p.lastPID = func() int { return lastPID(root) }
	}
	return p
}

// ownPIDNamespace tells whether a procfs shows the pids of the namespace that this process is in: only of that one does any
// procfs tell the last pid.
func ownPIDNamespace(root *os.File) bool {
	status, err := readAt(int(root.Fd()), "self/status")
	if err != nil {
		return false
	}
	// Our own pids, from the namespace of the procfs down to ours.
	own, ok := statusField(status, "NSpid:")
	return ok && string(own) == strconv.Itoa(os.Getpid())
}

// next returns what is to be looked at now, and whether that is everything, as it always is if everything is asked for. A pid may
// be there twice.
func (p *pids) next(everything bool) (candidates []candidate, whole bool, err error) {
	last := p.lastPID()
	now := p.now() // after it: all later ones have been given out after now
	first, count, top := p.settled, 0, 0
	whole = everything || last == 0 || first == 0
	if !whole {
		count = last - first
		if count < 0 {
			if top = p.topPID(); top == 0 {
				whole = true
			}
			count += top
		}
		whole = whole || count+len(p.young) > max(minNumbers, p.names)
	}

	candidates, err = p.list(whole)
	if err != nil {
		return nil, false, err
	}
	if !whole {
		for pid := range p.young {
			candidates = append(candidates, candidate{pid: pid})
		}
		for n := range count {
			pid := first + 1 + n
			if pid > top && top > 0 {
				pid -= top
			}
			candidates = append(candidates, candidate{pid: pid})
		}
	}

	p.first, p.last, p.top = first, last, top
	p.before, p.young = p.young, make(map[int]youth)
	p.mark(now, last)
	return candidates, whole, nil
}

// mark remembers the last pid. The next call must try again all numbers that may have been given out within settleTime before now.
func (p *pids) mark(now time.Time, last int) {
	if last == 0 {
		p.settled, p.marks = 0, nil
		return
	}
	if len(p.marks) == 0 || p.marks[len(p.marks)-1].last != last {
		p.marks = append(p.marks, mark{at: now, last: last})
	}
	for len(p.marks) > 0 && now.Sub(p.marks[0].at) >= settleTime {
		p.settled, p.marks = p.marks[0].last, p.marks[1:]
	}
}

// seen tells that there is a process, of those that next returned.
func (p *pids) seen(pid int) {
	if p.last == 0 {
		return
	}
	isNew := p.first > 0 && (p.first < pid && pid <= p.last)
	if p.last < p.first {
		isNew = pid > p.first || pid <= p.last
	}
	if isNew {
		p.young[pid] = youth{since: p.now()}
		return
	}
	if y, ok := p.before[pid]; ok {
		y.calls++
		if y.calls < youngCalls || p.now().Sub(y.since) < youngFor {
			p.young[pid] = y
		}
	}
}

// list reads a whole listing, or the next piece of one.
func (p *pids) list(whole bool) ([]candidate, error) {
	count := max(minSlice, p.names/rounds+1)
	if whole {
		count = -1
	}
	if whole || p.reading == 0 {
		if _, err := p.root.Seek(0, io.SeekStart); err != nil {
			return nil, fmt.Errorf("list %s: %w", p.root.Name(), err)
		}
		p.reading = 0
		p.round++
	}
	names, err := p.root.Readdirnames(count)
	if err != nil && !errors.Is(err, io.EOF) {
		p.reading = 0
		return nil, fmt.Errorf("list %s: %w", p.root.Name(), err)
	}
	p.reading += len(names)
	if whole || len(names) < count {
		p.names, p.reading = p.reading, 0
	}
	candidates := make([]candidate, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			candidates = append(candidates, candidate{pid: pid, listed: true})
		}
	}
	return candidates, nil
}

// lastPID returns the pid, or the thread id, that was given out last, and 0 if that cannot be known. It is the last field of
// proc_loadavg(5).
func lastPID(root *os.File) int {
	fd, err := unix.Openat(int(root.Fd()), "loadavg", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer func() { _ = unix.Close(fd) }()
	// LXC mounts a file of its own over it, which tells the pids of another namespace.
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return 0
	}
	line := make([]byte, 128)
	n, err := unix.Read(fd, line)
	if err != nil {
		return 0
	}
	return parseLastPID(line[:n])
}

// parseLastPID returns the last field of <procfs>/loadavg. gVisor has a 0 there.
func parseLastPID(line []byte) int {
	fields := bytes.Fields(line)
	if len(fields) != 5 {
		return 0
	}
	last, err := strconv.Atoi(string(fields[4]))
	if err != nil || last < 0 {
		return 0
	}
	return last
}

// topPID returns the highest pid that is given out, and 0 if that cannot be known.
func (p *pids) topPID() int {
	content, err := readAt(int(p.root.Fd()), "sys/kernel/pid_max")
	if err != nil {
		return 0
	}
	limit, err := strconv.Atoi(string(bytes.TrimSpace(content)))
	if err != nil || limit < 2 {
		return 0
	}
	return limit - 1
}
