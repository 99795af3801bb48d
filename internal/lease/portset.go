//go:build linux

package lease

import (
	"iter"
	"math/bits"

	"github.com/listen-exporter/listen_exporter/internal/ports"
)

// portSet is a set of ports, with a bit for each.
type portSet [1 << 16 / 64]uint64

func (s *portSet) add(port uint16) { s[port/64] |= 1 << (port % 64) }

func (s *portSet) addAll(ports []uint16) {
	for _, port := range ports {
		s.add(port)
	}
}

func (s *portSet) removeAll(ports []uint16) {
	for _, port := range ports {
		s.remove(port)
	}
}

func (s *portSet) remove(port uint16) { s[port/64] &^= 1 << (port % 64) }

func (s *portSet) has(port uint16) bool { return s[port/64]&(1<<(port%64)) != 0 }

func (s *portSet) addRange(r ports.Range) {
	for port := range all(r) {
		s.add(port)
	}
}

// all yields the ports of a range.
func all(r ports.Range) iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for port := int(r.First); port <= int(r.Last); port++ {
			if !yield(uint16(port)) {
				return
			}
		}
	}
}

// join adds the ports of another set.
func (s *portSet) join(o *portSet) {
	for i := range s {
		s[i] |= o[i]
	}
}

// without takes the ports of another set out.
func (s *portSet) without(o *portSet) {
	for i := range s {
		s[i] &^= o[i]
	}
}

func (s *portSet) size() int { return s.sizeIn(ports.Range{Last: 1<<16 - 1}) }

// sizeIn returns how many ports of a range are in the set.
func (s *portSet) sizeIn(r ports.Range) (n int) {
	for i := r.First / 64; i <= r.Last/64; i++ {
		word := s[i]
		if i == r.First/64 {
			word &= ^uint64(0) << (r.First % 64)
		}
		if i == r.Last/64 {
			word &= ^uint64(0) >> (63 - r.Last%64)
		}
		n += bits.OnesCount64(word)
	}
	return n
}

// nth returns the port before which so many others are in the set, which is larger.
func (s *portSet) nth(n int) uint16 {
	for port := range s.from(0) {
		if n == 0 {
			return port
		}
		n--
	}
	return 0
}

// from yields the ports of the set from one on, and after the last one those before it.
func (s *portSet) from(start uint16) iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		below := uint64(1)<<(start%64) - 1 // in its word
		for n := range len(s) + 1 {
			i := (int(start/64) + n) % len(s)
			word := s[i]
			switch n {
			case 0:
				word &^= below
			case len(s):
				word &= below
			}
			for ; word != 0; word &= word - 1 {
				if !yield(uint16(i*64 + bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}
