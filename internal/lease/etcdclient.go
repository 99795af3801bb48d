//go:build linux && etcd

package lease

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/status"
)

// maxAnswer is the longest answer of etcd that is read: a page of values that are as long as etcd allows would be longer, leases are not.
const maxAnswer = 32 << 20

// silence keeps gRPC from writing to stderr. It has one logger for the whole program, which may only be set before it is used.
var silence = sync.OnceFunc(func() { grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)) })

// connect makes the client, which connects when it has to.
func (s *etcdStore) connect(ctx context.Context) error {
	if !strings.HasSuffix(s.options.Prefix, "/") {
		return fmt.Errorf("the prefix %q of keys in etcd is wrong: want a prefix that ends with a slash", s.options.Prefix)
	}
	secure, err := checkEndpoints(s.options.Endpoints)
	if err != nil {
		return err
	}
	config, err := s.options.tls(secure)
	if err != nil {
		return err
	}
	silence()
	s.client, err = clientv3.New(clientv3.Config{
		Endpoints: s.options.Endpoints,
		TLS:       config,
		Context:   ctx,
		Logger:    zap.NewNop(),
		// A connection whose other end is gone is found out, even without a request: gRPC wants at least 10 s.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second, PermitWithoutStream: true,
		MaxCallRecvMsgSize: maxAnswer,
		DialOptions: []grpc.DialOption{
			// By default it would be 2 minutes until etcd is found again.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
				MinConnectTimeout: 3 * time.Second,
			}),
			grpc.WithChainUnaryInterceptor(s.listen),
		},
	})
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	return nil
}

// listen notes why a request fails. The client itself only reports that its time was up.
func (s *etcdStore) listen(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, cc, options...)
	why := ""
	if err != nil {
		why = status.Convert(err).Message()
		if _, cause, found := strings.Cut(why, "latest balancer error: "); found {
			why = cause
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = why
	return err
}

// checkEndpoints reports whether the endpoints of etcd are secured by TLS. The client treats all as it treats the first one.
func checkEndpoints(endpoints []string) (secure bool, err error) {
	if len(endpoints) == 0 {
		return false, errors.New("no endpoint of etcd: want at least one URL, such as https://etcd.example.org:2379")
	}
	for i, endpoint := range endpoints {
		u, err := url.Parse(endpoint)
		if err == nil {
			_, _, err = net.SplitHostPort(u.Host)
		}
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
			_, place, _ := strings.Cut(endpoint, "@") // a password is nobody's business
			return false, fmt.Errorf("the endpoint %q of etcd is wrong: want https://HOST:PORT, or http://HOST:PORT", cmp.Or(place, endpoint))
		}
		if i > 0 && secure != (u.Scheme == "https") {
			return false, errors.New("some endpoints of etcd are http and some are https: want all of one kind")
		}
		secure = u.Scheme == "https"
	}
	return secure, nil
}

// tls returns how the connections are secured, or nil if they are not.
func (o EtcdOptions) tls(secure bool) (*tls.Config, error) {
	if !secure {
		if o.CAFile != "" || o.CertFile != "" || o.KeyFile != "" {
			return nil, errors.New("certificates are given, and the endpoints of etcd are http: want https, or no certificates")
		}
		return nil, nil //nolint:nilnil // no TLS is no error
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("certificates of etcd: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate in PEM", o.CAFile)
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("a certificate for etcd without its key, or the other way round: want both, or neither")
	}
	if o.CertFile != "" {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
			return &pair, err
		}
		if _, err := config.GetClientCertificate(nil); err != nil {
			return nil, fmt.Errorf("certificate for etcd: %w", err)
		}
	}
	return config, nil
}
