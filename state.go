package main

import (
	"context"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/state"
)

// remembered is the content of --state.file.
type remembered struct {
	Memory   *inventory.Remembered   `json:"memory"`
	Registry *inventory.LastRegistry `json:"registry,omitempty"`
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
			return remembered{memory, listeners.LastRegistry()}
		})
	}
}
