//go:build linux

package command

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Columns of the list.
const (
	serviceColumn = 4
	holderColumn  = 6
	netnsColumn   = 8
)

// listTable returns the list as a table. No cell is empty or contains a space, so that programs can split lines at spaces.
func listTable(all []entry, netns bool) table {
	t := table{shrinkable: []int{holderColumn, serviceColumn}}
	columns := []string{"PID", "USER"}
	if netns {
		columns = slices.Insert(columns, 0, "NETNS")
		t.shrinkable = slices.Insert(t.shrinkable, 0, netnsColumn)
	}
	t.lines = append(t.lines, header(columns...))
	for _, e := range all {
		line := e.cells()
		if netns {
			line = append(line, cell{text: wording.Printable(e.netns)})
		}
		t.add(append(line, e.ofAllHolders().cells()...))
	}
	return t
}

// add adds a line, each cell of which becomes one word.
func (t *table) add(line []cell) {
	for i := range line {
		line[i].text = word(line[i].text)
	}
	t.lines = append(t.lines, line)
}

// header returns the titles of the columns that each list has, and of those that follow.
func header(further ...string) (line []cell) {
	for _, title := range append([]string{"PROTO", "ADDRESS", "PORT", "SCOPE", "SERVICE", "STATE", "HOLDER", "QUEUE"}, further...) {
		line = append(line, cell{text: title, right: slices.Contains([]string{"PORT", "PID", "AGE"}, title), paint: paintBold})
	}
	return line
}

// cells returns the columns of a line, without the network namespace.
func (e entry) cells() []cell {
	port := cell{text: e.ports(), right: true}
	state := cell{text: e.state, paint: paintBad}
	l := e.listener
	if l == nil {
		return []cell{{text: e.proto}, {}, port, {}, {text: wording.Printable(e.service.Name)}, state, {}, {}}
	}
	service := wording.Printable(l.Verdict.Service)
	switch e.state {
	case inventory.StateOK, inventory.StateLeased:
		state.paint = paintGood
	case inventory.StateClient:
		state.paint = paintDim
	case "":
		state.paint = ""
	}
	queue := cell{text: queueOf(l)}
	if l.Full() {
		queue.paint = paintBad
	}
	return []cell{{text: l.Proto}, {text: addressOf(l)}, port, {text: string(l.Scope)}, {text: service}, state, {text: holdersOf(l)}, queue}
}

// queueOf returns how full a listener's queue is: connections and their limit for TCP, bytes for UDP.
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

// word returns printable text as one word that is not empty. A "-" stands for no text.
func word(text string) string {
	switch text {
	case "":
		return "-"
	case "-":
		return `\x2d`
	}
	return strings.ReplaceAll(text, " ", `\x20`)
}
