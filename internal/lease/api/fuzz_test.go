//go:build linux

package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

// FuzzRequest sends whole requests to the handler. None makes it panic or fail, each answer is JSON, and what arrives at the manager is what
// encoding/json reads from the body.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		"", "{}", "[]", "null", `{"team": "ci", "name": "web", "proto": "udp", "ttl": "90s", "count": 2, "key": "k"}`,
		`{"ttl": "1d"}`, `{"ttl": 5}`, `{"ttl": "-1s"}`, `{"ttl": "9999999y"}`, `{"count": 1e0}`, `{"count": 1e400}`, `{"team": "ci"} {}`,
		`{"team": null}`, `{"TEAM": "ci"}`, `{"team": "a", "team": "b"}`, `{"te\u0061m": "a"}`, `{"key": "\ud800"}`, "{\"key\": \"\xff\"}",
	} {
		f.Add("POST", leasesPath, "application/json", body)
	}
	f.Add("POST", leasesPath+"/"+anID+"/renew", "", "")
	f.Add("POST", leasesPath+"/"+anID+"/renew", "application/json", `{"ttl": "5m"}`)
	f.Add("DELETE", leasesPath+"/"+anID, "", "")
	f.Add("DELETE", leasesPath+"/%2e%2e%2f", "", "")
	f.Add("GET", leasesPath, "", "")
	f.Add("POST", leasesPath, "application/json; charset=\"", "{}")
	f.Fuzz(func(t *testing.T, method, target, kind, body string) {
		request, err := http.NewRequest(method, "http://localhost/", strings.NewReader(body))
		if err != nil {
			return
		}
		if request.URL.Path = target; !strings.HasPrefix(target, leasesPath) {
			return
		}
		request.Header.Set("Content-Type", kind)
		leases := new(fake)
		h := &handler{
			leases: leases, host: "here", logger: log.NewNopLogger(),
			who:   func(*http.Request) (uint32, error) { return 7, nil },
			begin: func(*http.Request) bool { return true },
		}
		recorder := httptest.NewRecorder()
		h.mux().ServeHTTP(recorder, request)
		response := recorder.Result()
		switch {
		case response.StatusCode >= 300 && response.StatusCode < 400: // the path is not clean, says net/http
		case response.StatusCode >= 500, !json.Valid(recorder.Body.Bytes()):
			t.Errorf("%s %s", response.Status, recorder.Body)
		}
		for _, asked := range leases.asked {
			var want Request
			if err := json.Unmarshal([]byte(body), &want); err != nil {
				t.Fatalf("%q was taken: %v", body, err)
			}
			if wanted := (lease.Request{
				Team: want.Team, Name: want.Name, Proto: want.Proto, TTL: time.Duration(want.TTL), Count: want.Count, Key: want.Key, UID: 7,
			}); !reflect.DeepEqual(wanted, asked) {
				t.Errorf("%q arrived as %+v, want %+v", body, asked, wanted)
			}
		}
	})
}
