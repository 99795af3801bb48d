//go:build linux

package server

import (
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/mdlayher/vsock"
	"github.com/prometheus/exporter-toolkit/web"
)

// vsockScheme is what an address of a virtual machine's socket begins with (vsock(7)), unlike one of TCP.
const vsockScheme = "vsock://"

// listen opens the listeners that the flags name, like web.ListenAndServe. That function opens and serves them in one go, but
// the first snapshot must start in between.
func listen(flags *web.FlagConfig, logger log.Logger) ([]net.Listener, error) {
	if *flags.WebSystemdSocket {
		level.Info(logger).Log("msg", "listening on sockets from systemd")
		listeners, err := activation.Listeners()
		listeners = slices.DeleteFunc(listeners, func(l net.Listener) bool { return l == nil }) // of another type of socket
		if err == nil && len(listeners) == 0 {
			err = errors.New("no socket activation file descriptors found")
		}
		return listeners, err
	}
	var listeners []net.Listener
	for _, address := range *flags.WebListenAddresses {
		listener, err := listenOn(address)
		if err != nil {
			for _, opened := range listeners {
				_ = opened.Close()
			}
			return nil, err
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

// Ports returns the TCP ports of the addresses that the flags name, as far as they are known before something listens on them.
func Ports(flags *web.FlagConfig) []uint16 {
	if *flags.WebSystemdSocket {
		return nil
	}
	var known []uint16
	for _, address := range *flags.WebListenAddresses {
		_, service, err := net.SplitHostPort(address)
		if err != nil || strings.HasPrefix(address, vsockScheme) {
			continue
		}
		if port, err := net.LookupPort("tcp", service); err == nil && port != 0 {
			known = append(known, uint16(port))
		}
	}
	return known
}

func listenOn(address string) (net.Listener, error) {
	if !strings.HasPrefix(address, vsockScheme) {
		return net.Listen("tcp", address)
	}
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(parsed.Port(), 10, 32)
	if err != nil {
		return nil, err
	}
	return vsock.Listen(uint32(port), nil)
}
