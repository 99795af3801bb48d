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
	colour := os.Getenv("NO_COLOR") == "" && term != "" && term != "dumb" // no-color.org
	return screen{terminal: true, width: int(size.Col), height: int(size.Row), colour: colour}
}
