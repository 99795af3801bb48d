package socket

import (
	"fmt"

	"listen_exporter/internal/netns"
)

// Config says whose sockets are read, and how.
type Config struct {
	// Procfs is where the procfs is mounted (--path.procfs).
	Procfs string
	// Netns is whose network namespace is observed: host or self (--collector.netns).
	Netns string
	// Source is how the kernel is asked: procfs (--collector.source).
	Source string
}

// Observed says what a source reads, for the log.
type Observed struct {
	// Dir is the directory of the process through which the namespace is seen.
	Dir string
	// Own tells that it is the exporter's own network namespace.
	Own bool
	// Warnings are sentences that say why it may not be the namespace that the user means.
	Warnings []string
}

// Open finds the namespace and returns the source that reads it. It fails where c names nothing that could ever be read.
func Open(c Config) (Source, Observed, error) {
	if c.Source != "procfs" {
		return nil, Observed{}, fmt.Errorf("open a source of listening sockets: no source is called %q", c.Source)
	}
	namespace, err := netns.Find(c.Procfs, netns.Mode(c.Netns))
	if err != nil {
		return nil, Observed{}, err
	}
	sysctls := ""
	if namespace.Own {
		sysctls = c.Procfs
	}
	return NewProcfs(namespace.Dir, sysctls), Observed(namespace), nil
}
