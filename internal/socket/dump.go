//go:build linux

package socket

import (
	"bytes"
	"slices"
)

// dump is the kernel's answer to one request: the replies as bytes, and the sockets in them.
type dump struct {
	bytes   []byte
	ends    []int // where each reply ends in bytes
	sockets []Socket
}

// reply returns the bytes of reply n.
func (d *dump) reply(n int) []byte {
	start := 0
	if n > 0 {
		start = d.ends[n-1]
	}
	return d.bytes[start:d.ends[n]]
}

// reading is a dump in progress. From one scrape to the next hardly anything changes, and the kernel keeps the order, so replies
// that equal those of the last dump are not parsed again.
type reading struct {
	last, next *dump
	repeated   int  // how many replies equal those of last, from its start; meaningless once it differs
	differs    bool // from last: next is written
	answered   bool // a reply has come, even if its socket does not listen
}

// begin starts another reading.
func (r *reading) begin() { r.repeated, r.differs, r.answered = 0, false, false }

// repeats reports whether the next reply is the same as in the last dump, and counts it if so.
func (r *reading) repeats(reply []byte) bool {
	if r.differs || r.repeated == len(r.last.ends) || !bytes.Equal(reply, r.last.reply(r.repeated)) {
		return false
	}
	r.repeated++
	return true
}

// add adds a reply that differs from the last dump.
func (r *reading) add(s Socket, reply []byte) {
	r.diverge()
	r.next.bytes = append(r.next.bytes, reply...)
	r.next.ends = append(r.next.ends, len(r.next.bytes))
	r.next.sockets = append(r.next.sockets, s)
}

// diverge starts the next dump with what it shares with the last.
func (r *reading) diverge() {
	if r.differs {
		return
	}
	r.differs = true
	// Most often it is hardly longer than the last.
	last, n, end := r.last, r.repeated, 0
	if n > 0 {
		end = last.ends[n-1]
	}
	r.next.bytes = append(slices.Grow(r.next.bytes[:0], len(last.bytes)), last.bytes[:end]...)
	r.next.ends = append(slices.Grow(r.next.ends[:0], len(last.ends)), last.ends[:n]...)
	r.next.sockets = append(slices.Grow(r.next.sockets[:0], len(last.sockets)), last.sockets[:n]...)
}

// end ends the reading and returns its sockets, which are valid until the end of the next but one. same reports whether they are
// those of the last dump.
func (r *reading) end() (sockets []Socket, same bool) {
	if !r.differs && r.repeated == len(r.last.ends) {
		return r.last.sockets, true
	}
	r.diverge()
	r.last, r.next = r.next, r.last
	return r.last.sockets, false
}

func newReading() *reading { return &reading{last: new(dump), next: new(dump)} }
