//go:build linux

package registry

import (
	"regexp"
	"strings"
	"testing"
)

// TestADraftIsStillRightTomorrow drafts a registry for a holder, and judges by it what the same service is held by after a restart or
// an update, and another program.
func TestADraftIsStillRightTomorrow(t *testing.T) {
	for _, test := range []struct {
		name            string
		today           Holder
		declared        string
		tomorrow, never Holder
	}{
		{"a program", Holder{Process: "apache2", Executable: "apache2"}, "process: apache2", Holder{Process: "apache2", Executable: "apache2"}, Holder{Process: "apache3"}},
		{"digits are part of a name", Holder{Process: "dhcpcd5", Executable: "dhcpcd5"}, "process: dhcpcd5", Holder{Process: "dhcpcd5"}, Holder{Process: "dhcpcd6"}},
		{"a long name", Holder{Process: "systemd-resolve", Executable: "systemd-resolved"}, "process: systemd-resolved", Holder{Process: "systemd-resolve"}, Holder{Process: "systemd"}},
		{"a long name with a space", Holder{Process: "Plex Media Serv", Executable: "Plex Media Server"}, `process: "Plex Media Server"`, Holder{Process: "Plex Media Serv"}, Holder{Process: "Plex"}},
		{"Node", Holder{Process: "MainThread", Executable: "node"}, "process: node", Holder{Process: "node", Executable: "node"}, Holder{Process: "MainThread", Executable: "deno"}},
		{"Node with its version", Holder{Process: "MainThread", Executable: "node-v22.1.0"}, `process: "node*"`, Holder{Process: "MainThread", Executable: "node-v24.0.0"}, Holder{Process: "MainThread"}},
		{"a thread that has a name of its own", Holder{Process: "event-loop/3", Executable: "varnishd"}, "process: varnishd", Holder{Process: "event-loop/1", Executable: "varnishd"}, Holder{Process: "event-loop/3"}},
		{"a script", Holder{Process: "fail2ban-server", Executable: "python3.11"}, "process: fail2ban-server", Holder{Process: "fail2ban-server", Executable: "python3.12"}, Holder{Process: "evil", Executable: "python3.11"}},
		{"Python", Holder{Process: "python3.11", Executable: "python3.11"}, `process: "python3*"`, Holder{Process: "python3.12", Executable: "python3.12"}, Holder{Process: "python2.7"}},
		{"Python, called without its version", Holder{Process: "python3", Executable: "python3.11"}, "process: python3", Holder{Process: "python3", Executable: "python3.12"}, Holder{Process: "python2"}},
		{"Gunicorn", Holder{Process: "gunicorn: maste", Executable: "python3.11"}, `process: "gunicorn*"`, Holder{Process: "gunicorn", Executable: "python3.12"}, Holder{Process: "python3.11"}},
		{"Gunicorn, and its executable is not known", Holder{Process: "gunicorn: worke"}, `process: "gunicorn*"`, Holder{Process: "gunicorn: maste"}, Holder{Process: "uvicorn"}},
		{"a title in Perl", Holder{Process: "starman master ", Executable: "perl"}, `process: "starman*"`, Holder{Process: "starman worker ", Executable: "perl"}, Holder{Process: "perl", Executable: "perl"}},
		{"a title of a program", Holder{Process: "postgres: 15/ma", Executable: "postgres"}, "process: postgres", Holder{Process: "postgres: 16/ma", Executable: "postgres"}, Holder{Process: "postgres: 15/ma"}},
		{"PHP", Holder{Process: "php-fpm8.2", Executable: "php-fpm8.2"}, `process: "php-fpm*"`, Holder{Process: "php-fpm8.4"}, Holder{Process: "php"}},
		{"a version in the name", Holder{Process: "prometheus-2.45", Executable: "prometheus-2.45.0.linux-amd64"}, `process: "prometheus*"`, Holder{Process: "prometheus-3.1."}, Holder{Process: "alertmanager"}},
		{"passt", Holder{Process: "passt.avx2", Executable: "passt.avx2"}, `process: "passt*"`, Holder{Process: "passt", Executable: "passt"}, Holder{Process: "pasta.avx2"}},
		{"a link to a variant", Holder{Process: "nc", Executable: "nc.openbsd"}, "process: nc", Holder{Process: "nc", Executable: "nc.traditional"}, Holder{Process: "ncat"}},
		{"a link to busybox", Holder{Process: "httpd", Executable: "busybox"}, "process: httpd", Holder{Process: "httpd", Executable: "busybox"}, Holder{Process: "nc", Executable: "busybox"}},
		{"globs in a name are not declared as such", Holder{Process: "*", Executable: "*"}, `process: "?"`, Holder{Process: "*", Executable: "*"}, Holder{Process: "sh"}},

		{"a session", Holder{Process: "nc", Unit: "session-5.scope"}, `unit: "session-*.scope"`, Holder{Process: "nc", Unit: "session-c12.scope"}, Holder{Process: "nc", Unit: "init.scope"}},
		{"a user's application", Holder{Process: "kdeconnectd", Unit: `user@1000.service/app-org.kde.kdeconnect@6e2a8a7cde3b4fb1a5b1e2d7a1b0c9d8.service`}, `unit: "user@1000.service/app-org.kde.kdeconnect@*.service"`, Holder{Process: "kdeconnectd", Unit: "user@1000.service/app-org.kde.kdeconnect@0.service"}, Holder{Process: "kdeconnectd", Unit: "user@1001.service/app-org.kde.kdeconnect@0.service"}},
		{"a virtual machine", Holder{Process: "qemu", Unit: `machine-qemu\x2d3\x2dweb.scope`}, `unit: "machine-qemu\\x2d*\\x2dweb.scope"`, Holder{Process: "qemu", Unit: `machine-qemu\x2d14\x2dweb.scope`}, Holder{Process: "qemu", Unit: `machine-qemu\x2d3\x2ddb.scope`}},
		{"a command by systemd-run", Holder{Process: "nc", Unit: "run-u123.service"}, `unit: "run-*.service"`, Holder{Process: "nc", Unit: "run-r0a1b2c3d4e5f60718293a4b5c6d7e8f9.service"}, Holder{Process: "nc", Unit: "nc.service"}},
		{"a shell of tmux", Holder{Process: "app", Unit: "tmux-spawn-550e8400-e29b-41d4-a716-446655440000.scope"}, `unit: "tmux-spawn-*.scope"`, Holder{Process: "app", Unit: "tmux-spawn-00000000-dead-beef-cafe-feedfacef00d.scope"}, Holder{Process: "app", Unit: "cron.service"}},
		{"an instance keeps its name", Holder{Process: "openvpn", Unit: "openvpn@tun0.service"}, "unit: openvpn@tun0.service", Holder{Process: "openvpn", Unit: "openvpn@tun0.service"}, Holder{Process: "openvpn", Unit: "openvpn@tun1.service"}},
		{"a socket unit gives way to its service", Holder{Process: "cupsd", Unit: "cups.socket"}, "unit: cups.service", Holder{Process: "cupsd", Unit: "cups.service"}, Holder{Process: "cupsd", Unit: "cron.service"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := string(Format(candidates([]Listener{heldBy(on("tcp", "0.0.0.0:80"), test.today)})))
			if !regexp.MustCompile(`(?m)^ *` + regexp.QuoteMeta(test.declared) + `$`).MatchString(text) {
				t.Errorf("want %s in\n%s", test.declared, text)
			}
			table := parse(t, text).For("")
			for when, h := range map[string]Holder{"today": test.today, "tomorrow": test.tomorrow} {
				if got := table.Judge(heldBy(on("tcp", "0.0.0.0:80"), h)); got.Reason != "" {
					t.Errorf("%s %+v: got %+v by\n%s", when, h, got, text)
				}
			}
			if got := table.Judge(heldBy(on("tcp", "0.0.0.0:80"), test.never)); got.Reason != ReasonProcess {
				t.Errorf("%+v is permitted by\n%s", test.never, text)
			}
		})
	}
}

func TestADraftNamesEveryHolderOfASocket(t *testing.T) {
	for _, test := range []struct {
		name     string
		sockets  []string
		declared string // "" for none
	}{
		{"two programs on a socket", []string{"master smtpd"}, "process: [master, smtpd]"},
		{"one program on two sockets", []string{"nginx", "nginx"}, "process: nginx"},
		{"a program on each socket", []string{"avahi-daemon", "chrome"}, "process: avahi-daemon\n  - name: chrome\n    purpose: \"\" # say what it is for\n    port: 80\n    bind: 0.0.0.0\n    process: chrome"},
		{"a socket is not known", []string{"master", "?"}, ""},
		{"a glob that covers another name", []string{"python3", "python3.11"}, `process: "python3*"`},
		{"too many to list", []string{"a b c d e"}, ""},
	} {
		text := string(Format(candidates([]Listener{sockets(on("tcp", "0.0.0.0:80"), test.sockets...)})))
		if _, after, _ := strings.Cut(text, "bind: 0.0.0.0\n"); strings.TrimSpace(after) != test.declared {
			t.Errorf("%s: got %q, want %q", test.name, strings.TrimSpace(after), test.declared)
		}
	}
}

func TestADraftNamesInterfaces(t *testing.T) {
	bound := func(at, device string, loopback bool) Listener {
		l := on("udp", at)
		l.Device, l.Detailed, l.Loopback = device, true, loopback
		return l
	}
	for _, test := range []struct {
		name string
		on   []Listener
		bind string
	}{
		{"no interface", []Listener{bound("0.0.0.0:68", "", false)}, "bind: 0.0.0.0"},
		{"all addresses of an interface", []Listener{bound("0.0.0.0:67", "virbr0", false)}, `bind: "%virbr0"`},
		{"the address that an interface has today", []Listener{bound("192.0.2.7:68", "eth0", false), bound("[fe80::1]:68", "eth1", false)}, `bind: ["%eth0", "%eth1"]`},
		{"the loopback interface", []Listener{bound("0.0.0.0:53", "lo", true), bound("127.0.0.53:53", "lo", true)}, "bind: loopback"},
		{"an interface next to all addresses", []Listener{bound("0.0.0.0:68", "", false), bound("0.0.0.0:68", "eth0", false), bound("127.0.0.1:68", "", true)}, "bind: 0.0.0.0"},
		{"an interface that is gone", []Listener{bound("0.0.0.0:51820", "(gone)", true)}, "bind: loopback"},
		{"an interface that no bind can name", []Listener{bound("0.0.0.0:51820", `\xff`+strings.Repeat("a", 14), false)}, "bind: 0.0.0.0"},
	} {
		text := string(Format(candidates(test.on)))
		if !strings.Contains(text, "    "+test.bind+"\n") {
			t.Errorf("%s: want %s in\n%s", test.name, test.bind, text)
		}
		checkFormat(t, test.on)
	}
}
