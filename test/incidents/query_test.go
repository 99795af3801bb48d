//go:build linux

package incidents

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// patience is how long a busy machine may take for what an idle one does in seconds.
const patience = 2 * time.Minute

// seen waits until each engine has scraped hosts after a moment, or tried to, and then evaluated every rule.
func (w *monitoring) seen(moment time.Time, hosts []*machine) error {
	var names []string
	for _, h := range hosts {
		if len(h.targets) > 0 {
			names = append(names, h.instance())
		}
	}
	if len(names) == 0 {
		return nil
	}
	what := "Prometheus has looked at " + strings.Join(names, ", ")
	expression := fmt.Sprintf("timestamp(up{instance=~%q})", strings.Join(names, "|"))
	scraped := make(map[*engine]float64)
	if err := w.awaitAll(what, func(e *engine) (bool, error) {
		samples, err := e.query(expression)
		if err != nil || len(samples) < len(names) {
			return false, err
		}
		first, last := samples[0].value, samples[0].value
		for _, s := range samples {
			first, last = min(first, s.value), max(last, s.value)
		}
		if _, known := scraped[e]; !known && first >= seconds(moment) {
			scraped[e] = last
		}
		return scraped[e] > 0, nil
	}); err != nil {
		return err
	}
	// Of these scrapes, not of the newest: where the rules are evaluated shortly before each scrape, no evaluation is newer than it.
	return w.awaitAll(what+" and evaluated each rule", func(e *engine) (bool, error) {
		evaluated, _, err := e.rules()
		return err == nil && seconds(evaluated) > scraped[e], err
	})
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// sample is one of an instant vector.
type sample struct {
	labels map[string]string
	value  float64
}

// query evaluates an expression now.
func (e *engine) query(expression string) ([]sample, error) {
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := e.api("query?query="+url.QueryEscape(expression), &data); err != nil {
		return nil, fmt.Errorf("%s: %w", expression, err)
	}
	samples := make([]sample, len(data.Result))
	for i, result := range data.Result {
		text, _ := result.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", expression, err)
		}
		samples[i] = sample{result.Metric, value}
	}
	return samples, nil
}

// rules returns when the rules were evaluated, the earliest of their groups, and the alerts that wait or fire. Groups that are
// evaluated more rarely do not count.
func (e *engine) rules() (evaluated time.Time, alerts []alert, err error) {
	var data struct {
		Groups []struct {
			Interval       float64 // in seconds
			LastEvaluation time.Time
			Rules          []struct {
				Name, Health, LastError string
				Alerts                  []struct {
					State  string
					Labels map[string]string
				}
			}
		}
	}
	if err := e.api("rules", &data); err != nil {
		return time.Time{}, nil, err
	}
	for _, group := range data.Groups {
		if group.Interval == scrapeInterval.Seconds() && (evaluated.IsZero() || group.LastEvaluation.Before(evaluated)) {
			evaluated = group.LastEvaluation
		}
		for _, rule := range group.Rules {
			if rule.Health == "err" {
				return evaluated, nil, fmt.Errorf("%s cannot evaluate %s: %s", e.program, rule.Name, rule.LastError)
			}
			for _, a := range rule.Alerts {
				alerts = append(alerts, alert{Status: a.State, Labels: a.Labels})
			}
		}
	}
	return evaluated, alerts, nil
}

// api decodes the data of an answer of Prometheus.
func (e *engine) api(path string, data any) error {
	text, err := host.Get(e.url() + "/api/v1/" + path)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), &struct{ Data any }{data})
}

// awaitAll waits until a condition holds for every engine.
func (w *monitoring) awaitAll(what string, reached func(*engine) (bool, error)) error {
	return await(what, func() (bool, error) {
		for _, e := range w.engines {
			if yes, err := reached(e); !yes || err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

// await calls reached until it returns true or an error, for as long as patience lasts.
func await(what string, reached func() (bool, error)) error {
	return awaitFor(patience, what, reached)
}

func awaitFor(limit time.Duration, what string, reached func() (bool, error)) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		if yes, err := reached(); yes || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %s", limit, what)
		}
	}
}
