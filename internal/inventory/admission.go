//go:build linux

package inventory

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/listen-exporter/listen_exporter/internal/holder"
	"github.com/listen-exporter/listen_exporter/internal/socket"
)

// admit schedules the namespaces that were found, drops those that were not, and reports whether that changed anything.
func (r *rounds) admit(found []socket.Namespace) (changed bool) {
	changed = len(found) != len(r.namespaces)
	// Of two that claim a name the older one gets it, in whatever order they are found when the exporter starts.
	slices.SortFunc(found, func(a, b socket.Namespace) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), cmp.Compare(a.Serial, b.Serial))
	})
	next := make(map[uint64]*scheduled, len(found))
	taken := make(map[string]bool, len(found)) // names
	var unnamed []socket.Namespace
	for _, f := range found {
		s := r.namespaces[f.Serial]
		if s != nil {
			taken[s.name] = true
			next[f.Serial] = s
			s.signs = f.Signs
		}
		if s == nil || s.mayBeNamed(r.count) {
			unnamed = append(unnamed, f)
		}
	}
	for _, f := range unnamed {
		name, nameless := r.nameOf(f, taken)
		s := next[f.Serial]
		if s != nil && nameless {
			continue // as before
		}
		changed, taken[name] = true, true
		if s != nil {
			s.name, s.nameless = name, false
			s.open, s.gone = s.collect()
			continue
		}
		s = &scheduled{namespace: newNamespace(name, func(socket.Protocol) socket.Source { return f.Source }, r.options, r.now), found: f, signs: f.Signs, firstRound: r.count, nameless: nameless}
		s.number = f.Number
		if r.options.Holders {
			s.survey = func() holder.Inhabitants { return r.namer.Inhabitants(f.Residents()) }
		}
		for _, l := range s.ledgers {
			l.settled = r.count > 1 // the listeners of a new namespace are new
		}
		next[f.Serial] = s
	}
	r.namespaces = next
	return changed
}

// nameOf returns the name of a namespace, which it keeps as long as it lives: that of its pod or its container, or the one that
// ip-netns(8) gave it. If it has none of these, it is called after its number and nameless is true. taken has the names of the
// others.
func (r *rounds) nameOf(f socket.Namespace, taken map[string]bool) (name string, nameless bool) {
	name = cmp.Or(r.namer.Name(f.Members()), f.RunName)
	if nameless = name == ""; nameless {
		name = fmt.Sprintf("unknown-%d", f.Inode)
	}
	if taken[name] { // containers inside a pod's container
		name = fmt.Sprintf("%s-%d", name, f.Inode)
	}
	for base, n := name, 2; taken[name]; n++ { // people may call a namespace anything
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name, nameless
}
