// Package ports parses ranges of port numbers, and has sets of them.
package ports

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Range is the ports from First to Last, both included.
type Range struct{ First, Last uint16 }

// ParseRange parses a port such as "22" or a range such as "8000-8010". Spaces around the numbers are ignored.
func ParseRange(text string) (Range, error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, err := parse(from)
	if err != nil {
		return Range{}, err
	}
	last, err := parse(to)
	if err != nil {
		return Range{}, err
	}
	if first > last {
		return Range{}, fmt.Errorf(`port range %q runs backwards: want "%d-%d"`, text, last, first)
	}
	return Range{first, last}, nil
}

// maxQuoted is how many characters of a bad number an error shows.
const maxQuoted = 20

func parse(text string) (uint16, error) {
	text = strings.TrimSpace(text)
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		if characters := []rune(text); len(characters) > maxQuoted {
			text = string(characters[:maxQuoted]) + "…"
		}
		return 0, fmt.Errorf("%q is not a port: want a number from 1 to 65535", text)
	}
	return uint16(port), nil
}

// String returns "22" or "8000-8010".
func (r Range) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Contains reports whether port is in the range.
func (r Range) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// Size returns the number of ports in the range.
func (r Range) Size() int { return int(r.Last) - int(r.First) + 1 }

// Set is a set of ports, as ranges in any order. The zero value is empty. *Set is a flag value: each Set adds to it.
type Set []Range

// ParseSet parses a list such as "22,8000-8100".
func ParseSet(list string) (Set, error) {
	var s Set
	for item := range strings.SplitSeq(list, ",") {
		r, err := ParseRange(item)
		if err != nil {
			return nil, err
		}
		s = append(s, r)
	}
	return s, nil
}

// Set adds a list of ports such as "22,8000-8100" to the set.
func (s *Set) Set(list string) error {
	added, err := ParseSet(list)
	if err != nil {
		return fmt.Errorf("%w, or a list such as 22,8000-8100", err)
	}
	*s = append(*s, added...)
	return nil
}

// IsCumulative reports that the flag may be given more than once.
func (s *Set) IsCumulative() bool { return true }

// String returns the list that ParseSet parses.
func (s Set) String() string {
	items := make([]string, len(s))
	for i, r := range s {
		items[i] = r.String()
	}
	return strings.Join(items, ",")
}

// Contains reports whether port is in the set.
func (s Set) Contains(port uint16) bool {
	return slices.ContainsFunc(s, func(r Range) bool { return r.Contains(port) })
}

// Merged returns the same ports in ascending order, in as few ranges as possible.
func (s Set) Merged() Set {
	sorted := slices.SortedFunc(slices.Values(s), func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	var merged Set
	for _, r := range sorted {
		if n := len(merged); n > 0 && int(r.First) <= int(merged[n-1].Last)+1 {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// Without returns the ports of s that are not in o, merged.
func (s Set) Without(o Set) Set {
	var left Set
	for _, r := range s.Merged() {
		first, last := int(r.First), int(r.Last)
		for _, cut := range o.Merged() {
			if int(cut.Last) < first || last < int(cut.First) {
				continue
			}
			if first < int(cut.First) {
				left = append(left, Range{uint16(first), cut.First - 1})
			}
			first = int(cut.Last) + 1
		}
		if first <= last {
			left = append(left, Range{uint16(first), uint16(last)})
		}
	}
	return left
}
