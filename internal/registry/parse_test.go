//go:build linux

package registry

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

var itoa = strconv.Itoa

// The example registry has every key in its usual forms, and is tested with them.
func TestUnusualFormsAreRead(t *testing.T) {
	r := parse(t, "\ufeff---", "services:",
		`  - {"name": "été", "port": ["8000-8010", 9000, '9001'], "proto": [udp], "bind": ["::1", 10.0.0.0/8], "hosts": db}`,
		"  - purpose: |",
		"      More than",
		"      a line: 日本",
		"    name: a name of \"words\"",
		"    port: 30000 - 30010",
	)
	want := Verdict{Service: `a name of "words"`, Purpose: "More than a line: 日本"}
	if got := r.For("").Judge(on("tcp", "0.0.0.0:30005")); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := r.For("db").Judge(on("udp", "10.1.1.1:9001")).Service; got != "été" {
		t.Errorf("got %q", got)
	}
}

func TestEveryFaultOfAServiceIsReported(t *testing.T) {
	const (
		ports = `want a number from 1 to 65535, a range such as "8000-8010", or a list of them`
		binds = `want any, loopback, private, an address, a CIDR such as 10.0.0.0/8, an interface such as "%eth0", or a list of them`
		link  = `is not an interface: want the whole name of one after the %, at most 15 bytes, such as "%eth0"`
		known = "want one of name, purpose, owner, port, proto, bind, process, unit, required, hosts"
		value = `want a port, a range such as "8000-8010", or a list of them`
	)
	// Each is the last line of a service that is good otherwise.
	good := "services:\n  - name: ssh\n    port: 22\n    "
	var tests []faultCase
	for _, test := range []struct {
		line string
		want []string
	}{
		{"prot: tcp", []string{`5: unknown key "prot": did you mean "proto"?`}},
		{"Unit: ssh.service", []string{`5: unknown key "Unit": did you mean "unit"?`}},
		{"protocol: sctp", []string{`5: unknown key "protocol": did you mean "proto"?`, `15: unknown proto "sctp": want tcp, udp, or a list of both`}},
		{"pid: 3", []string{`5: unknown key "pid": ` + known}},
		{"[a]: x", []string{"5: a key is a list: " + known}},
		{"port: 22", []string{`5: duplicate key "port": already on line 3: want it once`}},

		{"purpose: [a]", []string{`14: purpose is a list: want text such as "remote administration"`}},
		{`purpose: "\e[1m"`, []string{"14: purpose contains the control character U+001B: want printable text"}},

		{"proto: sctp", []string{`12: unknown proto "sctp": want tcp, udp, or a list of both`}},
		{"proto: TCP", []string{`12: unknown proto "TCP": want "tcp"`}},
		{"proto: [tcp, tcp]", []string{"18: proto tcp is already in this list: want it once"}},
		{"proto:", []string{"11: proto is nothing: want tcp, udp, or a list of both"}},

		{"bind: 10.0.0.300", []string{`11: bind "10.0.0.300" is not an address: ` + binds}},
		{"bind: [any, fd00::/129, 10.0.0.0/a, /8]", []string{
			`17: bind "fd00::/129" is not a CIDR: want a length from 0 to 128 after the /`,
			`29: bind "10.0.0.0/a" is not a CIDR: want a length from 0 to 32 after the /`,
			`41: bind "/8" is not a CIDR: want a whole address before the /, such as 10.0.0.0/8`,
		}},
		{"bind: fe80::%eth0/64", []string{`11: bind "fe80::%eth0/64" names an address and an interface: want fe80:: or "%eth0"`}},
		{"bind: 10.0.0.1/8", []string{`11: bind "10.0.0.1/8" has bits beyond its length: want 10.0.0.0/8, or the address 10.0.0.1`}},
		{`bind: "*"`, []string{`11: bind "*" is not an address: want any`}},
		{"bind: localhost", []string{`11: bind "localhost" is not an address: want loopback`}},
		{"bind: fe80::1%eth0", []string{`11: bind "fe80::1%eth0" names an address and an interface: want fe80::1 or "%eth0"`}},
		{"bind: 10.0.0.1%eth0", []string{`11: bind "10.0.0.1%eth0" names an address and an interface: want 10.0.0.1 or "%eth0"`}},
		{`bind: ["a\nb%eth0", "fe80::1%\n", 10.0.0.0%eth0/8]`, []string{
			`12: bind "a\nb%eth0" is not an address: ` + binds,
			`25: bind "fe80::1%\n" is not an address: ` + binds,
			`39: bind "10.0.0.0%eth0/8" names an address and an interface: want 10.0.0.0 or "%eth0"`,
		}},
		{"bind: br-lan", []string{`11: bind "br-lan" is not an address: want "%br-lan" if it is an interface; otherwise ` + strings.TrimPrefix(binds, "want ")}},
		{"bind: Eth0", []string{`11: bind "Eth0" is not an address: ` + binds}},
		{"bind: ['%', '%a/b', '%wg*', '%sixteen-bytes-xx', '%a b']", []string{
			`12: bind "%" ` + link, `17: bind "%a/b" ` + link, `25: bind "%wg*" ` + link, `33: bind "%sixteen-bytes-xx" ` + link, `54: bind "%a b" ` + link,
		}},
		{"bind: 127.0.0.1:80", []string{`11: bind "127.0.0.1:80" has a port: want 127.0.0.1, and the port in port:`}},
		{"bind: ::ffff:10.0.0.0/104", []string{`11: bind "::ffff:10.0.0.0/104" is an IPv4-mapped range: want it as IPv4, such as 10.0.0.0/8`}},
		{"bind: [any, [loopback]]", []string{"17: bind is a list: " + binds}},
		{"bind: [1.2.3, ~]", []string{`12: bind "1.2.3" is not an address: ` + binds, "19: bind is nothing: " + binds}},

		{"process: " + strings.Repeat("7", 61), []string{`14: process is a number: want text, in quotes: "` + strings.Repeat("7", 60) + `…"`}},
		{"process: ''", []string{"14: process is empty: want text such as sshd"}},
		{"process: []", []string{"14: process is an empty list: want text such as sshd, or a list of them"}},
		{"process: ~", []string{"14: process is nothing: want text such as sshd, or a list of them"}},
		{"process: [sshd, 7, [x], /bin/sh, sshd]", []string{
			`21: process is a number: want text, in quotes: "7"`,
			"24: process is a list: want text such as sshd, or a list of them",
			`29: process "/bin/sh" is a path: want the name of the process, such as sh`,
			`38: process "sshd" is already in this list: want it once`,
		}},
		{"unit: {a: b}", []string{"11: unit is a mapping: want text such as ssh.service, or a list of them"}},
		{"unit: ['postfix@*', 'a.*', a.service, a.service]", []string{
			`12: unit "postfix@*" has no type: want its full name, such as "postfix@*.service"`,
			`25: unit "a.*" has no type: want its full name, such as "a.service"`,
			`43: unit "a.service" is already in this list: want it once`,
		}},
		{"process: /usr/sbin/sshd", []string{`14: process "/usr/sbin/sshd" is a path: want the name of the process, such as sshd`}},
		{"unit: ssh", []string{`11: unit "ssh" has no type: want its full name, such as "ssh.service"`}},

		{"required: yes", []string{`15: required is "yes": want true, false, one-port or one-host`}},
		{"required: [true]", []string{"15: required is a list: want true, false, one-port or one-host"}},

		{"hosts: []", []string{`12: hosts is an empty list: want globs on the host name: ["web-*"]`}},
		{"hosts: ['[a', web]", []string{
			`13: glob "[a" does not parse: its [ has no ], or nothing in between: want a host name or a glob such as "web-*"`,
		}},
		{"hosts: ['']", []string{`13: glob "" is empty: want a host name or a glob such as "web-*"`}},
		{"hosts: a/b", []string{`12: glob "a/b" has "/", which no host name has: want a host name or a glob such as "web-*"`}},
		{"hosts: 7", []string{`12: a host is a number: want text, in quotes: "7"`}},
		{"hosts: " + strings.Repeat("a", 254), []string{`12: glob "` + strings.Repeat("a", 60) + `…" is longer than any host name: want at most 253 bytes`}},
	} {
		for i := range test.want {
			test.want[i] = "4:" + test.want[i]
		}
		tests = append(tests, faultCase{test.line, good + test.line + "\n", test.want})
	}
	for value, want := range map[string][]string{
		"0":         {"11: port 0: want a number from 1 to 65535"},
		"80-70":     {`11: port range "80-70" runs backwards: want "70-80"`},
		"0-80":      {"11: port 0: want a number from 1 to 65535"},
		"1-2-3":     {`11: "1-2-3" is not a port: ` + ports},
		"0x16":      {`11: "0x16" is not a port: ` + ports},
		"022":       {"11: port 022 could be read as an octal number: want 22"},
		"''":        {`11: "" is not a port: ` + ports},
		"٢٢":        {`11: "٢٢" is not a port: ` + ports},
		"[]":        {"11: port is an empty list: " + value},
		"~":         {"11: port is nothing: " + value},
		"[22, 22]":  {"16: port 22: already in this list: want each port once"},
		"[5, 4-6]":  {"15: ports 4-6: already in this list: want each port once"},
		"[4-6, 5]":  {"17: port 5: already in this list: want each port once"},
		"[[22]]":    {"12: port is a list: " + value},
		"1-1000000": {"11: port 1000000: want a number from 1 to 65535"},
	} {
		for i := range want {
			want[i] = "2:" + want[i]
		}
		tests = append(tests, faultCase{"port " + value, "services:\n  - port: " + value + "\n    name: ssh\n", want})
	}
	tests = append(tests,
		faultCase{"required range", "services:\n  - name: a\n    port: 1-1001\n    required: true\n", []string{
			"4:15: required: true over 1001 ports, each of which would be a series: want at most 1000, one-port, or false",
		}},
		faultCase{"neither name nor port", "services:\n  - {}\n  - purpose: x\n", []string{
			`2:5: service without a name: want "name: ssh"`,
			`2:5: this service has no port: want "port: 22", a range such as "8000-8010", or a list of them, or any`,
			`3:5: service without a name: want "name: ssh"`,
			`3:5: this service has no port: want "port: 22", a range such as "8000-8010", or a list of them, or any`,
		}},
		faultCase{"what a wrong key holds is looked at", "services:\n  - naem: ssh\n    ports: 0\n", []string{
			`2:5: unknown key "naem": did you mean "name"?`,
			`3:5: unknown key "ports": did you mean "port"?`,
			"3:12: port 0: want a number from 1 to 65535",
		}},
		faultCase{"names", "services:\n  - {port: 1, name: 443}\n  - {port: 2, name: ' '}\n  - {port: 3, name: \"a\\nb\"}\n  - {port: 4, name: " +
			strings.Repeat("é", 101) + "}\n  - {port: 5, name: [a]}\n  - {port: 6, name: 2024-01-01}\n  - {port: 7, name: true}\n" +
			"  - {port: 8, name: \"a\\u202eb\"}\n  - {port: 9, name: \"a\\_b\"}\n  - {port: 10, name: \"a\\x9fb\"}\n", []string{
			`2:21: name is a number: want text, in quotes: "443"`,
			"3:21: name is empty: want text such as ssh",
			"4:21: name contains the control character U+000A: want printable text such as ssh",
			"5:21: name has 202 bytes: want at most 200, such as ssh",
			"6:21: name is a list: want text such as ssh",
			`7:21: name is a date: want text, in quotes: "2024-01-01"`,
			`8:21: name is a boolean: want text, in quotes: "true"`,
			"9:21: name contains the invisible character U+202E: want printable text such as ssh",
			"10:21: name contains the invisible character U+00A0: want printable text such as ssh",
			"11:22: name contains the control character U+009F: want printable text such as ssh",
		}},
		faultCase{"duplicate service", "services:\n  - name: ssh\n    port: 22\n  - port: 23\n    name: ssh\n  - name: ssh\n    port: 24\n", []string{
			`5:11: duplicate service "ssh": already on line 2: want another name, or hosts that do not overlap`,
			`6:11: duplicate service "ssh": already on line 2: want another name, or hosts that do not overlap`,
		}},
		faultCase{"a service that is none", "services:\n  - ssh\n  -\n  - [22]\n", []string{
			`2:5: a service is text: want "name: ssh" and "port: 22"`,
			`3:4: a service is nothing: want "name: ssh" and "port: 22"`,
			`4:5: a service is a list: want "name: ssh" and "port: 22"`,
		}},
		faultCase{"services that are no list", "services: {ssh: 22}\nreserved:\n", []string{
			`1:11: services is a mapping: want a list of services ("- name: ssh")`,
			`2:10: reserved is nothing: want a list of ranges ("- team: alpha")`,
		}},
		faultCase{"empty lists", "services: []\nreserved: []\n", []string{
			`1:11: services is an empty list: want a list of services ("- name: ssh"), or leave it out`,
			`2:11: reserved is an empty list: want a list of ranges ("- team: alpha"), or leave it out`,
		}},
		faultCase{"keys of the file", "service: []\nservices: 3\nservices: 4\nversion: 1\n", []string{
			`1:1: unknown key "service": did you mean "services"?`,
			`2:11: services is a number: want a list of services ("- name: ssh")`,
			`3:1: duplicate key "services": already on line 2: want it once`,
			`4:1: unknown key "version": want one of services, forbidden, reserved`,
		}},
	)
	checkFaults(t, tests)
}

func TestEveryFaultOfAReservedRangeIsReported(t *testing.T) {
	checkFaults(t, []faultCase{
		{"nothing in it", "reserved:\n  - {}\n  - 3\n", []string{
			`2:5: reserved range without a team: want "team: alpha"`,
			`2:5: this reserved range has no ports: want "ports: 30000-30999", a port, or a list of them`,
			`3:5: a reserved range is a number: want "team: alpha" and "ports: 30000-30999"`,
		}},
		{"values", "reserved:\n  - team: 3\n    ports: 0\n    namespaces: [Alpha, a, a, 3, -a, a.b]\n    port: 3\n  - team: x\n    namespaces: []\n", []string{
			`2:11: team is a number: want text, in quotes: "3"`,
			"3:12: port 0: want a number from 1 to 65535",
			`4:18: "Alpha" is not the name of a Kubernetes namespace: want at most 63 of a-z, 0-9 and -, such as team-alpha, or a glob such as "alpha-*"`,
			"4:28: namespace a is already in this list: want it once",
			`4:31: a namespace is a number: want text, in quotes: "3"`,
			`4:34: "-a" is not the name of a Kubernetes namespace: want at most 63 of a-z, 0-9 and -, such as team-alpha, or a glob such as "alpha-*"`,
			`4:38: "a.b" is not the name of a Kubernetes namespace: want at most 63 of a-z, 0-9 and -, such as team-alpha, or a glob such as "alpha-*"`,
			`5:5: unknown key "port": did you mean "ports"?`,
			`6:5: the reserved range of team "x" has no ports: want "ports: 30000-30999", a port, or a list of them`,
			"7:17: namespaces is an empty list: want the names of Kubernetes namespaces: [team-alpha]",
		}},
		{"overlap", "reserved:\n  - {team: a, ports: 1-100}\n  - {team: b, ports: [50, 100-200, 300]}\n  - {team: a, ports: 90-95}\n" +
			"  - {team: c, ports: 1-65535}\n", []string{
			`3:23: port 50: reserved for team "a" on line 2: want each port with one team`,
			`3:27: port 100: reserved for team "a" on line 2: want each port with one team`,
			`5:22: ports 1-100: reserved for team "a" on line 2: want each port with one team`,
		}},
	})
}

func TestServicesThatCannotBothHoldAreReported(t *testing.T) {
	const with = ": want another port, or process, unit, bind or hosts that tell them apart"
	two := func(first, second string) string {
		return "services:\n  - {name: a, port: 80, " + first + "}\n  - {name: b, port: 80, " + second + "}\n"
	}
	checkFaults(t, []faultCase{
		{"all the same", two("proto: tcp", "proto: tcp"), []string{`3:21: tcp port 80: taken by service "a" on line 2` + with}},
		{"any and loopback", two("bind: any", "bind: loopback"), []string{`3:21: tcp port 80: taken by service "a" on line 2` + with}},
		{"wildcard and address", two("bind: 0.0.0.0", "bind: 10.0.0.1"), []string{`3:21: tcp port 80: taken by service "a" on line 2` + with}},
		{"CIDR and address", two("bind: 10.0.0.0/8", "bind: [192.0.2.1, 10.0.0.1]"), []string{`3:21: tcp port 80: taken by service "a" on line 2` + with}},
		{"interface and address", two("bind: '%eth0'", "bind: 10.0.0.1"), []string{`3:21: tcp port 80: taken by service "a" on line 2` + with}},
		{"any and interface", two("bind: any", "bind: ['%eth0', 10.0.0.1]"), []string{`3:21: tcp port 80: taken by service "a" on line 2` + with}},
		{"an interface in common", two("bind: ['%a', '%b']", "bind: ['%b', '%c']"), []string{`3:21: tcp port 80: taken by service "a" on line 2` + with}},
		{"loopback and its interface", two("bind: loopback", "bind: '%lo'"), []string{`3:21: tcp port 80: taken by service "a" on line 2` + with}},
		{"both protocols", two("proto: [tcp, udp]", "proto: [udp, tcp]"), []string{
			`3:21: tcp port 80: taken by service "a" on line 2` + with,
			`3:21: udp port 80: taken by service "a" on line 2` + with,
		}},
		{"a glob in common", two(`hosts: ["web-*", db-1]`, `hosts: ["*-db", "web-*"]`), []string{`3:21: tcp port 80: taken by service "a" on line 2` + with}},
		{"glob and name", two(`hosts: ["web-*"]`, "hosts: [db-1, WEB-1]"), []string{`3:21: tcp port 80: taken by service "a" on line 2` + with}},
		{"part of a range", "services:\n  - {name: a, port: [1, 80-90]}\n  - {name: b, port: [70-85, 95]}\n  - {name: c, port: 85-95}\n", []string{
			`3:22: tcp ports 80-85: taken by service "a" on line 2` + with,
			`4:21: tcp ports 85-90: taken by service "a" on line 2` + with,
		}},
		{"the first in the file is named", "services:\n  - {name: a, port: 9}\n  - {name: b, port: 8-9}\n  - {name: c, port: 7-9}\n", []string{
			`3:21: tcp port 9: taken by service "a" on line 2` + with,
			`4:21: tcp port 9: taken by service "a" on line 2` + with,
		}},
	})
	for name, file := range map[string]string{
		"protocols":          two("proto: tcp", "proto: udp"),
		"families":           two("bind: 0.0.0.0", `bind: "::"`),
		"interfaces":         two("bind: '%eth0'", "bind: '%eth1'"),
		"loopback and %eth0": two("bind: loopback", "bind: '%eth0'"),
		"127.0.0.53, ::1":    two("bind: [127.0.0.53, '::1']", "bind: '%virbr0'"),
		"hosts":              two("hosts: [web-1]", "hosts: [web-2]"),
		"globs at their end": two(`hosts: ["*-web"]`, `hosts: ["*-db"]`),
		"glob and name":      two(`hosts: ["web-*"]`, "hosts: [db-1]"),
		"ports":              "services:\n  - {name: a, port: [79, 81-90]}\n  - {name: b, port: [80, 91]}\n",
	} {
		if _, err := Parse("ports.yml", []byte(file)); err != nil {
			t.Errorf("different %s: %v", name, err)
		}
	}
}

// onPort80 returns a file with services on port 80, each for the hosts of a list in YAML.
func onPort80(services int, hosts func(service int) string) []byte {
	var file strings.Builder
	file.WriteString("services:\n")
	for i := range services {
		file.WriteString("  - {name: s" + itoa(i) + ", port: 80, proto: [tcp, udp], hosts: [" + hosts(i) + "]}\n")
	}
	return []byte(file.String())
}

func TestServicesOfOnePortAreComparedInBoundedTime(t *testing.T) {
	for name, hosts := range map[string]func(i int) string{
		"hosts in full": func(i int) string { return "web-" + itoa(i) },
		"a glob each":   func(i int) string { return "'web-" + itoa(i) + "-*.example.org'" },
	} {
		if _, err := Parse("ports.yml", onPort80(2000, hosts)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	long := strings.Repeat("a", 240)
	_, err := Parse("ports.yml", onPort80(100, func(i int) string {
		var list strings.Builder
		for j := range 100 {
			list.WriteString([]string{long + itoa(j) + ", ", "'*b*" + long + itoa(j) + "', "}[i%2])
		}
		return list.String()
	}))
	want := "ports.yml:2:22: too many services on the same ports to compare them: want fewer services, hosts or addresses there"
	if err == nil || err.Error() != want {
		t.Errorf("got %.300v, want %s", err, want)
	}
}

func TestWhatIsNoPlainFileIsReportedOrRead(t *testing.T) {
	t.Chdir(t.TempDir())
	mkdir(t, "ports.yml")
	if _, err := Load("ports.yml"); err == nil || err.Error() != "read the registry: open ports.yml: a directory without *.yml: want a registry in it, or the path of one" {
		t.Errorf("an empty directory: %v", err)
	}
	if _, err := Load("/dev/zero"); err == nil || err.Error() != "/dev/zero:1:1: is larger than 10 MiB: want a shorter file" {
		t.Errorf("a file without an end: %v", err)
	}
	if err := errors.Join(syscall.Mkfifo("pipe", 0o600), syscall.Mkfifo("ports.yml/pipe.yml", 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load("ports.yml"); err == nil || !strings.HasPrefix(err.Error(), "read the registry: open ports.yml/pipe.yml: not a regular file") {
		t.Errorf("a pipe in a directory: %v", err)
	}
	go func() {
		if err := os.WriteFile("pipe", []byte(one("ssh")), 0o600); err != nil {
			t.Error(err)
		}
	}()
	if r, err := Load("pipe"); err != nil || r.ServiceCount() != 1 {
		t.Errorf("a pipe: %v", err)
	}
}
