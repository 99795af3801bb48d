//go:build linux

package incidents

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const receiverAddress = "127.0.0.1:9099"

// alert is an alert as Alertmanager sends it, from its start to its end.
type alert struct {
	Status   string
	Labels   map[string]string
	StartsAt time.Time
}

// String returns the name of the alert, the service that it names, and its state.
func (a alert) String() string {
	name := a.Labels["alertname"]
	if service := a.Labels["service_name"]; service != "" {
		name += " " + service
	}
	if a.Status == "firing" {
		return name + ", still firing"
	}
	return name + ", resolved"
}

// at returns the port that the alert is about, such as tcp/80, or nothing.
func (a alert) at() string {
	if a.Labels["port"] == "" {
		return ""
	}
	return a.Labels["proto"] + "/" + a.Labels["port"]
}

// receiver is a webhook to which Alertmanager sends alerts.
type receiver struct {
	server http.Server
	mutex  sync.Mutex
	alerts []alert // in the order in which they came; a later message changes the status
	err    error
}

// listen receives alerts until the process ends.
func (r *receiver) listen() error {
	listener, err := net.Listen("tcp", receiverAddress)
	if err != nil {
		return err
	}
	r.server.Handler = r
	r.server.ReadHeaderTimeout = patience
	go func() { _ = r.server.Serve(listener) }()
	return nil
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(_ http.ResponseWriter, request *http.Request) {
	var message struct{ Alerts []alert }
	err := json.NewDecoder(request.Body).Decode(&message)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if err != nil {
		r.err = fmt.Errorf("read what Alertmanager sends: %w", err)
		return
	}
	for _, got := range message.Alerts {
		r.take(got)
	}
}

// take keeps an alert. An alert that fires again has another start, and is another alert.
func (r *receiver) take(got alert) {
	for i, known := range r.alerts {
		if known.StartsAt.Equal(got.StartsAt) && maps.Equal(known.Labels, got.Labels) {
			r.alerts[i] = got
			return
		}
	}
	r.alerts = append(r.alerts, got)
}

// since returns all alerts after the first ones.
func (r *receiver) since(first int) []alert {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.Clone(r.alerts[first:])
}

// error returns what went wrong.
func (r *receiver) error() error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.err
}
