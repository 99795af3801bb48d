//go:build linux

package lease_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

// forever is when an operation returned that may still be done.
const forever = time.Duration(math.MaxInt64)

// kind is what an operation asks for.
type kind string

const (
	take  kind = "take"
	again kind = "again" // a take that was answered with a lease that was there
	renew kind = "renew"
	end   kind = "end"
	// list is the list of all leases, as it is read from the store at the start.
	list kind = "list"
)

// outcome is what is known of an operation.
type outcome string

const (
	done    outcome = "done"
	none    outcome = "none"    // there was no such lease
	refused outcome = "refused" // it was not done
	unknown outcome = "unknown" // it was done at some time until Return, or never
)

// operation is what a client asked for, and what came of it. Its times are on CLOCK_BOOTTIME, which all processes of a host share.
type operation struct {
	Client       int
	Kind         kind
	Call, Return time.Duration
	Outcome      outcome
	// Lease is the answer. If none came it is what was asked for. Names are those of one take, or of takes that have the same Key. Leases
	// are those of a list.
	Lease  lease.Lease
	Leases []lease.Lease
}

// listening is when a port listened at least.
type listening struct{ From, Until time.Duration }

// history is what happened to the ports of a range.
type history struct {
	operations []operation
	ports      []uint16
	listening  map[uint16][]listening
	// grace is how long after its time, and after its ports have stopped to listen, a lease may still be in the store. Only such time counts
	// in which operations were answered.
	grace    time.Duration
	answered []answered
}

// answered is when an operation was answered, and how much of the time until then counts.
type answered struct{ at, counts time.Duration }

// busyGap is the longest time between two answers in which a manager may have had the chance to do something.
const busyGap = time.Second

// check returns an error unless there is an order, for each port, in which all that was answered could have been: each operation at some
// moment between its call and its return, and the end of each lease not before the time that its owner knows, and soon after it.
func (h *history) check() error {
	leases, operations, err := h.resolve()
	if err != nil {
		return err
	}
	h.count()
	byPort := make(map[uint16][]porcupine.Operation)
	for _, o := range operations {
		add := func(port uint16, in portInput) {
			in.kind, in.outcome, in.call, in.answer = o.Kind, o.Outcome, o.Call, o.Return
			until := o.Return
			if o.Outcome == unknown && o.Kind != take {
				until = o.Call // what it may do later, a portState keeps
			}
			byPort[port] = append(byPort[port], porcupine.Operation{
				ClientId: o.Client, Call: int64(o.Call), Return: int64(until), Input: in,
			})
		}
		if o.Kind == list {
			has := make(map[uint16]string)
			for _, l := range o.Leases {
				for _, port := range l.Ports {
					if has[port] != "" {
						return fmt.Errorf("port %d is listed with the leases %s and %s", port, has[port], l.ID)
					}
					has[port] = l.ID
				}
			}
			for _, port := range h.ports {
				add(port, portInput{lease: has[port]})
			}
			continue
		}
		gives := o.Outcome != none && o.Kind != end
		if early := o.Lease.Deadline < o.Call+o.Lease.TTL && o.Kind != again; gives && o.Outcome == done &&
			(early || o.Lease.Deadline > o.Return+o.Lease.TTL) {
			return fmt.Errorf("%s: the deadline %v is not %v after it", o, o.Lease.Deadline, o.Lease.TTL)
		}
		l := leases[o.Lease.ID]
		for _, port := range l.Ports {
			if !slices.Contains(h.ports, port) {
				return fmt.Errorf("%s: port %d is not in the range", o, port)
			}
			in := portInput{lease: l.ID}
			if gives {
				in.from, in.until = h.ends(o, l)
			}
			add(port, in)
		}
	}
	for _, port := range slices.Sorted(maps.Keys(byPort)) {
		if err := checkPort(byPort[port]); err != nil {
			return fmt.Errorf("port %d: %w", port, err)
		}
	}
	return nil
}

// resolve returns all leases by their ID, and the operations without those that did nothing that anybody saw. A take without an answer
// did something if a lease was seen later that has its name.
func (h *history) resolve() (map[string]lease.Lease, []operation, error) {
	leases := make(map[string]lease.Lease)
	for _, o := range h.operations {
		if o.Kind == take && o.Outcome == done {
			if _, is := leases[o.Lease.ID]; is {
				return nil, nil, fmt.Errorf("%s: it was given before", o)
			}
			leases[o.Lease.ID] = o.Lease
		}
	}
	operations := slices.DeleteFunc(slices.Clone(h.operations), func(o operation) bool {
		return o.Outcome == refused || o.Kind == take && o.Outcome == unknown
	})
	for _, o := range h.operations {
		seen := o.Leases
		if o.Kind == again {
			seen = []lease.Lease{o.Lease}
		}
		for _, l := range seen {
			if given, is := leases[l.ID]; is {
				l.Deadline, l.Overstayed = given.Deadline, given.Overstayed
				if diff := gocmp.Diff(given, l); diff != "" {
					return nil, nil, fmt.Errorf("%s: it is not what was given: %s", o, diff)
				}
				continue
			}
			leases[l.ID] = l
			taken := operation{Kind: take, Outcome: unknown, Call: forever, Lease: l}
			for _, o := range h.operations {
				if o.Kind == take && o.Outcome == unknown && o.Lease.Name == l.Name {
					taken.Call, taken.Return = min(taken.Call, o.Call), max(taken.Return, o.Return)
				}
			}
			if taken.Call == forever {
				return nil, nil, fmt.Errorf("%s: nobody asked for the lease %+v", o, l)
			}
			operations = append(operations, taken)
		}
	}
	return leases, operations, nil
}

// ends returns when a lease ends at the earliest and at the latest if an operation is the last to have set its time.
func (h *history) ends(o operation, l lease.Lease) (from, until time.Duration) {
	from, until = o.Lease.Deadline, o.Lease.Deadline
	if o.Outcome == unknown {
		from, until = o.Call+l.TTL, forever
		if o.Return != forever {
			until = o.Return + l.TTL
		}
	}
	if until == forever {
		return from, until
	}
	until = h.late(until)
	for _, port := range l.Ports {
		for _, listens := range h.listening[port] {
			if listens.From <= from && listens.Until > from && o.Outcome == done {
				from = listens.Until
			}
			if listens.From <= until && listens.Until > o.Call {
				until = max(until, h.late(listens.Until))
			}
		}
	}
	return from, max(from, until)
}

// count notes how much time counts until when. That before a list does not: no manager ran.
func (h *history) count() {
	var ends []operation
	for _, o := range h.operations {
		if o.Outcome != unknown {
			ends = append(ends, o)
		}
	}
	slices.SortFunc(ends, func(a, b operation) int { return cmp.Compare(a.Return, b.Return) })
	h.answered = nil
	last := answered{}
	for _, o := range ends {
		if gap := o.Return - last.at; gap < busyGap && o.Kind != list {
			last.counts += gap
		}
		last.at = o.Return
		h.answered = append(h.answered, last)
	}
}

// late returns when a lease that has ended must be gone.
func (h *history) late(ended time.Duration) time.Duration {
	first, _ := slices.BinarySearchFunc(h.answered, ended, func(a answered, t time.Duration) int { return cmp.Compare(a.at, t) })
	rest := h.answered[first:]
	if len(rest) == 0 {
		return forever
	}
	n, _ := slices.BinarySearchFunc(rest, rest[0].counts+h.grace, func(a answered, t time.Duration) int { return cmp.Compare(a.counts, t) })
	if n == len(rest) {
		return forever
	}
	return rest[n].at
}

func (o operation) String() string {
	return fmt.Sprintf("%s %s of %s, %v to %v", o.Outcome, o.Kind, o.Lease.ID, o.Call, o.Return)
}

// answers returns how many operations of each kind had which outcome.
func (h *history) answers() map[string]int {
	count := make(map[string]int)
	for _, o := range h.operations {
		count[fmt.Sprintf("%s %s", o.Kind, o.Outcome)]++
	}
	return count
}
