//go:build linux

package command

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// screen describes the place where output goes. The zero value is a file or a pipe.
type screen struct {
	terminal bool
	drawable bool // a terminal that can be drawn on, and not only written to
	width    int  // in columns; 0 if it is not known
	height   int  // in lines; 0 if it is not known
	colour   bool // colours are supported and wanted
}

// screenOf returns the screen to which w writes.
func screenOf(w io.Writer) screen {
	file, ok := w.(*os.File)
	if !ok {
		return screen{}
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil { // not a terminal
		return screen{}
	}
	term := os.Getenv("TERM")
	drawable := term != "" && term != "dumb"
	colour := drawable && os.Getenv("NO_COLOR") == "" // no-color.org
	return screen{terminal: true, drawable: drawable, width: int(size.Col), height: int(size.Row), colour: colour}
}
