//go:build linux

package registry

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatListensIsWrittenAsARegistry(t *testing.T) {
	sshd := Holder{Process: "sshd", Unit: "ssh.service"}
	nginx := Holder{Process: "nginx", Unit: "nginx.service"}
	resolved := Holder{Process: "systemd-resolve", Unit: "systemd-resolved.service"}
	dnsmasq := Holder{Process: "dnsmasq", Unit: "docker-0123.scope"}
	ipv6Only := heldBy(on("tcp", "[::]:9000"), Holder{Process: "yes", Unit: "user@1000.service/app.service"})
	ipv6Only.IPv6Only, ipv6Only.Detailed = true, true
	listeners := []Listener{
		heldBy(on("tcp", "0.0.0.0:22"), sshd), heldBy(on("tcp", "[::]:22"), sshd),
		heldBy(on("tcp", "0.0.0.0:443"), nginx), heldBy(on("tcp", "0.0.0.0:80"), nginx), heldBy(on("udp", "0.0.0.0:443"), nginx),
		heldBy(on("tcp", "127.0.0.53:53"), resolved), heldBy(on("udp", "127.0.0.53:53"), resolved), heldBy(on("udp", "127.0.0.54:53"), resolved),
		heldBy(on("udp", "127.0.0.1:53"), dnsmasq), heldBy(on("udp", "[::1]:53"), dnsmasq),
		heldBy(on("udp", "0.0.0.0:5353"), Holder{Process: "avahi-daemon", Unit: "avahi-daemon.service"}), heldBy(on("udp", "224.0.0.251:5353"), Holder{Process: "chrome"}),
		heldBy(on("tcp", "[::]:3001"), Holder{Process: "true"}), heldBy(on("tcp", "[::]:3000"), Holder{Process: "true"}),
		heldBy(on("tcp", "[::]:111"), Holder{Process: "systemd", Unit: "rpcbind.socket"}),
		heldBy(on("tcp", "[::ffff:10.0.0.1]:7"), Holder{Process: "a: b # c"}, Holder{Process: "d"}),
		heldBy(on("tcp", "[fe80::1%eth0]:7"), Holder{Process: "/x"}),
		ipv6Only, on("tcp", "10.0.0.1:8125"), on("udp", "10.0.0.1:8125"),
		on("sctp", "0.0.0.0:1"), on("tcp", "0.0.0.0:0"),
		{Proto: "tcp"},
	}
	want := `---
# What listened on this host. Say what each service is for, and take out what should not be there.
services:
  - name: "a: b # c"
    purpose: "" # say what it is for
    port: 7
    bind: 10.0.0.1
    process: ["a: b # c", d]
  - name: port-7
    purpose: "" # say what it is for
    port: 7
    bind: "fe80::1"
  - name: ssh
    purpose: "" # say what it is for
    port: 22
    process: sshd
    unit: ssh.service
  - name: systemd-resolved
    purpose: "" # say what it is for
    port: 53
    bind: loopback
    process: systemd-resolve
    unit: systemd-resolved.service
  - name: dnsmasq
    purpose: "" # say what it is for
    port: 53
    proto: udp
    bind: [127.0.0.1, "::1"]
    process: dnsmasq
    unit: "docker-*.scope"
  - name: systemd-resolved-53
    purpose: "" # say what it is for
    port: 53
    proto: udp
    bind: [127.0.0.53, 127.0.0.54]
    process: systemd-resolve
    unit: systemd-resolved.service
  - name: nginx
    purpose: "" # say what it is for
    port: 80
    bind: 0.0.0.0
    process: nginx
    unit: nginx.service
  - name: rpcbind
    purpose: "" # say what it is for
    port: 111
    unit: rpcbind.service
  - name: nginx-443
    purpose: "" # say what it is for
    port: 443
    proto: [tcp, udp]
    bind: 0.0.0.0
    process: nginx
    unit: nginx.service
  - name: cups
    purpose: "" # say what it is for
    port: 631
    bind: loopback
  - name: "true"
    purpose: "" # say what it is for
    port: [3000, 3001]
    process: "true"
  - name: avahi-daemon
    purpose: "" # say what it is for
    port: 5353
    proto: udp
    bind: 0.0.0.0
    process: avahi-daemon
    unit: avahi-daemon.service
  - name: chrome
    purpose: "" # say what it is for
    port: 5353
    proto: udp
    bind: 224.0.0.251
    process: chrome
  - name: port-8125
    purpose: "" # say what it is for
    port: 8125
    proto: [tcp, udp]
    bind: 10.0.0.1
  - name: app
    purpose: "" # say what it is for
    port: 9000
    bind: "::"
    process: "yes"
    unit: user@1000.service/app.service
`
	guessed := Candidate{Listener: on("tcp", "127.0.0.1:631"), Guessed: []Holder{{Unit: "cups.service"}}}
	got := string(Format(append(candidates(listeners), guessed)))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	checkFormat(t, listeners)
}

func TestALongListHasALineForEachItem(t *testing.T) {
	var listeners []Listener
	for port := uint16(20000); port < 20100; port++ {
		listeners = append(listeners, heldBy(Listener{Proto: "tcp", Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), port)}, Holder{Process: "ftpd"}))
	}
	if got := string(Format(candidates(listeners))); !strings.Contains(got, "    port:\n      - 20000\n      - 20001\n") {
		t.Errorf("got %s", got)
	}
	checkFormat(t, listeners)
}

func TestWhatComesAndGoesIsNotRequired(t *testing.T) {
	nfs := Holder{Process: "rpc.mountd", Unit: "nfs-mountd.service"}
	moves := func(l Listener) Candidate { return Candidate{Listener: l, Optional: true, Note: "moves"} }
	stays := func(l Listener) Candidate { return Candidate{Listener: l} }
	all := []Candidate{
		stays(heldBy(on("tcp", "0.0.0.0:20048"), nfs)),
		moves(heldBy(on("tcp", "0.0.0.0:40000"), nfs)),
		moves(heldBy(on("tcp", "127.0.0.1:51000"), nfs)), stays(heldBy(on("tcp", "127.0.0.2:51000"), nfs)),
		{Listener: on("tcp", "[::]:10190"), Name: "listen_exporter", Optional: true, Note: "itself"},
		stays(heldBy(on("tcp", "0.0.0.0:80"), Holder{Process: "listen_exporter"})),
	}
	const want = `---
# What listened on this host. Say what each service is for, and take out what should not be there.
services:
  - name: listen_exporter
    purpose: "" # say what it is for
    port: 80
    bind: 0.0.0.0
    process: listen_exporter
  - name: listen_exporter-10190
    purpose: "" # say what it is for
    port: 10190
    required: false # itself
  - name: nfs-mountd
    purpose: "" # say what it is for
    port: 20048
    bind: 0.0.0.0
    process: rpc.mountd
    unit: nfs-mountd.service
  - name: nfs-mountd-40000
    purpose: "" # say what it is for
    port: 40000
    bind: 0.0.0.0
    process: rpc.mountd
    unit: nfs-mountd.service
    required: false # moves
  - name: nfs-mountd-51000
    purpose: "" # say what it is for
    port: 51000
    bind: loopback
    process: rpc.mountd
    unit: nfs-mountd.service
`
	text := Format(all)
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	r, err := Parse("ports.yml", text)
	if err != nil {
		t.Fatal(err)
	}
	if states := r.For("").Up(nil, true); len(states) != 3 {
		t.Errorf("got %v, want the three that stay", states)
	}
}

func TestWhatChoosesItsPortsHasAnyPort(t *testing.T) {
	statd := Holder{Process: "rpc.statd", Unit: "rpc-statd.service"}
	mountd := Holder{Process: "rpc.mountd", Unit: "nfs-mountd.service"}
	chosen := func(l Listener) Candidate {
		return Candidate{Listener: l, Chosen: true, Optional: true, Note: "moves"}
	}
	all := []Candidate{
		chosen(heldBy(on("tcp", "0.0.0.0:40000"), statd)), chosen(heldBy(on("udp", "0.0.0.0:40001"), statd)), chosen(heldBy(on("udp", "127.0.0.1:40002"), statd)),
		chosen(heldBy(on("tcp", "0.0.0.0:40003"), mountd)),
		{Listener: heldBy(on("tcp", "0.0.0.0:20048"), mountd)},
		chosen(heldBy(on("tcp", "0.0.0.0:40004"), Holder{Process: "rpc.statd"})),
		chosen(on("tcp", "0.0.0.0:40005")),
		{Listener: on("tcp", "0.0.0.0:40006"), Chosen: true, Optional: true, Note: "moves", Guessed: []Holder{statd}},
	}
	const want = `---
# What listened on this host. Say what each service is for, and take out what should not be there.
services:
  - name: nfs-mountd
    purpose: "" # say what it is for
    port: 20048
    bind: 0.0.0.0
    process: rpc.mountd
    unit: nfs-mountd.service
  - name: rpc.statd
    purpose: "" # say what it is for
    port: 40004
    bind: 0.0.0.0
    process: rpc.statd
    required: false # moves
  - name: port-40005
    purpose: "" # say what it is for
    port: 40005
    bind: 0.0.0.0
    required: false # moves
  - name: rpc-statd
    purpose: "" # say what it is for
    port: 40006
    bind: 0.0.0.0
    required: false # moves
  - name: rpc-statd-any
    purpose: "" # say what it is for
    port: any # which the system may have chosen: 40000, 40001, 40002
    proto: [tcp, udp]
    bind: 0.0.0.0
    process: rpc.statd
    unit: rpc-statd.service
  - name: nfs-mountd-any
    purpose: "" # say what it is for
    port: any # which the system may have chosen: 40003
    bind: 0.0.0.0
    process: rpc.mountd
    unit: nfs-mountd.service
`
	text := Format(all)
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	r, err := Parse("ports.yml", text)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if got := r.For("").Judge(c.Listener); got.Reason != "" {
			t.Errorf("%s: got %+v", c.Addr, got)
		}
	}
	if got := r.For("").Judge(heldBy(on("tcp", "0.0.0.0:40001"), Holder{Process: "nc"})); got.Reason == "" {
		t.Errorf("another program on such a port: got %+v", got)
	}
}

func TestWithoutListenersNoServiceIsWritten(t *testing.T) {
	_, err := Parse("ports.yml", Format(nil))
	const want = `ports.yml:3:11: services is an empty list: want a list of services ("- name: ssh"), or leave it out`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// candidates returns listeners that must be there.
func candidates(listeners []Listener) []Candidate {
	all := make([]Candidate, len(listeners))
	for i, l := range listeners {
		all[i].Listener = l
	}
	return all
}

// checkFormat formats listeners, reads that, and judges them by it.
func checkFormat(t *testing.T, listeners []Listener) {
	t.Helper()
	text := Format(candidates(listeners))
	r, err := Parse("ports.yml", text)
	if err != nil {
		if strings.Contains(string(text), "services: []") {
			return
		}
		t.Fatalf("%v in\n%s", err, text)
	}
	table := r.For("")
	for _, l := range listeners {
		if protoOf(l.Proto) < 0 || l.Addr.Port() == 0 || !l.Addr.IsValid() {
			continue
		}
		if got := table.Judge(l); got.Reason != "" {
			t.Errorf("%+v: got %+v by\n%s", l, got, text)
		}
	}
	for _, state := range table.Up(listeners, true) {
		if !state.Up {
			t.Errorf("%+v is not up by\n%s", state, text)
		}
	}
}

func FuzzFormat(f *testing.F) {
	f.Add([]byte{0, 22, 0, 0, 1, 22, 1, 0}, "sshd", "sshd", "ssh.service", "eth0")
	f.Add([]byte{0, 53, 4, 1, 1, 53, 5, 2, 2, 53, 0, 1}, "a: b", "python3.11", "x.socket", "lo")
	f.Add([]byte{0, 53, 2, 1, 0, 53, 3, 2, 8, 53, 1, 3, 0, 1, 0, 0}, "no", "node", "user@1.service/no.service", "")
	f.Add([]byte{0, 1, 0, 4, 18, 1, 0, 1, 82, 1, 3, 3, 50, 2, 0, 31}, "MainThread", "node", " .service", "*")
	f.Add([]byte{64, 1, 0, 3, 64, 2, 0, 255}, "a*?[b", "/", "user@1.service/app-*-0123.scope", "(gone)")
	f.Add([]byte("\x1200A0000"), "0", "1", "0", "0")
	f.Add([]byte("1\x8daA\x8d\x8da0"), "0", "0", "0", "0")
	f.Add([]byte{0, 1, 0, 1, 1, 2, 0, 1}, " ", "/x", strings.Repeat(" ", 160)+"x.service", "")
	f.Add([]byte{0, 1, 0, 1}, "a", strings.Repeat("a", 250), strings.Repeat("a", 193)+".socket", "%")
	addresses := []string{"0.0.0.0", "::", "::", "127.0.0.1", "127.0.0.53", "::1", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "2001:db8::1", "::ffff:0.0.0.0"}
	f.Fuzz(func(t *testing.T, data []byte, process, executable, unit, device string) {
		for _, text := range []*string{&process, &executable, &unit, &device} {
			*text = strings.ToValidUTF8(*text, "\ufffd")
		}
		holders := []Holder{
			{Process: process, Unit: unit},
			{Process: process, Executable: executable},
			{Unit: unit},
			{Process: "systemd", Unit: unit},
			{Process: "x", Executable: executable, Unit: "x-1.scope"},
		}
		var listeners []Listener
		// Four bytes a listener: protocol and what is known, port, address, holders.
		for ; len(data) >= 4; data = data[4:] {
			l := Listener{
				Proto:    protoNames[data[0]&1],
				Detailed: data[0]&2 != 0,
				IPv6Only: data[0]&4 != 0,
				Loopback: data[0]&32 != 0,
				Addr:     netip.AddrPortFrom(netip.MustParseAddr(addresses[int(data[2])%len(addresses)]), uint16(data[1])),
			}
			if data[0]&16 != 0 {
				l.Device = device
			}
			l.Sockets = make([][]Holder, 1+data[0]>>6&1)
			for bit, h := range holders {
				if data[3]>>bit&1 != 0 {
					s := &l.Sockets[bit%len(l.Sockets)]
					*s = append(*s, h)
				}
			}
			listeners = append(listeners, l)
		}
		checkFormat(t, listeners)
	})
}
