//go:build linux

package collector

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// leasedExample is a host that had booted when the clock of Unix was at 1 000 000 000 s.
func leasedExample() *inventory.Snapshot {
	const hour = time.Hour
	v := &inventory.LeaseView{Booted: time.Unix(1e9, 0)}
	v.Teams = []inventory.LeaseTeam{{Name: "ci", Leased: 4, Available: 95}, {Name: `team "x"`}}
	v.Leases = []inventory.Lease{
		{Team: "ci", Name: "preview", Proto: "tcp", Ports: []uint16{20000, 20002}, UID: 1000, Deadline: hour},
		{Team: "ci", Name: "elsewhere", Proto: "tcp", Ports: []uint16{20001}, UID: 1000},
		{Team: "ci", Name: "dns", Proto: "udp", Ports: []uint16{20003}, Deadline: hour, Overstayed: hour + 250*time.Millisecond},
		{Team: "ci", Name: "again", Proto: "tcp", Ports: []uint16{20002, 20004}, UID: 1001, Deadline: hour},
	}
	return &inventory.Snapshot{Leases: v}
}

const leasedText = `
# HELP host_listen_lease_info Port that is leased on this host: for whose team, as which service, and by which user. Always 1.
# TYPE host_listen_lease_info gauge
host_listen_lease_info{port="20000",proto="tcp",service_name="preview",team="ci",uid="1000"} 1
host_listen_lease_info{port="20002",proto="tcp",service_name="preview",team="ci",uid="1000"} 1
host_listen_lease_info{port="20003",proto="udp",service_name="dns",team="ci",uid="0"} 1
host_listen_lease_info{port="20004",proto="tcp",service_name="again",team="ci",uid="1001"} 1
# HELP host_listen_lease_overstayed_start_timestamp_seconds Unix time at which the port's lease had expired and the port still listened. Absent while that is not so.
# TYPE host_listen_lease_overstayed_start_timestamp_seconds gauge
host_listen_lease_overstayed_start_timestamp_seconds{port="20003",proto="udp",service_name="dns",team="ci"} 1.00000360025e+09
# HELP host_listen_lease_ports_available Ports of the team's ranges that could be leased now: those that are not leased on any host, that nothing listens on, and that nothing forbids to lease.
# TYPE host_listen_lease_ports_available gauge
host_listen_lease_ports_available{team="ci"} 95
host_listen_lease_ports_available{team="team \"x\""} 0
# HELP host_listen_lease_store_up Whether the store of leases can be reached and takes new leases (1) or not (0).
# TYPE host_listen_lease_store_up gauge
host_listen_lease_store_up 1
# HELP host_listen_leases Ports of the team's ranges that are leased on this host, those whose lease is overstayed included.
# TYPE host_listen_leases gauge
host_listen_leases{team="ci"} 4
host_listen_leases{team="team \"x\""} 0
# HELP host_listen_leases_omitted Leased ports of this host that host_listen_lease_info leaves out.
# TYPE host_listen_leases_omitted gauge
host_listen_leases_omitted 0
`

var leaseFamilies = []string{
	"host_listen_lease_info", "host_listen_lease_overstayed_start_timestamp_seconds", "host_listen_lease_ports_available",
	"host_listen_lease_store_up", "host_listen_leases", "host_listen_leases_omitted",
}

func TestLeasesHaveMetrics(t *testing.T) {
	if err := testutil.CollectAndCompare(newCollector(leasedExample), strings.NewReader(leasedText), leaseFamilies...); err != nil {
		t.Error(err)
	}
	without := newCollector(func() *inventory.Snapshot { return new(inventory.Snapshot) })
	if n := testutil.CollectAndCount(without, leaseFamilies...); n != 0 {
		t.Errorf("%d series without leases", n)
	}
}

// A store may be read while it changes, and a view may have a port or a team twice.
func TestLeasesAreNeverTheSameSeriesTwice(t *testing.T) {
	s := leasedExample()
	s.Leases.Leases = append(s.Leases.Leases, s.Leases.Leases...)
	s.Leases.Teams = append(s.Leases.Teams, s.Leases.Teams...)
	if err := testutil.CollectAndCompare(newCollector(func() *inventory.Snapshot { return s }), strings.NewReader(leasedText), leaseFamilies...); err != nil {
		t.Error(err)
	}
}

func TestOnlySoManyLeasedPortsAreShown(t *testing.T) {
	s, away := leasedExample(), leasedExample()
	for n := range 300 {
		l := inventory.Lease{Team: "ci", Name: "many", Proto: "tcp", Deadline: time.Hour, Overstayed: time.Hour}
		for port := range 5 {
			l.Ports = append(l.Ports, uint16(30000+5*n+port))
		}
		s.Leases.Leases = append(s.Leases.Leases, l)
	}
	c := newCollector(func() *inventory.Snapshot { return s })
	for _, family := range leaseFamilies[:2] {
		if n := testutil.CollectAndCount(c, family); n != maxLeased {
			t.Errorf("%d series of %s, want %d", n, family, maxLeased)
		}
	}
	want := "# HELP host_listen_leases_omitted Leased ports of this host that host_listen_lease_info leaves out.\n# TYPE host_listen_leases_omitted gauge\nhost_listen_leases_omitted 480\n"
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "host_listen_leases_omitted"); err != nil {
		t.Error(err)
	}
	away.Leases.Err = errors.New("no route to host")
	full := leasedExample()
	full.Leases.Unwritable = errors.New("no space")
	want = "# HELP host_listen_lease_store_up Whether the store of leases can be reached and takes new leases (1) or not (0).\n" +
		"# TYPE host_listen_lease_store_up gauge\nhost_listen_lease_store_up 0\n"
	for _, s := range []*inventory.Snapshot{away, full} {
		if err := testutil.CollectAndCompare(newCollector(func() *inventory.Snapshot { return s }), strings.NewReader(want), "host_listen_lease_store_up"); err != nil {
			t.Error(err)
		}
	}
}

func TestTextFollowsTheLeases(t *testing.T) {
	text := NewText(nil)
	s := leasedExample()
	checkText(t, text, s)
	same := *s.Leases
	same.Time += time.Second
	checkText(t, text, &inventory.Snapshot{Leases: &same})
	set := same
	set.Booted = set.Booted.Add(time.Hour) // somebody has set the clock
	checkText(t, text, &inventory.Snapshot{Leases: &set})
	other := leasedExample()
	other.Leases.Leases[0].UID = 1002
	checkText(t, text, other)
	checkText(t, text, new(inventory.Snapshot))
	checkText(t, text, other)
}
