//go:build linux

package socket

import (
	"errors"
	"fmt"

	"github.com/listen-exporter/listen_exporter/internal/netns"
)

// Config says whose sockets are read, and how.
type Config struct {
	// Procfs is where the procfs is mounted (--path.procfs).
	Procfs string
	// Netns is whose network namespace is observed (--collector.netns): self, or else the host's. Open takes all for host.
	Netns string
	// Source is how the kernel is asked: netlink, procfs, or auto for the better one that works (--collector.source).
	Source string
	// Protocols are those that will be read: the source that is chosen can read each of them.
	Protocols []Protocol
}

// Observed says what a source reads, for the log.
type Observed struct {
	netns.Main
	// NotNetlink is why auto did not choose netlink in the exporter's own namespace, or nil.
	NotNetlink error
}

// errOtherNamespace is why netlink cannot be used: a netlink socket sees only the namespace in which it was opened.
var errOtherNamespace = errors.New("the observed network namespace is not the exporter's own")

// Sources has a source for each protocol of one namespace. They are of one kind, and share nothing: a goroutine may use one while
// another uses the next.
type Sources map[Protocol]Source

// Name is how all of them ask the kernel: the value of the source label.
func (s Sources) Name() string {
	for _, source := range s {
		return source.Name()
	}
	return ""
}

// Close closes the sources. No read of them may be under way.
func (s Sources) Close() {
	for _, source := range s {
		if opened, ok := source.(*Netlink); ok {
			opened.close()
		}
	}
}

// Open finds the namespace and returns the sources that read it, which never change afterwards. It fails if c names nothing
// that could ever be read, or a source that does not work here.
func Open(c Config) (Sources, Observed, error) {
	namespace, err := netns.Find(c.Procfs, c.Netns == "self")
	if err != nil {
		return nil, Observed{}, fmt.Errorf("--path.procfs: %w", err)
	}
	observed := Observed{Main: namespace}
	if c.Source != "procfs" {
		err := errOtherNamespace
		if namespace.Own {
			var sources Sources
			if sources, err = openNetlinks(c); err == nil {
				return sources, observed, nil
			}
		}
		if c.Source == "netlink" {
			return nil, Observed{}, fmt.Errorf("--collector.source=netlink: %w", err)
		}
		if namespace.Own { // otherwise there is a warning
			observed.NotNetlink = err
		}
	}
	sysctls := ""
	if namespace.Own {
		sysctls = c.Procfs
	}
	sources := make(Sources)
	for _, proto := range c.Protocols {
		sources[proto] = NewProcfs(namespace.Dir, sysctls)
	}
	return sources, observed, nil
}

// openNetlinks opens a source for each protocol, or none.
func openNetlinks(c Config) (Sources, error) {
	sources := make(Sources)
	for _, proto := range c.Protocols {
		source, err := OpenNetlink(c.Procfs, proto)
		if err != nil {
			sources.Close()
			return nil, err
		}
		sources[proto] = source
	}
	return sources, nil
}
