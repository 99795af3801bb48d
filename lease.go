//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/go-kit/log"
	"github.com/prometheus/common/model"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/lease/api"
	"github.com/listen-exporter/listen_exporter/internal/server"
)

// The stores of leases.
const (
	fileStore = "file"
	etcdStore = "etcd"
)

// longestTTL is the most that --lease.max-ttl may be. A port for longer belongs in the registry.
const longestTTL = 365 * 24 * time.Hour

// leaseFlags are the flags of leases.
type leaseFlags struct {
	enabled bool
	// address is where leases are asked for: unix:PATH, or HOST:PORT.
	address string
	// store is fileStore or etcdStore, and file is the path of the first.
	store, file string

	etcdEndpoints                                     []string
	etcdPrefix, etcdCAFile, etcdCertFile, etcdKeyFile string

	maxTTL                 time.Duration
	maxPerUser, maxPerTeam int
}

// addLeaseFlags declares the flags of leases.
func addLeaseFlags(app *kingpin.Application, l *leaseFlags) {
	app.Flag("lease.enable", "Lease ports of the registry's reserved ranges to the users that it names. Needs --registry.file.").
		BoolVar(&l.enabled)
	app.Flag("lease.listen-address", "Address on which to serve the API of leases: unix:PATH, on which each local user may ask, or HOST:PORT, which needs basic_auth_users in --web.config.file.").
		Default("unix:/run/listen_exporter/lease.sock").StringVar(&l.address)
	app.Flag("lease.store", "Where to keep leases: file, or etcd for ranges that several hosts share.").
		Default(fileStore).SetValue(&choice{&l.store, []string{fileStore, etcdStore}})
	app.Flag("lease.file", "File in which --lease.store=file keeps leases. Its directory must be writable, and no other exporter may use it. Defaults to leases.db in the directory of --state.file.").
		PlaceHolder("FILE").StringVar(&l.file)
	app.Flag("lease.etcd-endpoint", "Member of etcd, such as https://etcd-1:2379. Repeatable: name all members.").
		PlaceHolder("URL").StringsVar(&l.etcdEndpoints)
	app.Flag("lease.etcd-prefix", "What the keys of leases in etcd begin with. Hosts that share ranges have the same.").
		Default("/listen_exporter/leases/").StringVar(&l.etcdPrefix)
	app.Flag("lease.etcd-ca-file", "Certificates that sign those of etcd's members. Defaults to those of the system.").
		PlaceHolder("FILE").StringVar(&l.etcdCAFile)
	app.Flag("lease.etcd-cert-file", "Certificate with which to log in to etcd.").
		PlaceHolder("FILE").StringVar(&l.etcdCertFile)
	app.Flag("lease.etcd-key-file", "Key of --lease.etcd-cert-file.").
		PlaceHolder("FILE").StringVar(&l.etcdKeyFile)
	l.maxTTL, l.maxPerUser = 24*time.Hour, 64
	app.Flag("lease.max-ttl", "Longest time for which a lease is given. It can be renewed for as long again.").
		Default(model.Duration(l.maxTTL).String()).SetValue((*duration)(&l.maxTTL))
	app.Flag("lease.max-per-user", "Maximum number of ports that a user has on this host at the same time. 0 for no limit.").
		Default(strconv.Itoa(l.maxPerUser)).SetValue(&number{&l.maxPerUser, 0})
	app.Flag("lease.max-per-team", "Maximum number of ports of a team that are leased on this host at the same time. 0 for no limit.").
		Default("0").SetValue(&number{&l.maxPerTeam, 0})
}

// validate checks what the types of the flags do not, and fills in the default of --lease.file. both reports whether both protocols are
// read.
func (l *leaseFlags) validate(stateFile string, both bool) error {
	if !l.enabled {
		return nil
	}
	etcd := l.store == etcdStore
	if l.file == "" && stateFile != "" {
		l.file = filepath.Join(filepath.Dir(stateFile), "leases.db")
	}
	switch {
	case !both: // an expired lease ends when its ports do not listen
		return errors.New("--lease.enable needs both protocols: leave out --no-collector.tcp and --no-collector.udp")
	case l.address == "":
		return errors.New("--lease.listen-address must not be empty: want unix:PATH, or HOST:PORT")
	case !etcd && l.file == "":
		return errors.New("--lease.enable needs a file for the leases: want --lease.file, or --state.file, next to which it then is")
	case etcd && len(l.etcdEndpoints) == 0:
		return errors.New("--lease.store=etcd needs a member of etcd: want --lease.etcd-endpoint, such as https://etcd-1:2379")
	case !etcd && cmp.Or(append(l.etcdEndpoints, l.etcdCAFile, l.etcdCertFile, l.etcdKeyFile)...) != "":
		// Each host would keep leases of its own, and a port be given on two of them.
		return errors.New("--lease.etcd-endpoint and the files for it are only for --lease.store=etcd")
	case (l.etcdCertFile == "") != (l.etcdKeyFile == ""):
		return errors.New("--lease.etcd-cert-file and --lease.etcd-key-file are only useful together")
	case l.maxTTL < lease.MinTTL, l.maxTTL > longestTTL:
		return fmt.Errorf("--lease.max-ttl: %q: want at least %s and at most %s", model.Duration(l.maxTTL), model.Duration(lease.MinTTL), model.Duration(longestTTL))
	}
	return nil
}

// open opens the store of leases.
func (l *leaseFlags) open(host string, logger log.Logger) (lease.Store, error) {
	if l.store == etcdStore {
		return lease.OpenEtcd(lease.EtcdOptions{
			Endpoints: l.etcdEndpoints, Prefix: l.etcdPrefix, CAFile: l.etcdCAFile, CertFile: l.etcdCertFile, KeyFile: l.etcdKeyFile,
			Host: host, Logger: logger, Clock: lease.HostClock(),
		})
	}
	return lease.OpenFile(l.file, host, lease.HostClock())
}

// openLeases opens what hands out ports, and has the inventory judge by it. It returns nil unless --lease.enable asks for it.
func openLeases(c *config, logger log.Logger) (*lease.Manager, error) {
	switch {
	case !c.lease.enabled:
		return nil, nil
	case len(c.inventory.RegistryFiles) == 0:
		return nil, errors.New("--lease.enable needs a registry, whose reserved ranges it leases: want --registry.file")
	}
	store, err := c.lease.open(c.inventory.RegistryHost, logger)
	if err != nil {
		return nil, err
	}
	manager, err := lease.NewManager(lease.Options{
		Store: store, Logger: logger, Host: c.inventory.RegistryHost,
		MaxTTL: c.lease.maxTTL, MaxPerUser: c.lease.maxPerUser, MaxPerTeam: c.lease.maxPerTeam,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	c.inventory.Leases = manager
	return manager, nil
}

// listenForLeases opens the socket on which leases are asked for. It returns what serves it until a context is done: the requests in
// progress end, and then the store is closed.
func listenForLeases(c *config, manager *lease.Manager, listeners *inventory.Inventory, logs server.Logs) (serve func(context.Context) error, err error) {
	if !listeners.ObservesOwn() {
		return nil, errors.New("--lease.enable needs an exporter in the network namespace that it observes: only there it can prove that a port is free. Want it in the host's network namespace, or --collector.netns=self")
	}
	manager.Use(listeners.LeaseRules)
	server, err := api.Open(api.Options{
		Leases: manager, Host: c.inventory.RegistryHost, Address: c.lease.address, WebConfigFile: *c.server.Web.WebConfigFile,
		Logger: logs.Kit, Toolkit: logs.Toolkit,
	})
	if err != nil {
		return nil, fmt.Errorf("--lease.listen-address: %w", err)
	}
	return func(ctx context.Context) error {
		lasting, stop := context.WithCancel(context.WithoutCancel(ctx))
		swept := make(chan struct{})
		go func() { defer close(swept); manager.Run(lasting) }()
		err := server.Run(ctx)
		stop()
		<-swept
		return err
	}, nil
}
