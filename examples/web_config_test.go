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
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// ownHash is the bcrypt hash of "own-password", at the least cost.
const ownHash = "$2y$04$bR0/Gd23ZKJJXz60EN8Rpulho6e.a5dRdFGmKut49rH8/Lzpf6tmy"

// TestTheExporterTakesTheWebConfiguration asks over TLS, with no password, a wrong one, and the right one where the user
// has put in a hash as the example says.
func TestTheExporterTakesTheWebConfiguration(t *testing.T) {
	example := read(t, "web-config/web-config.yml")
	shippedHash := regexp.MustCompile(`(?m)^  prometheus: (\$2y\$10\$\S{53})$`).FindStringSubmatch(example)
	if shippedHash == nil {
		t.Fatal("the example has no bcrypt hash for the user prometheus")
	}
	certificate, key := selfSigned(t)
	for _, tc := range []struct {
		name, config, password string
		want                   int
	}{
		{"no password", example, "", http.StatusUnauthorized},
		{"wrong password", example, "prometheus", http.StatusUnauthorized},
		{"own password", strings.ReplaceAll(example, shippedHash[1], ownHash), "own-password", http.StatusOK},
		{"own password wrong", strings.ReplaceAll(example, shippedHash[1], ownHash), "other-password", http.StatusUnauthorized},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "web-config.yml"), tc.config)
			write(t, filepath.Join(dir, "listen_exporter.crt"), certificate)
			write(t, filepath.Join(dir, "listen_exporter.key"), key)
			address := start(t, exec.Command(exporter(t),
				"--web.listen-address=127.0.0.1:0", "--collector.netns=self", "--web.config.file="+filepath.Join(dir, "web-config.yml")))

			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/metrics", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if tc.password != "" {
				request.SetBasicAuth("prometheus", tc.password)
			}
			status, body := get(t, trusting(t, certificate), request)
			if status != tc.want {
				t.Errorf("status %d, want %d", status, tc.want)
			}
			if shown := strings.Contains(body, "host_listen_port"); shown != (tc.want == http.StatusOK) {
				t.Errorf("metrics shown: %v, with status %d", shown, status)
			}
		})
	}
}

// TestTheCommentedClientCertificatesWork runs the exporter with the variant that lets in only clients with a certificate.
func TestTheCommentedClientCertificatesWork(t *testing.T) {
	config := uncomment(read(t, "web-config/web-config.yml"))
	if !strings.Contains(config, "\n  client_auth_type:") {
		t.Fatal("client_auth_type: was not found among the comments")
	}
	certificate, key := selfSigned(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "web-config.yml"), config)
	write(t, filepath.Join(dir, "listen_exporter.crt"), certificate)
	write(t, filepath.Join(dir, "listen_exporter.key"), key)
	write(t, filepath.Join(dir, "prometheus-ca.crt"), certificate)
	address := start(t, exec.Command(exporter(t),
		"--web.listen-address=127.0.0.1:0", "--collector.netns=self", "--web.config.file="+filepath.Join(dir, "web-config.yml")))

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := trusting(t, certificate)
	if response, err := client.Do(request); err == nil {
		response.Body.Close()
		t.Errorf("a client without a certificate got %s", response.Status)
	}
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	client = trusting(t, certificate)
	client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{pair}
	if status, _ := get(t, client, request); status != http.StatusUnauthorized {
		t.Errorf("a client with a certificate and no password: status %d, want %d", status, http.StatusUnauthorized)
	}
}

// trusting returns a client that trusts one certificate alone.
func trusting(t *testing.T, certificate string) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(certificate)) {
		t.Fatal("not a certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
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
