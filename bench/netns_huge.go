package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The load of netns-huge: so many namespaces of one process each, and so many sockets in one of them.
const (
	manyNamespaces = 300
	hugeSockets    = 100_000
)

// newcomers is how many listeners come to namespaces beside the huge one.
const newcomers = 5

// crowd opens so many connected sockets in one of the namespaces.
func (n namespaces) crowd(namespace int, proto string, sockets int) error {
	return visiting(func() error {
		if err := unix.Setns(n.open[namespace], unix.CLONE_NEWNET); err != nil {
			return err
		}
		if err := prepareNetwork(); err != nil {
			return err
		}
		return startLoad(proto, sockets)
	})
}

// newcomer listens on a port in one of the namespaces.
func (n namespaces) newcomer(namespace, port int) (pid int, err error) {
	err = visiting(func() error {
		if err := unix.Setns(n.open[namespace], unix.CLONE_NEWNET); err != nil {
			return err
		}
		pid, err = tiny{name: newHolderName, tcp: uint16(port)}.start()
		return err
	})
	return pid, err
}

// untilNewShown returns how many scrapes it takes until a page shows listeners that are new, in namespaces that lie far apart.
func (n namespaces) untilNewShown(e *exporter, port int) (scrapes int, err error) {
	var pids []int
	for i := range newcomers {
		pid, err := n.newcomer(i*len(n.pids)/newcomers, port)
		if err != nil {
			return 0, err
		}
		pids = append(pids, pid)
	}
	if scrapes, err = e.untilShown(newcomers, strconv.Itoa(port)); err != nil {
		return 0, err
	}
	return scrapes, end(pids...)
}

// netnsHuge shows what one huge namespace does to the scrapes of many small ones.
func netnsHuge(s settings, out io.Writer) error {
	load, err := startNamespaces(manyNamespaces, 1)
	if err != nil {
		return err
	}
	var exporters []*exporter
	for _, one := range []struct {
		name  string
		start func(settings, ...string) (*exporter, error)
	}{{"root", startProduct}, {"nobody", startProductAsNobody}} {
		e, err := one.start(s, everyNamespace)
		if err != nil {
			return err
		}
		e.name = one.name
		exporters = append(exporters, e)
	}
	titles := []string{
		fmt.Sprintf("%d namespaces of %d listeners", manyNamespaces, listenersPerNamespace),
		fmt.Sprintf("The same, and %d TCP sockets in one of them", hugeSockets),
		fmt.Sprintf("The same, and %d UDP sockets more in that one", hugeSockets),
	}
	port := firstNewPort
	for phase, title := range titles {
		if phase > 0 {
			if err := load.crowd(len(load.pids)-1, []string{"", "tcp", "udp"}[phase], hugeSockets); err != nil {
				return err
			}
		}
		var costs []cost
		var seen []string
		for _, e := range exporters {
			scrapes, err := e.untilShown(manyNamespaces, strconv.Itoa(namespaceTCPPort))
			if err != nil {
				return err
			}
			c, err := e.cost(costScrapes)
			if err != nil {
				return err
			}
			costs = append(costs, c)
			port++
			newScrapes, err := load.untilNewShown(e, port)
			if err != nil {
				return err
			}
			seen = append(seen, fmt.Sprintf("%s: the listeners of all namespaces were shown after %d scrapes, %d new ones in small namespaces after %d",
				e.name, scrapes, newcomers, newScrapes))
		}
		if err := reportCosts(out, title, costs...); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s\n\n", strings.Join(seen, "\n")); err != nil {
			return err
		}
	}
	return nil
}
