package manifest

import (
	"bytes"
	"regexp"
	"strings"
)

// mark matches what begins an expression in the templates of Helm, Jinja and ERB. In YAML it may be in quotes only, or in text.
var mark = regexp.MustCompile(`\{\{|\{%|<%`)

// markLine returns the line of the file that has the chunk's first mark of a template, or 0.
func (c chunk) markLine() int {
	at := mark.FindIndex(c.text)
	if at == nil {
		return 0
	}
	return c.before + 1 + bytes.Count(c.text[:at[0]], []byte("\n"))
}

// filledIn reports whether a template fills in a value: a template in quotes, envsubst, Kustomize or OpenShift.
func filledIn(text string) bool {
	return mark.MatchString(text) || strings.Contains(text, "${") || strings.Contains(text, "$(")
}
