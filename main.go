// Command listen_exporter tells Prometheus which TCP and UDP ports this host listens on.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// Exit codes. A wrong command line is told apart from a program that cannot do its work, as shells and systemd expect.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the program: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	c, done, err := parse(args, stdout)
	if err != nil {
		// An error quotes what the user wrote, which may have several lines.
		_, _ = fmt.Fprintf(stderr, "%s: error: %s, try --help\n", program, strings.ReplaceAll(err.Error(), "\n", `\n`))
		return exitUsage
	}
	if done {
		return exitOK
	}
	if c.command != serveCommand {
		return runOnce(c, stdout, stderr)
	}
	logs := newLoggers(stderr, c.logLevel, c.logFormat)
	if err := serve(c, logs); err != nil {
		inventory.LogEach(logs.kit, "cannot serve", err)
		return exitFailure
	}
	return exitOK
}
