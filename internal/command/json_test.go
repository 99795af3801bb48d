package command

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/program"
)

func TestTheJSONSaysWhatIsKnown(t *testing.T) {
	var out bytes.Buffer
	if err := writeJSON(&out, inventory.Options{RegistryHost: "web-1"}, hostile(), time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("CET", 3600))); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\u009b\u202e") {
		t.Errorf("characters that do something to a terminal:\n%q", &out)
	}
	var got jsonList
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	ok, service, purpose, length, limit, waiting, yes, no := "ok", "\u009b数据库\u202e", "", uint64(129), uint64(128), uint64(3<<20), true, false
	want := jsonList{
		Version: 1, Host: "web-1", Time: time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC), Services: []jsonService{}, Failed: []jsonFailure{},
		Listeners: []jsonListener{
			{
				Proto: "tcp", Family: "ipv6", Address: "fe80::1", Port: 80, Scope: "link-local", Device: "e\x1b[0m",
				AcceptQueueLength: &length, AcceptQueueLimit: &limit, IPv6Only: &no,
				Holders: []jsonHolder{
					{Process: "a\x1b[31m b\n", Unit: "x.service"},
					{Process: "x(ssh.service)", ContainerID: "0123456789abcdef"},
					{Process: "-", PodUID: "1b4e28ba-2fa1-11d2-883f-0016d3cca427"},
				},
				HoldersMany: true, State: &ok, ServiceName: &service, Purpose: &purpose, Registered: &yes,
			},
			{
				Proto: "udp", Family: "ipv4", Address: "10.0.0.1", Port: 81, Scope: "private", Netns: "blue green",
				ReceiveQueueBytes: &waiting, Holders: []jsonHolder{{Process: "-"}},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

func TestTheJSONJudges(t *testing.T) {
	code, stdout, stderr := program.Run(t, "list", "--format=json", "--path.procfs="+program.NewProcfs(t), "--registry.file="+program.WriteFile(t, "ports.yml", commandRegistry))
	var got jsonList
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s", code, err, stderr)
	}
	if diff := cmp.Diff([]jsonReserved{{"alpha", 1000, 1}}, got.Registry.Reserved); diff != "" {
		t.Errorf("reserved ranges (-want +got):\n%s", diff)
	}
	services := []jsonService{
		{"ssh", "administration", "tcp", 22, false, false},
		{"dns", "", "udp", 53, true, false},
		{"mail", `the "queue"`, "tcp", 25, false, false},
		{"web", "", "tcp", 443, true, false},
	}
	if diff := cmp.Diff(services, got.Services); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	verdicts := make(map[uint16]string)
	for _, l := range got.Listeners {
		switch {
		case l.Registered == nil:
			verdicts[l.Port] = "not judged"
		case *l.Registered != (l.Violation == nil):
			t.Errorf("port %d is registered and has a violation, or neither", l.Port)
		case *l.Registered:
			verdicts[l.Port] = "as declared by " + *l.ServiceName
		default:
			verdicts[l.Port] = l.Violation.Reason + " " + l.Violation.ServiceName
			if l.Violation.Declared != nil {
				verdicts[l.Port] += ", which declares " + *l.Violation.Declared
			}
		}
	}
	want := map[uint16]string{
		22: "bind ssh, which declares loopback", 53: "as declared by dns", 443: "as declared by web", 546: "unregistered ", 8080: "reserved alpha", 40000: "not judged",
	}
	if diff := cmp.Diff(want, verdicts); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}
