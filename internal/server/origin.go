//go:build linux

package server

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// ownPagesOnly refuses what a page of another site has a browser send: by net/http's check and, because a foreign name can be made
// to resolve to this host, by the name under which the browser knows it. Requests that no browser sends pass.
func ownPagesOnly(names []string, next http.Handler) http.Handler {
	refuse := func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Refused: a browser may only do this from a page of this exporter, at an IP address, localhost or the host's own name.", http.StatusForbidden)
	}
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(refuse))
	return protection.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, hasOrigin := r.Header["Origin"]
		_, hasSite := r.Header["Sec-Fetch-Site"]
		if (hasOrigin || hasSite) && !isOwnHost(r.Host, names) {
			refuse(w, r)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// isOwnHost reports whether the value of a Host header is an IP address, localhost, or one of names.
func isOwnHost(host string, names []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || slices.Contains(names, host)
}

// hostNames returns the names of this host in lower case, with and without their domains. configured is another one, or empty.
func hostNames(configured string) []string {
	var names []string
	actual, _ := os.Hostname() // without it there are fewer names
	for _, name := range []string{actual, configured} {
		name = strings.ToLower(name)
		short, _, _ := strings.Cut(name, ".")
		names = append(names, name, short)
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}
