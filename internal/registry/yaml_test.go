//go:build linux

package registry

import (
	"fmt"
	"strings"
	"testing"
)

func TestAliasesAndMergesAreWhatTheyStandFor(t *testing.T) {
	r, err := Parse("ports.yml", []byte(`x-defaults:
  - &web {hosts: &hosts ["web-*"], unit: nginx.service, bind: loopback, port: 1}
  - &udp {proto: udp, hosts: [other]}
services:
  - name: shop
    port: &port 8080
    <<: *web
  - name: shop-udp
    <<: [*web, *udp]
    port: [*port, 8081]
    proto: udp
    bind: any
  - {name: db, port: 5432, hosts: *hosts, process: &db postgres}
  - {name: db-2, port: 5433, hosts: *hosts, process: *db}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.For("other").ServiceCount(); got != 0 {
		t.Errorf("%d services on another host, want none", got)
	}
	table := r.For("web-1")
	for _, test := range []struct {
		listener Listener
		want     Verdict
	}{
		{on("tcp", "127.0.0.1:8080"), Verdict{Service: "shop", HolderUnchecked: true}},
		{on("tcp", "0.0.0.0:8080"), Verdict{Service: "shop", Reason: ReasonBind, Declared: "loopback", DeviceUnchecked: true}},
		{on("udp", "0.0.0.0:8081"), Verdict{Service: "shop-udp", HolderUnchecked: true}},
		{heldBy(on("tcp", "0.0.0.0:5433"), Holder{Process: "x"}), Verdict{Service: "db-2", Reason: ReasonProcess, Declared: "process postgres"}},
		{on("tcp", "127.0.0.1:1"), Verdict{Reason: ReasonUnregistered}},
	} {
		if got := table.Judge(test.listener); got != test.want {
			t.Errorf("%s %s: got %+v, want %+v", test.listener.Proto, test.listener.Addr, got, test.want)
		}
	}
}

func TestAFaultOfAnAliasIsWhereItCanBeMended(t *testing.T) {
	checkFaults(t, []faultCase{
		{"a bad value is where it is written, once", "services:\n  - {name: a, port: &p 0}\n  - {name: b, port: *p}\n", []string{"2:21: port 0: want a number from 1 to 65535"}},
		{"the wrong kind of value is where the alias is", "services:\n  - {name: a, port: &p [80, 81]}\n  - {name: b, port: [*p, 82]}\n", []string{
			`3:22: port is a list: want a port, a range such as "8000-8010", or a list of them`,
		}},
		{"a port twice", "services:\n  - {name: a, port: &p 80}\n  - {name: b, port: *p}\n", []string{
			`3:21: tcp port 80: taken by service "a" on line 2: want another port, or process, unit, bind or hosts that tell them apart`,
		}},
		{"a port twice by a merge", "services:\n  - &a {name: a, port: [80]}\n  - {<<: *a, name: b}\n", []string{
			`3:10: tcp port 80: taken by service "a" on line 2: want another port, or process, unit, bind or hosts that tell them apart`,
		}},
		{"a service twice", "services:\n  - &a {name: a, port: 80}\n  - *a\n", []string{
			`3:5: duplicate service "a": already on line 2: want another name, or hosts that do not overlap`,
			`3:5: tcp port 80: taken by service "a" on line 2: want another port, or process, unit, bind or hosts that tell them apart`,
		}},
		{"an unknown key is where it is written", "x-a: &a {prt: 80}\nservices:\n  - {name: a, port: 80, <<: *a}\n  - {name: b, port: 81, <<: *a}\n", []string{`1:10: unknown key "prt": did you mean "port"?`}},
		{"a merge of text", "services:\n  - {name: a, port: 80, <<: b}\n", []string{`2:29: "<<" is text: want an alias of a mapping, or a list of them`}},
		{"an alias within its anchor", "services: &s\n  - {name: a, port: 80}\n  - *s\n", []string{
			"3:5: a service is nothing: want \"name: ssh\" and \"port: 22\"",
			"3:5: alias *s is within its own anchor: want the value itself",
		}},
		{"only keys of the user's own", "x-a: 1\n", []string{"1:1: " + noServices}},
		{"tag", "services:\n  - name: !!str 22\n    port: !ports 22\n    purpose: !p\n", []string{
			`2:11: tag "!!str" is not supported: want the value itself, in quotes if it begins with !`,
			`3:11: tag "!ports" is not supported: want the value itself, in quotes if it begins with !`,
			`4:14: tag "!p" is not supported: want the value itself, in quotes if it begins with !`,
		}},
	})
}

func TestAliasesAreBounded(t *testing.T) {
	bomb := "x-a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'k'; c++ {
		bomb += fmt.Sprintf("x-%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 9), ", "))
	}
	var ports strings.Builder
	for port := 1; port <= 65_000; port++ {
		fmt.Fprintf(&ports, "%d, ", port)
	}
	wide := "x-p: &p [" + strings.TrimSuffix(ports.String(), ", ") + "]\nservices:\n" + strings.Repeat("  - {name: a, port: *p}\n", 100)
	checkFaults(t, []faultCase{
		{"lists of lists", bomb, []string{"7:18: with alias *f there are more than 2000000 values: want fewer aliases"}},
		{"one long list", wide, []string{"32:21: with alias *p there are more than 2000000 values: want fewer aliases"}},
	})
}
