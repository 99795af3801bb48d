//go:build linux

package examples

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/listen-exporter/listen_exporter/test/program"
	"github.com/listen-exporter/listen_exporter/test/tools"
)

// ownHash is the bcrypt hash of "own-password", at the least cost.
const ownHash = "$2y$04$bR0/Gd23ZKJJXz60EN8Rpulho6e.a5dRdFGmKut49rH8/Lzpf6tmy"

// TestTheExporterTakesTheWebConfiguration asks over TLS, with a password for the hash that ships, and with the right one where the
// user has put in a hash as the example says.
func TestTheExporterTakesTheWebConfiguration(t *testing.T) {
	example := tools.Read(t, "web-config/web-config.yml")
	shippedHash := regexp.MustCompile(`(?m)^  prometheus: (\$2y\$10\$\S{53})$`).FindStringSubmatch(example)
	if shippedHash == nil {
		t.Fatal("the example has no bcrypt hash for the user prometheus")
	}
	certificate, key := selfSigned(t)
	for config, want := range map[string]int{
		example: http.StatusUnauthorized,
		strings.ReplaceAll(example, shippedHash[1], ownHash): http.StatusOK,
	} {
		e := startTLS(t, config, certificate, key)
		e.URL = "https://prometheus:own-password@" + e.Address
		answer := e.Get("/metrics")
		if answer.Status != want || strings.Contains(answer.Body, "host_listen_port") != (want == http.StatusOK) {
			t.Errorf("status %d, want %d: %s\n%s", answer.Status, want, answer.Body, config)
		}
	}
}

// TestTheCommentedClientCertificatesWork runs the exporter with the variant that lets in only clients with a certificate.
func TestTheCommentedClientCertificatesWork(t *testing.T) {
	config := uncomment(tools.Read(t, "web-config/web-config.yml"))
	if !strings.Contains(config, "\n  client_auth_type:") {
		t.Fatal("client_auth_type: was not found among the comments")
	}
	certificate, key := selfSigned(t)
	e := startTLS(t, config, certificate, key)
	if answer, err := e.Request(http.MethodGet, "/metrics"); err == nil {
		t.Errorf("a client without a certificate got status %d", answer.Status)
	}
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	e.Client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{pair}
	if answer, err := e.Request(http.MethodGet, "/metrics"); err != nil || answer.Status != http.StatusUnauthorized {
		t.Errorf("a client with a certificate and no password: status %d, error %v, want status %d", answer.Status, err, http.StatusUnauthorized)
	}
}

// startTLS starts the exporter with a web configuration. Its client trusts only this certificate.
func startTLS(t *testing.T, config, certificate, key string) *program.Exporter {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"web-config.yml": config, "listen_exporter.crt": certificate, "listen_exporter.key": key, "prometheus-ca.crt": certificate,
	} {
		write(t, filepath.Join(dir, name), text)
	}
	e := program.Start(t, "--collector.netns=self", "--web.config.file="+filepath.Join(dir, "web-config.yml"))
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(certificate)) {
		t.Fatal("not a certificate")
	}
	e.URL = "https://" + e.Address
	e.Client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	return e
}

// selfSigned returns a certificate for 127.0.0.1, as the example's openssl command makes one, and its key.
func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	public, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public}))
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	return certificate, key
}
