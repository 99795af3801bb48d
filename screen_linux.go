package main

import (
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// screen is what is known of where output goes.
type screen struct {
	// Terminal tells that a person sees it.
	terminal bool
	// Width is in columns; 0 if it is not known.
	width int
	// Colour tells that colours are shown, and wanted.
	colour bool
}

// screenOf returns what is known of where w leads.
func screenOf(w io.Writer) screen {
	file, ok := w.(*os.File)
	if !ok {
		return screen{}
	}
	descriptor := int(file.Fd())
	if _, err := unix.IoctlGetTermios(descriptor, unix.TCGETS); err != nil {
		return screen{}
	}
	s := screen{terminal: true}
	if size, err := unix.IoctlGetWinsize(descriptor, unix.TIOCGWINSZ); err == nil {
		s.width = int(size.Col)
	}
	term := os.Getenv("TERM")
	s.colour = os.Getenv("NO_COLOR") == "" && term != "" && term != "dumb" // no-color.org
	return s
}

// visible returns text so that nothing in it moves the cursor, colours the screen or hides: what is not printable is written as
// Go writes it.
func visible(text string) string {
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
