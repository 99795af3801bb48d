package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/listen-exporter/listen_exporter/internal/inventory"
)

const (
	program        = "listen_exporter"
	defaultAddress = ":10190"

	healthyPath = "/-/healthy"
	readyPath   = "/-/ready"
	reloadPath  = "/-/reload"
)

// config is the command line.
type config struct {
	command                string
	web                    *web.FlagConfig
	telemetryPath          string
	maxRequests            int
	disableExporterMetrics bool
	enableLifecycle        bool
	page                   bool
	gomaxprocs             int
	logLevel, logFormat    string
	inventory              inventory.Options

	logLevelSet, logFormatSet, maxPortsSet bool // by the user

	format    string   // of list
	files     []string // to check
	manifests []string // to check
}

// parse reads the command line. done tells that it asked for no more than a text, which has been printed.
func parse(args []string, stdout io.Writer) (c *config, done bool, err error) {
	if version.Version == "" { // not built by make: go run, go install
		version.Version = "devel"
	}
	app := kingpin.New(program, "Tells Prometheus which TCP and UDP ports this host listens on.")
	app.UsageWriter(stdout)
	app.UsageTemplate(usageTemplate).UsageFuncs(usageFuncs())
	app.ErrorWriter(io.Discard) // run tells the error
	app.HelpFlag.Short('h')
	app.Version(version.Print(program))
	app.Terminate(func(code int) { panic(ended(code)) })

	c = new(config)
	c.web = kingpinflag.AddFlags(app, defaultAddress)
	app.Flag("web.telemetry-path", "Path under which to expose metrics.").
		Default("/metrics").StringVar(&c.telemetryPath)
	app.Flag("web.max-requests", "How many scrapes may run at the same time; more are refused with status 503. 0 for no limit.").
		Default("40").SetValue((*number)(&c.maxRequests))
	app.Flag("web.disable-exporter-metrics", "Leave out the metrics about the exporter itself (go_*, process_*, promhttp_*).").
		BoolVar(&c.disableExporterMetrics)

	app.Flag("web.enable-lifecycle", "Let a POST to /-/reload read --registry.file again.").
		BoolVar(&c.enableLifecycle)
	app.Flag("web.page", "Show what listens at /, as a page for people.").
		Default("true").BoolVar(&c.page)

	o := &c.inventory
	app.Flag("path.procfs", "Where the procfs is mounted.").
		Default("/proc").StringVar(&o.Procfs)
	app.Flag("path.sysfs", "Where the sysfs is mounted, below which the cgroups are.").
		Default("/sys").StringVar(&o.Sysfs)
	app.Flag("collector.tcp", "Read TCP sockets.").
		Default("true").BoolVar(&o.TCP)
	app.Flag("collector.udp", "Read UDP sockets.").
		Default("true").BoolVar(&o.UDP)
	app.Flag("collector.holder", "Find out who holds each listener.").
		Default("true").BoolVar(&o.Holders)
	app.Flag("collector.source", "How the kernel is asked for its sockets: netlink, procfs, or auto for netlink where it works.").
		Default("auto").EnumVar(&o.Source, "auto", "netlink", "procfs")
	app.Flag("collector.netns", "Whose network namespace is observed: host (that of PID 1 under --path.procfs), self (the exporter's own), or all for that of the host and every other.").
		Default("host").EnumVar(&o.Netns, "host", "self", "all")
	app.Flag("collector.port-include", "Report only these ports, such as 22,8000-8100. Repeatable.").
		PlaceHolder("PORTS").SetValue(&o.PortInclude)
	app.Flag("collector.port-exclude", "Leave out these ports, such as 22,8000-8100. Repeatable.").
		PlaceHolder("PORTS").SetValue(&o.PortExclude)
	app.Flag("collector.scope-exclude", "Leave out listeners whose address reaches so far: any, public, multicast, private, link-local, loopback. Repeatable.").
		PlaceHolder("SCOPES").SetValue(&o.ScopeExclude)
	app.Flag("collector.max-ports", "How many listeners to report at most. Those that the registry declares stay first, then those that other machines can reach, then the lowest ports.").
		Default("20000").IsSetByUser(&c.maxPortsSet).SetValue((*number)(&o.MaxPorts))
	app.Flag("collector.udp.ephemeral-min-age", "How long a UDP socket on an ephemeral port must have been open before it is reported.").
		Default("1m").SetValue((*duration)(&o.EphemeralMinAge))

	app.Flag("registry.file", "The registry, ports.yml, that the listeners are judged by.").
		PlaceHolder("FILE").StringVar(&o.RegistryFile)
	app.Flag("registry.host", "The name of this host in the registry; by default the host name.").
		PlaceHolder("NAME").StringVar(&o.RegistryHost)

	app.Flag("runtime.gomaxprocs", "How many CPUs the exporter may use at the same time (GOMAXPROCS).").
		Default("1").SetValue((*number)(&c.gomaxprocs))
	app.Flag("log.level", "Only log messages of this severity or above: debug, info, warn, error.").
		Default("info").IsSetByUser(&c.logLevelSet).EnumVar(&c.logLevel, "debug", "info", "warn", "error")
	app.Flag("log.format", "Format of log messages: logfmt, json.").
		Default("logfmt").IsSetByUser(&c.logFormatSet).EnumVar(&c.logFormat, "logfmt", "json")

	addCommands(app, c)

	defer func() {
		switch end := recover().(type) {
		case nil:
		case ended:
			c, done, err = nil, true, end.err()
		default:
			panic(end)
		}
	}()
	if c.command, err = parseCommand(app, args); err != nil {
		return nil, false, nameFlag(app, args, err)
	}
	if o.RegistryHost == "" {
		if o.RegistryHost, err = os.Hostname(); err != nil && o.RegistryFile != "" {
			return nil, false, fmt.Errorf("--registry.host: %w", err)
		}
	}
	return c, false, c.validate()
}

// nameFlag puts the flag's name before the error of a value that did not fit, which kingpin leaves out.
func nameFlag(app *kingpin.Application, args []string, err error) error {
	context, parseErr := app.ParseContext(args)
	if parseErr != nil {
		return err
	}
	for _, element := range context.Elements {
		flag, isFlag := element.Clause.(*kingpin.FlagClause)
		if !isFlag || element.Value == nil {
			continue
		}
		if valueErr := flag.Model().Value.Set(*element.Value); valueErr != nil {
			return fmt.Errorf("--%s: %w", flag.Model().Name, valueErr)
		}
	}
	return err
}

// number is a flag value: a whole number.
type number int

// Set implements kingpin.Value. The library's own integers take fractions and cut them off.
func (n *number) Set(text string) error {
	parsed, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return fmt.Errorf("%q: want a whole number, at most %d", text, math.MaxInt32)
	}
	*n = number(parsed)
	return nil
}

// String implements kingpin.Value.
func (n *number) String() string { return strconv.Itoa(int(*n)) }

// duration is a flag value, written as Prometheus writes durations.
type duration model.Duration

// Set implements kingpin.Value.
func (d *duration) Set(text string) error {
	parsed, err := model.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q: want a duration such as 30s, 5m or 1h30m", text)
	}
	*d = duration(parsed)
	return nil
}

// String implements kingpin.Value.
func (d *duration) String() string { return model.Duration(*d).String() }

// validate refuses what the flags' own types let through.
func (c *config) validate() error {
	switch {
	case !c.inventory.TCP && !c.inventory.UDP:
		return errors.New("--no-collector.tcp and --no-collector.udp together leave nothing to read")
	case slices.Contains(*c.web.WebListenAddresses, ""):
		// The net package takes it for a free port of every interface.
		return fmt.Errorf("--web.listen-address must not be empty: want one such as %s", defaultAddress)
	case c.inventory.MaxPorts < 1:
		return fmt.Errorf("--collector.max-ports must be at least 1, not %d", c.inventory.MaxPorts)
	case c.maxRequests < 0:
		return fmt.Errorf("--web.max-requests must not be negative, but is %d", c.maxRequests)
	case c.gomaxprocs < 1:
		return fmt.Errorf("--runtime.gomaxprocs must be at least 1, not %d", c.gomaxprocs)
	}
	if err := c.validateWhole(); err != nil {
		return err
	}
	return validateTelemetryPath(c.telemetryPath)
}

// validateWhole refuses flags that leave something out where the answer is about all that listens: it would pass what was not
// looked at.
func (c *config) validateWhole() error {
	why := ""
	switch {
	case c.command == auditCommand:
		why = "audit judges all that listens"
	case c.command == listCommand && c.format == formatRegistry:
		why = "a registry declares all that listens"
	default:
		return nil
	}
	o := &c.inventory
	var given []string
	for _, filter := range []struct {
		flag  string
		given bool
	}{
		{"--collector.port-include", len(o.PortInclude) > 0},
		{"--collector.port-exclude", len(o.PortExclude) > 0},
		{"--collector.scope-exclude", o.ScopeExclude.String() != ""},
		{"--no-collector.tcp", !o.TCP},
		{"--no-collector.udp", !o.UDP},
	} {
		if filter.given {
			given = append(given, filter.flag)
		}
	}
	if len(given) == 0 {
		return nil
	}
	return fmt.Errorf("%s: leave out %s", why, strings.Join(given, " and "))
}

func validateTelemetryPath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"), path.Clean(p) != p, strings.ContainsAny(p, "{} \t\r\n?#%"):
		return fmt.Errorf("--web.telemetry-path must be a plain absolute path such as /metrics, not %q", p)
	case p == healthyPath, p == readyPath, p == reloadPath:
		return fmt.Errorf("--web.telemetry-path must not be %s, which has a meaning of its own", p)
	}
	return nil
}
