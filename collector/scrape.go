package collector

import (
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

// scrape is the memory of one scrape, which later scrapes reuse. It keeps the label pairs of each current listener, so that a
// scrape changes only numbers.
type scrape struct {
	labels   map[inventory.Key]*listenerLabels
	count    uint64 // how many scrapes have used it
	current  [][]*dto.LabelPair
	gone     [][]*dto.LabelPair
	families []*sampledFamily // of perListener, in its order, and then of the rest
	holders  *sampledFamily
	violated *sampledFamily
	services *sampledFamily
	// servicePairs are the label pairs of services, made for serviceRows.
	servicePairs [][]*dto.LabelPair
	serviceRows  []inventory.ServiceState
}

// listenerLabels are the labels of one listener.
type listenerLabels struct {
	pairs []*dto.LabelPair
	used  uint64 // scrape.count when they were last used

	holders     []inventory.Holder // for which holderPairs were made
	many        bool
	holderPairs [][]*dto.LabelPair

	verdict      inventory.Verdict // for which verdictPairs were made
	verdictPairs []*dto.LabelPair
}

// sampledFamily is a family whose samples are reused.
type sampledFamily struct {
	dto.MetricFamily
	samples []*sample // as many as there ever were; MetricFamily.Metric has those in use
}

// sample is a metric together with what it points to.
type sample struct {
	metric  dto.Metric
	gauge   dto.Gauge
	counter dto.Counter
	value   float64
}

// fill returns the families of a snapshot. They are valid until the next call.
func (s *scrape) fill(snapshot *inventory.Snapshot) []*dto.MetricFamily {
	s.count++
	s.current = s.appendLabels(s.current[:0], snapshot.Listeners)
	s.gone = s.appendLabels(s.gone[:0], snapshot.Gone)
	for key, labels := range s.labels {
		if labels.used != s.count {
			delete(s.labels, key)
		}
	}
	for n := range perListener {
		m, f := &perListener[n], s.families[n]
		f.Metric = f.Metric[:0]
		for i := range snapshot.Listeners {
			if value, has := m.value(&snapshot.Listeners[i]); has {
				f.add(s.current[i], value)
			}
		}
		if m.afterwards {
			for i := range snapshot.Gone {
				if value, has := m.value(&snapshot.Gone[i]); has {
					f.add(s.gone[i], value)
				}
			}
		}
	}
	s.holders.Metric, s.violated.Metric = s.holders.Metric[:0], s.violated.Metric[:0]
	for i := range snapshot.Listeners {
		l := &snapshot.Listeners[i]
		labels := s.labels[l.Key]
		for _, pairs := range labels.ofHolders(l) {
			s.holders.add(pairs, 1)
		}
		if l.Verdict.Reason != "" {
			s.violated.add(labels.ofVerdict(l.Verdict), 1)
		}
	}
	s.fillServices(snapshot.Compliance)

	families := perHost(snapshot)
	for _, f := range s.families {
		if len(f.Metric) > 0 {
			families = append(families, &f.MetricFamily)
		}
	}
	return families
}

// fillServices fills in whether the required services are up.
func (s *scrape) fillServices(r *inventory.Compliance) {
	s.services.Metric = s.services.Metric[:0]
	if r == nil {
		return
	}
	if !slices.EqualFunc(s.serviceRows, r.Services, func(a, b inventory.ServiceState) bool { return a.Service == b.Service }) {
		s.servicePairs = s.servicePairs[:0]
		for _, row := range r.Services {
			s.servicePairs = append(s.servicePairs, pairs("port", strconv.Itoa(int(row.Port)), "proto", row.Proto, "service_name", row.Name))
		}
	}
	s.serviceRows = r.Services
	for i := range r.Services {
		s.services.add(s.servicePairs[i], boolean(r.Services[i].Up))
	}
}

// add appends a sample, which an earlier scrape may have allocated.
func (f *sampledFamily) add(labels []*dto.LabelPair, value float64) {
	n := len(f.Metric)
	if n == len(f.samples) {
		made := new(sample)
		if f.GetType() == dto.MetricType_COUNTER {
			made.counter.Value = &made.value
			made.metric.Counter = &made.counter
		} else {
			made.gauge.Value = &made.value
			made.metric.Gauge = &made.gauge
		}
		f.samples = append(f.samples, made)
	}
	f.samples[n].metric.Label = labels
	f.samples[n].value = value
	f.Metric = append(f.Metric, &f.samples[n].metric)
}

// appendLabels appends the label pairs of listeners.
func (s *scrape) appendLabels(dst [][]*dto.LabelPair, listeners []inventory.Listener) [][]*dto.LabelPair {
	for i := range listeners {
		key := listeners[i].Key
		labels := s.labels[key]
		if labels == nil {
			labels = &listenerLabels{pairs: labelPairs(key)}
			s.labels[key] = labels
		}
		labels.used = s.count
		dst = append(dst, labels.pairs)
	}
	return dst
}

// labelPairs returns the labels that every metric of a listener has, sorted by name.
func labelPairs(k inventory.Key) []*dto.LabelPair {
	return pairs("address", k.Addr.Addr().String(), "device", k.Device, "family", k.Family(), "netns", k.Netns,
		"port", strconv.Itoa(int(k.Addr.Port())), "proto", k.Proto, "range", string(k.Range), "scope", string(k.Scope))
}

// ofHolders returns the label pairs of a listener's holder series.
func (l *listenerLabels) ofHolders(of *inventory.Listener) [][]*dto.LabelPair {
	if l.many == of.ManyHolders && slices.Equal(l.holders, of.Holders) {
		return l.holderPairs
	}
	l.many, l.holders, l.holderPairs = of.ManyHolders, of.Holders, nil
	for _, h := range of.Holders {
		uid := ""
		if !h.UIDUnknown {
			uid = strconv.FormatUint(uint64(h.UID), 10)
		}
		l.holderPairs = append(l.holderPairs, l.with("container_id", h.ContainerID, "pod_uid", h.PodUID,
			"process", processLabel(h.Process), "uid", uid, "unit", h.Unit))
	}
	if of.ManyHolders {
		l.holderPairs = append(l.holderPairs, l.with("process", manyHolders))
	}
	return l.holderPairs
}

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

// ofVerdict returns the label pairs of a listener's violation series.
func (l *listenerLabels) ofVerdict(v inventory.Verdict) []*dto.LabelPair {
	if l.verdict != v {
		l.verdict, l.verdictPairs = v, l.with("reason", v.Reason, "service_name", v.Service)
	}
	return l.verdictPairs
}

// with returns the listener's labels and more, sorted by name.
func (l *listenerLabels) with(more ...string) []*dto.LabelPair {
	all := append(slices.Clone(l.pairs), pairs(more...)...)
	slices.SortFunc(all, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all
}

// pairs returns labels, given as names and values. It leaves out empty values.
func pairs(labels ...string) []*dto.LabelPair {
	var all []*dto.LabelPair
	for pair := range slices.Chunk(labels, 2) {
		if pair[1] != "" {
			all = append(all, &dto.LabelPair{Name: &pair[0], Value: &pair[1]})
		}
	}
	return all
}
