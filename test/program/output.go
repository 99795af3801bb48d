//go:build linux

package program

import (
	"bytes"
	"strings"
	"sync"
)

// Output is what a process has written.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Lines returns the complete lines.
func (o *Output) Lines() []string { return Lines(o.String()) }

// Lines returns the complete lines of a text, without newlines.
func Lines(text string) []string {
	parts := strings.Split(text, "\n")
	return parts[:len(parts)-1]
}
