//go:build linux

package registry

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "---\n", "services:\n", "services: []\n", "\ufeffservices:\r\n  - name: a\r\n    port: 1\r\n", "a: b: c\n", "\t", "*", "&a", "#\n&!", "[", "{", "? a", "--- a\n--- b\n",
		"services:\n  - name: ssh\n    port: [22, \"8000-8010\"]\n    proto: [tcp, udp]\n    bind: [loopback, 10.0.0.0/8, \"::1\"]\n    process: sshd\n    unit: ssh.service\n    required: true\n    hosts: [\"web-*\"]\n",
		"services:\n  - {name: a, port: 80, bind: any}\n  - {name: b, port: 1-100, bind: private, hosts: ['[a-z]?']}\nreserved:\n  - {team: a, ports: 30000-30999, namespaces: [a]}\n  - {team: b, ports: 30999}\n",
		"services:\n  - name: *a\n    hosts: [*.a, *-b]\n    bind: ::\n", "services:\n\t- a\n", "services: &a [*a]\n", "x: |\n\ty", "a: \"\\q\"", "%YAML 1.2\n---\n", "<<: {a: b}", "port: !!int 3",
		"services:\n  - {name: statd, owner: team, port: any, proto: udp, unit: [a.service, 'b@*.service']}\n  - {name: web, port: [8080, 8081], required: one-port, hosts: ['web-[!0-9]', '!web-x']}\n" +
			"  - {name: vip, port: [\"1000-1010\", \"!1005\"], process: [a, b], required: one-host, hosts: ['lb-?']}\n" +
			"forbidden:\n  - {port: 23, reason: no, bind: loopback, hosts: ['!lab']}\nreserved:\n  - {team: a, ports: 30000-30999, namespaces: ['a-*'], hosts: ['ci-*'], users: [u]}\n",
		"services:\n  - {name: a, port: 1, hosts: ['(web|db)-1', 'web-{1,2}', '^web', 'group:web', 'web-[01:50]', 'web-{08..12}', '[[:digit:]]', '!', '((((({{{{', 'a{9}{9}']}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse("ports.yml", data)
		if err == nil {
			table := r.For("web-1")
			table.Reserved([]Listener{on("tcp", "[::]:30000")})
			for _, row := range table.Up([]Listener{on("tcp", "[::]:22"), on("udp", "127.0.0.1:8000")}, true) {
				declared := false
				for range table.claims(protoOf(row.Proto), row.Port) {
					declared = true
				}
				if !declared {
					t.Errorf("%v is not declared", row)
				}
			}
			return
		}
		var faults Faults
		if !errors.As(err, &faults) || r != nil {
			t.Fatalf("got %T and registry %v", err, r)
		}
		lines := strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
		for i, fault := range faults {
			if fault.File != "ports.yml" || fault.Line < 1 || fault.Column < 1 || fault.Text == "" || strings.ContainsAny(fault.Text, "\n\r\x1b") || !utf8.ValidString(fault.Text) {
				t.Errorf("fault %d: got %q at line %d, column %d", i, fault.Text, fault.Line, fault.Column)
			}
			// YAML ends lines in more ways than editors do.
			if bytes.ContainsAny(data, "\r\u0085\u2028\u2029\ufeff") || !utf8.Valid(data) {
				continue
			}
			if fault.Line > len(lines) || fault.Column > utf8.RuneCountInString(lines[fault.Line-1])+1 {
				t.Errorf("fault %q is outside of the file", fault)
			}
		}
		if again := new(Faults); !errors.As(func() error { _, err := Parse("ports.yml", data); return err }(), again) || again.Error() != faults.Error() {
			t.Errorf("got %q, and then %q", faults, *again)
		}
	})
}
