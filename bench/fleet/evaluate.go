package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// byTheManager lets Prometheus evaluate the rules as it does in service, and takes the times from what it says of them.
func (r *result) byTheManager(s settings, dir, data string, rules []rule) (err error) {
	p, err := startPrometheus(s, dir, data, s.rules)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	// By the time of each evaluation, for each rule and for each group.
	seen := make([]map[time.Time]time.Duration, len(rules))
	deadline, enough := time.Now().Add(5*patience), false
	for look := 0; !enough; look++ {
		if time.Now().After(deadline) {
			return fmt.Errorf("fewer than %d evaluations in %s", s.rounds, 5*patience)
		}
		heap, resident, err := p.memory()
		if err != nil {
			return err
		}
		r.heap, r.resident = max(r.heap, heap), max(r.resident, resident)
		time.Sleep(100 * time.Millisecond)
		if look%10 > 0 {
			continue
		}
		if err := r.look(p, seen); err != nil {
			return err
		}
		enough = !slices.ContainsFunc(seen, func(times map[time.Time]time.Duration) bool { return len(times) < s.rounds })
	}
	for _, times := range seen {
		var sorted []time.Duration
		for _, took := range times {
			sorted = append(sorted, took)
		}
		slices.Sort(sorted)
		r.managed = append(r.managed, sorted[(len(sorted)-1)/2])
	}
	return nil
}

// look asks Prometheus for the last evaluation of each rule, and adds those that were not seen yet.
func (r *result) look(p *server, seen []map[time.Time]time.Duration) error {
	var answer struct {
		Groups []struct {
			Rules []struct {
				Name, Health, LastError string
				EvaluationTime          float64
				LastEvaluation          time.Time
				Alerts                  []struct{}
			}
		}
	}
	if err := p.get("rules", nil, &answer); err != nil {
		return err
	}
	n := 0
	alerts := make([]int, len(seen))
	for _, group := range answer.Groups {
		for _, one := range group.Rules {
			if one.Health == "err" {
				return fmt.Errorf("%s: %s", one.Name, one.LastError)
			}
			if n >= len(seen) {
				return errors.New("more rules than in the file")
			}
			if seen[n] == nil {
				seen[n] = make(map[time.Time]time.Duration)
			}
			if !one.LastEvaluation.IsZero() {
				seen[n][one.LastEvaluation] = seconds(one.EvaluationTime)
			}
			alerts[n] = len(one.Alerts)
			n++
		}
	}
	r.alerts = alerts
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// touched is what one rule reads.
type touched struct {
	processor             time.Duration // garbage collection included
	series, samples, peak int
}

// byTheAPI evaluates each rule by itself, at the end of the data, and takes what it reads from the statistics of the query. What
// it costs is the processor time of Prometheus meanwhile: a busy machine makes that not much longer.
func (r *result) byTheAPI(s settings, dir, data string, rules []rule, end time.Time) (err error) {
	p, err := startPrometheus(s, dir, data, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	at := strconv.FormatFloat(float64(end.UnixMilli())/1000, 'f', 3, 64)
	for _, one := range rules {
		var all touched
		var times []time.Duration
		for range s.rounds {
			var answer struct {
				Stats struct {
					Samples struct{ TotalQueryableSamples, PeakSamples int }
				}
			}
			before, err := p.processorTime()
			if err != nil {
				return err
			}
			if err := p.get("query", url.Values{"query": {one.expr}, "time": {at}, "stats": {"all"}}, &answer); err != nil {
				return fmt.Errorf("%s: %w", one.name, err)
			}
			after, err := p.processorTime()
			if err != nil {
				return err
			}
			times = append(times, after-before)
			all.samples, all.peak = answer.Stats.Samples.TotalQueryableSamples, answer.Stats.Samples.PeakSamples
		}
		slices.Sort(times)
		all.processor = times[(len(times)-1)/2]
		for _, selector := range one.selectors {
			count, err := p.count(selector, at)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", one.name, selector, err)
			}
			all.series += count
		}
		r.touched = append(r.touched, all)
	}
	return nil
}

// count returns how many series there are within a range.
func (p *server) count(selector, at string) (int, error) {
	var answer struct {
		Result []struct{ Value [2]any }
	}
	query := "count(count_over_time(" + selector + "))"
	if err := p.get("query", url.Values{"query": {query}, "time": {at}}, &answer); err != nil {
		return 0, err
	}
	if len(answer.Result) == 0 {
		return 0, nil
	}
	return strconv.Atoi(fmt.Sprint(answer.Result[0].Value[1]))
}
