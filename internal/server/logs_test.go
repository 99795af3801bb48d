package server

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/go-kit/log"
)

// logged returns the one line that is logged in logfmt.
func logged(t *testing.T, do func(Logs)) string {
	t.Helper()
	var text bytes.Buffer
	do(Logs{Plain: log.NewLogfmtLogger(&text)})
	if strings.Count(text.String(), "\n") != 1 {
		t.Errorf("want one line:\n%s", &text)
	}
	return strings.TrimSuffix(text.String(), "\n")
}

func TestErrorsOfTheHTTPServerAreLoggedAsTheyAre(t *testing.T) {
	for _, message := range []string{
		"http: TLS handshake error from 127.0.0.1:40000: EOF",
		"http: panic serving 127.0.0.1:1: boom\ngoroutine 1 [running]:\nmain.f()\n\t/src/main.go:12 +0x1d",
	} {
		got := logged(t, func(l Logs) { l.forHTTP().Print(message) })
		if want := fmt.Sprintf("level=error msg=%q", message); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestAClientThatHangsUpIsNoError(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("write: %w", syscall.EPIPE), "debug"},
		{fmt.Errorf("write: %w", syscall.ECONNRESET), "debug"},
		{errors.New("inconsistent label names"), "error"},
	} {
		got := logged(t, func(l Logs) { scrapeLogger{l.Plain}.Println("error encoding and sending metric family:", test.err) })
		if want := fmt.Sprintf(`level=%s msg="error encoding and sending metric family: %v"`, test.want, test.err); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
