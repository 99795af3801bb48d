package program_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/program"
)

// identity is a certificate for 127.0.0.1, and a web config that uses it.
type identity struct {
	config string // path of the web config
	roots  *x509.CertPool
}

// bcryptHash is the hash of the password "correct horse", of the lowest cost.
const bcryptHash = "$2a$04$wCHXLlLC8ofHzBN1qjz/8OMKDwOgt1X8TSlMF0G5Kw2KXruWT.W6C"

// newIdentity makes a certificate that signs itself. extra is more of the web config.
func newIdentity(t *testing.T, extra ...string) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "listen_exporter test"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certDER, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"server.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER}),
		"server.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		"web.yml":    []byte("tls_server_config: {cert_file: server.crt, key_file: server.key}\n" + strings.Join(extra, "")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(certDER)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
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
	useTLS(e, newIdentity(t)) // trusts another certificate
	if resp, err := e.Request(http.MethodGet, "/metrics"); err == nil {
		t.Errorf("with a certificate that is not trusted: status %d, want an error", resp.Status)
	}
	useTLS(e, id)
	for _, path := range []string{"/metrics", "/", "/-/healthy", "/-/ready", "/nothing"} {
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
