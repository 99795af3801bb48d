//go:build linux

package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Filter says which listeners list shows. Those shown have one of the processes, one of the scopes and one of the states. What is empty
// admits all.
type Filter struct {
	Processes []string // names with * and ?, as in a registry
	Scopes    inventory.ScopeSet
	States    StateSet
}

// StateSet is a set of states, written as a list such as "bind,process". It is a flag value: each Set adds to it.
type StateSet []string

// stateViolation stands for each reason of a violation.
const stateViolation = "violation"

// States returns what a StateSet may have: what the column STATE shows, and one word for all violations.
func States() []string {
	return []string{
		inventory.StateOK, inventory.StateLeased, stateViolation, inventory.ReasonForbidden, inventory.ReasonUnregistered, inventory.ReasonReserved,
		inventory.ReasonBind, inventory.ReasonProcess, stateMissing, inventory.StateClient,
	}
}

// Set adds a list of states to the set.
func (s *StateSet) Set(list string) error {
	for item := range strings.SplitSeq(list, ",") {
		state := strings.TrimSpace(item)
		if !slices.Contains(States(), state) {
			return fmt.Errorf("%q is not a state: want one of %s", item, strings.Join(States(), ","))
		}
		*s = append(*s, state)
	}
	return nil
}

// String returns the list that makes the set.
func (s *StateSet) String() string { return strings.Join(*s, ",") }

// IsCumulative reports to the flag parser that the flag may be given more than once.
func (s *StateSet) IsCumulative() bool { return true }

// Options returns the words that may be in the list, for completion.
func (s *StateSet) Options() []string { return States() }

// flags returns the flags of the filter that are in use, as they are written.
func (f Filter) flags() (flags []string) {
	for _, name := range f.Processes {
		flags = append(flags, "--process="+wording.Printable(name))
	}
	if len(f.Scopes) > 0 {
		flags = append(flags, "--scope="+f.Scopes.String())
	}
	if len(f.States) > 0 {
		flags = append(flags, "--state="+f.States.String())
	}
	return flags
}

// clause returns which listeners a sentence about nothing means.
func (f Filter) clause() string {
	if flags := f.flags(); len(flags) > 0 {
		return " with " + strings.Join(flags, " ")
	}
	return ""
}

// refuse returns an error if the filter leaves anything out.
func (f Filter) refuse(why string) error {
	if flags := f.flags(); len(flags) > 0 {
		return fmt.Errorf("%s: leave out %s", why, strings.Join(flags, " and "))
	}
	return nil
}

// refused returns an error if a read cannot answer what the filter asks. A list that is empty for that reason would look like an answer.
func (f Filter) refused(o inventory.Options, s *inventory.Snapshot) error {
	switch {
	case slices.Contains(f.Processes, ""):
		return errors.New("--process must not be empty: want a name such as nginx, or a glob such as \"nginx*\"")
	case len(f.Processes) > 0 && !o.Holders:
		return errors.New("--process needs the holders: leave out --no-collector.holder")
	case s.Compliance == nil && slices.ContainsFunc(f.States, func(state string) bool { return state != inventory.StateClient }):
		return fmt.Errorf("--state=%s needs a registry: want --registry.file", f.States.String())
	}
	return nil
}

// unsure returns an error if listeners that the filter leaves out may be what it asks for: who may not see their holders must not read
// that there are none.
func (f Filter) unsure(o inventory.Options, s *inventory.Snapshot) error {
	needed := o.NeededForHolders()
	if len(f.Processes) == 0 || needed == "" {
		return nil
	}
	n := count(s, func(l *inventory.Listener) bool { return len(l.Holders) == 0 && f.admitsPlace(l) })
	if n == 0 {
		return nil
	}
	return fmt.Errorf("the holders of %s are not known, so --process may leave out what it asks for: that needs %s", wording.Count(n, "listener"), needed)
}

// of returns the entries that are shown.
func (f Filter) of(all []entry) []entry {
	return slices.DeleteFunc(all, func(e entry) bool {
		if e.listener != nil {
			return !f.admits(e.listener)
		}
		return len(f.Processes) > 0 || len(f.Scopes) > 0 || !f.admitsState(e.state)
	})
}

// listeners returns the listeners that are shown.
func (f Filter) listeners(all []inventory.Listener) []inventory.Listener {
	return slices.DeleteFunc(slices.Clone(all), func(l inventory.Listener) bool { return !f.admits(&l) })
}

func (f Filter) admits(l *inventory.Listener) bool { return f.admitsPlace(l) && f.admitsHolders(l) }

// admitsPlace reports whether the filter admits a listener, whoever holds it.
func (f Filter) admitsPlace(l *inventory.Listener) bool {
	return f.admitsState(l.State()) && (len(f.Scopes) == 0 || slices.Contains(f.Scopes, l.Scope))
}

func (f Filter) admitsState(state string) bool {
	isViolation := !slices.Contains([]string{"", inventory.StateOK, inventory.StateLeased, inventory.StateClient, stateMissing}, state)
	return len(f.States) == 0 || slices.Contains(f.States, state) || isViolation && slices.Contains(f.States, stateViolation)
}

// admitsHolders reports whether one of the holders has one of the names, shown or not.
func (f Filter) admitsHolders(l *inventory.Listener) bool {
	if len(f.Processes) == 0 {
		return true
	}
	var all []registry.Holder
	for _, socket := range l.Input().Sockets {
		all = append(all, socket...)
	}
	for _, h := range l.Holders { // a guess is not in Input
		all = append(all, registry.Holder{Process: h.Process, Executable: h.Executable})
	}
	return slices.ContainsFunc(f.Processes, func(name string) bool {
		return slices.ContainsFunc(all, registry.ProcessGlob(name))
	})
}
