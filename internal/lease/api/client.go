//go:build linux

package api

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer limits what the Client reads, in bytes. A lease has less than 1 KiB, and there is one port for each at least.
const maxAnswer = 64 << 20

// Client asks a [Server]. Each request has a connection of its own, since requests are rare. The client of net/http would make the program
// larger by 2 %, for all who lease nothing.
type Client struct {
	dial func(ctx context.Context) (net.Conn, error)
	base *url.URL
}

// NewClient returns a client for an address: unix:PATH, HOST:PORT, or a URL of HTTPS or HTTP such as https://HOST:PORT. user and
// password are only for TCP.
func NewClient(address, user, password string) (*Client, error) {
	if path, is := strings.CutPrefix(address, unixScheme); is {
		dial := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", path) }
		return &Client{dial, &url.URL{Scheme: "http", Host: "localhost"}}, nil
	}
	whole := address
	if !strings.Contains(address, "://") {
		whole = "http://" + address
	}
	base, err := url.Parse(whole)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || strings.Trim(base.Path, "/") != "" {
		return nil, fmt.Errorf("%q is no address of leases: want unix:PATH, HOST:PORT, or https://HOST:PORT", address)
	}
	base.User = nil
	if user != "" {
		base.User = url.UserPassword(user, password)
	}
	return &Client{func(ctx context.Context) (net.Conn, error) {
		if base.Scheme == "https" {
			return new(tls.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(base.Hostname(), cmp.Or(base.Port(), "443")))
		}
		return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(base.Hostname(), cmp.Or(base.Port(), "80")))
	}, base}, nil
}

// Take takes a lease, or returns the one that was given to a request with the same Key. The error is an *Error if the server refuses,
// or whatever keeps it from answering: [fs.ErrNotExist] if there is no socket, and [syscall.ECONNREFUSED] if nobody listens on it.
func (c *Client) Take(ctx context.Context, r Request) (l Lease, err error) {
	err = c.do(ctx, http.MethodPost, "", r, &l)
	return l, err
}

// Renew extends a lease by its TTL from now. The errors are those of Take.
func (c *Client) Renew(ctx context.Context, id string) (l Lease, err error) {
	err = c.do(ctx, http.MethodPost, "/"+url.PathEscape(id)+"/renew", nil, &l)
	return l, err
}

// End gives the ports of a lease back. The errors are those of Take.
func (c *Client) End(ctx context.Context, id string) (l Lease, err error) {
	err = c.do(ctx, http.MethodDelete, "/"+url.PathEscape(id), nil, &l)
	return l, err
}

// Leases returns the leases of all hosts. The errors are those of Take.
func (c *Client) Leases(ctx context.Context) (l Listing, err error) {
	err = c.do(ctx, http.MethodGet, "", nil, &l)
	return l, err
}

// do sends a request with a body, unless that is nil, and reads the answer.
func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base.JoinPath(leasesPath, path).String(), content)
	if err != nil {
		return err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if user := c.base.User; user != nil {
		password, _ := user.Password()
		request.SetBasicAuth(user.Username(), password)
	}
	request.Close = true
	response, text, err := c.send(request)
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return errorOf(response, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("the answer is not one of the API for leases: %w", err)
	}
	return nil
}

// send sends a request and returns the answer and its body.
func (c *Client) send(request *http.Request) (response *http.Response, body []byte, err error) {
	ctx := request.Context()
	defer func() {
		if err != nil && ctx.Err() != nil { // the connection says only that it was closed
			err = ctx.Err()
		}
	}()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	// A server that refuses a long body answers before it has read all of it.
	sent := request.Write(conn)
	response, err = http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return nil, nil, cmp.Or(sent, fmt.Errorf("read the answer: %w", err))
	}
	defer func() { _ = response.Body.Close() }()
	if body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer)); err != nil {
		return nil, nil, fmt.Errorf("read the answer: %w", err)
	}
	return response, body, nil
}

// errorOf returns the error of an answer without success.
func errorOf(response *http.Response, text []byte) error {
	refused := &Error{Status: response.StatusCode}
	if json.Unmarshal(text, refused) != nil || refused.Message == "" {
		refused = &Error{Status: response.StatusCode, Message: "the answer is " + response.Status + ", which is not one of the API for leases"} // of a proxy, or of net/http
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		refused.RetryAfter = time.Duration(seconds) * time.Second
	}
	return refused
}
