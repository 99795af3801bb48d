//go:build linux

package collector

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// labels are the labels of a series, sorted by name, without empty ones.
type labels struct{ names, values []string }

// newLabels returns labels, given sorted as names and values in turns. Names that programs gave themselves may have any bytes.
func newLabels(pairs ...string) labels {
	l := labels{make([]string, 0, len(pairs)/2), make([]string, 0, len(pairs)/2)}
	for n := 0; n < len(pairs); n += 2 {
		if value := pairs[n+1]; value != "" {
			value = strings.ReplaceAll(strings.ToValidUTF8(value, "\uFFFD"), separator, "\uFFFD")
			l.names, l.values = append(l.names, pairs[n]), append(l.values, value)
		}
	}
	return l
}

// separator separates values in an order. No name of the kernel's has it.
const separator = "\x00"

// order is what a registry of client_golang sorts series by: those with fewer labels first, and then by their values.
func (l labels) order() string {
	return string([]byte{byte(len(l.values))}) + strings.Join(l.values, separator)
}

// escaper escapes a label's value for the text format.
var escaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// text returns the labels in the text format.
func (l labels) text() []byte {
	if len(l.names) == 0 {
		return nil
	}
	var buffer [256]byte
	text := append(buffer[:0], '{')
	for n, name := range l.names {
		if n > 0 {
			text = append(text, ',')
		}
		text = append(append(text, name...), `="`...)
		text = append(append(text, escaper.Replace(l.values[n])...), '"')
	}
	return bytes.Clone(append(text, '}'))
}

// subject is what a family about listeners has a series for.
type subject int

const (
	listeners subject = iota
	holders
	violations
	subjectCount
)

// names returns the names of the labels that the series for a subject can have.
func (s subject) names() []string {
	names := []string{"address", "device", "family", "netns", "port", "proto", "range", "scope"}
	switch s {
	case holders:
		return append(names, "container_id", "pod_uid", "process", "uid", "unit")
	case violations:
		return append(names, "reason", "service_name")
	default:
		return names
	}
}

// labels returns the labels of the subject's series for a listener.
func (s subject) labels(l *inventory.Listener) (all []labels) {
	switch s {
	case holders:
		for _, h := range l.Holders {
			uid := ""
			if !h.UIDUnknown {
				uid = strconv.FormatUint(uint64(h.UID), 10)
			}
			h.Process = processLabel(h.Process)
			all = append(all, labelsOf(l.Key, h, uid, inventory.Verdict{}))
		}
		if l.ManyHolders {
			all = append(all, labelsOf(l.Key, inventory.Holder{Process: manyHolders}, "", inventory.Verdict{}))
		}
	case violations:
		if l.Verdict.Reason != "" {
			all = append(all, labelsOf(l.Key, inventory.Holder{}, "", l.Verdict))
		}
	default:
		all = append(all, labelsOf(l.Key, inventory.Holder{}, "", inventory.Verdict{}))
	}
	return all
}

// same reports whether two states of one listener have the same labels.
func (s subject) same(a, b *inventory.Listener) bool {
	switch s {
	case holders:
		return a.ManyHolders == b.ManyHolders && slices.Equal(a.Holders, b.Holders)
	case violations:
		return a.Verdict == b.Verdict
	default:
		return true
	}
}

// labelsOf returns the labels of a series of a listener that is about a holder with a uid, about a violation, or neither.
func labelsOf(k inventory.Key, h inventory.Holder, uid string, v inventory.Verdict) labels {
	return newLabels(
		"address", k.Addr.Addr().String(),
		"container_id", h.ContainerID,
		"device", k.Device,
		"family", k.Family(),
		"netns", k.Netns,
		"pod_uid", h.PodUID,
		"port", portLabel(k.Addr.Port()),
		"process", h.Process,
		"proto", k.Proto,
		"range", string(k.Range),
		"reason", v.Reason,
		"scope", string(k.Scope),
		"service_name", v.Service,
		"uid", uid,
		"unit", h.Unit,
	)
}

// lastLabels returns the labels of where something last listened and who held it.
func lastLabels(last inventory.Last) (address, process, unit string) {
	one := func(values []string) string {
		switch len(values) {
		case 0:
			return ""
		case 1:
			return processLabel(values[0])
		default:
			return manyHolders
		}
	}
	return one(last.Addresses), one(last.Processes), one(last.Units)
}

func portLabel(port uint16) string { return strconv.Itoa(int(port)) }

// manyHolders is the process label of the series for all holders that are not shown.
const manyHolders = "(many)"

// processLabel returns the process label of a process. One that calls itself (many) is in quotes, and one that calls itself so in
// more of them: no two names have the same label.
func processLabel(name string) string {
	if strings.Trim(name, `"`) == manyHolders {
		return `"` + name + `"`
	}
	return name
}
