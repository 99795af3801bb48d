//go:build linux

// Package command has the commands that read the host or files once and then end: list, audit and check. And lease, which takes ports for
// another program that it runs.
package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/registry"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// Exit codes, like those of grep and diff.
const (
	ExitOK      = 0
	ExitFound   = 1 // a violation, a missing service or a fault
	ExitTrouble = 2 // no answer, or an incomplete one
	// ExitNotWritten is the code of a program that cannot write to its standard output. An error on stderr says so.
	ExitNotWritten = 1
)

// WriteError is the error of an output that could not be written.
type WriteError struct{ Cause error }

func (e *WriteError) Error() string { return "write the output: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Cause }

// Written returns nil if the output was written, or a WriteError.
func Written(cause error) error {
	if cause == nil {
		return nil
	}
	return &WriteError{cause}
}

// Streams are where a command writes its answer, its warnings and its log.
type Streams struct {
	Out, Err io.Writer
	Logger   log.Logger
}

// finish writes the answer of a command, what went wrong, and in one line what could not be found out. It returns the exit code.
func (s Streams) finish(answer *bytes.Buffer, found bool, err error, unknown []string) int {
	if len(unknown) > 0 {
		defer func() { level.Warn(s.Logger).Log("msg", strings.Join(unknown, "; ")) }()
	}
	if answer.Len() > 0 || err == nil { // where there is no answer, a file keeps its last one
		_, writeErr := s.Out.Write(answer.Bytes())
		if writeErr = Written(writeErr); writeErr != nil {
			s.report(errors.Join(err, writeErr))
			if _, toFile := s.Out.(fileWriter); toFile {
				return ExitTrouble
			}
			return ExitNotWritten
		}
	}
	switch {
	case err != nil:
		s.report(err)
		return ExitTrouble
	case found:
		return ExitFound
	}
	return ExitOK
}

// report logs an error. Faults of a registry are written as compilers write them: one line each, which starts with the place.
func (s Streams) report(err error) {
	if faults := registry.Faults(nil); errors.As(err, &faults) {
		writeFaults(s.Err, faults)
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			s.report(one)
		}
		return
	}
	level.Error(s.Logger).Log("msg", err.Error())
}

func writeFaults(w io.Writer, faults registry.Faults) {
	for _, fault := range faults {
		fault.File = wording.Path(fault.File)
		_, _ = fmt.Fprintln(w, fault)
	}
}

// PlainLogger returns a logger that writes warnings and errors to w as command-line tools do: "program: error: message".
func PlainLogger(w io.Writer) log.Logger {
	return level.NewFilter(plainLogger{w}, level.AllowWarn())
}

type plainLogger struct{ w io.Writer }

// Log implements log.Logger.
func (p plainLogger) Log(keyvals ...any) error {
	severity, message, cause, details := "", "", "", ""
	for i := 0; i+1 < len(keyvals); i += 2 {
		switch value := fmt.Sprint(keyvals[i+1]); keyvals[i] {
		case level.Key():
			severity = value
		case "msg":
			message = value
		case "err":
			cause = ": " + value
		default:
			details += fmt.Sprintf(" %v=%s", keyvals[i], value)
		}
	}
	if severity == "warn" {
		severity = "warning"
	}
	_, err := fmt.Fprintf(p.w, "%s: %s: %s\n", wording.Program, severity, wording.Printable(message+cause+details))
	return err
}
