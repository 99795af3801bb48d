//go:build linux

package collector

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// Family is a metric family in Prometheus's text format.
type Family struct {
	Name string
	Text []byte
}

// Text writes snapshots in Prometheus's text format, byte for byte as promhttp writes those of a Collector. It keeps what it wrote:
// the labels of a listener are rendered once while it lives, and nothing is where nothing changed.
//
// It is not safe for concurrent use.
type Text struct {
	logLinesDropped func() uint64

	last    inventory.Snapshot // what same compares of what was written
	known   map[inventory.Key]*listener
	reads   uint64 // how many lists of listeners were read
	rows    [subjectCount]rows
	texts   [][]byte // by family
	scratch []byte
}

// listener is a listener of the last snapshot.
type listener struct {
	state *inventory.Listener
	gone  bool
	used  uint64 // Text.reads when it was last there
	rows  [subjectCount][]row
}

// row is the labels of a series.
type row struct {
	of    *listener // nil if it has other labels now
	order string    // labels.order
	text  []byte    // labels.text
}

// rows are sorted, as a registry of client_golang sorts series.
type rows struct {
	all   []*row
	fresh []*row // that are to be added
}

// NewText returns a Text. logLinesDropped is that of New.
func NewText(logLinesDropped func() uint64) *Text {
	return &Text{logLinesDropped: logLinesDropped, known: make(map[inventory.Key]*listener), texts: make([][]byte, len(families))}
}

// Families returns the families of a snapshot, sorted by name. A text that equals that of the snapshot before is the same memory. It is
// never changed.
func (t *Text) Families(s *inventory.Snapshot) []Family {
	changed := !sameList(t.last.Listeners, s.Listeners) || !sameList(t.last.Gone, s.Gone)
	if changed {
		t.read(s)
	}
	all := make([]Family, 0, len(families))
	for n := range families {
		f := &families[n]
		switch {
		case f.host != nil:
			if f.same == nil || !f.same(&t.last, s) {
				t.writeHost(f, reading{s, t.logLinesDropped})
				t.keep(n)
			}
		case changed:
			t.writeListeners(f)
			t.keep(n)
			t.share(n)
		}
		if len(t.texts[n]) > 0 {
			all = append(all, Family{f.name, t.texts[n]})
		}
	}
	t.last = inventory.Snapshot{Listeners: s.Listeners, Gone: s.Gone, Compliance: s.Compliance, Leases: s.Leases, Memory: s.Memory, WatchInterval: s.WatchInterval, Saves: s.Saves, Saved: s.Saved}
	return all
}

// sameList reports whether two lists are the same memory. Snapshots share it while nothing changes.
func sameList(a, b []inventory.Listener) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// read makes the rows those of a snapshot.
func (t *Text) read(s *inventory.Snapshot) {
	t.reads++
	for i := range s.Listeners {
		t.use(&s.Listeners[i], false)
	}
	for i := range s.Gone {
		t.use(&s.Gone[i], true)
	}
	for key, l := range t.known {
		if l.used != t.reads {
			delete(t.known, key)
		}
	}
	for about := range t.rows {
		t.rows[about].update(t.reads)
	}
}

// use makes known that a listener is there.
func (t *Text) use(state *inventory.Listener, gone bool) {
	l := t.known[state.Key]
	if l == nil {
		l = new(listener)
		t.known[state.Key] = l
	}
	for about := range subjectCount {
		if l.state != nil && about.same(l.state, state) {
			continue
		}
		for n := range l.rows[about] {
			l.rows[about][n].of = nil
		}
		labels := about.labels(state)
		l.rows[about] = make([]row, len(labels))
		for n := range labels {
			l.rows[about][n] = row{l, labels[n].order(), labels[n].text()}
			t.rows[about].fresh = append(t.rows[about].fresh, &l.rows[about][n])
		}
	}
	if gone && !l.gone { // it is in no family that shares its text
		l.rows[listeners][0].text = bytes.Clone(l.rows[listeners][0].text)
	}
	l.state, l.gone, l.used = state, gone, t.reads
}

// update leaves out the rows that were not there in a read, and adds the fresh ones.
func (r *rows) update(read uint64) {
	all := slices.DeleteFunc(r.all, func(r *row) bool { return r.of == nil || r.of.used != read })
	if len(r.fresh) > 0 {
		byOrder := func(a, b *row) int { return strings.Compare(a.order, b.order) }
		slices.SortFunc(r.fresh, byOrder)
		all = append(all, r.fresh...)
		slices.SortStableFunc(all, byOrder) // which merges what is sorted in little more than linear time
	}
	r.all, r.fresh = all, nil
}

// writeListeners writes a family about listeners.
func (t *Text) writeListeners(f *family) {
	t.scratch = t.scratch[:0]
	for _, r := range t.rows[f.about].all {
		if r.of.gone && !f.afterwards {
			continue
		}
		if value, has := f.valueOf(r.of.state); has {
			t.add(f, r.text, value)
		}
	}
}

// writeHost writes a family about the host.
func (t *Text) writeHost(f *family, r reading) {
	type series struct {
		order string
		text  []byte
		value float64
	}
	var all []series
	f.each(r, func(value float64, l labels) { all = append(all, series{l.order(), l.text(), value}) })
	slices.SortFunc(all, func(a, b series) int { return strings.Compare(a.order, b.order) })
	t.scratch = t.scratch[:0]
	for _, s := range all {
		t.add(f, s.text, s.value)
	}
}

// add writes a series, after the family's header if it is the first one.
func (t *Text) add(f *family, labels []byte, value float64) {
	if len(t.scratch) == 0 {
		t.scratch = append(t.scratch, f.header()...)
	}
	t.scratch = append(t.scratch, f.name...)
	t.scratch = append(t.scratch, labels...)
	t.scratch = append(t.scratch, ' ')
	// Larger numbers have an exponent. AppendFloat is several times slower.
	if number := int64(value); 0 <= number && number < 1e6 && float64(number) == value {
		t.scratch = strconv.AppendInt(t.scratch, number, 10)
	} else {
		t.scratch = strconv.AppendFloat(t.scratch, value, 'g', -1, 64)
	}
	t.scratch = append(t.scratch, '\n')
}

// keep keeps the text that was written of a family, unless it is the one that is kept.
func (t *Text) keep(family int) {
	if !bytes.Equal(t.texts[family], t.scratch) {
		t.texts[family] = bytes.Clone(t.scratch)
	}
}

// share lets the rows share the memory of the family's text, if it has all of them. Otherwise they would take as much again.
func (t *Text) share(n int) {
	f := &families[n]
	if f.value != nil {
		return
	}
	at := len(f.header())
	for _, r := range t.rows[f.about].all {
		if r.of.gone {
			continue
		}
		at += len(f.name)
		r.text = t.texts[n][at : at+len(r.text) : at+len(r.text)]
		at += len(r.text) + len(" 1\n")
	}
}
