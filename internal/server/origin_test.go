//go:build linux

package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// A browser names the page from which a request comes, in one header or both. Nothing else sends either.
func TestAReloadFromAnotherSiteIsRefused(t *testing.T) {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	o := defaults()
	o.EnableLifecycle, o.Reload, o.Host = true, func() error { return nil }, "Node-1.example.org"
	s := newServer(t, o, io.Discard)
	for _, test := range []struct {
		name, host, origin, site string
		code                     int
	}{
		{"a script", "anything.example.com", "", "", 200},
		{"own page by IP address", "192.0.2.1:10190", "http://192.0.2.1:10190", "same-origin", 200},
		{"own page by IPv6 address", "[2001:db8::1]:10190", "http://[2001:db8::1]:10190", "same-origin", 200},
		{"own page by IPv6 address, usual port", "[::1]", "http://[::1]", "", 200},
		{"own page by localhost", "LocalHost:10190", "http://localhost:10190", "same-origin", 200},
		{"own page by the host's name", strings.ToUpper(hostname) + ":10190", "", "same-origin", 200},
		{"own page by the name in the registry", "node-1.example.org", "https://node-1.example.org", "", 200},
		{"own page by that without its domain", "node-1:10190", "http://node-1:10190", "", 200},
		{"typed into the browser", "127.0.0.1:10190", "", "none", 200},
		{"another site", "127.0.0.1:10190", "https://evil.example", "cross-site", 403},
		{"another site, old browser", "127.0.0.1:10190", "https://evil.example", "", 403},
		{"another port", "127.0.0.1:10190", "http://127.0.0.1:8080", "same-site", 403},
		{"a file or sandbox", "127.0.0.1:10190", "null", "", 403},
		{"a name that was made to resolve to this host", "evil.example:10190", "http://evil.example:10190", "same-origin", 403},
		{"that, without Sec-Fetch-Site", "evil.example:10190", "http://evil.example:10190", "", 403},
		{"that, without Origin", "evil.example:10190", "", "same-origin", 403},
		{"the host's name in another domain", "node-1.evil.example", "http://node-1.evil.example", "same-origin", 403},
		{"a name that begins like an IP address", "127.0.0.1.evil.example", "http://127.0.0.1.evil.example", "same-origin", 403},
		{"localhost as a domain of somebody", "localhost.evil.example", "http://localhost.evil.example", "same-origin", 403},
		{"no name", "", "http://127.0.0.1:10190", "same-origin", 403},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, reloadPath, http.NoBody)
		r.Host = test.host
		for name, value := range map[string]string{"Origin": test.origin, "Sec-Fetch-Site": test.site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		answer := httptest.NewRecorder()
		s.handler.ServeHTTP(answer, r)
		if answer.Code != test.code {
			t.Errorf("%s: status %d, want %d: %s", test.name, answer.Code, test.code, answer.Body)
		}
		if refused := strings.HasPrefix(answer.Body.String(), "Refused: "); refused != (test.code == 403) {
			t.Errorf("%s: %q", test.name, answer.Body)
		}
	}
}
