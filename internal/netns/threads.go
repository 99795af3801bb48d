//go:build linux

package netns

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// maxThreads is how many looks a round takes at threads of processes whose first thread lives. To see that a process has only one
	// thread is a look too. On a host of 1 000 processes with 5 000 threads it takes 47 rounds until each was looked at.
	maxThreads = 128
	// maxOrphans is how many looks a round takes at the other threads of processes whose first thread has ended.
	maxOrphans = 1024
)

// threads chooses the threads to look at in each round. A thread is in its process's namespace unless it has entered another one by
// itself, so they are not urgent, and there may be many.
type threads struct {
	pid, tid int // the last one that was looked at
	turns    int // in how many rounds each thread was looked at, the last time; 0 before that
	rounds   int // since the first thread was looked at
	orphans  int // looks at them in this round
}

// eachOf looks at the threads of a process whose first thread has ended.
func (t *threads) eachOf(root, pid int, look func(tid int)) {
	if t.orphans >= maxOrphans {
		return
	}
	for _, tid := range listThreads(root, strconv.Itoa(pid)+"/task") {
		if tid == pid {
			continue
		}
		if t.orphans++; t.orphans > maxOrphans {
			return // the rest is looked at in turn
		}
		look(tid)
	}
}

// next goes on looking at the other threads of the processes that are listed, in the order of their pids. It ends a round.
func (t *threads) next(root int, listed []int, look func(pid, tid int)) {
	at, _ := slices.BinarySearch(listed, t.pid)
	t.rounds++
	t.orphans = 0
	looks := 0
	for range len(listed) + 1 { // the process with which it begins may have been looked at only in part
		if at == len(listed) {
			at, t.pid, t.tid = 0, 0, 0
			t.turns, t.rounds = t.rounds, 0
		}
		if looks++; looks > maxThreads {
			return
		}
		pid := listed[at]
		if pid != t.pid {
			t.pid, t.tid = pid, 0
		}
		if !hasOneThread(root, pid) {
			tids := listThreads(root, strconv.Itoa(pid)+"/task")
			slices.Sort(tids)
			for _, tid := range tids {
				if tid <= t.tid || tid == pid {
					continue
				}
				if looks++; looks > maxThreads {
					return
				}
				look(pid, tid)
				t.tid = tid
			}
		}
		at++
	}
}

// hasOneThread reports whether a process has only its first thread. Its directory of threads has a link for each, and two more
// (proc_task_getattr in fs/proc/base.c).
func hasOneThread(root, pid int) bool {
	var stat unix.Stat_t
	err := unix.Fstatat(root, strconv.Itoa(pid)+"/task", &stat, 0)
	return err != nil || stat.Nlink == 3
}
