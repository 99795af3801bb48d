//go:build linux && etcd

package lease_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/test/host"
)

// authority signs certificates.
type authority struct {
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// newAuthority makes the authority of a test, with its certificate in ca.pem.
func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.certificate, a.key = a.sign(t, "ca")
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name+".pem") }

// sign makes a certificate of 127.0.0.1 that counts for a minute, for both ends of a connection. Its key is in NAME-key.pem.
func (a *authority) sign(t *testing.T, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: a.certificate == nil, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = certificate, key
	}
	der, err := x509.CreateCertificate(rand.Reader, certificate, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name: {Type: "CERTIFICATE", Bytes: der}, name + "-key": {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(a.path(file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

// TestEtcdAndTheExporterKnowEachOtherByTheirCertificates: with a CA of the test's own. A user of etcd who may only read and write below
// the prefix is enough, and a certificate that is replaced is used.
func TestEtcdAndTheExporterKnowEachOtherByTheirCertificates(t *testing.T) {
	trusted, stranger := newAuthority(t), newAuthority(t)
	for _, name := range []string{"etcd", "listen_exporter", "root"} {
		trusted.sign(t, name)
		stranger.sign(t, name)
	}
	etcd := host.StartEtcd(t, "127.0.0.1", "--cert-file="+trusted.path("etcd"), "--key-file="+trusted.path("etcd-key"),
		"--client-cert-auth", "--trusted-ca-file="+trusted.path("ca"))
	o := optionsOf(etcd)
	o.CAFile, o.CertFile, o.KeyFile = trusted.path("ca"), trusted.path("listen_exporter"), trusted.path("listen_exporter-key")
	onlyRead(t, o, trusted)

	s := openEtcd(t, o)
	defer closeStore(t, s)
	l := wanted(1, 30000, 30001)
	l.Key = "x"
	l = mustTake(t, s, l)
	if _, err := s.Renew(t.Context(), l.ID); err != nil {
		t.Error(err)
	}
	if err := s.Overstay(t.Context(), l.ID); err != nil {
		t.Error(err)
	}
	outside := o
	outside.Prefix = "/somebody's/"
	for _, test := range []struct {
		name    string
		options lease.EtcdOptions
		change  func(*lease.EtcdOptions)
		why     string
	}{
		{"another authority", o, func(o *lease.EtcdOptions) { o.CAFile = stranger.path("ca") }, "certificate signed by unknown authority"},
		{"that of the system", o, func(o *lease.EtcdOptions) { o.CAFile = "" }, "certificate signed by unknown authority"},
		{
			"a certificate that another authority signed", o,
			func(o *lease.EtcdOptions) {
				o.CertFile, o.KeyFile = stranger.path("listen_exporter"), stranger.path("listen_exporter-key")
			},
			"certificate",
		},
		{"no certificate", o, func(o *lease.EtcdOptions) { o.CertFile, o.KeyFile = "", "" }, "certificate"},
		{"no TLS", o, func(o *lease.EtcdOptions) {
			o.CAFile, o.CertFile, o.KeyFile = "", "", ""
			o.Endpoints = []string{strings.Replace(o.Endpoints[0], "https:", "http:", 1)}
		}, ""},
		{"another prefix", outside, func(*lease.EtcdOptions) {}, "permission denied"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.change(&test.options)
			s := openEtcd(t, test.options)
			defer closeStore(t, s)
			await(t, "the error", func() error {
				if _, err := s.Leases(); err == nil || !strings.Contains(err.Error(), test.why) {
					return fmt.Errorf("%w, want %q in it", err, test.why)
				}
				return nil
			})
		})
	}
	if err := s.Remove(t.Context(), l.ID); err != nil {
		t.Error(err)
	}
}

// onlyRead has etcd give its users rights: the exporter's may do what it needs.
func onlyRead(t *testing.T, o lease.EtcdOptions, a *authority) {
	t.Helper()
	config, err := clientv3.NewClientConfig(&clientv3.ConfigSpec{Endpoints: o.Endpoints, Secure: &clientv3.SecureConfig{
		Cacert: a.path("ca"), Cert: a.path("root"), Key: a.path("root-key"),
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(*config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx := t.Context()
	for _, step := range []func() error{
		func() error {
			_, err := client.UserAddWithOptions(ctx, "root", "", &clientv3.UserAddOptions{NoPassword: true})
			return err
		},
		func() error { _, err := client.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := client.RoleAdd(ctx, "leases"); return err },
		func() error {
			_, err := client.RoleGrantPermission(ctx, "leases", o.Prefix, clientv3.GetPrefixRangeEnd(o.Prefix), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error {
			_, err := client.UserAddWithOptions(ctx, "listen_exporter", "", &clientv3.UserAddOptions{NoPassword: true})
			return err
		},
		func() error { _, err := client.UserGrantRole(ctx, "listen_exporter", "leases"); return err },
		func() error { _, err := client.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOptionsOfEtcdThatCannotWorkAreRefused(t *testing.T) {
	a := newAuthority(t)
	a.sign(t, "own")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := lease.EtcdOptions{
		Endpoints: []string{"https://127.0.0.1:2379"}, Prefix: "/x/", Host: "one",
		CAFile: a.path("ca"), CertFile: a.path("own"), KeyFile: a.path("own-key"),
	}
	plain := lease.EtcdOptions{Endpoints: []string{"http://127.0.0.1:2379"}, Prefix: "/x/", Host: "one"}
	for _, test := range []struct {
		name    string
		options lease.EtcdOptions
		change  func(*lease.EtcdOptions)
		want    string
	}{
		{"no endpoint", plain, func(o *lease.EtcdOptions) { o.Endpoints = nil }, "want at least one URL"},
		{"an address", plain, func(o *lease.EtcdOptions) { o.Endpoints = []string{"127.0.0.1:2379"} }, `"127.0.0.1:2379"`},
		{"no port", plain, func(o *lease.EtcdOptions) { o.Endpoints = []string{"http://etcd"} }, "want https://HOST:PORT"},
		{"no host", plain, func(o *lease.EtcdOptions) { o.Endpoints = []string{"http://:2379"} }, "want https://HOST:PORT"},
		{"a path", plain, func(o *lease.EtcdOptions) { o.Endpoints = []string{"http://etcd:2379/v3"} }, "want https://HOST:PORT"},
		{"a password", plain, func(o *lease.EtcdOptions) { o.Endpoints = []string{"http://me:secret@etcd:2379"} }, "want https://HOST:PORT"},
		{"another scheme", plain, func(o *lease.EtcdOptions) { o.Endpoints = []string{"ftp://etcd:2379"} }, "want https://HOST:PORT"},
		{"http and https", plain, func(o *lease.EtcdOptions) { o.Endpoints = append(o.Endpoints, good.Endpoints[0]) }, "want all of one kind"},
		{"certificates without TLS", plain, func(o *lease.EtcdOptions) { o.CAFile = good.CAFile }, "want https, or no certificates"},
		{"no CA", good, func(o *lease.EtcdOptions) { o.CAFile = empty + "/x" }, "not a directory"},
		{"an empty CA", good, func(o *lease.EtcdOptions) { o.CAFile = empty }, "has no certificate in PEM"},
		{"a certificate without its key", good, func(o *lease.EtcdOptions) { o.KeyFile = "" }, "want both, or neither"},
		{"the key of another", good, func(o *lease.EtcdOptions) { o.KeyFile = a.path("ca-key") }, "private key does not match"},
		{"no prefix", plain, func(o *lease.EtcdOptions) { o.Prefix = "" }, "want a prefix"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.change(&test.options)
			s, err := lease.OpenEtcd(test.options)
			if err == nil {
				closeStore(t, s)
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
		})
	}
}

// TestTheClientOfEtcdWritesNothingToStderr: whatever goes wrong, the store's error says it.
func TestTheClientOfEtcdWritesNothingToStderr(t *testing.T) {
	etcd := host.StartEtcd(t, "127.0.0.1") // which has the stderr of before
	file, err := os.CreateTemp(t.TempDir(), "stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	stderr, err := unix.Dup(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Dup3(int(file.Fd()), 2, 0); err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t)
	o := optionsOf(etcd)
	o.Endpoints = []string{strings.Replace(etcd.URL, "http:", "https:", 1), "https://127.0.0.1:1"}
	o.CAFile = a.path("ca")
	s, err := lease.OpenEtcd(o)
	if err == nil {
		_, err = s.Take(t.Context(), wanted(1, 30000))
		_ = s.Close()
	}
	if err := unix.Dup3(stderr, 2, 0); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(stderr)
	if err == nil {
		t.Error("it takes a lease from an etcd without TLS")
	}
	text, readErr := os.ReadFile(file.Name())
	if readErr != nil || len(text) > 0 {
		t.Errorf("%v: it wrote:\n%s", readErr, text)
	}
}
