//go:build linux

package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certify writes a certificate of 127.0.0.1 and its key to files next to web.yml, and adds them to that.
func certify(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"web.yml":  []byte(string(config) + "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"),
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return pool
}

func TestATCPPortWithTLSAnswersWhoHasThePassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	webConfig(t, file, "nobody")
	pool := certify(t, file)
	server := run(t, Options{Leases: new(fake), Address: "127.0.0.1:0", WebConfigFile: file})
	address := server.listener.Addr().String()
	// Whoever never ends the handshake keeps nobody out.
	for range maxOfOne + 10 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}}
	for _, c := range []struct {
		url, name, password string
		status              int
	}{
		{"https://", "nobody", "secret", http.StatusCreated},
		{"https://", "nobody", "wrong", http.StatusUnauthorized},
		{"https://", "", "", http.StatusUnauthorized},
		{"http://", "nobody", "secret", http.StatusBadRequest},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+address+leasesPath, strings.NewReader(`{"team": "ci"}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.SetBasicAuth(c.name, c.password)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		var given Lease
		err = json.NewDecoder(response.Body).Decode(&given)
		_ = response.Body.Close()
		if response.StatusCode != c.status || response.ProtoMajor != 1 {
			t.Errorf("%s as %q: %s %s, want %d by HTTP/1.1", c.url, c.name, response.Proto, response.Status, c.status)
		}
		if c.status == http.StatusCreated && (err != nil || given.UID != 65534) {
			t.Errorf("%s as %q: %+v, %v, want a lease of user 65534", c.url, c.name, given, err)
		}
	}
}
