//go:build linux

package api

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// webConfig writes a configuration file in which each user's password is "secret".
func webConfig(t *testing.T, file string, names ...string) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if len(names) > 0 {
		text.WriteString("basic_auth_users:\n")
	}
	for _, name := range names {
		fmt.Fprintf(&text, "  %s: %s\n", name, hash)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOnATCPPortWhoAsksIsTheLocalUserWithTheAuthenticatedName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	webConfig(t, file, "root", "nobody", "nobody-of-this-host")
	leases := new(fake)
	server := run(t, Options{Leases: leases, Address: "127.0.0.1:0", WebConfigFile: file})
	address := server.listener.Addr().String()
	ask := func(name, password string) string {
		t.Helper()
		client, err := NewClient(address, name, password)
		if err != nil {
			t.Fatal(err)
		}
		given, err := client.Take(t.Context(), Request{})
		var refused *Error
		switch {
		case errors.As(err, &refused):
			return fmt.Sprint(refused.Status)
		case err != nil:
			t.Fatal(err)
		}
		return fmt.Sprint("uid ", given.UID)
	}
	check := func(when, name, password, want string) {
		t.Helper()
		if got := ask(name, password); got != want {
			t.Errorf("%s: %s with password %q is %s, want %s", when, name, password, got, want)
		}
	}
	check("at first", "nobody", "secret", "uid 65534")
	check("at first", "root", "secret", "uid 0")
	check("at first", "nobody", "wrong", "401")
	check("at first", "", "", "401")
	check("at first", "nobody-of-this-host", "secret", "403")
	check("at first", "daemon", "secret", "401")

	webConfig(t, file, "root", "daemon")
	check("with another user", "nobody", "secret", "401")
	check("with another user", "daemon", "secret", "uid 1")

	webConfig(t, file) // exporter-toolkit now asks nobody
	check("without users", "root", "secret", "401")
	check("without users", "", "", "401")

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	check("without the file", "root", "secret", "500")
	webConfig(t, file, "root")
	check("at last", "root", "secret", "uid 0")
	if got := len(leases.asked); got != 4 {
		t.Errorf("%d requests arrived, want 4", got)
	}

	request, err := http.NewRequest(http.MethodPost, "http://"+address+leasesPath, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("root", "secret")
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Origin", "http://"+address)
	response, err := new(http.Transport).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("a browser gets %s, want 403", response.Status)
	}
}

func TestATCPPortWithoutUsersIsRefusedAtTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	webConfig(t, file)
	for text, wrong := range map[string]string{
		"":                               "no basic_auth_users",
		"basic_auth_users: {}":           "no basic_auth_users",
		"basic_auth_users: {root: text}": "--web.config.file",
		"nonsense: 1":                    "--web.config.file",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Leases: new(fake), Address: "127.0.0.1:0", WebConfigFile: file}); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: error %v, want one with %q", text, err, wrong)
		}
	}
}
