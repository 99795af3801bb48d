//go:build linux

package command

import (
	"bytes"
	"strings"

	"github.com/rivo/uniseg"
)

// table is text in columns. Its layout is ours because text/tabwriter takes each character for one column wide, and table
// libraries cannot shrink some columns before others to fit a terminal.
type table struct {
	lines [][]cell // the first one is the header
	// shrinkable are the columns that may be cut to fit the terminal, in this order, down to leastWidth.
	shrinkable []int
}

const leastWidth = 12

// cell is the text of one column of a line.
type cell struct {
	text  string
	right bool // aligned to the right
	paint string
}

// Escape sequences (ECMA-48) in the terminal's own colours, which are readable on its background.
const (
	paintBold   = "\x1b[1m"
	paintDim    = "\x1b[2m"
	paintGood   = "\x1b[32m"
	paintBad    = "\x1b[1;31m"
	paintNormal = "\x1b[0m"
)

const gap = "  " // between two columns

// write writes the table with its columns aligned.
func (t table) write(out *bytes.Buffer, s screen) {
	widths := t.widths(s)
	for _, line := range t.lines {
		for i, c := range line {
			if i > 0 {
				out.WriteString(gap)
			}
			text := truncated(c.text, widths[i])
			padding := strings.Repeat(" ", widths[i]-uniseg.StringWidth(text))
			if s.colour && c.paint != "" {
				text = c.paint + text + paintNormal
			}
			switch {
			case c.right:
				text = padding + text
			case i < len(line)-1:
				text += padding
			}
			out.WriteString(text)
		}
		out.WriteByte('\n')
	}
}

// widths returns the width of each column.
func (t table) widths(s screen) []int {
	widths := make([]int, len(t.lines[0]))
	for _, line := range t.lines {
		for i, c := range line {
			widths[i] = max(widths[i], uniseg.StringWidth(c.text))
		}
	}
	if !s.terminal || s.width == 0 {
		return widths
	}
	excess := len(gap)*(len(widths)-1) - s.width
	for _, width := range widths {
		excess += width
	}
	for _, column := range t.shrinkable {
		if cut := min(excess, widths[column]-leastWidth); cut > 0 {
			widths[column] -= cut
			excess -= cut
		}
	}
	return widths
}

// truncated returns text in at most width columns of a terminal. It ends in an ellipsis if it was cut.
func truncated(text string, width int) string {
	if uniseg.StringWidth(text) <= width {
		return text
	}
	kept := 0
	for used := 1; ; { // the ellipsis
		cluster, _, columns, _ := uniseg.FirstGraphemeClusterInString(text[kept:], -1)
		if used += columns; used > width {
			return text[:kept] + "…"
		}
		kept += len(cluster)
	}
}
