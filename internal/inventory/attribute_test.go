//go:build linux

package inventory

import (
	"errors"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// scriptedHolders says that one program holds every socket, or none, or fails.
type scriptedHolders struct {
	program string
	changed bool
	err     error
	same    bool // as the last Find was told
}

func (s *scriptedHolders) Find(_ []holder.Socket, same bool) (changed bool, err error) {
	s.same = same
	return s.changed, s.err
}

func (s *scriptedHolders) Holders(holder.Socket) []holder.Holder {
	if s.program == "" {
		return nil
	}
	return []holder.Holder{{Process: s.program}}
}

func (s *scriptedHolders) Exact(holder.Socket) bool { return true }

func (*scriptedHolders) Processes(holder.Socket) []holder.Process { return nil }

func TestHoldersAreThoseOfTheLastSearchAndNoneIfItFailed(t *testing.T) {
	source, holders := newScripted(), &scriptedHolders{program: "sshd"}
	source.say(socket.TCP, has(at("0.0.0.0:22", 1)), unchanged(at("0.0.0.0:22", 1)))
	source.say(socket.UDP, has(), unchanged())
	o := Options{TCP: true, UDP: true, MaxPorts: 100}
	i, err := newInventory(sources{main: bothFrom(source), holders: holders, clock: readClock}, o, log.NewNopLogger(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for range goneAfter {
		i.Snapshot(t.Context())
	}
	last := i.Snapshot(t.Context())
	refused := errors.New("permission denied")
	for _, step := range []struct {
		name         string
		say          scriptedHolders
		want         []Holder
		unattributed int
		shares       bool // the listeners with the last snapshot
	}{
		{"unchanged", scriptedHolders{program: "sshd"}, []Holder{{Process: "sshd"}}, 0, true},
		{"another one", scriptedHolders{program: "dropbear", changed: true}, []Holder{{Process: "dropbear"}}, 0, false},
		{"failed", scriptedHolders{program: "dropbear", err: refused}, nil, 0, false},
		{"failed again", scriptedHolders{program: "dropbear", err: refused}, nil, 0, true},
		{"as before", scriptedHolders{program: "dropbear"}, []Holder{{Process: "dropbear"}}, 0, false},
		{"none", scriptedHolders{changed: true}, nil, 1, false},
	} {
		*holders = step.say
		s := i.Snapshot(t.Context())
		l := only(t, s)
		if diff := cmp.Diff(step.want, l.Holders, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: holders (-want +got):\n%s", step.name, diff)
		}
		if shares := &s.Listeners[0] == &last.Listeners[0]; shares != step.shares || !holders.same {
			t.Errorf("%s: shares its listeners: %t, the sockets were said to be the same: %t", step.name, shares, holders.same)
		}
		if s.Unattributed != step.unattributed || s.Succeeded(CollectorHolder) != (step.say.err == nil) || l.Exact != (step.say.err == nil) {
			t.Errorf("%s: %d unattributed, exact %t, reads %v", step.name, s.Unattributed, l.Exact, s.Reads)
		}
		last = s
	}
}

func TestHoldersThatDifferInWhatIsNotShownAreOne(t *testing.T) {
	named := func(process, executable string, unknown bool) Holder {
		return Holder{Process: process, Executable: executable, UIDUnknown: unknown}
	}
	held := []Holder{named("a", "x", true), named("a", "y", false), named("a", "z", true), named("b", "", false), named("c", "x", false)}
	want := []Holder{named("a", "", true), named("a", "", false), named("b", "", false), named("c", "", false)}
	for _, more := range []bool{false, true} {
		if more {
			held = append(held, named("c", "y", false), named("d", "", false), named("e", "", false))
		}
		first, many := shown(held)
		if diff := cmp.Diff(want, first); diff != "" || many != more {
			t.Errorf("more %t, want %t; holders (-want +got):\n%s", many, more, diff)
		}
	}
}
