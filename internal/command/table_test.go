//go:build linux

package command

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rivo/uniseg"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/test/program"
)

// hostile returns listeners with names that try to fool the reader.
func hostile() *inventory.Snapshot {
	addr := netip.MustParseAddrPort
	return &inventory.Snapshot{
		Reads: []inventory.Read{{Collector: inventory.TCP}, {Collector: inventory.UDP}},
		Listeners: []inventory.Listener{
			{
				Key:      inventory.Key{Proto: inventory.TCP, Addr: addr("[fe80::1]:80"), Scope: inventory.ScopeLinkLocal, Device: "e\x1b[0m"},
				Detailed: true, AcceptQueueLength: 129, AcceptQueueLimit: 128,
				Holders: []inventory.Holder{
					{Process: "a\x1b[31m b\n", Unit: "x.service"},
					{Process: "x(ssh.service)", ContainerID: "0123456789abcdef"},
					{Process: "-", PodUID: "1b4e28ba-2fa1-11d2-883f-0016d3cca427", UIDUnknown: true},
				},
				ManyHolders: true,
				Verdict:     inventory.Verdict{Service: "\u009b数据库\u202e"}, Judged: true,
			},
			{
				Key:               inventory.Key{Proto: inventory.UDP, Addr: addr("10.0.0.1:81"), Scope: inventory.ScopePrivate, Netns: "blue green"},
				ReceiveQueueBytes: 3 << 20, Holders: []inventory.Holder{{Process: "-"}},
			},
		},
	}
}

func TestNamesInATableCannotControlATerminalAndStayOneWord(t *testing.T) {
	var out bytes.Buffer
	listTable(entries(hostile()), true).write(&out, screen{})
	want := `PROTO  ADDRESS           PORT  SCOPE      SERVICE               STATE  HOLDER                                                                                                   QUEUE    NETNS  PID  USER
tcp    fe80::1%e\x1b[0m    80  link-local  \u009b数据库\u202e  ok     a\x1b[31m\x20b\n(x.service),x\x28ssh.service\x29(container:0123456789ab),-(pod:1b4e28ba),(many)  129/128  -  -  root
udp    10.0.0.1            81  private     -                     -      \x2d                                                                                                    3.0MiB   blue\x20green  -  root
`
	if diff := cmp.Diff(columns(want), columns(out.String())); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// columns returns the words of each line.
func columns(text string) [][]string {
	var lines [][]string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Fields(line))
	}
	return lines
}

func TestATableOnATerminalFitsItsWidth(t *testing.T) {
	all := entries(hostile())
	for _, width := range []int{121, 111, 97} {
		var out bytes.Buffer
		listTable(all, false).write(&out, screen{terminal: true, width: width})
		longest := 0
		for _, line := range program.Lines(out.String()) {
			longest = max(longest, uniseg.StringWidth(line))
		}
		if longest != width {
			t.Errorf("on %d columns the longest line takes %d:\n%s", width, longest, &out)
		}
	}
	var narrow, narrower, piped bytes.Buffer
	listTable(all, false).write(&narrow, screen{terminal: true, width: 1})
	listTable(all, false).write(&narrower, screen{terminal: true, width: 40})
	if narrow.String() != narrower.String() || !strings.Contains(narrow.String(), "fe80::1%e") {
		t.Errorf("what cannot be made to fit is cut further:\n%s%s", &narrow, &narrower)
	}
	listTable(all, false).write(&piped, screen{width: 10})
	if strings.Contains(piped.String(), "…") {
		t.Errorf("output to a file is cut:\n%s", &piped)
	}
}

func TestOnlyStatesAndFullQueuesHaveColours(t *testing.T) {
	var plain, coloured bytes.Buffer
	listTable(entries(hostile()), false).write(&plain, screen{terminal: true})
	listTable(entries(hostile()), false).write(&coloured, screen{terminal: true, colour: true})
	if strings.Contains(plain.String(), "\x1b") {
		t.Errorf("colours where there should be none:\n%q", &plain)
	}
	for _, want := range []string{paintBold + "STATE" + paintNormal, paintGood + "ok" + paintNormal, paintBad + "129/128" + paintNormal} {
		if !strings.Contains(coloured.String(), want) {
			t.Errorf("no %q in:\n%q", want, &coloured)
		}
	}
	without := strings.NewReplacer(paintBold, "", paintGood, "", paintBad, "", paintDim, "", paintNormal, "").Replace(coloured.String())
	if diff := cmp.Diff(plain.String(), without); diff != "" {
		t.Errorf("colours change the text (-plain +coloured):\n%s", diff)
	}
}
