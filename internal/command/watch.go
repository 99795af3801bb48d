//go:build linux

package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// redrawAfter is how long watch shows a table. Where a read takes long, it shows it longer: it reads for a tenth of the time at most.
const redrawAfter = 2 * time.Second

// Escape sequences (ECMA-48, and DEC's private modes) for a screen of our own, on which long lines do not wrap.
const (
	enterScreen = "\x1b[?1049h\x1b[?7l"
	leaveScreen = "\x1b[?7h\x1b[?1049l"
	toTop       = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// watch shows the listeners until a signal ends it, which is how it succeeds. On a terminal it draws each table over the last one.
// Elsewhere it writes one after the other.
func watch(o ListOptions, s Streams) int {
	switch {
	case o.Format != FormatTable:
		s.report(fmt.Errorf("--watch redraws the table: leave out --format=%s", o.Format))
		return ExitTrouble
	case o.Output != "":
		s.report(errors.New("--watch shows the table: leave out --output"))
		return ExitTrouble
	}
	ends := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once, also where nobody reads what it writes
	err := watchUntil(ctx, o, s.Out)
	if screenOf(s.Out).drawable {
		err = errors.Join(err, wrote(io.WriteString(s.Out, leaveScreen)))
	}
	if err == nil {
		return ExitOK
	}
	s.report(err)
	if errors.As(err, new(*WriteError)) {
		return ExitNotWritten
	}
	return ExitTrouble
}

// watchUntil shows the listeners until ctx is done. It returns why there is no first answer, as for a service that does not exist, or the
// error of an output that cannot be written.
func watchUntil(ctx context.Context, o ListOptions, out io.Writer) error {
	resized, suspended := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	enter := func() error { return nil }
	if screenOf(out).drawable {
		enter = func() error { return wrote(io.WriteString(out, enterScreen)) }
		if canBeContinued() {
			signal.Notify(suspended, syscall.SIGTSTP)
			defer signal.Stop(suspended)
		}
	}
	err := enter()
	for first := true; err == nil && ctx.Err() == nil; first = false {
		began, frames := time.Now(), make(chan frame, 1)
		go func() { frames <- newFrame(o, screenOf(out), began) }()
		select {
		case now := <-frames:
			if first && now.failure != nil {
				return now.failure
			}
			err = wrote(out.Write(now.text))
		case <-ctx.Done(): // however long the read takes
			return nil
		}
		select {
		case <-time.After(max(redrawAfter, 9*time.Since(began))):
		case <-resized:
		case <-suspended: // the shell gets its screen back until it continues the program
			err = errors.Join(wrote(io.WriteString(out, leaveScreen)), syscall.Kill(os.Getpid(), syscall.SIGSTOP), enter())
		case <-ctx.Done():
		}
	}
	return err
}

// canBeContinued reports whether a shell with job control started the program, which gives each job a process group of its own. Where
// nobody would continue it, as with ssh -t, Ctrl-Z must not stop it: the kernel ignores SIGTSTP there, but not SIGSTOP.
func canBeContinued() bool {
	session, err := unix.Getsid(0)
	return err == nil && session != unix.Getpgrp()
}

// wrote returns the error of a write.
func wrote(_ int, err error) error { return Written(err) }

// frame is what the screen shows of the listeners: the answer, and below it what is wrong with it.
type frame struct {
	text    []byte
	failure error // why there is no answer
}

func newFrame(o ListOptions, screen screen, now time.Time) frame {
	var answer, troubles bytes.Buffer
	s := Streams{Out: io.Discard, Err: &troubles, Logger: PlainLogger(&troubles)}
	_, clauses, err := answerOn(o, &answer, screen, s)
	s.finish(new(bytes.Buffer), false, err, clauses)
	if answer.Len() > 0 {
		err = nil
	}
	text := fmt.Sprintf("%s: %s", wording.Name(o.Inventory.RegistryHost), now.Format(time.DateTime))
	if screen.terminal {
		text += ", until Ctrl-C"
	}
	text += "\n\n" + answer.String() + troubles.String()
	if !screen.drawable {
		return frame{[]byte(text + "\n"), err}
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if most := screen.height - 1; screen.height > 1 && len(lines) > screen.height {
		lines = append(lines[:most:most], fmt.Sprintf("… and %s", wording.Count(len(lines)-most, "more line")))
	}
	return frame{[]byte(toTop + strings.Join(lines, clearLine+"\n") + clearLine + clearBelow), err}
}
