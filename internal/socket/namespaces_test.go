//go:build linux

package socket

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/listen-exporter/listen_exporter/internal/netns"
)

// household is the scripted processes of a network namespace.
type household struct {
	processes []inhabitant // the first one is the witness
}

// inhabitant is a process of it.
type inhabitant struct {
	pid  int
	dir  string
	goes bool // while it is being read
}

var _ members = (*household)(nil)

// View lets the process go when it has been read, if it is one that goes.
func (h *household) View() (netns.View, error) {
	if len(h.processes) == 0 {
		return netns.View{}, errors.New("all are in another network namespace now")
	}
	first := h.processes[0]
	if first.goes {
		h.processes = h.processes[1:]
	}
	return netns.View{
		Dir: first.dir, DirForPeople: "/proc/" + strconv.Itoa(first.pid), Stays: func() bool { return !first.goes }, Close: func() {},
	}, nil
}

func TestANamespaceIsReadThroughWhicheverProcessStays(t *testing.T) {
	home := processDir(t, goodTables())
	tablesOfAnother := goodTables()
	tablesOfAnother["tcp"] = tcpHeader
	left := processDir(t, tablesOfAnother)
	bad := goodTables()
	bad["tcp6"] = tcpHeader + "garbage\n"
	broken := processDir(t, bad)
	half := goodTables()
	delete(half, "tcp")
	ended := processDir(t, half)
	for name, test := range map[string]struct {
		processes []inhabitant
		want      string // the error
	}{
		"it_stays":              {[]inhabitant{{10, home, false}}, ""},
		"it_stays_and_is_bad":   {[]inhabitant{{10, broken, false}, {11, home, false}}, "read /proc/10/net/tcp6: line 2"},
		"it_ends":               {[]inhabitant{{10, ended, true}, {11, home, false}}, ""},
		"it_ends_in_the_middle": {[]inhabitant{{10, broken, true}, {11, home, false}}, ""},
		"it_leaves":             {[]inhabitant{{10, left, true}, {11, home, false}}, ""},
		"two_go":                {[]inhabitant{{10, left, true}, {11, ended, true}, {12, home, false}}, ""},
		"two_go_and_one_is_bad": {[]inhabitant{{10, left, true}, {11, ended, true}, {12, broken, false}}, "read /proc/12/net/tcp6: line 2"},
		"all_go":                {[]inhabitant{{10, left, true}, {11, ended, true}}, "all are in another network namespace now"},
		"none_is_there":         {nil, "all are in another network namespace now"},
	} {
		t.Run(name, func(t *testing.T) {
			source := &memberProcfs{members: &household{processes: test.processes}}
			got, same, err := source.Read(TCP)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || got != nil {
					t.Errorf("got %v and the error %v, want %q", got, err, test.want)
				}
				return
			}
			if err != nil || same {
				t.Fatal(err, same)
			}
			if diff := cmp.Diff(tcpSockets, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("sockets (-want +got):\n%s", diff)
			}
		})
	}
}
