//go:build linux

package program_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// identity is a certificate for 127.0.0.1, and a web config that uses it.
type identity struct {
	config string // path of the web config
	roots  *x509.CertPool
}

// bcryptHash is the hash of the password "correct horse", of the lowest cost.
const bcryptHash = "$2a$04$wCHXLlLC8ofHzBN1qjz/8OMKDwOgt1X8TSlMF0G5Kw2KXruWT.W6C"

// newIdentity writes the certificate of net/http/httptest. extra is more of the web config.
func newIdentity(t *testing.T, extra ...string) identity {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"server.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		"server.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"web.yml":    []byte("tls_server_config: {cert_file: server.crt, key_file: server.key}\n" + strings.Join(extra, "")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return identity{config: filepath.Join(dir, "web.yml"), roots: roots}
}

// useTLS makes the client use TLS and trust only the certificate of i.
func useTLS(e *program.Exporter, i identity) {
	e.URL = "https://" + e.Address
	e.Client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: i.roots, MinVersion: tls.VersionTLS12}}
}

func TestTLSAndThePasswordProtectEveryPage(t *testing.T) {
	t.Parallel()
	id := newIdentity(t, "basic_auth_users: {prometheus: "+bcryptHash+"}\n")
	e := program.Start(t, "--path.procfs="+program.NewProcfs(t), "--web.config.file="+id.config)
	if plain := e.Get("/metrics"); plain.Status != http.StatusBadRequest || strings.Contains(plain.Body, "host_listen_port") {
		t.Errorf("without TLS: status %d, want 400: %s", plain.Status, plain.Body)
	}
	useTLS(e, id)
	for _, path := range []string{"/metrics", "/", "/api/v1/listeners", "/-/healthy", "/-/ready", "/nothing"} {
		for _, test := range []struct {
			name           string
			user, password string
			right          bool
		}{
			{"no password", "", "", false},
			{"wrong password", "prometheus", "wrong horse", false},
			{"empty password", "prometheus", "", false},
			{"wrong user", "grafana", "correct horse", false},
			{"right password", "prometheus", "correct horse", true},
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.URL+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if test.user != "" {
				req.SetBasicAuth(test.user, test.password)
			}
			resp, err := e.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if refused := resp.Status == http.StatusUnauthorized; refused == test.right {
				t.Errorf("%s with %s: status %d", path, test.name, resp.Status)
			}
			if hasMetrics := strings.Contains(resp.Body, "host_listen_port"); hasMetrics != (test.right && path == "/metrics") {
				t.Errorf("%s with %s: metrics %t", path, test.name, hasMetrics)
			}
		}
	}
}
