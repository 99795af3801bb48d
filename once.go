package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os/signal"
	"strings"
	"syscall"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/registry"
)

// Exit codes of the commands that look once, as those of grep and diff.
const (
	exitFound   = 1 // something that should not be so
	exitTrouble = 2 // no answer, or not a whole one
)

// onceLogLevel is the least severity of what a command that looks once logs by default.
const onceLogLevel = "warn"

// runOnce runs a command that looks once and ends, and returns the exit code.
func runOnce(c *config, stdout, stderr io.Writer) int {
	// Output that nobody takes is an error like any other.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	logger := onceLogger(c, stderr)
	var out bytes.Buffer
	var found bool
	var err error
	switch c.command {
	case listCommand:
		err = list(c, &out, screenOf(stdout), logger)
	case auditCommand:
		found, err = audit(c, &out, logger)
	case checkCommand:
		found, err = check(c, &out, stderr)
	}
	if _, writeErr := stdout.Write(out.Bytes()); writeErr != nil {
		err = errors.Join(err, fmt.Errorf("write the output: %w", writeErr))
	}
	switch {
	case err != nil:
		tell(err, stderr, logger)
		return exitTrouble
	case found:
		return exitFound
	}
	return exitOK
}

// onceLogger returns the logger of a command that looks once: a person waits for its answer, and wants to hear of trouble alone.
func onceLogger(c *config, stderr io.Writer) log.Logger {
	minimum := c.logLevel
	if !c.logLevelSet {
		minimum = onceLogLevel
	}
	if c.logLevelSet || c.logFormatSet {
		return newLoggers(stderr, minimum, c.logFormat).kit
	}
	return level.NewFilter(plainLog{stderr}, level.AllowWarn())
}

// tell says on stderr what went wrong: the faults of a registry by their places, as compilers do, and anything else in the log.
func tell(err error, stderr io.Writer, logger log.Logger) {
	if faults := registry.Faults(nil); errors.As(err, &faults) {
		writeFaults(stderr, faults)
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			tell(one, stderr, logger)
		}
		return
	}
	level.Error(logger).Log("msg", err.Error())
}

// plainLog writes log lines as command-line tools do.
type plainLog struct{ w io.Writer }

// Log implements log.Logger.
func (p plainLog) Log(keyvals ...any) error {
	severity, message, why, details := "", "", "", ""
	for i := 0; i+1 < len(keyvals); i += 2 {
		switch value := fmt.Sprint(keyvals[i+1]); keyvals[i] {
		case level.Key():
			severity = value
		case "msg":
			message = value
		case "err":
			why = ": " + value
		default:
			details += fmt.Sprintf(" %v=%s", keyvals[i], value)
		}
	}
	if severity == "warn" {
		severity = "warning"
	}
	_, err := fmt.Fprintf(p.w, "%s: %s: %s\n", program, severity, visible(message+why+details))
	return err
}

// look reads once what listens.
func look(c *config, logger log.Logger) (*inventory.Snapshot, error) {
	o := c.inventory
	o.EphemeralMinAge = 0 // there is no past that would tell a client from a service
	if !c.maxPortsSet {
		o.MaxPorts = math.MaxInt32 // the default bounds what Prometheus has to store
	}
	ports, err := inventory.Open(o, logger)
	if err != nil {
		return nil, err
	}
	return ports.Snapshot(), nil
}

// missing tells what a snapshot lacks. Why, the inventory has logged.
func missing(s *inventory.Snapshot) error {
	var lacks []error
	for _, read := range s.Reads {
		if read.Err == nil {
			continue
		}
		what := "its listeners are missing here"
		switch read.Collector {
		case inventory.CollectorHolder:
			what = "who holds the listeners is not known"
		case inventory.CollectorNetns:
			what = "listeners of other network namespaces are missing here"
		}
		lacks = append(lacks, fmt.Errorf("%s could not be read: %s", read.Collector, what))
	}
	if s.NamespacesOmitted > 0 {
		lacks = append(lacks, fmt.Errorf("%d network namespaces could not be read in time: their listeners are missing here", s.NamespacesOmitted))
	}
	return errors.Join(lacks...)
}

// isNoise tells whether a listener is a UDP socket on an ephemeral port that nobody declares: most often a client, of which the
// exporter would wait for how long it lives.
func isNoise(l *inventory.Listener) bool {
	undeclared := !l.Judged || l.Verdict.Reason == inventory.ReasonUnregistered || l.Verdict.Reason == inventory.ReasonReserved
	return l.Proto == inventory.UDP && l.Range == inventory.RangeEphemeral && undeclared
}

// addressOf returns what a listener is bound to, with the interface as ss has it.
func addressOf(l *inventory.Listener) string {
	address := l.Addr.Addr().String()
	if l.Device != "" {
		address = l.Addr.Addr().WithZone("").String() + "%" + l.Device
	}
	return visible(address)
}

// counted returns a number with its noun.
func counted(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "y"):
		noun = strings.TrimSuffix(noun, "y") + "ie"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
