package main

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// The host of netns-nobody. Through procfs, no round can read all of its namespaces.
const (
	crowdNamespaces = 300
	crowdSockets    = 200_000
	firstNewsPort   = 9000
)

const (
	// newsWithin is how many scrapes it may take until a new pod's listener is shown.
	newsWithin = 10
	// maxNewsScrapes is after how many the figure gives up.
	maxNewsScrapes = 500
	// newsPause is between two scrapes: a round may end after the scrape that began it.
	newsPause = 200 * time.Millisecond
)

// scrapesUntil scrapes exporters in turns, as often as it takes until each shows a port outside of the main namespace, and returns how
// often that was.
func scrapesUntil(port int, exporters []*exporter) ([]int, error) {
	counts := make([]int, len(exporters))
	for n := 1; slices.Contains(counts, 0); n++ {
		if n > maxNewsScrapes {
			return nil, fmt.Errorf("after %d scrapes port %d is not shown by each: %v", maxNewsScrapes, port, counts)
		}
		for i, e := range exporters {
			if counts[i] > 0 {
				continue
			}
			p, err := e.page()
			if err != nil {
				return nil, err
			}
			if p.count("host_listen_port", `port="`+strconv.Itoa(port)+`"`, `netns="`) > 0 {
				counts[i] = n
			}
		}
		time.Sleep(newsPause) // a round may end after its scrape
	}
	return counts, nil
}

// listenIn opens a listener in the namespace of a program. It stays open.
func listenIn(of *exec.Cmd, port int) (open io.Closer, err error) {
	err = visiting(func() error {
		namespace, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", of.Process.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(namespace) }()
		if err := unix.Setns(namespace, unix.CLONE_NEWNET); err != nil {
			return err
		}
		open, err = net.Listen("tcp4", "0.0.0.0:"+strconv.Itoa(port))
		return err
	})
	return open, err
}

// news counts the scrapes until the exporter shows, as nobody, what is new on a host with many namespaces and sockets.
func news(s settings, out io.Writer) error {
	namespaces, sockets := s.size(crowdNamespaces, 5), s.size(crowdSockets, 1000)
	pods, err := startNamespaces(namespaces)
	if err != nil {
		return err
	}
	if err := startLoad("tcp", sockets); err != nil {
		return err
	}
	var exporters []*exporter
	for _, name := range s.programs() {
		e, err := startAsNobody(s, name, everyNamespace)
		if err != nil {
			return err
		}
		exporters = append(exporters, e)
	}
	for _, e := range exporters {
		if err := e.untilShown(namespaces, namespaceTCPPort); err != nil {
			return err
		}
	}
	port := firstNewsPort
	var opened []io.Closer
	events := []struct {
		name   string
		happen func() error
	}{
		{"the listener of a new pod", func() error {
			_, err := program{name: holderName, newNet: true, tcp: port}.start()
			return err
		}},
		{"another listener of a pod", func() error {
			one, err := listenIn(pods[port%namespaces], port)
			opened = append(opened, one)
			return err
		}},
	}
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintf(w, "Scrapes until a listener is shown, as nobody, next to %d namespaces and %d sockets\n\n", namespaces, sockets)
	_, _ = fmt.Fprintln(w, "| program\t| what is new\t| median\t| all\t|\n| ---\t| ---\t| ---\t| ---\t|")
	missed := false
	for _, event := range events {
		counts := make([][]int, len(exporters))
		for range s.rounds {
			port++
			if err := event.happen(); err != nil {
				return err
			}
			took, err := scrapesUntil(port, exporters)
			if err != nil {
				return err
			}
			for i := range exporters {
				counts[i] = append(counts[i], took[i])
			}
		}
		for i, e := range exporters {
			slices.Sort(counts[i])
			_, _ = fmt.Fprintf(w, "| %s\t| %s\t| %d\t| %v\t|\n", e.name, event.name, median(counts[i]), counts[i])
			missed = missed || i == 0 && counts[i][len(counts[i])-1] > newsWithin
		}
	}
	for _, one := range opened {
		_ = one.Close()
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if missed {
		return fmt.Errorf("a listener was shown after more than %d scrapes: %w", newsWithin, errMissed)
	}
	return nil
}
