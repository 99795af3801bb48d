//go:build linux

package registry

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// presentOn returns what a host has, judged by a registry.
func presentOn(t testing.TB, sources []Source, host string, listeners []Listener) Present {
	t.Helper()
	r, err := ParseAll(sources)
	if err != nil {
		t.Fatal(err)
	}
	table := r.For(host)
	all := candidates(listeners)
	for i := range all {
		all[i].Verdict = table.Judge(all[i].Listener)
	}
	missing := slices.DeleteFunc(table.Up(listeners, false), func(s ServiceState) bool {
		return s.Up || s.Undecided || s.OneHost || slices.ContainsFunc(all, func(c Candidate) bool {
			return c.Verdict.Service == s.Name && c.Verdict.Reason != "" && c.Addr.Port() == s.Port
		})
	})
	return Present{Host: host, Candidates: all, Missing: missing}
}

func redraftOf(t testing.TB, text, host string, listeners []Listener) string {
	t.Helper()
	sources := []Source{{"ports.yml", []byte(text)}}
	again, err := Redraft(sources, presentOn(t, sources, host, listeners))
	if err != nil {
		t.Fatalf("%v in\n%s", err, again)
	}
	return string(again)
}

func TestADraftGoesOnFromWhatPeopleWrote(t *testing.T) {
	nginx := Holder{Process: "nginx", Unit: "nginx.service"}
	for _, test := range []struct {
		name, before, after string
		on                  []Listener
	}{
		{
			"all as declared", "# ours\nservices:\n    - port: 22 # always\n      name: ssh\n", "# ours\nservices:\n    - port: 22 # always\n      name: ssh\n",
			[]Listener{on("tcp", "0.0.0.0:22")},
		},
		{
			"something new, something gone",
			`# Ours.
services:
# The first.
- name: web  # of old
  purpose: |
    shop

    and more
  owner: team web
  port: &port 8080
- {name: db, port: 5432}
- {name: far, port: 22, hosts: [db-*]}
- {name: maybe, port: 9, required: false}
  # The last.

# What must not be.
forbidden:
- {port: 23, reason: no telnet}
`, `# Ours.
services:
# The first.
- name: web  # of old
  purpose: |
    shop

    and more
  owner: team web
  port: &port 8080
# Gone on web-1: nothing listens on tcp 5432
- {name: db, port: 5432}
- {name: far, port: 22, hosts: [db-*]}
- {name: maybe, port: 9, required: false}
  # The last.
# New on web-1: say what each service is for, and take out what should not be there.
- name: web-443
  purpose: "" # say what it is for
  port: 443
  bind: 0.0.0.0
  process: web
  hosts: web-1

# What must not be.
forbidden:
- {port: 23, reason: no telnet}
`,
			[]Listener{on("tcp", "0.0.0.0:8080"), heldBy(on("tcp", "0.0.0.0:443"), Holder{Process: "web"})},
		},
		{
			"violations are for a person to decide",
			"services:\n  - name: web\n    port: 80\n    bind: loopback\n    process: nginx\n  - name: db\n    port: 81\n    process: postgres\nforbidden: [{port: 23, reason: no telnet}]",
			`services:
  # Violated on web-1: tcp 0.0.0.0:80 listens on a wider or another address than declared (loopback)
  - name: web
    port: 80
    bind: loopback
    process: nginx
  # Violated on web-1: tcp 0.0.0.0:81 is held by another process or unit than declared (process postgres)
  - name: db
    port: 81
    process: postgres
forbidden: [{port: 23, reason: no telnet}]
# Violated on web-1: udp 0.0.0.0:23: the port is forbidden (no telnet)
`,
			[]Listener{heldBy(on("tcp", "0.0.0.0:80"), nginx), heldBy(on("tcp", "0.0.0.0:81"), nginx), on("udp", "0.0.0.0:23")},
		},
		{
			"marks of this host are made again, those of others stay",
			"services:\n  # Gone on web-1: nothing listens on tcp 22\n  # Gone on web-2: nothing listens on tcp 22\n  # Gone since 2023\n  - name: ssh\n    port: 22\n# Incomplete: x.\n",
			"services:\n  # Gone on web-2: nothing listens on tcp 22\n  # Gone since 2023\n  - name: ssh\n    port: 22\n",
			[]Listener{on("tcp", "0.0.0.0:22")},
		},
		{
			"no services yet", "---\nreserved:\n  - {team: a, ports: 1-9}\n...\n",
			`---
reserved:
  - {team: a, ports: 1-9}
services:
  # New on web-1: say what each service is for, and take out what should not be there.
  - name: port-5
    purpose: "" # say what it is for
    port: 5
    bind: 0.0.0.0
...
`,
			[]Listener{on("tcp", "0.0.0.0:5")},
		},
		{
			"lists in brackets", "services: [{name: ssh, port: 22}, {name: web, port: 80}] # all\nreserved: [{team: a, ports: 1-9}]\n",
			`# all
services:
  - {name: ssh, port: 22}
  # Gone on web-1: nothing listens on tcp 80
  - {name: web, port: 80}
  # New on web-1: say what each service is for, and take out what should not be there.
  - name: port-10
    purpose: "" # say what it is for
    port: 10
    bind: 0.0.0.0
reserved: [{team: a, ports: 1-9}]
`,
			[]Listener{on("tcp", "0.0.0.0:10"), on("tcp", "0.0.0.0:22")},
		},
		{
			"lines that end as on Windows, and an alias", "x-h: &h [web-*]\r\nservices:\r\n  - {name: ssh, port: 22, hosts: *h}\r\n  - {name: ssh, port: 22, hosts: other}\r\n",
			"x-h: &h [web-*]\r\nservices:\r\n  # Gone on web-1: nothing listens on tcp 22\r\n  - {name: ssh, port: 22, hosts: *h}\r\n  - {name: ssh, port: 22, hosts: other}\r\n", nil,
		},
		{
			"in brackets on one line, of which nothing is new", "{services: [{name: a, port: 22}], reserved: [{team: x, ports: 30000}]}\n",
			"{services: [{name: a, port: 22}], reserved: [{team: x, ports: 30000}]}\n",
			[]Listener{on("tcp", "0.0.0.0:22")},
		},
		{
			"what may belong to a service that there is", "services:\n  - {name: osd, port: 6800-7300, process: ceph-osd}\n",
			"services:\n  - {name: osd, port: 6800-7300, process: ceph-osd}\n" +
				"# Unknown on web-1: tcp 0.0.0.0:6999: no service declares the port (osd does if it is the holder, which is not known)\n",
			[]Listener{on("tcp", "0.0.0.0:6999")},
		},
		{
			"one of two hosts", "services:\n  - {name: vip, port: 80, required: one-host, hosts: [web-1, web-2]}\n",
			"services:\n  - {name: vip, port: 80, required: one-host, hosts: [web-1, web-2]}\n", nil,
		},
		{
			"one of two ports", "services:\n  - {name: blue, port: [8080, 8081], required: one-port}\n",
			"services:\n  # Gone on web-1: nothing listens on tcp 8080,8081\n  - {name: blue, port: [8080, 8081], required: one-port}\n", nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			after := redraftOf(t, test.before, "web-1", test.on)
			if diff := cmp.Diff(test.after, after); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			// What was new is declared now, and nothing else has changed.
			old := strings.NewReplacer("# New on web-1: say what each service is for, and take out what should not be there.", "").Replace(after)
			again := redraftOf(t, after, "web-1", test.on)
			squeeze := strings.NewReplacer(" ", "", "\n", "")
			if diff := cmp.Diff(squeeze.Replace(old), squeeze.Replace(again)); diff != "" {
				t.Errorf("the next draft (-want +got):\n%s", diff)
			}
		})
	}
}

func TestADraftNextToSeveralFilesHasOnlyWhatIsNew(t *testing.T) {
	sources := []Source{{"base.yml", []byte(one("ssh"))}, {"teams/web.yml", []byte("services:\n  - {name: web, port: 80, hosts: [web-*]}\n")}}
	listeners := []Listener{on("tcp", "0.0.0.0:22"), on("tcp", "0.0.0.0:81")}
	got, err := Redraft(sources, presentOn(t, sources, "web-1", listeners))
	const want = `---
# Gone on web-1: nothing listens on tcp 80 ("web" at teams/web.yml:2)
services:
  # New on web-1: say what each service is for, and take out what should not be there.
  - name: port-81
    purpose: "" # say what it is for
    port: 81
    bind: 0.0.0.0
    hosts: web-1
`
	if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	sources = append(sources, Source{"new.yml", got})
	got, err = Redraft(sources, presentOn(t, sources, "web-1", listeners))
	const nothing = "---\n# Gone on web-1: nothing listens on tcp 80 (\"web\" at teams/web.yml:2)\n# Nothing is new on web-1.\n"
	if diff := cmp.Diff(nothing, string(got)); diff != "" || err != nil {
		t.Errorf("again: %v (-want +got):\n%s", err, diff)
	}
}

func TestADraftDeclaresNothingThatMayBeDeclared(t *testing.T) {
	const known, unknown = "New on", "Unknown on"
	guessed := func(process string) Candidate {
		return Candidate{Listener: on("tcp", "0.0.0.0:6999"), Guessed: []Holder{{Process: process}}}
	}
	byUnit := on("tcp", "0.0.0.0:6999")
	byUnit.Sockets, byUnit.Creators = [][]Holder{nil}, []string{"evil.service"}
	for _, test := range []struct {
		service string
		c       Candidate
		want    string
	}{
		{"port: 6800-7300, unit: ceph-osd.service", Candidate{Listener: byUnit}, unknown}, // would conflict
		{"port: 6800-7300, unit: ceph-osd.service", Candidate{Listener: heldBy(byUnit, Holder{Process: "nc", Unit: "evil.service"})}, known},
		{"port: 6800-7300, process: qemu, bind: loopback", guessed("qemu"), unknown}, // would conflict, too
		{"port: 6800-7300, process: qemu, bind: 10.0.0.1", Candidate{Listener: on("tcp", "10.0.0.2:6999")}, known},
		{"port: any, process: rpc.statd", guessed("rpc.statd"), unknown},
		{"port: any, process: rpc.statd", guessed("nginx"), known},
		{"port: any, process: rpc.statd", Candidate{Listener: on("tcp", "0.0.0.0:6999")}, unknown},
	} {
		for _, sources := range [][]Source{
			{{"a.yml", []byte("services: [{name: s, " + test.service + "}]\n")}},
			{{"a.yml", []byte("services: [{name: s, " + test.service + "}]\n")}, {"b.yml", []byte("reserved: [{team: a, ports: 1}]\n")}},
		} {
			r, err := ParseAll(sources)
			if err != nil {
				t.Fatal(err)
			}
			test.c.Verdict = r.For("").Judge(test.c.Listener)
			got, err := Redraft(sources, Present{Host: "web-1", Candidates: []Candidate{test.c}})
			if err != nil || !strings.Contains(string(got), test.want) {
				t.Errorf("%s, %+v: got %v and\n%s", test.service, test.c, err, got)
			}
		}
	}
}

func TestADraftKeepsWhoMayLeaseAndDeclaresNoLeasedPort(t *testing.T) {
	const reserved = "reserved:\n  - team: ci\n    ports: 9000-9009\n    users: [gitlab-runner, 1001]  # ours\n    any_user: true\n"
	const flow = "{services: [{name: ssh, port: 22}], reserved: [{team: ci, ports: 9000-9009, users: ['*'], any_user: true}]}\n"
	leased := Candidate{Listener: on("tcp", "0.0.0.0:9000"), Verdict: Verdict{Service: "preview"}, Leased: true}
	overstayed := Candidate{Listener: on("tcp", "0.0.0.0:9001"), Leased: true, Verdict: Verdict{
		Reason: ReasonReserved, Service: "ci", Declared: "leased as preview by alice, whose lease has expired",
	}}
	undeclared := Candidate{Listener: on("tcp", "0.0.0.0:80"), Verdict: Verdict{Reason: ReasonUnregistered}}
	for _, test := range []struct{ before, users string }{{reserved, "users: [gitlab-runner, 1001]  # ours\n    any_user: true\n"}, {flow, "users: ['*'], any_user: true}"}} {
		got, err := Redraft([]Source{{"ports.yml", []byte(test.before)}}, Present{Host: "web-1", Candidates: []Candidate{leased, overstayed, undeclared}})
		text := string(got)
		if err != nil || !strings.Contains(text, test.users) || strings.Contains(text, "port: 900") || !strings.Contains(text, "port: 80\n") ||
			!strings.Contains(text, "# Unknown on web-1: tcp 0.0.0.0:9001: the port is reserved for ci (leased as preview by alice, whose lease has expired)\n") {
			t.Errorf("%v and\n%s", err, text)
		}
	}
}

func FuzzRedraft(f *testing.F) {
	for _, seed := range []string{
		"services:\n  - {name: a, port: 22}\n  - name: b\n    port: 80-90\n",
		"services: [{name: a, port: 22}, {name: b, port: 1}]\nreserved: [{team: a, ports: 5}]",
		"{\"services\": [{\"name\": \"a\", \"port\": 22}]}", "reserved:\n- team: a\n  ports: 80\n...\n", "\ufeffservices:\r\n-\r\n  port: 1\r\n  name: x\r\n",
		"x-a: &a {name: n, port: 3}\nservices:\n  - *a\n  - <<: *a\n    name: m\n    port: 22\n#c\nforbidden:\n  - {port: 80, reason: |\n      x\n      y}\n",
	} {
		f.Add([]byte(seed))
	}
	listeners := []Listener{on("tcp", "0.0.0.0:80"), heldBy(on("tcp", "[::]:22"), Holder{Process: "a: b"}), on("udp", "127.0.0.1:53")}
	f.Fuzz(func(t *testing.T, data []byte) {
		sources := []Source{{"ports.yml", data}}
		if _, err := ParseAll(sources); err != nil {
			return
		}
		text, err := Redraft(sources, presentOn(t, sources, "web-1", listeners))
		if err != nil {
			if strings.HasPrefix(err.Error(), theDraft+":") {
				return // conflicts
			}
			t.Fatalf("%v for\n%s", err, data)
		}
		r, err := Parse("ports.yml", text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		for _, l := range listeners {
			if got := r.For("web-1").Judge(l); got.Reason == ReasonUnregistered || got.Reason == ReasonReserved {
				t.Errorf("%s %s: got %+v by\n%s", l.Proto, l.Addr, got, text)
			}
		}
	})
}
