//go:build linux

package lease_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// portState is what has a port. The zero value is a free port.
type portState struct {
	lease string
	// The lease ends at some time from from on. It must be gone at until.
	from, until time.Duration
	// secret is a lease that nobody was given: its store may undo it at any time.
	secret bool
	// now is how late it is at least.
	now time.Duration
	// An end of the lease that nobody answered is done until endable, or never, and a renewal has the lease last until longer, or not. To
	// keep these, and not to try each such operation at each moment, makes the search short: a partition has hundreds of them.
	endable, longer time.Duration
}

// portInput is an operation as one port sees it. from and until are when the lease ends that it gives.
type portInput struct {
	kind         kind
	lease        string
	outcome      outcome
	call, answer time.Duration
	from, until  time.Duration
}

func (in portInput) String() string {
	text := fmt.Sprintf("%v to %v: %s %s %s", in.call, in.answer, in.kind, in.lease, in.outcome)
	if in.until != 0 {
		text += fmt.Sprintf(", ends from %v to %v", in.from, in.until)
	}
	return text
}

// portModel is what may happen to a port, one thing after the other.
var portModel = porcupine.NondeterministicModel{
	Init: func() []any { return []any{portState{}} },
	Step: func(state, input, _ any) (states []any) {
		s, in := state.(portState), input.(portInput)
		if in.outcome == unknown {
			s = s.perhaps(in)
			states = append(states, s)
			if in.kind != take {
				return states
			}
		}
		if next, possible := s.after(in); possible {
			states = append(states, next)
		}
		return states
	},
}

// perhaps returns the state after the call of an end or a renewal that nobody answered, and which is done some time later, or never.
func (s portState) perhaps(in portInput) portState {
	if s.lease != in.lease || s.until < in.call {
		return s
	}
	switch in.kind {
	case end:
		s.now, s.endable = max(s.now, in.call), max(s.endable, in.answer)
	case renew:
		s.longer = max(s.longer, in.until)
		s.until = max(s.until, s.longer)
	}
	return s
}

// after returns the state after an operation that was done, and whether that is possible. It is as early as it can be then.
func (s portState) after(in portInput) (next portState, possible bool) {
	s.now = max(s.now, in.call)
	free := portState{now: s.now}
	if s.lease != "" && !s.secret && s.endable == 0 {
		free.now = max(s.now, s.from)
	}
	has, isFree := s.lease == in.lease && s.now <= min(s.until, in.answer), free.now <= in.answer
	if s.now > s.endable {
		s.endable = 0 // for whoever sees the lease now
	}
	switch {
	case in.kind == take:
		return portState{lease: in.lease, from: in.from, until: in.until, secret: in.outcome == unknown, now: free.now}, isFree
	case in.kind == list && in.lease == "", in.outcome == none && s.lease == in.lease:
		return free, isFree
	case in.outcome == none:
		return s, s.now <= in.answer
	case in.kind == again, in.kind == renew:
		s.from, s.until, s.secret = in.from, max(in.until, s.longer), false
		return s, has
	case in.kind == end:
		return portState{now: s.now}, has
	default:
		return s, has // list
	}
}

// checkTime is how long a busy machine may search for an order of the operations on a port. It takes milliseconds.
const checkTime = time.Minute

// checkPort returns an error unless the operations on a port have an order.
func checkPort(operations []porcupine.Operation) error {
	model := portModel.ToModel()
	if porcupine.CheckOperationsTimeout(model, operations, checkTime) == porcupine.Ok {
		return nil
	}
	result, info := porcupine.CheckOperationsVerbose(model, operations, checkTime)
	// Where the longest order ends is what went wrong, or near it.
	var longest []porcupine.Operation
	for _, some := range info.PartialLinearizationsOperations()[0] {
		if len(some) > len(longest) {
			longest = some
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "no order of its %d operations explains their answers (%s). After", len(operations), result)
	for _, o := range longest[max(0, len(longest)-10):] {
		fmt.Fprintf(&text, "\n  %v", o.Input)
	}
	text.WriteString("\nthese cannot follow:")
	var rest []porcupine.Operation
	for _, o := range operations {
		if !slices.Contains(longest, o) {
			rest = append(rest, o)
		}
	}
	slices.SortFunc(rest, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	for _, o := range rest[:min(len(rest), 10)] {
		fmt.Fprintf(&text, "\n  %v", o.Input)
	}
	return errors.New(text.String())
}
