package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/width"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// table is text in columns, of which the first line is the header.
type table struct {
	lines [][]cell
	// flexible are the columns that may be cut to fit a screen, and to how few characters, in the order in which they are.
	flexible []flexible
}

type flexible struct{ column, least int }

// cell is the text of one column of a line.
type cell struct {
	text  string
	right bool
	paint string
}

// The escape sequences of ECMA-48 for what is painted: the terminal's own colours, which are readable on its own background.
const (
	paintBold   = "\x1b[1m"
	paintDim    = "\x1b[2m"
	paintGood   = "\x1b[32m"
	paintBad    = "\x1b[1;31m"
	paintNormal = "\x1b[0m"
)

// column numbers of the list.
const (
	serviceColumn = 4
	holderColumn  = 6
	netnsColumn   = 8
)

// listTable returns the list as a table. No cell is empty or has a space in it, so that a program can read it too.
func listTable(s *inventory.Snapshot, netns bool) table {
	t := table{flexible: []flexible{{holderColumn, 12}, {serviceColumn, 12}}}
	header := []string{"PROTO", "ADDRESS", "PORT", "SCOPE", "SERVICE", "STATE", "HOLDER", "QUEUE"}
	if netns {
		header = append(header, "NETNS")
		t.flexible = slices.Insert(t.flexible, 0, flexible{netnsColumn, 12})
	}
	var line []cell
	for i, text := range header {
		line = append(line, cell{text: text, right: i == 2, paint: paintBold})
	}
	t.lines = append(t.lines, line)
	for _, e := range entries(s) {
		line := e.cells()
		if netns {
			line = append(line, cell{text: visible(e.netns())})
		}
		for i := range line {
			line[i].text = word(line[i].text)
		}
		t.lines = append(t.lines, line)
	}
	return t
}

// cells returns the columns of a line but the network namespace.
func (e entry) cells() []cell {
	port := cell{text: strconv.Itoa(int(e.port())), right: true}
	l := e.listener
	if l == nil {
		return []cell{{text: e.proto()}, {}, port, {}, {text: visible(e.service.Name)}, {text: stateMissing, paint: paintBad}, {}, {}}
	}
	state := cell{text: stateOf(l)}
	service := visible(l.Verdict.Service)
	switch state.text {
	case stateOK:
		state.paint = paintGood
	case stateEphemeral:
		state.paint = paintDim
		service = ""
	case "":
	default:
		state.paint = paintBad
	}
	queue := cell{text: queueOf(l)}
	if l.Full() {
		queue.paint = paintBad
	}
	return []cell{
		{text: l.Proto},
		{text: addressOf(l)},
		port,
		{text: string(l.Scope)},
		{text: service},
		state,
		{text: holderOf(l)},
		queue,
	}
}

// queueOf returns what waits at a listener: connections, and how many may, or bytes of packets.
func queueOf(l *inventory.Listener) string {
	switch {
	case l.Proto == inventory.UDP:
		return bytesOf(l.ReceiveQueueBytes)
	case l.Detailed:
		return fmt.Sprintf("%d/%d", l.AcceptQueueLength, l.AcceptQueueLimit)
	default:
		return strconv.FormatUint(l.AcceptQueueLength, 10)
	}
}

func bytesOf(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%dB", n)
	}
	value, unit := float64(n)/1024, 0
	for ; value >= 1024 && unit < 2; unit++ {
		value /= 1024
	}
	return fmt.Sprintf("%.1f%s", value, []string{"KiB", "MiB", "GiB"}[unit])
}

// word returns text that visible has made as one word.
func word(text string) string {
	switch text {
	case "":
		return "-"
	case "-":
		return `\x2d`
	}
	return strings.ReplaceAll(text, " ", `\x20`)
}

// gap is what stands between two columns.
const gap = 2

// write writes the table with its columns aligned.
func (t table) write(out *bytes.Buffer, s screen) {
	widths := make([]int, len(t.lines[0]))
	for _, line := range t.lines {
		for i, c := range line {
			widths[i] = max(widths[i], widthOf(c.text))
		}
	}
	if s.terminal && s.width > 0 {
		excess := gap*(len(widths)-1) - s.width
		for _, width := range widths {
			excess += width
		}
		for _, f := range t.flexible {
			if cut := min(excess, widths[f.column]-f.least); cut > 0 {
				widths[f.column] -= cut
				excess -= cut
			}
		}
	}
	for _, line := range t.lines {
		for i, c := range line {
			text := shortened(c.text, widths[i])
			padding := strings.Repeat(" ", widths[i]-widthOf(text))
			if s.colour && c.paint != "" {
				text = c.paint + text + paintNormal
			}
			last := i == len(line)-1
			switch {
			case c.right:
				text = padding + text
			case !last:
				text += padding
			}
			out.WriteString(text)
			if !last {
				out.WriteString(strings.Repeat(" ", gap))
			}
		}
		out.WriteByte('\n')
	}
}

// shortened returns text that is at most so many columns wide.
func shortened(text string, width int) string {
	if widthOf(text) <= width {
		return text
	}
	used := 0
	for i, r := range text {
		if used += runeWidth(r); used > width-1 {
			return text[:i] + "…"
		}
	}
	return text
}

// widthOf returns how many columns of a terminal a text takes.
func widthOf(text string) int {
	width := 0
	for _, r := range text {
		width += runeWidth(r)
	}
	return width
}

func runeWidth(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	if kind := width.LookupRune(r).Kind(); kind == width.EastAsianWide || kind == width.EastAsianFullwidth {
		return 2
	}
	return 1
}
