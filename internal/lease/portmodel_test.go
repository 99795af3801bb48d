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
			states = append(states, s)
		}
		if next, possible := s.after(in); possible {
			states = append(states, next)
		}
		return states
	},
}

// after returns the state after an operation that was done, and whether that is possible. It is as early as it can be then.
func (s portState) after(in portInput) (next portState, possible bool) {
	s.now = max(s.now, in.call)
	free := portState{now: s.now}
	if s.lease != "" && !s.secret {
		free.now = max(s.now, s.from)
	}
	has, isFree := s.lease == in.lease && s.now <= min(s.until, in.answer), free.now <= in.answer
	given := portState{in.lease, in.from, in.until, in.kind == take && in.outcome == unknown, s.now}
	switch {
	case in.kind == take:
		given.now = free.now
		return given, isFree
	case in.kind == list && in.lease == "", in.outcome == none && s.lease == in.lease:
		return free, isFree
	case in.outcome == none:
		return s, s.now <= in.answer
	case in.kind == again, in.kind == renew:
		return given, has
	case in.kind == end:
		return portState{now: s.now}, has
	default:
		return s, has // list
	}
}

// checkTime is how long a busy machine may search for an order of the operations on a port. An idle one needs milliseconds.
const checkTime = 5 * time.Minute

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
