package socket

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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

func (h *household) Hold()    {}
func (h *household) Release() {}

func (h *household) DirForPeople() string {
	if len(h.processes) == 0 {
		return "/proc/0"
	}
	return "/proc/" + strconv.Itoa(h.processes[0].pid)
}

func (h *household) Dir() string {
	if len(h.processes) == 0 {
		return h.DirForPeople()
	}
	return h.processes[0].dir
}

// Alive lets the witness go, if it is one that goes.
func (h *household) Alive() bool {
	if len(h.processes) > 0 && h.processes[0].goes {
		h.processes = h.processes[1:]
	}
	return len(h.processes) > 0
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
		"all_go":                {[]inhabitant{{10, left, true}, {11, ended, true}}, "is in another network namespace now"},
		"none_is_there":         {nil, "is in another network namespace now"},
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
