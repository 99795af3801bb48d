//go:build linux

package program

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/host"
)

// AnswerLeases serves one answer to all who ask for leases on a Unix socket, until the test ends, and returns its address. Without an
// answer nobody accepts connections.
func AnswerLeases(tb testing.TB, status int, answer string) (address string) {
	tb.Helper()
	path := filepath.Join(host.OpenDir(tb), "s") // a short name: the path of a socket has at most 107 bytes
	listener, err := net.Listen("unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = listener.Close() })
	if answer != "" {
		go func() {
			_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, answer)
			}))
		}()
	}
	return "unix:" + path
}
