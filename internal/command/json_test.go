//go:build linux

package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/program"
)

var update = flag.Bool("update", false, "write testdata from what the package writes")

// isGolden compares a text with a file of testdata, or writes it there with -update.
func isGolden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestTheJSONHasWhatTheTableHas(t *testing.T) {
	file := program.WriteFile(t, "ports.yml", commandRegistry)
	code, stdout, stderr := program.Run(t, "list", "--format=json", "--path.procfs="+program.NewProcfs(t), "--registry.file="+file, "--registry.host=web-1")
	var list jsonList
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != ExitOK {
		t.Fatalf("exit code %d, %v: %s", code, err, stderr)
	}
	got := []string{list.Host, list.Registry.File}
	for _, l := range list.Listeners {
		got = append(got, fmt.Sprintf("%s %d %s", l.Proto, l.Port, *l.State))
	}
	for _, s := range list.Services {
		got = append(got, fmt.Sprintf("%s %d %t", s.ServiceName, s.Port, s.Up))
	}
	want := []string{
		"web-1", file, "tcp 22 bind", "udp 53 ok", "tcp 443 ok", "udp 546 unregistered", "tcp 8080 reserved", "udp 40000 ephemeral",
		"ssh 22 false", "dns 53 true", "mail 25 false", "web 443 true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

// Programs read the texts in testdata: look at each of their changes.
func TestTheJSONIsWhatIsInTestdata(t *testing.T) {
	judged := hostile()
	judged.Source, judged.Leases = "netlink", nightLeases()
	judged.Leases.Teams = []lease.Team{{Name: "alpha", Leased: 4, Available: 995}}
	leased := &judged.Leases.Leases[1]
	leased.ID, leased.UID = "0123456789abcdef0123456789abcdef", 1000
	for _, l := range []inventory.Listener{
		{Verdict: inventory.Verdict{Reason: inventory.ReasonBind, Service: "ssh", Purpose: `the "shell"`, Declared: "loopback"}},
		{Verdict: inventory.Verdict{Reason: inventory.ReasonReserved, Service: "alpha"}},
		{Verdict: inventory.Verdict{Service: "slow", Owner: "ci"}, Lease: leased},
		{Client: true, Key: inventory.Key{Range: inventory.RangeEphemeral}, Detailed: true, IPv6Only: true},
	} {
		l.Proto, l.Addr, l.Sockets, l.Judged = inventory.UDP, netip.MustParseAddrPort("[::]:40000"), 2, !l.Client
		judged.Listeners = append(judged.Listeners, l)
	}
	judged.Compliance = &inventory.Compliance{
		Services: []inventory.ServiceState{{Service: &inventory.Service{Name: "ssh", Purpose: `the "shell"`, Proto: inventory.TCP, Port: 22, Ports: "22"}, Up: true}},
		Reserved: []inventory.TeamUse{{Team: "alpha", Size: 1000, Used: 1}},
	}
	failed := &inventory.Snapshot{
		Source: "procfs", Omitted: 3, Compliance: new(inventory.Compliance),
		Reads: []inventory.Read{{Collector: inventory.TCP}, {Collector: inventory.UDP, Err: errors.New("refused")}},
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("CET", 3600))
	remembering, err := answerTo([]string{"22", "25", "80"}, watched(), kept(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	memory := map[string]*jsonMemory{"testdata/judged.json": remembering.json()}
	for file, snapshot := range map[string]*inventory.Snapshot{"testdata/judged.json": judged, "testdata/failed.json": failed} {
		var out bytes.Buffer
		if err := writeJSON(&out, inventory.Options{RegistryHost: "web-1", RegistryFiles: []string{"ports.yml"}}, snapshot, []string{"what \u202e is not known"}, memory[file], now); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(out.String(), "\x1b\u009b\u202e") {
			t.Errorf("characters that do something to a terminal:\n%q", &out)
		}
		isGolden(t, file, out.String())
	}
}
