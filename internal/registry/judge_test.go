//go:build linux

package registry

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/wording"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

func parse(t testing.TB, lines ...string) *Registry {
	t.Helper()
	r, err := Parse("ports.yml", []byte(strings.Join(lines, "\n")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// on returns a listener, such as on("tcp", "[::1]:22").
func on(proto, at string) Listener {
	return Listener{Proto: proto, Addr: netip.MustParseAddrPort(at)}
}

// heldBy returns a listener of one socket with these exact holders.
func heldBy(l Listener, holders ...Holder) Listener {
	l.Sockets = [][]Holder{holders}
	return l
}

func TestEveryListenerHasOneVerdict(t *testing.T) {
	table := parse(t,
		"services:",
		"  - {name: ssh, purpose: log in, port: 22, process: sshd, unit: ssh.service}",
		"  - {name: dns, port: 53, proto: [tcp, udp], bind: 127.0.0.53}",
		"  - {name: stub, port: 53, proto: [tcp, udp], bind: 127.0.0.54}",
		"  - {name: passive, port: 8000-8010}",
		"  - {name: web, port: [80, 443, 9000-9001], bind: 0.0.0.0}",
		"  - {name: alpha-node, port: 30080}",
		"  - {name: elsewhere, port: 99, hosts: [db-1]}",
		"  - {name: here, port: 98, hosts: [db-*, 'WEB-?']}",
		"reserved:",
		"  - {team: alpha, ports: 30000-30999}",
		"  - {team: beta, ports: [99, 31000]}",
	).For("Web-1")
	own := func(proto, at string) Listener {
		l := heldBy(on(proto, at), Holder{Process: "listen_exporter"})
		l.Own = true
		return l
	}
	for _, test := range []struct {
		name string
		l    Listener
		want Verdict
	}{
		{"as declared", on("tcp", "0.0.0.0:22"), Verdict{Service: "ssh", Purpose: "log in", HolderUnchecked: true}},
		{"nobody declares the port", on("tcp", "127.0.0.1:23"), Verdict{Reason: "unregistered"}},
		{"nobody declares the protocol", on("udp", "0.0.0.0:22"), Verdict{Reason: "unregistered"}},
		{"unknown protocol", on("sctp", "0.0.0.0:22"), Verdict{Reason: "unregistered"}},
		{"declared for another host", on("tcp", "0.0.0.0:99"), Verdict{Reason: "reserved", Service: "beta"}},
		{"declared for this host, whatever the case", on("tcp", "0.0.0.0:98"), Verdict{Service: "here"}},
		{"first of a range", on("tcp", "0.0.0.0:8000"), Verdict{Service: "passive"}},
		{"next to a range", on("tcp", "0.0.0.0:8011"), Verdict{Reason: "unregistered"}},
		{"in a team's range", on("tcp", "0.0.0.0:30000"), Verdict{Reason: "reserved", Service: "alpha"}},
		{"declared in a team's range", on("tcp", "0.0.0.0:30080"), Verdict{Service: "alpha-node"}},
		{"another protocol in a team's range", on("udp", "0.0.0.0:30080"), Verdict{Reason: "reserved", Service: "alpha"}},
		{"the second of two services", on("tcp", "127.0.0.54:53"), Verdict{Service: "stub"}},
		{"neither of two services", on("tcp", "0.0.0.0:53"), Verdict{Reason: "bind", Service: "dns", Declared: "127.0.0.53"}},
		{"wider", on("tcp", "[::]:80"), Verdict{Reason: "bind", Service: "web", Declared: "0.0.0.0"}},
		{"own, undeclared", own("tcp", "0.0.0.0:10190"), Verdict{Service: "listen_exporter"}},
		{"own, wider", own("tcp", "[::]:443"), Verdict{Reason: "bind", Service: "web", Declared: "0.0.0.0"}},
		{"own, as declared", own("tcp", "127.0.0.1:443"), Verdict{Service: "web"}},
		{"own, where another should be", own("tcp", "127.0.0.1:22"), Verdict{Reason: "process", Service: "ssh", Purpose: "log in", Declared: "process sshd, unit ssh.service"}},
		{"own, in a team's range", own("udp", "127.0.0.1:31000"), Verdict{Service: "listen_exporter"}},
	} {
		if diff := cmp.Diff(test.want, table.Judge(test.l)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", test.name, diff)
		}
	}
}

func TestHostsAreMatchedAgainstTheWholeName(t *testing.T) {
	r := parse(t, "services:", "  - {name: exact, port: 1, hosts: [Web-1]}", "  - {name: glob, port: 2, hosts: ['web-1*']}", "  - {name: every, port: 3}")
	for host, want := range map[string]int{"web-1": 3, "WEB-1": 3, "web-1.example.org": 2, "web-10": 2, "my-web-1": 1, "": 1} {
		if got := r.For(host).ServiceCount(); got != want {
			t.Errorf("%q: %d services are for it, want %d", host, got, want)
		}
	}
}

// TestEachReasonIsExplained finds the reasons where they are declared, so that a new one is noticed.
func TestEachReasonIsExplained(t *testing.T) {
	reasons := regexp.MustCompile(`(?m)^\tReason\w+ += "(\w+)"$`).FindAllStringSubmatch(tools.Read(t, "judge.go"), -1)
	if len(reasons) < 4 {
		t.Errorf("found the reasons %q, want all", reasons)
	}
	for _, reason := range reasons {
		hasRow := strings.Contains(tools.Read(t, "../../docs/registry.md"), "\n| `"+reason[1]+"` | ")
		if sentence := wording.Violation(reason[1], "", ""); !hasRow || sentence == reason[1] {
			t.Errorf("%s has a row in docs/registry.md: %t; its sentence in wording is %q", reason[1], hasRow, sentence)
		}
	}
}

func TestBindSaysHowWideAServiceMayListen(t *testing.T) {
	addresses := []string{
		"0.0.0.0", "::", "::ffff:0.0.0.0",
		"127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1",
		"10.1.2.3", "172.16.0.1", "172.32.0.1", "192.168.1.1", "100.64.0.1", "100.128.0.1", "fd00::1", "::ffff:10.1.2.3",
		"169.254.1.1", "fe80::1", "fe80::1%eth0",
		"192.0.2.1", "198.51.100.1", "2001:db8::1", "::ffff:192.0.2.1",
		"224.0.0.251", "ff02::fb", "255.255.255.255",
	}
	const (
		loop    = "127.0.0.1 127.8.9.10 ::1 ::ffff:127.0.0.1"
		inside  = loop + " 10.1.2.3 172.16.0.1 192.168.1.1 100.64.0.1 fd00::1 ::ffff:10.1.2.3 169.254.1.1 fe80::1 fe80::1%eth0"
		allIPv4 = "0.0.0.0 ::ffff:0.0.0.0 127.0.0.1 127.8.9.10 ::ffff:127.0.0.1 10.1.2.3 172.16.0.1 172.32.0.1 192.168.1.1 100.64.0.1 100.128.0.1 ::ffff:10.1.2.3 " +
			"169.254.1.1 192.0.2.1 198.51.100.1 ::ffff:192.0.2.1 224.0.0.251 255.255.255.255"
		allIPv6 = ":: ::1 fd00::1 fe80::1 fe80::1%eth0 2001:db8::1 ff02::fb"
	)
	for bind, permitted := range map[string]string{
		"any":                      allIPv4 + " " + allIPv6,
		"loopback":                 loop,
		"private":                  inside,
		"0.0.0.0":                  allIPv4,
		`"::ffff:0.0.0.0"`:         allIPv4,
		`"::"`:                     allIPv6,
		`["0.0.0.0", "::"]`:        allIPv4 + " " + allIPv6,
		"127.0.0.1":                "127.0.0.1 ::ffff:127.0.0.1",
		"::ffff:192.0.2.1":         "192.0.2.1 ::ffff:192.0.2.1",
		"10.0.0.0/8":               "10.1.2.3 ::ffff:10.1.2.3",
		"0.0.0.0/1":                "127.0.0.1 127.8.9.10 ::ffff:127.0.0.1 10.1.2.3 100.64.0.1 100.128.0.1 ::ffff:10.1.2.3",
		"::/1":                     "::1 2001:db8::1",
		"fe80::/10":                "fe80::1 fe80::1%eth0",
		"[loopback, 192.0.2.0/24]": loop + " 192.0.2.1 ::ffff:192.0.2.1",
	} {
		table := parse(t, "services:", "  - name: web", "    port: 80", "    bind: "+bind).For("")
		for _, address := range addresses {
			want := Verdict{Reason: ReasonBind, Service: "web", Declared: strings.Trim(strings.ReplaceAll(bind, `"`, ""), "[]")}
			for allowed := range strings.FieldsSeq(permitted) {
				if allowed == address {
					want.Reason, want.Declared = "", ""
				}
			}
			for _, only := range []bool{false, true} {
				l := Listener{Proto: "tcp", Addr: netip.AddrPortFrom(netip.MustParseAddr(address), 80), IPv6Only: only, Detailed: true}
				if got := table.Judge(l); got != want {
					t.Errorf("bind %s, listener on %s, IPv6 only %t: got %+v", bind, address, only, got)
				}
			}
		}
	}
}

func TestBindCanNameAnInterface(t *testing.T) {
	listeners := map[string]Listener{
		"0.0.0.0":           {},
		"0.0.0.0%eth0":      {Device: "eth0"},
		"0.0.0.0%eth1":      {Device: "eth1"},
		"[::]%eth0":         {Device: "eth0"},
		"10.0.0.1":          {},
		"10.0.0.1%eth0":     {Device: "eth0"},
		"0.0.0.0%lo":        {Device: "lo", Loopback: true},
		"10.0.0.1%lo":       {Device: "lo", Loopback: true},
		"127.0.0.1":         {},
		"0.0.0.0%(gone)":    {Device: "(gone)", Loopback: true},
		"0.0.0.0, unknown":  {},
		"10.0.0.1, unknown": {},
	}
	const everything = "0.0.0.0; 0.0.0.0%eth0; 0.0.0.0%eth1; [::]%eth0; 10.0.0.1; 10.0.0.1%eth0; 0.0.0.0%lo; 10.0.0.1%lo; 127.0.0.1; 0.0.0.0%(gone); " +
		"0.0.0.0, unknown; 10.0.0.1, unknown"
	// Where the interface is not known, these verdicts would be others if it were.
	unchecked := map[string]string{
		"'%eth0'": "0.0.0.0, unknown; 10.0.0.1, unknown", "['%eth0', '%eth1']": "0.0.0.0, unknown; 10.0.0.1, unknown",
		"['%eth1', 10.0.0.1]": "0.0.0.0, unknown", "loopback": "0.0.0.0, unknown; 10.0.0.1, unknown", "private": "0.0.0.0, unknown",
	}
	for bind, permitted := range map[string]string{
		"any":                everything,
		"'%eth0'":            "0.0.0.0%eth0; [::]%eth0; 10.0.0.1%eth0; 0.0.0.0, unknown; 10.0.0.1, unknown",
		"['%eth0', '%eth1']": "0.0.0.0%eth0; 0.0.0.0%eth1; [::]%eth0; 10.0.0.1%eth0; 0.0.0.0, unknown; 10.0.0.1, unknown",
		"['%eth1', 10.0.0.1]": "0.0.0.0%eth1; 10.0.0.1; 10.0.0.1%eth0; 10.0.0.1%lo; " +
			"0.0.0.0, unknown; 10.0.0.1, unknown",
		"loopback":  "0.0.0.0%lo; 10.0.0.1%lo; 127.0.0.1; 0.0.0.0%(gone)",
		"private":   "10.0.0.1; 10.0.0.1%eth0; 0.0.0.0%lo; 10.0.0.1%lo; 127.0.0.1; 0.0.0.0%(gone); 10.0.0.1, unknown",
		"127.0.0.1": "127.0.0.1",
		"10.0.0.1":  "10.0.0.1; 10.0.0.1%eth0; 10.0.0.1%lo; 10.0.0.1, unknown",
	} {
		table := parse(t, "services:", "  - {name: web, port: 80, bind: "+bind+"}").For("")
		for name, l := range listeners {
			address, _, _ := strings.Cut(name, "%")
			address, unknown, _ := strings.Cut(address, ", ")
			l.Proto, l.Addr, l.Detailed = "tcp", netip.MustParseAddrPort(address+":80"), unknown == ""
			want := slices.Contains(strings.Split(permitted, "; "), name)
			got := table.Judge(l)
			if up := table.Up([]Listener{l}, false)[0]; (got.Reason == "") != want || up.Up != want {
				t.Errorf("bind %s, listener on %s: got %+v, up %t", bind, name, got, up.Up)
			}
			if got.DeviceUnchecked != slices.Contains(strings.Split(unchecked[bind], "; "), name) {
				t.Errorf("bind %s, listener on %s: device unchecked: %t", bind, name, got.DeviceUnchecked)
			}
		}
	}
}

func TestAnInterfaceThatIsNotKnownViolatesNothing(t *testing.T) {
	table := parse(t, "services:",
		"  - {name: first, port: 53, bind: '%virbr0', process: dnsmasq}",
		"  - {name: second, port: 53, bind: '%virbr1', process: named}",
		"  - {name: stub, port: 53, bind: loopback, process: systemd-resolve}",
	).For("")
	for _, test := range []struct {
		at, process, reason, service, up string
	}{
		{"0.0.0.0:53", "dnsmasq", "", "first", "first"},
		{"0.0.0.0:53", "named", "", "second", "second"},
		{"0.0.0.0:53", "", "", "first", "first second"},
		{"0.0.0.0:53", "nc", ReasonProcess, "first", ""},
		{"127.0.0.53:53", "systemd-resolve", "", "stub", "stub"},
		{"127.0.0.53:53", "", "", "stub", "stub"},
		{"127.0.0.53:53", "dnsmasq", ReasonProcess, "stub", ""},
	} {
		l := sockets(on("tcp", test.at), test.process)
		if got := table.Judge(l); got.Reason != test.reason || got.Service != test.service {
			t.Errorf("%s held by %q: got %+v, want reason %q and service %s", test.at, test.process, got, test.reason, test.service)
		}
		var up []string
		for _, state := range table.Up([]Listener{l}, false) {
			if state.Up {
				up = append(up, state.Name)
			}
		}
		if got := strings.Join(up, " "); got != test.up {
			t.Errorf("%s held by %q: got %q up, want %q", test.at, test.process, got, test.up)
		}
	}
}

func TestHoldersAreJudgedWhereTheyAreKnown(t *testing.T) {
	type holders = []Holder
	for _, test := range []struct {
		declared string
		holders  holders
		want     bool
	}{
		{"process: sshd", nil, true},
		{"process: sshd", holders{{Process: "sshd"}, {Process: "sshd", Unit: "x.service"}}, true},
		{"process: sshd", holders{{Process: "SSHD"}}, false},
		{"process: sshd", holders{{Process: "sshd"}, {Process: "nc"}}, true},
		{"process: prometheus-node-exporter", holders{{Process: "prometheus-node"}}, true},
		{"process: prometheus-node-exporter", holders{{Process: "prometheus-node-exporter"}}, true},
		{"process: prometheus-node-exporter", holders{{Process: "prometheus-nod"}}, false},
		{"process: fünfzehn-bytes-é", holders{{Process: "fünfzehn-bytes"}}, true},
		{"process: vierzehn-bytesé", holders{{Process: "vierzehn-bytes\ufffd"}}, true},

		{"unit: ssh.service", holders{{Unit: "ssh.service"}}, true},
		{"unit: ssh.service", holders{{Unit: "ssh.socket"}}, true},
		{"unit: ssh.socket", holders{{Unit: "ssh.service"}}, false},
		{"unit: ssh.service", holders{{Unit: "user@1000.service/ssh.service"}}, false},
		{"unit: user@1000.service/ssh.service", holders{{Unit: "user@1000.service/ssh.socket"}}, true},
		{"unit: ssh.service", holders{{Unit: "cron.service"}, {Unit: "ssh.service"}}, true},

		{"process: sshd, unit: ssh.service", holders{{Process: "sshd", Unit: "cron.service"}}, false},
		{"process: sshd, unit: ssh.service", holders{{Process: "nc", Unit: "ssh.service"}}, false},
		{"process: sshd, unit: ssh.service", holders{{Process: "nc", Unit: "ssh.service"}, {Process: "sshd", Unit: "cron.service"}}, false},
		{"process: sshd, unit: ssh.service", holders{{Process: "nc", Unit: "ssh.service"}, {Process: "sshd", Unit: "ssh.service"}}, true},
		{"process: sshd, unit: ssh.service", holders{{Process: "systemd", Unit: "ssh.socket"}}, true},
		{"process: sshd, unit: ssh.service", holders{{Process: "systemd", Unit: "ssh.service"}}, false},
		{"process: sshd", holders{{Process: "systemd", Unit: "ssh.socket"}}, true},
		{"purpose: x", holders{{Process: "nc", Unit: "cron.service"}}, true},

		{"unit: ssh.service", holders{{Process: "sshd"}}, true}, // its unit is not known
		{"unit: ssh.service", holders{{Process: "sshd", NoUnit: true}}, false},
		{"unit: docker-*.scope", holders{{Process: "sshd", NoUnit: true}}, true}, // may be the container's own
		{"process: sshd", holders{{Process: "sshd", NoUnit: true}}, true},
		{"unit: ssh.service", holders{{Process: "sshd", NoUnit: true}, {Process: "sshd", Unit: "ssh.service"}}, true},

		{"process: [nginx, apache2]", holders{{Process: "apache2"}}, true},
		{"process: [nginx, apache2]", holders{{Process: "lighttpd"}}, false},
		{"unit: [ssh.service, dropbear.service]", holders{{Unit: "dropbear.socket"}}, true},
		{"process: [nginx, apache2], unit: web.service", holders{{Process: "apache2", Unit: "cron.service"}}, false},

		{"process: node", holders{{Process: "MainThread", Executable: "node"}}, true},
		{"process: node", holders{{Process: "MainThread", Executable: "deno"}}, false},
		{"process: node", holders{{Process: "MainThread"}}, false},
		{"process: MainThread", holders{{Process: "MainThread", Executable: "node"}}, true},
		{"process: sh", holders{{Process: "serve.sh", Executable: "sh"}}, true},
		{"process: prometheus-node-exporter", holders{{Process: "main", Executable: "prometheus-node-exporter"}}, true},

		{"process: 'postfix*'", holders{{Process: "postfix"}}, true},
		{"process: 'postfix*'", holders{{Process: "postfix-script"}}, true},
		{"process: 'postfix*'", holders{{Process: "my-postfix"}}, false},
		{"process: 'passt*'", holders{{Process: "passt.avx2"}}, true},
		{"process: 'python3*'", holders{{Process: "serve", Executable: "python3.11"}}, true},
		{"process: 'php-fpm?.?'", holders{{Process: "php-fpm8.2"}}, true},
		{"process: 'php-fpm?.?'", holders{{Process: "php-fpm8.12"}}, false},
		{"process: 's?rver'", holders{{Process: "sérver"}}, true},
		{"process: 'gunicorn: *'", holders{{Process: "gunicorn: maste"}}, true},
		{"process: 'sshd: *'", holders{{Process: "sshd: /usr/sbin"}}, true},
		{"process: 'a*\nb'", holders{{Process: "a\nb"}}, false},
		{"process: 'a*b'", holders{{Process: "a\nb"}}, true},
		{"process: '[kworker]'", holders{{Process: "[kworker]"}}, true},
		{"process: '[kworker]'", holders{{Process: "k"}}, false},
		{"process: '*[kworker]'", holders{{Process: "a[kworker]"}}, true},
		// The kernel keeps 15 bytes of a name.
		{"process: 'very-long-process-*'", holders{{Process: "very-long-proce"}}, true},
		{"process: 'very-long-process-*'", holders{{Process: "very-long-proc"}}, false},
		{"process: 'very-long-process-*'", holders{{Process: "x", Executable: "very-long-process-3"}}, true},
		{"process: 'very-long-proce*'", holders{{Process: "very-long-proce"}}, true},
		{"process: 'very-long-?roce?s-x'", holders{{Process: "very-long-proce"}}, true},
		{"process: '*-of-a-long-process'", holders{{Process: "exactly-15-byte"}}, false},
		{"process: 'long-*-of-a-process'", holders{{Process: "long-name-of-a-"}}, false},

		{"unit: 'postfix@*.service'", holders{{Unit: "postfix@-.service"}}, true},
		{"unit: 'postfix@*.service'", holders{{Unit: "postfix@a-b.socket"}}, true},
		{"unit: 'postfix@*.service'", holders{{Unit: "postfix.service"}}, false},
		{"unit: '*.service'", holders{{Unit: "user@1000.service/postfix@x.service"}}, false},
		{"unit: 'user@*.service/web-?.service'", holders{{Unit: "user@1000.service/web-1.service"}}, true},
		{"unit: 'user@*.service/web-?.service'", holders{{Unit: "user@1000.service/web-10.service"}}, false},
		{"unit: 'luks@a\\x2d*.service'", holders{{Unit: "luks@a\\x2db.service"}}, true},
	} {
		table := parse(t, "services:", "  - {name: ssh, port: 22, "+test.declared+"}").For("")
		known := table.Judge(heldBy(on("tcp", "0.0.0.0:22"), test.holders...))
		if got := known.Reason == ""; got != test.want || !got && known.Reason != ReasonProcess || known.Service != "ssh" {
			t.Errorf("%s, held by %v: got %+v", test.declared, test.holders, known)
		}
	}
}

// The first service is the one that is violated. The second would allow the listener on lo.
func TestAnyServiceOfAPortCanDependOnTheInterface(t *testing.T) {
	table := parse(t, "services:", "  - {name: dnsmasq, port: 53, bind: 10.0.0.1}", "  - {name: stub, port: 53, bind: loopback}").For("")
	for at, want := range map[string]bool{"0.0.0.0:53": true, "10.0.0.1:53": false, "127.0.0.53:53": false} {
		l := on("tcp", at)
		if got := table.Judge(l); got.DeviceUnchecked != want {
			t.Errorf("%s: got %+v, want unchecked %t", at, got, want)
		}
		if l.Detailed = true; table.Judge(l).DeviceUnchecked {
			t.Errorf("%s: the interface is known, but counts as unchecked", at)
		}
	}
}

// sockets returns a listener with sockets of these holders, of which "?" is not known.
func sockets(l Listener, holders ...string) Listener {
	for _, names := range holders {
		var of []Holder
		for name := range strings.FieldsSeq(names) {
			if name != "?" {
				of = append(of, Holder{Process: name})
			}
		}
		l.Sockets = append(l.Sockets, of)
	}
	return l
}

func TestEachSocketNeedsADeclaredHolder(t *testing.T) {
	table := parse(t, "services:", "  - {name: smtp, port: 25, process: [master, anvil]}").For("")
	for _, test := range []struct {
		name                        string
		sockets                     []string
		violates, listen, unchecked bool
	}{
		{"no socket is known", nil, false, true, true},
		{"a client is connected", []string{"master smtpd"}, false, true, false},
		{"two programs of the list", []string{"master", "anvil smtpd"}, false, true, false},
		{"only another program", []string{"smtpd"}, true, false, false},
		{"a second program joins by SO_REUSEPORT", []string{"master smtpd", "nc"}, true, true, false},
		{"it joins, and the first is not known", []string{"?", "nc"}, true, true, false},
		{"only the declared one is known", []string{"master", "?"}, false, true, true},
		{"none is known", []string{"?", "?"}, false, true, true},
	} {
		l := sockets(on("tcp", "0.0.0.0:25"), test.sockets...)
		want := Verdict{Service: "smtp", HolderUnchecked: test.unchecked}
		if test.violates {
			want.Reason, want.Declared = ReasonProcess, "process master or anvil"
		}
		if diff := cmp.Diff(want, table.Judge(l)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", test.name, diff)
		}
		if state := table.Up([]Listener{l}, false)[0]; state.Up != test.listen {
			t.Errorf("%s: got up %t", test.name, state.Up)
		}
	}
}

func TestWhatIsDeclaredIsShownAsWritten(t *testing.T) {
	many := make([]string, 20)
	for i := range many {
		many[i] = "192.0.2." + itoa(i+1)
	}
	held := heldBy(on("tcp", "0.0.0.0:22"), Holder{Process: "nc", Unit: "cron.service"})
	for declared, want := range map[string]string{
		"bind: [10.0.0.0/8, loopback]":                    "10.0.0.0/8, loopback",
		"bind: [" + strings.Join(many, ", ") + "]":        strings.Join(many[:9], ", ") + ", …",
		"process: sshd":                                   "process sshd",
		"unit: ssh.service":                               "unit ssh.service",
		"process: a-name-of-more-than-15, unit: a.scope":  "process a-name-of-more-than-15, unit a.scope",
		"process: [a, b, 'c*'], unit: [a.scope, b.scope]": "process a or b or c*, unit a.scope or b.scope",
		"process: [" + strings.Repeat("a", 120) + ", b]":  "process " + strings.Repeat("a", 120) + " or …",
	} {
		table := parse(t, "services:", "  - {name: other, port: 22, bind: 198.51.100.1, hosts: [x]}", "  - {name: ssh, port: 22, hosts: [y], "+declared+"}").For("y")
		if got := table.Judge(held); got.Declared != want || got.Service != "ssh" {
			t.Errorf("%s: got %+v, want %q", declared, got, want)
		}
	}
}
