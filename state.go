//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/command"
	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/state"
)

// remembered is the content of --state.file.
type remembered struct {
	Memory   *inventory.Remembered   `json:"memory"`
	Registry *inventory.LastRegistry `json:"registry,omitempty"`
	// Host is the name of this host in the registry.
	Host string `json:"host"`
}

// shippedState is the state file of the exporter as it is packaged.
const shippedState = "/var/lib/listen_exporter/state"

// readState returns what is in the state file of a running exporter, which goes on writing it.
func readState(c *config) command.State {
	s := command.State{File: cmp.Or(c.stateFile, shippedState)}
	var last remembered
	written, err := state.Read(s.File, state.Machine(c.inventory.RegistryHost), &last)
	switch {
	case errors.Is(err, fs.ErrPermission):
		s.Err = fmt.Errorf("%w: run it as root, with sudo", err)
	case errors.Is(err, fs.ErrNotExist):
		s.Err = fmt.Errorf("there is no %s: want the --state.file of the exporter", s.File)
	case err != nil:
		s.Err = fmt.Errorf("%s: %w", s.File, err)
	case last.Memory == nil:
		s.Err = fmt.Errorf("%s has nothing yet", s.File)
	default:
		s.Written, s.Memory, s.Registry, s.Host = written, last.Memory, last.Registry, last.Host
	}
	return s
}

// openState opens --state.file, and has the inventory go on from what is in it. It returns what keeps the file up to date until its
// context is done.
func openState(c *config, logger log.Logger) (keep func(context.Context, *inventory.Inventory)) {
	if c.stateFile == "" {
		return func(context.Context, *inventory.Inventory) {}
	}
	var last remembered
	file, loaded := state.Open(c.stateFile, state.Machine(c.inventory.RegistryHost), &last, logger)
	if loaded {
		c.inventory.Remembered, c.inventory.LastRegistry = last.Memory, last.Registry
	}
	c.inventory.StateWritten = &file.Written
	return func(ctx context.Context, listeners *inventory.Inventory) {
		file.Keep(ctx, func() any {
			memory := listeners.Remembered()
			if memory == nil {
				return nil
			}
			return remembered{memory, listeners.LastRegistry(), c.inventory.RegistryHost}
		})
	}
}
