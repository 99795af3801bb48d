//go:build linux

package pictures

import (
	_ "embed"
	"strings"
	"testing"
	"text/template"
)

//go:embed terminal.svg.tmpl
var terminalTemplate string

// terminal returns a picture of commands and their output, in a terminal of 130 columns. A line is text, so it stays sharp, and can be searched.
func terminal(t *testing.T, text string) string {
	t.Helper()
	const charWidth, lineHeight, margin, columns = 8, 18, 16, 130
	type line struct {
		Y, Width int
		Text     string
		Class    string
	}
	var (
		lines []line
		y     = margin
	)
	for s := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		for rest := []rune(s); ; {
			part := rest[:min(columns, len(rest))]
			rest = rest[len(part):]
			y += lineHeight
			if len(part) > 0 {
				lines = append(lines, line{y, len(part) * charWidth, string(part), class(s)})
			}
			if len(rest) == 0 {
				break
			}
		}
	}
	var svg strings.Builder
	if err := template.Must(template.New("terminal").Funcs(template.FuncMap{"xml": template.HTMLEscapeString}).Parse(terminalTemplate)).
		Execute(&svg, map[string]any{
			"Width": columns*charWidth + 2*margin, "Height": y + margin, "Margin": margin, "Lines": lines,
		}); err != nil {
		t.Fatal(err)
	}
	return svg.String()
}

// class returns how a line looks: a command, a finding, or other output.
func class(line string) string {
	switch {
	case strings.HasPrefix(line, prompt):
		return "command"
	case strings.Contains(line, ": bind: ") || strings.Contains(line, ": unregistered: ") || strings.Contains(line, ": missing: "),
		strings.Contains(line, "  bind  ") || strings.Contains(line, "  unregistered  ") || strings.Contains(line, "  missing  "):
		return "bad"
	case strings.HasPrefix(line, "PROTO"):
		return "head"
	}
	return "text"
}
