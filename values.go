//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
)

// choice is a kingpin.Value: one of some words. Those of kingpin's own do not show in its model, from which completion is made.
type choice struct {
	value *string
	of    []string
}

func (c *choice) Set(text string) error {
	if !slices.Contains(c.of, text) {
		return fmt.Errorf("%q: want one of %s", text, strings.Join(c.of, ","))
	}
	*c.value = text
	return nil
}

func (c *choice) String() string { return *c.value }

// Options returns the words, for completion.
func (c *choice) Options() []string { return c.of }

// number is a kingpin.Value: a whole number. kingpin's integers accept fractions and cut them off.
type number struct {
	value *int
	least int
}

func (n *number) Set(text string) error {
	parsed, err := strconv.ParseInt(text, 10, 32)
	if err != nil || int(parsed) < n.least {
		return fmt.Errorf("%q: want a whole number, at least %d and at most %d", text, n.least, math.MaxInt32)
	}
	*n.value = int(parsed)
	return nil
}

func (n *number) String() string { return strconv.Itoa(*n.value) }

// duration is a kingpin.Value in Prometheus's form of durations.
type duration model.Duration

func (d *duration) Set(text string) error {
	parsed, err := model.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q: want a duration such as 30s, 5m or 1h30m", text)
	}
	*d = duration(parsed)
	return nil
}

func (d *duration) String() string { return model.Duration(*d).String() }
