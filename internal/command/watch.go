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

// watch shows the listeners on the terminal until a signal ends it, which is how it succeeds.
func watch(o ListOptions, s Streams) int {
	switch {
	case o.Format != FormatTable:
		s.report(fmt.Errorf("--watch redraws the table: leave out --format=%s", o.Format))
		return ExitTrouble
	case o.Output != "":
		s.report(errors.New("--watch redraws the terminal: leave out --output"))
		return ExitTrouble
	case !screenOf(s.Out).terminal:
		s.report(errors.New("--watch needs a terminal: leave it out where the output goes to a file or a pipe"))
		return ExitTrouble
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	_, err := io.WriteString(s.Out, enterScreen)
	for err == nil && ctx.Err() == nil {
		began, frames := time.Now(), make(chan []byte, 1)
		go func() { frames <- frame(o, screenOf(s.Out), began) }()
		select {
		case text := <-frames:
			_, err = s.Out.Write(text)
		case <-ctx.Done(): // however long the read takes
			continue
		}
		select {
		case <-time.After(max(redrawAfter, 9*time.Since(began))):
		case <-resized:
		case <-ctx.Done():
		}
	}
	_, leaveErr := io.WriteString(s.Out, leaveScreen)
	if err := Written(errors.Join(err, leaveErr)); err != nil {
		s.report(err)
		return ExitNotWritten
	}
	return ExitOK
}

// frame returns what the terminal shows of the listeners now: the answer, and below it what is wrong with it.
func frame(o ListOptions, screen screen, now time.Time) []byte {
	var answer, troubles bytes.Buffer
	s := Streams{Out: io.Discard, Err: &troubles, Logger: PlainLogger(&troubles)}
	_, clauses, err := answerOn(o, &answer, screen, s)
	s.finish(new(bytes.Buffer), false, err, clauses)
	title := fmt.Sprintf("%s: %s, until Ctrl-C\n\n", wording.Name(o.Inventory.RegistryHost), now.Format(time.DateTime))
	lines := strings.Split(strings.TrimSuffix(title+answer.String()+troubles.String(), "\n"), "\n")
	if most := screen.height - 1; screen.height > 1 && len(lines) > screen.height {
		lines = append(lines[:most:most], fmt.Sprintf("… and %s", wording.Count(len(lines)-most, "more line")))
	}
	return []byte(toTop + strings.Join(lines, clearLine+"\n") + clearLine + clearBelow)
}
