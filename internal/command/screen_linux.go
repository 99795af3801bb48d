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
	colour   bool // colours are supported and wanted
}

// screenOf returns the screen to which w writes.
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
