package inventory

import (
	"fmt"
	"strconv"
	"strings"
)

// PortSet is a set of port numbers, written as a list such as "22,8000-8100". The zero value is empty. It is a flag value:
// setting it again adds to it.
type PortSet struct {
	spans []span
}

// span is a range of ports, both ends included.
type span struct{ first, last uint16 }

// Set adds a list of ports and port ranges to the set.
func (s *PortSet) Set(list string) error {
	var added []span
	for item := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(item), "-")
		if !isRange {
			last = first
		}
		from, err := parsePort(first)
		if err != nil {
			return err
		}
		to, err := parsePort(last)
		if err != nil {
			return err
		}
		if from > to {
			return fmt.Errorf("port range %q runs backwards: write %d-%d", item, to, from)
		}
		added = append(added, span{from, to})
	}
	s.spans = append(s.spans, added...)
	return nil
}

// String returns the list that makes the set.
func (s *PortSet) String() string {
	items := make([]string, len(s.spans))
	for i, r := range s.spans {
		items[i] = strconv.Itoa(int(r.first))
		if r.last != r.first {
			items[i] += "-" + strconv.Itoa(int(r.last))
		}
	}
	return strings.Join(items, ",")
}

// IsCumulative tells the flag parser that the flag may be given more than once.
func (s *PortSet) IsCumulative() bool { return true }

// Contains tells whether port is in the set.
func (s *PortSet) Contains(port uint16) bool {
	for _, r := range s.spans {
		if r.first <= port && port <= r.last {
			return true
		}
	}
	return false
}

// Empty tells whether no port is in the set.
func (s *PortSet) Empty() bool { return len(s.spans) == 0 }

func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("%q is not a port: want a number from 1 to 65535, or a list such as 22,8000-8100", text)
	}
	return uint16(port), nil
}
