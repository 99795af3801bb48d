package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// portSpan is a port or a range of ports, both ends included, and where it stands.
type portSpan struct {
	first, last  uint16
	line, column int
}

func (s portSpan) size() int { return int(s.last) - int(s.first) + 1 }

// String returns "port 22" or "ports 8000-8010".
func (s portSpan) String() string {
	if s.first == s.last {
		return fmt.Sprintf("port %d", s.first)
	}
	return fmt.Sprintf("ports %d-%d", s.first, s.last)
}

func (s portSpan) overlaps(o portSpan) bool { return s.first <= o.last && o.first <= s.last }

// ports returns the ports of a value that is a port, a range, or a list of them: sorted, each once.
func (p *parser) ports(n *yaml.Node, key string) []portSpan {
	var spans []portSpan
	for _, item := range p.items(n, key, `want a port, a range such as "8000-8010", or a list of them`) {
		first, last, problem := parsePorts(item.Value)
		if problem != "" {
			p.at(item, "%s", problem)
			continue
		}
		spans = append(spans, portSpan{first, last, item.Line, item.Column})
	}
	slices.SortStableFunc(spans, func(a, b portSpan) int { return cmp.Compare(a.first, b.first) })
	kept := spans[:0]
	for _, s := range spans {
		if len(kept) == 0 || !s.overlaps(kept[len(kept)-1]) {
			kept = append(kept, s)
			continue
		}
		previous := &kept[len(kept)-1]
		later := s
		if cmp.Or(cmp.Compare(s.line, previous.line), cmp.Compare(s.column, previous.column)) < 0 {
			later = *previous
		}
		p.add(later.line, later.column, "%s: in this list already: want each port once", later)
		previous.last = max(previous.last, s.last)
	}
	return kept
}

// parsePorts reads "22" or "8000-8010".
func parsePorts(text string) (first, last uint16, problem string) {
	from, to, isRange := strings.Cut(text, "-")
	if from, to = strings.TrimSpace(from), strings.TrimSpace(to); !isRange {
		to = from
	}
	if !isNumber(from) || !isNumber(to) {
		return 0, 0, fmt.Sprintf(`%s is not a port: want a number from 1 to 65535, a range such as "8000-8010", or a list of them`, quoted(text))
	}
	var ends [2]uint16
	for i, end := range [2]string{from, to} {
		number, err := strconv.ParseUint(end, 10, 16)
		switch {
		case err != nil || number == 0:
			return 0, 0, fmt.Sprintf("port %s: want a number from 1 to 65535", shortened(end))
		case end[0] == '0':
			return 0, 0, fmt.Sprintf("port %s could be read as an octal number: want %d", shortened(end), number)
		}
		ends[i] = uint16(number)
	}
	if ends[0] > ends[1] {
		return 0, 0, fmt.Sprintf(`port range %q runs backwards: want "%d-%d"`, text, ends[1], ends[0])
	}
	return ends[0], ends[1], ""
}

func isNumber(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

func shortened(number string) string {
	if len(number) > 20 {
		return number[:20] + "…"
	}
	return number
}
