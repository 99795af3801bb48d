//go:build linux

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listen-exporter/listen_exporter/internal/lease"
)

const anID = "00000000000000000000000000000000"

// ask sends a request over a Unix socket, and returns the answer and its body.
func ask(tb testing.TB, path, method, target, body string, header ...string) (*http.Response, string) {
	tb.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(tb.Context(), method, "http://localhost"+target, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		request.Header.Set(name, value)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return response, string(text)
}

func TestABadRequestIsRefusedWithTheFieldNamed(t *testing.T) {
	path := serve(t, new(fake))
	long := strings.Repeat("x", 20<<10)
	for _, c := range []struct {
		name, body string
		status     int
		field      string
		message    string // a part of it
	}{
		{"no body", "", 400, "", "want a JSON object"},
		{"spaces", "  \n", 400, "", "want a JSON object"},
		{"a list", "[]", 400, "", "want a JSON object"},
		{"null", "null", 400, "", "want a JSON object"},
		{"without its end", `{"team": "ci"`, 400, "", "want a JSON object"},
		{"a comma too many", `{"team": "ci",}`, 400, "", "want a JSON object"},
		{"text after the object", `{"team": "ci"} {}`, 400, "", "want a JSON object"},
		{"bytes that are not UTF-8", "{\"team\": \"\xff\"}", 400, "", "want a JSON object"},
		{"deep", strings.Repeat(`{"team":`, 2000), 400, "", "want a JSON object"},
		{"a field that is unknown", `{"teem": "ci"}`, 400, "teem", "want team, name, proto, ttl, count or key"},
		{"a field in other letters", `{"TEAM": "ci"}`, 400, "TEAM", "no such field"},
		{"a field of the kind that others may not set", `{"uid": 0}`, 400, "uid", "no such field"},
		{"a field twice", `{"ttl": "5m", "team": "ci", "ttl": "1h"}`, 400, "ttl", "twice"},
		{"a field twice in another form", `{"team": "ci", "te\u0061m": "qa"}`, 400, "team", "twice"},
		{"a number for a team", `{"team": 1}`, 400, "team", "no string"},
		{"null for a name", `{"name": null}`, 400, "name", "no string"},
		{"a list for a protocol", `{"proto": ["tcp"]}`, 400, "proto", "no string"},
		{"an object for a key", `{"key": {"a": 1}}`, 400, "key", "no string"},
		{"a team longer than any", `{"team": "` + long[:10<<10] + `"}`, 400, "team", "want at most 255 bytes"},
		{"a number for a time", `{"ttl": 300}`, 400, "ttl", `want one such as "5m"`},
		{"a word for a time", `{"ttl": "soon"}`, 400, "ttl", "want one such as 5m"},
		{"an empty time", `{"ttl": ""}`, 400, "ttl", "want one such as 5m"},
		{"no time", `{"ttl": "0s"}`, 400, "ttl", "want 1s at least"},
		{"a time that is past", `{"ttl": "-5m"}`, 400, "ttl", "want 1s at least"},
		{"a time that no number can hold", `{"ttl": "9999999y"}`, 400, "ttl", "want one such as 5m"},
		{"a count as text", `{"count": "1"}`, 400, "count", "whole number from 1 to 32"},
		{"a piece of a port", `{"count": 1.5}`, 400, "count", "whole number from 1 to 32"},
		{"no port", `{"count": 0}`, 400, "count", "whole number from 1 to 32"},
		{"fewer than no port", `{"count": -1}`, 400, "count", "whole number from 1 to 32"},
		{"null ports", `{"count": null}`, 400, "count", "whole number from 1 to 32"},
		{"more ports than allowed", `{"count": 33}`, 400, "count", "whole number from 1 to 32"},
		{"more ports than a number can hold", `{"count": 99999999999999999999}`, 400, "count", "whole number from 1 to 32"},
		{"a body that is too long", `{"key": "` + long + `"}`, 413, "", "at most 16 KiB"},
		{"an empty object", "{}", 201, "", ""},
		{"all fields", `{"team": "ci", "name": "web", "proto": "udp", "ttl": "90s", "count": 32, "key": "k"}`, 201, "", ""},
		{"a time in Prometheus's form", `{"ttl": "1d"}`, 201, "", ""},
		{"spaces around", "\n {\"ttl\" : \"1h30m\"} \n", 201, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			response, text := ask(t, path, "POST", leasesPath, c.body)
			var refused Error
			if err := json.Unmarshal([]byte(text), &refused); err != nil {
				t.Fatalf("%v in %s", err, text)
			}
			if response.StatusCode != c.status || refused.Field != c.field || !strings.Contains(refused.Message, c.message) || len(text) > 600 {
				t.Errorf("%d %s, want %d with the field %q and %q", response.StatusCode, text, c.status, c.field, c.message)
			}
		})
	}
}

func TestARequestArrivesAsItWasSent(t *testing.T) {
	leases := new(fake)
	path := serve(t, leases)
	for _, c := range []struct {
		body string
		want lease.Request
	}{
		{"{}", lease.Request{}},
		{
			`{"team": "ci", "name": "web", "proto": "udp", "ttl": "1h30m", "count": 3, "key": "run 17"}`,
			lease.Request{Team: "ci", Name: "web", Proto: "udp", TTL: 90 * time.Minute, Count: 3, Key: "run 17"},
		},
		{`{"ttl": "1d"}`, lease.Request{TTL: 24 * time.Hour}},
		{`{"ttl": "1.5s"}`, lease.Request{TTL: 1500 * time.Millisecond}},
	} {
		if response, text := ask(t, path, "POST", leasesPath, c.body); response.StatusCode != http.StatusCreated {
			t.Errorf("%s: %s %s", c.body, response.Status, text)
		}
		c.want.UID = uint32(os.Getuid())
		if diff := cmp.Diff(c.want, leases.asked[len(leases.asked)-1]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.body, diff)
		}
	}
}

// expiresForm is when a lease expires, to the millisecond.
var expiresForm = regexp.MustCompile(`"expires":"([-0-9T:]+(?:\.\d{1,3})?Z)"`)

func TestEachErrorHasItsStatus(t *testing.T) {
	leases := new(fake)
	path := serve(t, leases)
	for _, c := range []struct {
		name  string
		fails error
		want  string
	}{
		{"a bad field", &lease.FieldError{Field: "name", Problem: "taken"}, `400 {"error":"name: taken","field":"name"}`},
		{"any team", &lease.NotAllowedError{User: "eve"}, `403 {"error":"user eve may not lease from the ranges of any team, only root may: want eve in users of the range, in the registry"}`},
		{"a team of others, who are named", &lease.NotAllowedError{User: "eve", Team: "ci", Users: []string{"ann"}}, `403 {"error":"user eve may not lease from the ranges of team ci, only ann and root may: want eve in users of the range, in the registry"}`},
		{"another user's", lease.ErrNotYours, `403 {"error":"` + lease.ErrNotYours.Error() + `"}`},
		{"withdrawn", &lease.WithdrawnError{Why: "port 1: it is forbidden"}, `403 {"error":"the registry no longer permits the lease: port 1: it is forbidden"}`},
		{"no lease", lease.ErrNoLease, `404 {"error":"no such lease: it has ended, or has expired"}`},
		{
			"none left", &lease.ExhaustedError{Team: "ci", Count: 2, Left: 1, Size: 3, More: 1, Holders: []lease.PortHolder{
				{Port: 30000, Why: "leased", Name: "web", User: "ann", Host: "here", Expires: time.Hour},
				{Port: 30001, Why: "in use"},
			}},
			`409 {"error":"team ci has 1 of 3 ports left, and 2 are asked for","team":"ci","count":2,"left":1,"size":3,"holders":[` +
				`{"port":30000,"why":"leased","name":"web","user":"ann","host":"here","expires":"NOW"},{"port":30001,"why":"in use"}],"more":1}`,
		},
		{"enough", &lease.LimitError{Who: "user ann", Has: 64, Limit: 64}, `429 {"error":"user ann has 64 of at most 64 leased ports: end a lease first"}`},
		{"a store that is away", fmt.Errorf("take: %w", lease.ErrAway), `503 {"error":"take: the store of leases cannot be reached"} after 5`},
		{"a store that takes long", context.DeadlineExceeded, `503 {"error":"context deadline exceeded"} after 5`},
		{"something else", errors.New("the disk is full"), `500 {"error":"the disk is full"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			leases.fails = c.fails
			response, text := ask(t, path, "POST", leasesPath, "{}")
			got := fmt.Sprintf("%d %s", response.StatusCode, strings.TrimSpace(text))
			if at := expiresForm.FindStringSubmatch(got); at != nil { // a deadline of now on the fake's clock
				if expires, err := time.Parse(time.RFC3339, at[1]); err != nil || time.Since(expires).Abs() > time.Minute {
					t.Errorf("expires %s, %v, want now", at[1], err)
				}
				got = strings.Replace(got, at[1], "NOW", 1)
			}
			if after := response.Header.Get("Retry-After"); after != "" {
				got += " after " + after
			}
			if got != c.want || response.Header.Get("Content-Type") != "application/json" {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
			for _, request := range []string{"POST " + leasesPath + "/" + anID + "/renew", "DELETE " + leasesPath + "/" + anID} {
				method, target, _ := strings.Cut(request, " ")
				if again, _ := ask(t, path, method, target, ""); again.StatusCode != response.StatusCode {
					t.Errorf("%s: %s, want %s", request, again.Status, response.Status)
				}
			}
		})
	}
}

func TestARequestOfAnotherFormIsRefused(t *testing.T) {
	leases := new(fake)
	path := serve(t, leases)
	if response, _ := ask(t, path, "POST", leasesPath, "{}"); response.StatusCode != http.StatusCreated {
		t.Fatal(response.Status)
	}
	for _, c := range []struct {
		name, request, body string
		header              []string
		status              int
		message             string
	}{
		{"another path", "GET /", "", nil, 404, "want /api/v1/leases"},
		{"a path below", "GET " + leasesPath + "/", "", nil, 404, "nothing is here"},
		{"another method", "PUT " + leasesPath, "{}", nil, 405, "want the method GET, POST"},
		{"a lease that is asked for", "GET " + leasesPath + "/" + anID, "", nil, 405, "want the method DELETE"},
		{"a renewal by GET, which a browser would repeat", "GET " + leasesPath + "/" + anID + "/renew", "", nil, 405, "want the method POST"},
		{"a short ID", "DELETE " + leasesPath + "/1", "", nil, 404, "no such lease"},
		{"an ID that is a path", "DELETE " + leasesPath + "/..%2f..%2f" + anID[10:], "", nil, 404, "no such lease"},
		{"an ID in capital letters", "DELETE " + leasesPath + "/" + strings.ToUpper("abcdefabcdefabcdefabcdefabcdefab"), "", nil, 404, "no such lease"},
		{"an ID of none", "DELETE " + leasesPath + "/11111111111111111111111111111111", "", nil, 404, "no such lease"},
		{"text", "POST " + leasesPath, "{}", []string{"Content-Type: text/plain"}, 415, "application/json"},
		{"a form", "POST " + leasesPath, "team=ci", []string{"Content-Type: application/x-www-form-urlencoded"}, 415, "application/json"},
		{"no type", "POST " + leasesPath, "{}", []string{"Content-Type: "}, 415, "application/json"},
		{"JSON with a character set", "POST " + leasesPath, "{}", []string{"Content-Type: application/json; charset=utf-8"}, 201, ""},
		{"a page of another site", "POST " + leasesPath, "{}", []string{"Origin: http://evil.example"}, 403, "a page of the web"},
		{"a page without a name", "POST " + leasesPath + "/" + anID + "/renew", "", []string{"Origin: null"}, 403, "a page of the web"},
		{"a page that only reads", "GET " + leasesPath, "", []string{"Sec-Fetch-Site: cross-site"}, 403, "a page of the web"},
		{"a browser's address bar", "GET " + leasesPath, "", []string{"Sec-Fetch-Site: none"}, 200, ""},
		{"a renewal with another time", "POST " + leasesPath + "/" + anID + "/renew", `{"ttl": "1h"}`, nil, 400, "ttl: no such field: want none"},
		{"a renewal with nothing", "POST " + leasesPath + "/" + anID + "/renew", "{}", nil, 200, ""},
		{"a long end", "DELETE " + leasesPath + "/" + anID, strings.Repeat(" ", 20<<10), nil, 413, "at most 16 KiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			method, target, _ := strings.Cut(c.request, " ")
			response, text := ask(t, path, method, target, c.body, c.header...)
			var refused Error
			if err := json.Unmarshal([]byte(text), &refused); err != nil || response.StatusCode != c.status || !strings.Contains(refused.Message, c.message) {
				t.Errorf("%s %s (%v), want %d with %q", response.Status, text, err, c.status, c.message)
			}
		})
	}
}

func TestAPanicIsAnErrorOfOneRequest(t *testing.T) {
	leases := &fake{taking: func(context.Context) { panic("a bug") }}
	path := serve(t, leases)
	if response, text := ask(t, path, "POST", leasesPath, "{}"); response.StatusCode != 500 || text != "{\"error\":\"panic: a bug\"}\n" {
		t.Errorf("%s %s", response.Status, text)
	}
	if response, text := ask(t, path, "GET", leasesPath, ""); response.StatusCode != 200 {
		t.Errorf("%s %s", response.Status, text)
	}
}
