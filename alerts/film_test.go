//go:build linux

package alerts

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// hostClock is the clock of every host at the beginning of a film. The engines begin at other times, so a host's clock is decades off:
// no rule may compare it with that of Prometheus.
const hostClock = 1_700_000_000

// fact is a series of a host: there from one minute of the film to another, and again.
type fact struct {
	series string
	value  func(minute float64) float64
	there  func(minute float64) bool
	read   string // the protocol on whose reads it rests, or empty for what the exporter remembers
}

// machine is a host of a film.
type machine struct {
	target string // labels
	facts  []fact
	down   func(minute float64) bool // the host or its exporter
	hole   func(minute float64) bool // Prometheus is down, or nil
	old    bool                      // the exporter is of 0.4
	blind  bool                      // it does not report whether its reads succeed
}

func (m *machine) add(read, name, labels string, value func(float64) float64, there func(float64) bool) {
	if m.old && !slices.Contains(knownTo04, name) {
		return
	}
	m.facts = append(m.facts, fact{name + "{" + strings.Trim(m.target+","+labels, ",") + "}", value, there, read})
}

// knownTo04 are the metrics of 0.4 that the rules read.
var knownTo04 = []string{
	"host_listen_port", "host_listen_collector_success", "host_listen_source_info", "host_listen_ports_omitted",
	"host_listen_registry_last_reload_successful", "host_listen_registry_last_reload_success_timestamp_seconds", "host_listen_service_info",
	"host_listen_namespaces_never_read", "host_listen_port_holder_info",
}

func always(float64) bool { return true }
func never(float64) bool  { return false }

// between is the minutes of some spans: from, until, from, until, ...
func between(spans ...float64) func(float64) bool {
	return func(minute float64) bool {
		for n := 0; n+1 < len(spans); n += 2 {
			if spans[n] <= minute && minute < spans[n+1] {
				return true
			}
		}
		return false
	}
}

func constant(v float64) func(float64) float64 { return func(float64) float64 { return v } }

// since is a timestamp: the host's clock at a minute.
func since(minute float64) func(float64) float64 { return constant(hostClock + 60*minute) }

// newHost returns a host whose exporter has its memory and is always up.
func newHost(target string) *machine {
	m := &machine{target: target, down: never}
	m.add("", "host_listen_time_seconds", "", func(minute float64) float64 { return hostClock + 60*minute }, always)
	m.add("", "host_listen_source_info", `source="netlink"`, constant(1), always)
	m.add("", "host_listen_state_loaded", "", constant(1), always)
	m.add("", "host_listen_state_last_write_successful", "", constant(1), always)
	m.add("", "host_listen_ports_omitted", "", constant(0), always)
	return m
}

// registry gives the host a registry with so many services for it.
func (m *machine) registry(services float64) *machine {
	m.add("", "host_listen_registry_services", "", constant(services), always)
	m.add("", "host_listen_registry_last_reload_successful", "", constant(1), always)
	m.add("", "host_listen_registry_last_reload_success_timestamp_seconds", "", since(-60), always)
	return m
}

// listener returns the labels of one on an address.
func listener(proto, address, port, more string) string {
	scope, family := "any", "ipv4"
	if strings.HasPrefix(address, "127.") {
		scope = "loopback"
	}
	if strings.Contains(address, ":") {
		family = "ipv6"
	}
	return strings.Trim(fmt.Sprintf(`proto=%q,family=%q,address=%q,port=%q,scope=%q,range="user",%s`, proto, family, address, port, scope, more), ",")
}

// start adds one of the families of starts, which begins and ends with its trouble.
func (m *machine) start(name, labels string, spans ...float64) {
	read := ""
	if strings.Contains(labels, "family=") {
		read = labels[len(`proto="`) : len(`proto="`)+3]
	}
	// One fact: of two with the same labels, promtool takes the last.
	m.add(read, name, labels, func(minute float64) (start float64) {
		for n := 0; n < len(spans) && spans[n] <= minute; n += 2 {
			start = since(spans[n])(minute)
		}
		return start
	}, between(spans...))
}

// violations adds the counter of a reason, which counts one at each of these minutes, and that the exporter gets events.
func (m *machine) violations(reason string, minutes ...float64) {
	m.add("", "host_listen_collector_success", `collector="event"`, constant(1), always)
	m.add("", "host_listen_violations_total", fmt.Sprintf("reason=%q", reason), count(minutes...), always)
}

// count is a counter of what happened at these minutes.
func count(minutes ...float64) func(float64) float64 {
	return func(minute float64) (n float64) {
		for _, at := range minutes {
			if at <= minute {
				n++
			}
		}
		return n
	}
}

// leases are those of the team ci: how many ports are left, while the store answers.
func (m *machine) leases(available func(float64) float64) {
	m.add("", "host_listen_lease_ports_available", `team="ci"`, available, always)
	m.add("", "host_listen_lease_store_up", "", constant(1), always)
}

// path goes straight from one point to the next, and stays at the last. Points are minute, value, minute, value, ...
func path(points ...float64) func(float64) float64 {
	return func(minute float64) float64 {
		for n := 2; n+1 < len(points); n += 2 {
			if minute < points[n] {
				return math.Floor(points[n-1] + (points[n+1]-points[n-1])*(minute-points[n-2])/(points[n]-points[n-2]))
			}
		}
		return points[len(points)-1]
	}
}

// sibling is a way in which Prometheus sees a film.
type sibling struct {
	name             string
	scrape, evaluate time.Duration
	fails            func(n int) bool // the n-th scrape
	unread           func(n int) bool // its reads fail
	replicas         int
	target           func(string) string // relabels
	late             float64             // how many minutes later an alert may begin or end
	mayFire          string              // alerts that are not compared
}

const (
	second = time.Second
	minute = time.Minute
)

func every(n, at int) func(int) bool { return func(scrape int) bool { return scrape%n == at } }

// siblings are those in which each incident must have the same alerts.
var siblings = []sibling{
	{name: "each minute", scrape: minute, evaluate: minute},
	{name: "every 15 seconds", scrape: 15 * second, evaluate: 15 * second},
	{name: "every second scrape fails, each minute", scrape: minute, evaluate: minute, fails: every(2, 0), late: 2, mayFire: unsteady},
	{name: "each evaluation comes after a scrape that failed", scrape: 30 * second, evaluate: minute, fails: every(2, 0), late: 1, mayFire: unsteady},
	{name: "every eighth scrape fails", scrape: 30 * second, evaluate: 30 * second, fails: every(8, 7), late: 1, mayFire: unsteady},
	{name: "four of five scrapes fail", scrape: 15 * second, evaluate: 30 * second, fails: func(n int) bool { return n%5 != 2 }, late: 3, mayFire: unsteady},
	{name: "every second read fails", scrape: 30 * second, evaluate: 30 * second, unread: every(2, 0), late: 1, mayFire: unsteady},
	{name: "two replicas of Prometheus, one of which misses scrapes", scrape: minute, evaluate: minute, fails: every(4, 0), replicas: 2, late: 1, mayFire: unsteady},
	{name: "relabelled", scrape: minute, evaluate: minute, late: 1, target: func(target string) string {
		return strings.NewReplacer(":10190", "", `job="listen_exporter"`, `job="ports"`).Replace(target)
	}},
}

// unsteady are the alerts about exporters that answer now and then.
const unsteady = "ListenExporterFlapping|ListenCollectorFailed"

// values returns the samples of a series in the notation of the unit tests.
func (s sibling) values(length float64, hole func(float64) bool, at func(n int, minute float64) (v float64, there bool)) string {
	var out []string
	last, count, was := "", 0, false
	flush := func() {
		if count == 1 || last == "stale" {
			out = append(out, last)
		} else if count > 1 {
			if last == "_" {
				out = append(out, fmt.Sprintf("_x%d", count))
			} else {
				out = append(out, fmt.Sprintf("%sx%d", last, count-1))
			}
		}
		count = 0
	}
	for n := range int(length*60/s.scrape.Seconds()) + 1 {
		now := float64(n) * s.scrape.Minutes()
		word := "_"
		if hole == nil || !hole(now) {
			if v, there := at(n, now); there {
				word, was = fmt.Sprintf("%.0f", v), true
			} else if was {
				word, was = "stale", false
			}
		}
		if word != last || word == "stale" {
			flush()
			last = word
		}
		count++
	}
	flush()
	return strings.Join(out, " ")
}

// input returns the series of a film.
func (s sibling) input(length float64, machines []*machine) string {
	var b strings.Builder
	for replica := range max(s.replicas, 1) {
		for _, m := range machines {
			line := func(series string, at func(int, float64) (float64, bool)) {
				if s.target != nil {
					series = s.target(series)
				}
				if s.replicas > 0 {
					series = strings.Replace(series, "{", fmt.Sprintf(`{prometheus_replica="%d",`, replica), 1)
				}
				if values := s.values(length, m.hole, at); strings.Trim(values, "_x0123456789") != "" || strings.ContainsAny(values, "0123456789") && !strings.HasPrefix(values, "_") {
					fmt.Fprintf(&b, "      - {series: '%s', values: '%s'}\n", series, values)
				}
			}
			answers := func(n int, now float64) bool {
				return !m.down(now) && (s.fails == nil || !s.fails(n+replica)) // the second replica misses other scrapes
			}
			reads := func(n int) bool { return s.unread == nil || !s.unread(n) }
			line("up{"+m.target+"}", func(n int, now float64) (float64, bool) {
				if answers(n, now) {
					return 1, true
				}
				return 0, true
			})
			for _, proto := range []string{"tcp", "udp"} {
				if m.blind {
					continue
				}
				line(fmt.Sprintf(`host_listen_collector_success{%s,collector=%q}`, m.target, proto), func(n int, now float64) (float64, bool) {
					if reads(n) {
						return 1, answers(n, now)
					}
					return 0, answers(n, now)
				})
			}
			for _, f := range m.facts {
				line(f.series, func(n int, now float64) (float64, bool) {
					return f.value(now), f.there(now) && answers(n, now) && (f.read == "" || reads(n))
				})
			}
		}
	}
	return b.String()
}

// alert is one that must fire, from a minute until another; labels are those of [shown] that it must have.
type alert struct {
	name, labels string
	from, until  float64
}

// shown are the labels by which alerts are compared.
const shown = "alertname, instance, cluster, env, proto, port, service_name, team"

// film is an incident, and what must be told of it.
type film struct {
	name   string
	length float64
	stage  func() []*machine
	want   []alert
	only   []string // of the siblings, or all
	// rare is that its rules are evaluated every 2 minutes. The phase is the engine's: promtool 3 takes it from the path of the rules.
	rare bool
}

// place gives the hosts of a film names of their own, so that all films are one fleet.
func (f film) place(n int, labels string) string {
	return strings.NewReplacer(`instance="`, fmt.Sprintf(`instance="f%02d-`, n), `cluster="`, fmt.Sprintf(`cluster="f%02d-`, n)).Replace(labels)
}

// unitTest returns the unit test of films by a sibling, for an engine whose name for queries differs.
func unitTest(films []film, s sibling, queries string) string {
	var series, checks strings.Builder
	for n, f := range films {
		if len(f.only) > 0 && !slices.Contains(f.only, s.name) {
			continue
		}
		series.WriteString(f.place(n, s.input(f.length, f.stage())))
		for now := range int(f.length) {
			if fires, certain := f.fires(n, s, float64(now)); certain {
				here := fmt.Sprintf(`alertstate="firing",alertname!~"%s"`, s.mayFire)
				fmt.Fprintf(&checks, "      - {expr: 'count by (%s) (ALERTS{%s,instance=~\"f%02[3]d-.+\"} or ALERTS{%[2]s,cluster=~\"f%02[3]d-.+\"})', eval_time: %[4]dm, exp_samples: [%[5]s]}\n",
					shown, here, n, now, strings.Join(fires, ", "))
			}
		}
	}
	return fmt.Sprintf("  - name: '%s'\n    interval: %s\n    input_series:\n%s    %s:\n%s", s.name, s.scrape, &series, queries, &checks)
}

// fires returns the alerts that fire at a minute, and reports whether that is certain: what began just now may take its time.
func (f film) fires(n int, s sibling, now float64) (fires []string, certain bool) {
	slack := 1 + s.late
	if f.rare {
		slack++
	}
	for _, a := range f.want {
		labels := f.place(n, fmt.Sprintf(`{alertname=%q,%s}`, a.name, a.labels))
		if s.target != nil {
			labels = s.target(labels)
		}
		switch {
		case now >= a.from && now < a.from+slack, now >= a.until && now < a.until+slack:
			return nil, false
		case now >= a.from && now < a.until:
			fires = append(fires, fmt.Sprintf("{labels: '%s', value: 1}", labels))
		}
	}
	return fires, true
}

// engines are the programs that run unit tests, by the name that they have for queries.
var engines = []engine{
	{"promtool", "promql_expr_test", []string{"test", "rules"}, 0},
	{"promtool3", "promql_expr_test", []string{"test", "rules"}, 0},
	// What a rule records, VictoriaMetrics shows only to the next evaluation.
	{"vmalert-tool", "metricsql_expr_test", []string{"unittest", "--disableAlertgroupLabel"}, 4},
}

type engine struct {
	name, queries string
	arguments     []string
	late          float64 // minutes
}

// play plays films by an engine, in siblings, and returns what the engine reported.
func (e engine) play(t *testing.T, rules string, films []film, siblings []sibling) error {
	t.Helper()
	tests := make(map[time.Duration]*strings.Builder)
	for _, s := range siblings {
		if tests[s.evaluate] == nil {
			tests[s.evaluate] = new(strings.Builder)
			fmt.Fprintf(tests[s.evaluate], "rule_files: [%q]\nevaluation_interval: %s\ntests:\n", rules, s.evaluate)
		}
		s.late += e.late
		tests[s.evaluate].WriteString(unitTest(films, s, e.queries))
	}
	files := make(map[string]string)
	for interval, text := range tests {
		files[interval.String()+".test.yml"] = text.String()
	}
	return e.run(t, files)
}

// run runs the unit tests among files, and returns what the engine reported.
func (e engine) run(t *testing.T, files map[string]string) error {
	t.Helper()
	dir := t.TempDir()
	arguments := e.arguments
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, ".test.yml") {
			continue
		}
		if e.name == "vmalert-tool" {
			file = "--files=" + file
		}
		arguments = append(slices.Clip(arguments), file)
	}
	if output, err := exec.Command(e.name, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, output)
	}
	return nil
}
