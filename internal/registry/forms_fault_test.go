//go:build linux

package registry

import (
	"strconv"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// quote matches a quote before a glob.
var quote = wording.Regexp(`((?:^|\[|, )")`)

func TestNamesThatNoHostHasAreRefusedWithTheNearestGlobs(t *testing.T) {
	for text, want := range map[string]string{
		"(web|db)-1":           `["web-1", "db-1"]`,
		"web-{1,2}":            `["web-1", "web-2"]`,
		"web-{a,b}-{1,2}":      `["web-a-1", "web-a-2", "web-b-1", "web-b-2"]`,
		"web-{08..12}":         `"web-[0-1][0-9]"`,
		"^web":                 `"web*"`,
		"^web-[0-9]+$":         `"web-[0-9]*"`,
		"db$":                  `"*db"`,
		"^(web|db)":            `["web*", "db*"]`,
		"~web.*":               `"web*"`,
		"group:web":            `"web*"`,
		"@web":                 `"web"`,
		"web-[01:50]":          `"web-[0-5][0-9]"`,
		"web-[1:9]":            `"web-[1-9]"`,
		"web-[8:12]":           `["web-[8-9]", "web-1[0-2]"]`,
		"web-[a:f]":            `"web-[a-f]"`,
		"web-[1-10]":           `["web-[1-9]", "web-10"]`,
		`web-\d+`:              `"web-[0-9]*"`,
		`web\d{2}`:             `"web[0-9][0-9]"`,
		`web-1\.example\.org`:  `"web-1.example.org"`,
		"web-.*":               `"web-*"`,
		".*-db":                `"*-db"`,
		"web-[[:digit:]]":      `"web-[0-9]"`,
		"web-1,web-2":          `["web-1", "web-2"]`,
		"web-1 web-2":          `["web-1", "web-2"]`,
		"web-*|db-*":           `["web-*", "db-*"]`,
		"web-1:9100":           `"web-1"`,
		"root@web-1":           `"web-1"`,
		"https://web-1/":       `"web-1"`,
		".example.org":         `"*.example.org"`,
		"web-1.":               `"web-1"`,
		"web-":                 `"web-*"`,
		"/web/":                `"web"`,
		"10.0.0.1":             "",
		"10.0.0.*":             "",
		"10.0.0.0/8":           "",
		"fe80::1":              "",
		"-web":                 "",
		"[":                    "",
		"{}":                   "",
		strings.Repeat("(", 9): "",
		"a..b":                 "",
	} {
		for _, not := range []string{"", "!"} {
			want := quote.Get().ReplaceAllString(want, "${1}"+not)
			if want == "" {
				want = `a host name or a glob such as "web-*"`
			}
			_, err := Parse("ports.yml", []byte("services:\n  - {name: a, port: 1, hosts: ["+strconv.Quote(not+text)+"]}\n"))
			if err == nil || !strings.HasPrefix(err.Error(), "ports.yml:2:32: glob "+strconv.Quote(not+text)+" ") || !strings.HasSuffix(err.Error(), ": want "+want) {
				t.Errorf("%s%s: got %v, want %s", not, text, err, want)
			}
		}
	}
	for _, text := range []string{"web-1", "WEB_1", "*", "web-?", "web-[!0-9]", "web-[^a-f]*", "*.example.org", "büro-1", "web[0-9][0-9]", "1", "xn--bro-hoa", "a.b-c.d"} {
		if _, err := Parse("ports.yml", []byte("services:\n  - {name: a, port: 1, hosts: ["+strconv.Quote(text)+", '!not-this']}\n")); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestFormsThatMakeNoSenseAreRefused(t *testing.T) {
	service := func(lines string) string {
		return "services:\n  - name: a\n    " + strings.ReplaceAll(lines, "; ", "\n    ") + "\n"
	}
	forbidden := func(line string) string { return "forbidden:\n  - {" + line + "}\n" }
	const here = ": here, want one of name, purpose, owner, port, proto, bind, process, unit, required, hosts"
	checkFaults(t, []faultCase{
		{"any port of anybody", service("port: any"), []string{"3:11: port any needs a process or a unit, by which the service is known: want one of them, or the ports"}},
		{"any port that must listen", service("port: any; process: x; required: true"), []string{"5:15: required is true, but a service with port any is never required: want false, or leave it out"}},
		{"any port, one of which must listen", service("port: any; process: x; required: one-port"), []string{
			"5:15: required is one-port, but a service with port any is never required: want false, or leave it out",
		}},
		{"any among ports", service("port: [22, any]"), []string{`3:16: "any" is not a port: want a number from 1 to 65535, a range such as "8000-8010", or a list of them`}},
		{"ports in one text", service("port: 80, 443"), []string{`3:11: "80, 443" is not a port: want a list: [80, 443]`}},
		{"one port of one", service("port: 22; required: one-port"), []string{"4:15: required is one-port, but the service has only one port: want true, or more ports"}},
		{"one host of one", service("port: 22; required: one-host; hosts: [web-1]"), []string{"4:15: required is one-host, but the service has only one host: want true, or more hosts"}},
		{"one host for many ports", service("port: 1-1001; required: one-host"), []string{
			"4:15: required: one-host over 1001 ports, each of which would be a series: want at most 1000, one-port, or false",
		}},
		{"one of something", service("port: 22; required: one_host"), []string{`4:15: required is "one_host": want true, false, one-port or one-host`}},
		{"a hole outside", service("port: [8000-8010, '!8011']"), []string{`3:23: !8011 leaves out more than this list has: want only ports of it after the "!"`}},
		{"a hole that leaves nothing", service("port: [8000, '!8000']"), []string{"3:18: !8000 leaves nothing of this list: want the ports that are left"}},
		{"a hole twice", service("port: [8000-8010, '!8005-8006', '!8006']"), []string{`3:37: !8006 leaves out more than this list has: want only ports of it after the "!"`}},
		{"holes that leave nothing", service("port: [8000, 8002, '!8002', '!8000']"), []string{"3:24: !8002 leaves nothing of this list: want the ports that are left"}},
		{"a host twice", service("port: 22; hosts: [web-1, WEB-1, '!a-*', '!a-*']"), []string{
			`4:20: glob "WEB-1" is already in this list: want it once`, `4:35: glob "!a-*" is already in this list: want it once`,
		}},
		{"an address twice", service("port: 22; bind: [loopback, '%eth0', loopback]"), []string{`4:31: bind "loopback" is already in this list: want it once`}},
		{"processes in one text", service("port: 22; process: 'nginx, apache2|httpd-*'"), []string{
			`4:14: process "nginx, apache2|httpd-*" is several names in one text: want [nginx, apache2, httpd-*]`,
		}},
		{"required and forbidden", requiredAndBanned("hosts: [web-1], bind: 10.0.0.1", "bind: loopback, hosts: ['web-*', '!db-1']"), []string{
			`2:21: tcp port 2375 of required service "a" is forbidden on line 4: want it in one of them, or bind or hosts that tell them apart`,
		}},
		{"a hole without quotes", service("port: [8000-8010, !8005]"), []string{
			`3:23: a value begins with "!": want it in quotes`,
		}},
		{"hosts without quotes", service("port: 22; hosts: [a, !web-*]"), []string{`4:16: a value begins with "!": want it in quotes`}},
		{"an item without quotes", service("port: 22; hosts:; - !web-1"), []string{
			`5:7: tag "!web-1" is not supported: want the value itself, in quotes if it begins with !`,
		}},
		{"hosts that are left out again", service("port: 22; hosts: [web-1, '!web-*']"), []string{`4:13: glob "web-1" is left out by another glob of this list: want one of them`}},
		{"no host is left", service("port: 22; hosts: ['!*']"), []string{"4:12: hosts leaves out every host: want the hosts that are left"}},
		{"owner", service("port: 22; owner: 7"), []string{`4:12: owner is a number: want text, in quotes: "7"`}},

		{"keys of another section", service("port: 22; namespaces: [a]; team: x; reason: y; reserved: []; users: [x]"), []string{
			`4:5: key "namespaces" belongs under reserved` + here,
			`5:5: key "team" belongs under reserved` + here,
			`6:5: key "reason" belongs under forbidden` + here,
			`7:5: key "reserved" belongs at the start of a line` + here,
			`8:5: key "users" belongs under reserved` + here,
		}},
		{"keys of a service", "reserved:\n  - {team: a, ports: 1, process: x, name: y}\nhosts: [a]\n", []string{
			`2:25: key "process" belongs under services: here, want one of team, ports, namespaces, hosts, users, any_user`,
			`2:37: key "name" belongs under services: here, want one of team, ports, namespaces, hosts, users, any_user`,
			`3:1: key "hosts" belongs under services: here, want one of services, forbidden, reserved`,
		}},
		{"keys of neither", forbidden("port: 23, reason: x, process: telnetd, ports: 3"), []string{
			`2:27: key "process" belongs under services: here, want one of port, reason, proto, bind, hosts`,
			`2:45: unknown key "ports": did you mean "port"?`,
		}},

		{"forbidden, nothing in it", "forbidden:\n  - {}\n  - 23\n", []string{
			`2:5: this forbidden port has no port: want "port: 23", a range such as "8000-8010", or a list of them`,
			`2:5: this forbidden port has no reason: want "reason: telnet is not used here"`,
			`3:5: a forbidden port is a number: want "port: 23" and "reason: telnet is not used here"`,
		}},
		{"forbidden, no reason", forbidden("port: 23, reason: ''"), []string{"2:24: reason is empty: want text such as telnet is not used here"}},
		{"forbidden, any port", forbidden("port: any, reason: x"), []string{`2:12: "any" is not a port: want a number from 1 to 65535, a range such as "8000-8010", or a list of them`}},
		{"forbidden, but nowhere", forbidden("port: 23, reason: x, bind: any"), []string{
			"2:33: bind is where the port is tolerated after all, and this tolerates it everywhere: want less, such as loopback",
		}},
		{"a namespace", "reserved:\n  - {team: a, ports: 1, namespaces: ['a_*', 'a-[', '*']}\n", []string{
			`2:38: "a_*" is not the name of a Kubernetes namespace: want at most 63 of a-z, 0-9 and -, such as team-alpha, or a glob such as "alpha-*"`,
			`2:45: "a-[" is not the name of a Kubernetes namespace: want at most 63 of a-z, 0-9 and -, such as team-alpha, or a glob such as "alpha-*"`,
		}},
		{"users", "reserved:\n  - {team: a, ports: 1, users: [u, u, '']}\n", []string{
			`2:36: user "u" is already in this list: want it once`, "2:39: a user is empty: want text such as gitlab-runner",
		}},
		{"no user", "reserved:\n  - {team: a, ports: 1, users: []}\n", []string{
			`2:32: users is an empty list: want the names or numbers of users: [gitlab-runner], or "*" for all`,
		}},
		{"users of another kind", "reserved:\n  - {team: a, ports: 1, users: {a: b}}\n  - {team: a, ports: 2, users: true}\n", []string{
			`2:32: users is a mapping: want the names or numbers of users: [gitlab-runner], or "*" for all`,
			`3:32: a user is a boolean: want text, in quotes: "true"`,
		}},
		{"a user twice, by number", "reserved:\n  - {team: a, ports: 1, users: [1001, '1001']}\n", []string{`2:39: user "1001" is already in this list: want it once`}},
		{"numbers of another form", "reserved:\n  - {team: a, ports: 1, users: [-1, 0x3e8]}\n", []string{
			`2:33: user "-1" is not the number of a user: want one from 0 to 4294967294`,
			`2:37: user "0x3e8" is not the number of a user: want one from 0 to 4294967294`,
		}},
		{"all users and one", "reserved:\n  - {team: a, ports: 1, users: [u, '*']}\n", []string{
			`2:36: user "*" is all users: want it and no other, or the users who may lease`,
		}},
		{"any user of nobody", "reserved:\n  - {team: a, ports: 1, any_user: true}\n  - {team: a, ports: 2, any_user: 'yes', users: [u]}\n", []string{
			"2:35: any_user is for ranges from which somebody may lease, and nobody may from this one: want users, or leave it out",
			`3:35: any_user is "yes": want true or false`,
		}},
	})
	for unit, want := range map[string]string{
		"system.slice":                        `is a slice, which only groups other units: want those, such as "ssh.service"`,
		"/usr/lib/systemd/system/ssh.service": `is a path: want the name of the unit, such as "ssh.service"`,
		"/system.slice/ssh.service":           `is a path: want the name of the unit, such as "ssh.service"`,
		"system.slice/ssh.service":            `is a path: want the name of the unit, such as "ssh.service"`,
		"/user.slice/user-1000.slice/user@1000.service/app.slice/x.service": `is a path: want the name of the unit, such as "user@1000.service/x.service"`,
		"/system.slice":       `is a path: want the name of the unit, such as "ssh.service"`,
		"a.service|b.service": `is not the name of a unit: want one, such as "ssh.service", or a list of them`,
		"app@.service":        `is a template, which has no processes: want its instances, such as "app@*.service"`,
		"backup.timer":        `is a timer, which has no processes: want its service, such as "backup.service"`,
		"network.target":      `is a target, which has no processes: want its service, such as "network.service"`,
		"ssh":                 `has no type: want its full name, such as "ssh.service"`,
	} {
		_, err := Parse("ports.yml", []byte(service("port: 22; unit: "+unit)))
		if err == nil || err.Error() != "ports.yml:4:11: unit "+strconv.Quote(unit[:min(len(unit), 60)])[:len(strconv.Quote(unit[:min(len(unit), 60)]))-1]+map[bool]string{true: "…", false: ""}[len(unit) > 60]+`" `+want {
			t.Errorf("%s: got %v, want %s", unit, err, want)
		}
	}
}

func TestServicesThatCannotBeToldApartAreReported(t *testing.T) {
	const with = ": want another port, or process, unit, bind or hosts that tell them apart"
	two := func(first, second string) string {
		return "services:\n  - {name: a, port: 80, " + first + "}\n  - {name: b, port: 80, " + second + "}\n"
	}
	const conflict = `3:21: tcp port 80: taken by service "a" on line 2` + with
	checkFaults(t, []faultCase{
		{"one names its process", two("process: nginx", "proto: tcp"), []string{conflict}},
		{"a process in common", two("process: [nginx, x]", "process: [y, nginx]"), []string{conflict}},
		{"a glob and its match", two("process: nginx", "process: 'ng*'"), []string{conflict}},
		{"a unit in common", two("unit: a.service, process: x", "unit: a.service"), []string{conflict}},
		{"every host but some, and others", two("hosts: ['!web-1']", "hosts: [web-2]"), []string{conflict}},
		{"glob within a class", two("hosts: ['web-[!0-9]*']", "hosts: ['web-eu-*']"), []string{conflict}},
		{"a class within a glob", two("hosts: ['web-*']", "hosts: ['web-[!0-9]*']"), []string{conflict}},
		{"the same name, other hosts left out", two("hosts: [web-1, '!db-*']", "hosts: [web-1, '!web-2']"), []string{conflict}},
		{"glob within a glob", two("hosts: ['web-*']", "hosts: ['web-eu-*', '!web-eu-1']"), []string{conflict}},
		{"any port of the same process", "services:\n  - {name: a, port: any, process: x}\n  - {name: b, port: any, process: x}\n", []string{
			`3:21: tcp ports 1-65535: taken by service "a" on line 2` + with,
		}},
		{"the same name on one host", "services:\n  - {name: a, port: 1, hosts: ['web-*']}\n  - {name: a, port: 2, hosts: [web-1]}\n", []string{
			`3:12: duplicate service "a": already on line 2: want another name, or hosts that do not overlap`,
		}},
		{"reserved on a host of both", "reserved:\n  - {team: a, ports: 1-9, hosts: ['ci-*']}\n  - {team: b, ports: 9, hosts: [ci-1]}\n", []string{
			`3:22: port 9: reserved for team "a" on line 2: want each port with one team`,
		}},
	})
	for name, file := range map[string]string{
		"processes":          two("process: nginx", "process: [apache2, httpd]"),
		"units":              two("unit: a.service, process: x", "unit: b.service, process: x"),
		"process and unit":   two("process: nginx", "unit: apache2.service"),
		"excluded hosts":     two("hosts: ['!web-*']", "hosts: ['web-*']"),
		"excluded from a":    two("hosts: ['web-*', '!web-eu-*']", "hosts: ['web-eu-*']"),
		"classes":            two("hosts: ['web-[0-9]*']", "hosts: ['web-[!0-9]*']"),
		"excluded class":     two("hosts: ['web-?', '!web-[!0-9]']", "hosts: ['web-x', '!web-[0-9]']"),
		"classes at the end": two("hosts: ['db-*[13579]']", "hosts: ['db-*[!13579]']"),
		"excluded name":      two("hosts: ['web-*', '!web-1']", "hosts: [web-1]"),
		"any and a port":     "services:\n  - {name: a, port: any, process: x}\n  - {name: b, port: 22}\n  - {name: c, port: any, process: y}\n",
		"names on two hosts": "services:\n  - {name: a, port: 1, hosts: [web-1]}\n  - {name: a, port: 1, hosts: [web-2]}\n",
		"reserved elsewhere": "reserved:\n  - {team: a, ports: 1-9, hosts: ['ci-*']}\n  - {team: b, ports: 9, hosts: ['!ci-*']}\n",
	} {
		if _, err := Parse("ports.yml", []byte(file)); err != nil {
			t.Errorf("different %s: %v", name, err)
		}
	}
}

func TestConflictsNameBothFiles(t *testing.T) {
	_, err := ParseAll([]Source{
		{"base.yml", []byte("services:\n  - {name: ssh, port: 22}\nreserved:\n  - {team: a, ports: 1000-1999}\n")},
		{"team.yml", []byte("services:\n  - {name: ssh, port: 23}\n  - {name: git, port: 22}\nreserved:\n  - {team: b, ports: 1500}\n")},
	})
	want := `team.yml:2:12: duplicate service "ssh": already at base.yml:2: want another name, or hosts that do not overlap
team.yml:3:23: tcp port 22: taken by service "ssh" at base.yml:2: want another port, or process, unit, bind or hosts that tell them apart
team.yml:5:22: port 1500: reserved for team "a" at base.yml:4: want each port with one team`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// requiredAndBanned returns a registry in which a service and a prohibition have the same port.
func requiredAndBanned(service, ban string) string {
	return "services:\n  - {name: a, port: 2375, " + service + "}\nforbidden:\n  - {port: 2000-3000, reason: x, " + ban + "}\n"
}

func TestARequiredServiceMayHaveAPortThatIsForbiddenInPart(t *testing.T) {
	for name, file := range map[string]string{
		"on other addresses": requiredAndBanned("bind: any", "bind: loopback"),
		"on other hosts":     requiredAndBanned("hosts: [web-1]", "hosts: ['*', '!web-1']"),
		"on some hosts":      requiredAndBanned("hosts: ['web-*']", "hosts: [web-1]"),
		"another protocol":   requiredAndBanned("bind: any", "proto: udp"),
		"not required":       requiredAndBanned("required: false", "proto: tcp"),
	} {
		if _, err := Parse("ports.yml", []byte(file)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsNoUserIsRefused(t *testing.T) {
	const noNumber = "is not the number of a user: want one from 0 to 4294967294"
	for user, want := range map[string]string{
		"4294967295":     noNumber,
		"99999999999999": noNumber,
		"01000":          "could be read as an octal number: want 1000",
		"alice, bob":     "is several names in one text: want [alice, bob]",
		"alice|bob":      "is several names in one text: want [alice, bob]",
		"ci-*":           `is a glob: want the names of the users, or "*" for all`,
		"%wheel":         "is a group: want the names of its users",
		"@staff":         "is a group: want the names of its users",
		"alice bob":      "is not the name of a user: want one such as gitlab-runner",
		"alice:staff":    "is not the name of a user: want one such as gitlab-runner",
		"-alice":         "is not the name of a user: want one such as gitlab-runner",
		"!alice":         "is not the name of a user: want one such as gitlab-runner",
		"/home/alice":    "is not the name of a user: want one such as gitlab-runner",
	} {
		_, err := Parse("ports.yml", []byte("reserved:\n  - {team: a, ports: 1, users: ["+strconv.Quote(user)+"]}\n"))
		if want := "ports.yml:2:33: user " + strconv.Quote(user) + " " + want; err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", user, err, want)
		}
	}
	for _, user := range []string{"gitlab-runner", "_apt", "web$", "1000", "'1000'", "0", "4294967294", `'CORP\alice'`, "alice@example.org", "Jürgen", "3proxy", "x0", "'*'"} {
		if _, err := Parse("ports.yml", []byte("reserved:\n  - {team: a, ports: 1, users: ["+user+"]}\n")); err != nil {
			t.Errorf("%s: %v", user, err)
		}
	}
}
