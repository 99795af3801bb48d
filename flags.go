//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/listen-exporter/listen_exporter/internal/command"
	"github.com/listen-exporter/listen_exporter/internal/inventory"
	"github.com/listen-exporter/listen_exporter/internal/lease/api"
	"github.com/listen-exporter/listen_exporter/internal/server"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

const defaultAddress = ":10190"

// The commands.
const (
	serveCommand = "serve"
	listCommand  = "list"
	auditCommand = "audit"
	checkCommand = "check"
	leaseCommand = "lease"
	helpCommand  = "help" // kingpin's own
)

// config is the command line.
type config struct {
	command   string
	inventory inventory.Options
	server    server.Options
	list      command.ListOptions
	stateFile string
	lease     leaseFlags

	optionalRegistries []string
	gomaxprocs         int
	gomaxprocsSet      bool // by the user

	auditFormat string

	check command.CheckOptions

	leasing          command.LeaseOptions
	renewSet, endSet bool // by the user

	logLevel, logFormat                               string
	logEvents                                         bool
	logLevelSet, logFormatSet, maxPortsSet, outputSet bool // by the user
}

// parse parses the command line. done reports that help or version text was printed.
func parse(args []string, stdout io.Writer) (c *config, done bool, err error) {
	if version.Version == "" { // built by go run or go install, not by make
		version.Version = "devel"
	}
	app := kingpin.New(wording.Program, "Exports the TCP and UDP ports that listen on this host to Prometheus.")
	app.UsageWriter(stdout)
	app.UsageTemplate(usageTemplate).UsageFuncs(usageFuncs)
	app.ErrorWriter(io.Discard) // run reports the error
	app.HelpFlag.Short('h')
	app.Version(version.Print(wording.Program))
	app.Terminate(func(code int) { panic(ended(code)) })
	app.Flag(fishFlag, "Generate completion script for fish.").Hidden().Bool() // kingpin has those of bash and zsh
	c = new(config)
	addFlags(app, c)
	addCommands(app, c)

	defer func() {
		switch end := recover().(type) {
		case nil:
		case ended:
			done = true
			if end != 0 {
				err = errors.New("no such command")
			}
			if slices.Contains(args, "--completion-bash") {
				// kingpin writes the words to os.Stdout without a newline, and without a look at whether that fails.
				_, err = io.WriteString(stdout, "\n")
				err = command.Written(err)
			}
		case *fs.PathError: // with which kingpin panics if it cannot write the help text
			err = command.Written(end)
		default:
			panic(end)
		}
	}()
	if asked, err := printText(app, args, stdout); asked {
		return nil, true, command.Written(err)
	}
	if err := refuseBoolValues(app.Model(), args); err != nil {
		return nil, false, err
	}
	if c.command, err = parseCommand(app, args); err != nil {
		return nil, false, nameFlag(app, args, err)
	}
	if slices.Contains(args, command.Stdin) {
		for _, paths := range [][]string{c.check.Registry, c.check.Manifests} {
			for i, path := range paths {
				paths[i] = cmp.Or(path, command.Stdin) // of which kingpin makes an empty word
			}
		}
		c.list.Output = cmp.Or(c.list.Output, command.Stdin)
	}
	if c.renewSet || c.endSet {
		if err := refuseFlagsOfATake(app, args); err != nil {
			return nil, false, err
		}
	}
	if err := refuseLooseCommand(args, c.leasing.Command); err != nil {
		return nil, false, err
	}
	c.inventory.RegistryFiles = slices.DeleteFunc(c.inventory.RegistryFiles, func(file string) bool { return file == "" })
	c.inventory.RegistryFiles = addOptional(c.inventory.RegistryFiles, c.optionalRegistries)
	if c.inventory.RegistryHost == "" {
		if c.inventory.RegistryHost, err = os.Hostname(); err != nil && len(c.inventory.RegistryFiles) > 0 {
			return nil, false, fmt.Errorf("--registry.host: %w", err)
		}
	}
	c.inventory.OwnPorts = server.Ports(c.server.Web)
	if port := api.Port(c.lease.address); port != 0 {
		c.inventory.OwnPorts = append(c.inventory.OwnPorts, port)
	}
	if c.inventory.Events != inventory.EventsOff && !c.gomaxprocsSet {
		c.gomaxprocs = 2
	}
	return c, false, c.validate()
}

// addFlags declares the flags of all commands.
func addFlags(app *kingpin.Application, c *config) {
	c.server.Web = kingpinflag.AddFlags(app, defaultAddress)
	app.Flag("web.telemetry-path", "Path under which to expose metrics.").
		Default("/metrics").StringVar(&c.server.TelemetryPath)
	app.Flag("web.max-requests", "Maximum number of scrapes at the same time; more are refused with status 503. 0 for no limit.").
		Default("40").SetValue(&number{&c.server.MaxRequests, 0})
	app.Flag("web.disable-exporter-metrics", "Exclude metrics about the exporter itself (go_*, process_*, promhttp_*).").
		BoolVar(&c.server.DisableExporterMetrics)
	app.Flag("web.enable-lifecycle", "Enable reloading --registry.file with a POST to /-/reload.").
		BoolVar(&c.server.EnableLifecycle)
	app.Flag("web.page", "Show the listeners at / as a web page.").
		Default("true").BoolVar(&c.server.Page)

	o := &c.inventory
	*o = inventory.DefaultOptions()
	app.Flag("path.procfs", "procfs mount point.").
		Default(o.Procfs).StringVar(&o.Procfs)
	app.Flag("path.sysfs", "sysfs mount point. The cgroups are below it.").
		Default(o.Sysfs).StringVar(&o.Sysfs)
	app.Flag("collector.tcp", "Read TCP sockets.").
		Default(strconv.FormatBool(o.TCP)).BoolVar(&o.TCP)
	app.Flag("collector.udp", "Read UDP sockets.").
		Default(strconv.FormatBool(o.UDP)).BoolVar(&o.UDP)
	app.Flag("collector.holder", "Find the processes that hold each listener.").
		Default(strconv.FormatBool(o.Holders)).BoolVar(&o.Holders)
	app.Flag("collector.traffic", "Count the packets and bytes of each listener's port in the main network namespace, by eBPF. Needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and the host's cgroup2 hierarchy.").
		BoolVar(&o.Traffic)
	app.Flag("collector.source", "How to read sockets from the kernel: netlink, procfs, or auto for netlink where it works.").
		Default(o.Source).SetValue(&choice{&o.Source, []string{"auto", "netlink", "procfs"}})
	app.Flag("collector.netns", "Network namespace to observe: host (that of PID 1 under --path.procfs), self (the exporter's own), or all (the host's and every other).").
		Default(o.Netns).SetValue(&choice{&o.Netns, []string{"host", "self", "all"}})
	app.Flag("collector.events", "Have the kernel report, by eBPF, each listener that opens or closes, and count connections: off, on, or auto (on where the rights and the kernel allow it).").
		Default(o.Events).SetValue(&choice{&o.Events, []string{inventory.EventsOff, inventory.EventsAuto, inventory.EventsOn}})
	app.Flag("collector.port-include", "Report only these ports, such as 22,8000-8100. Repeatable.").
		PlaceHolder("PORTS").SetValue(&o.PortInclude)
	app.Flag("collector.port-exclude", "Exclude these ports, such as 22,8000-8100. Repeatable.").
		PlaceHolder("PORTS").SetValue(&o.PortExclude)
	app.Flag("collector.scope-exclude", "Exclude listeners with these scopes: any, public, multicast, private, link-local, loopback. Repeatable.").
		PlaceHolder("SCOPES").SetValue(&o.ScopeExclude)
	app.Flag("collector.max-ports", "Maximum number of listeners to report. Listeners that the registry declares are kept first, then those that other machines can reach, then the lowest ports.").
		Default(strconv.Itoa(o.MaxPorts)).IsSetByUser(&c.maxPortsSet).SetValue(&number{&o.MaxPorts, 1})
	app.Flag("collector.udp.ephemeral-min-age", "Minimum age of a UDP socket on an ephemeral port before it is reported.").
		Default(model.Duration(o.EphemeralMinAge).String()).SetValue((*duration)(&o.EphemeralMinAge))
	app.Flag("collector.interval", "How often to look between scrapes, to remember what happens. It looks less often where that would take more than 1% of a CPU. 0 to look only at scrapes.").
		Default(model.Duration(o.Interval).String()).SetValue((*duration)(&o.Interval))
	app.Flag("collector.settled-after", "How long a port must have been open for its loss to be remembered.").
		Default(model.Duration(o.SettledAfter).String()).SetValue((*duration)(&o.SettledAfter))
	app.Flag("collector.remember", "How long to remember a port that is gone.").
		Default(model.Duration(o.Remember).String()).SetValue((*duration)(&o.Remember))

	app.Flag("registry.file", "Registry (ports.yml) with which to compare the listeners, or a directory of such files. Repeatable; all files are one registry.").
		PlaceHolder("FILE").StringsVar(&o.RegistryFiles)
	app.Flag("registry.optional-file", "Like --registry.file, but ignored if it is not there at the start, or is a directory without such files. Repeatable.").
		PlaceHolder("FILE").StringsVar(&c.optionalRegistries)
	app.Flag("registry.host", "Name of this host in the registry. Defaults to the host name.").
		PlaceHolder("NAME").IsSetByUser(&c.list.HostGiven).StringVar(&o.RegistryHost)

	app.Flag("state.file", "File in which to keep what is remembered, so that it outlives restarts and reboots. Its directory must be writable, and no other exporter may use it.").
		PlaceHolder("FILE").StringVar(&c.stateFile)
	addLeaseFlags(app, &c.lease)

	app.Flag("runtime.gomaxprocs", "Maximum number of CPUs to use at the same time (GOMAXPROCS). Unless it is given, 2 with --collector.events: a storm of events must not hold up scrapes.").
		Default("1").IsSetByUser(&c.gomaxprocsSet).SetValue(&number{&c.gomaxprocs, 1})
	app.Flag("log.level", "Only log messages with the given severity or above: debug, info, warn, error.").
		Default("info").IsSetByUser(&c.logLevelSet).SetValue(&choice{&c.logLevel, []string{"debug", "info", "warn", "error"}})
	app.Flag("log.format", "Format of log messages: logfmt, json.").
		Default("logfmt").IsSetByUser(&c.logFormatSet).SetValue(&choice{&c.logFormat, []string{"logfmt", "json"}})
	app.Flag("log.events", "Log a line at level info for each listener that opens or closes. At most 200 at once and 20 a second; the others are counted.").
		BoolVar(&c.logEvents)
}

// parseCommand parses the command line and returns the command: serve if there is none. kingpin's own default command would
// ignore a flag that lacks its value.
func parseCommand(app *kingpin.Application, args []string) (string, error) {
	context, err := app.ParseContext(args)
	switch {
	case context == nil || context.SelectedCommand != nil || textFlag(context) != "":
	case err == nil:
		args = append(slices.Clone(args), serveCommand)
	case context.Peek().Type == kingpin.TokenArg:
		return "", fmt.Errorf("unknown command %q: want serve, list, audit, check or lease", context.Peek().Value)
	}
	return app.Parse(args)
}

// refuseBoolValues returns an error if a flag that takes no value has one. kingpin would take the value for an argument: list --watch=5
// would be about port 5.
func refuseBoolValues(app *kingpin.ApplicationModel, args []string) error {
	flags := slices.Clone(app.Flags)
	for _, c := range app.Commands {
		flags = append(flags, c.Flags...)
	}
	for _, arg := range args {
		if arg == "--" { // arguments follow
			return nil
		}
		name, value, has := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if !has || !strings.HasPrefix(arg, "--") {
			continue
		}
		for _, f := range flags {
			if f.IsBoolFlag() && f.Name == strings.TrimPrefix(name, "no-") {
				return fmt.Errorf("--%s takes no value, not %q: want --%s or --no-%s", name, value, f.Name, f.Name)
			}
		}
	}
	return nil
}

// refuseLooseCommand returns an error unless the command of lease comes after a "--": only there kingpin leaves its flags to it.
func refuseLooseCommand(args, of []string) error {
	if before := slices.Index(args, "--"); len(of) > 0 && (before < 0 || !slices.Equal(args[before+1:], of)) {
		return fmt.Errorf("the command of lease comes after a --, so that its flags are its own: want %s lease -- %s", wording.Program, strings.Join(of, " "))
	}
	return nil
}

// refuseFlagsOfATake returns an error if --renew or --end, one of which is set, has a flag next to it that says which lease to take: they
// would ignore it.
func refuseFlagsOfATake(app *kingpin.Application, args []string) error {
	context, err := app.ParseContext(args)
	if err != nil {
		return err
	}
	instead, ofATake := "", ""
	for _, element := range context.Elements {
		flag, isFlag := element.Clause.(*kingpin.FlagClause)
		if !isFlag {
			continue
		}
		switch name := flag.Model().Name; name {
		case "renew", "end":
			instead = cmp.Or(instead, name)
		case "team", "name", "proto", "ttl", "count", "key":
			ofATake = cmp.Or(ofATake, name)
		}
	}
	if ofATake == "" {
		return nil
	}
	return fmt.Errorf("--%s has no effect with --%s: want one of them", ofATake, instead)
}

// printText prints the texts whose failing kingpin ignores, or that it prints on its own stdout. It reports whether the command line
// asks for one.
func printText(app *kingpin.Application, args []string, stdout io.Writer) (asked bool, err error) {
	context, _ := app.ParseContext(args) // a wrong command line may ask for a text as well
	if context == nil {
		return false, nil
	}
	templates := map[string]string{
		"help-long": kingpin.LongHelpTemplate,
		"help-man":  manTemplate,
	}
	flag := textFlag(context)
	if flag == "version" {
		_, err := fmt.Fprintln(stdout, version.Print(wording.Program))
		return true, err
	}
	if script, has := completionScripts()[flag]; has {
		_, err := io.WriteString(stdout, script(app.Model(), sharedFlags))
		return true, err
	}
	if template, has := templates[flag]; has {
		return true, app.UsageForContextWithTemplate(context, 2, template)
	}
	return false, nil
}

// textFlag returns the name of the flag with which a command line only asks for a text, such as help, or an empty string.
func textFlag(context *kingpin.ParseContext) string {
	for _, element := range context.Elements {
		if flag, isFlag := element.Clause.(*kingpin.FlagClause); isFlag {
			name := flag.Model().Name
			if kind, _, _ := strings.Cut(name, "-"); kind == "help" || kind == "version" || kind == "completion" {
				return name
			}
		}
	}
	return ""
}

// ended is an exit code. Terminate panics with it to unwind kingpin, which expects its exit function not to return.
type ended int

// nameFlag adds the name of the flag to the error of a bad value: kingpin leaves it out.
func nameFlag(app *kingpin.Application, args []string, err error) error {
	context, parseErr := app.ParseContext(args)
	if parseErr != nil {
		return err
	}
	for _, element := range context.Elements {
		if flag, isFlag := element.Clause.(*kingpin.FlagClause); isFlag && element.Value != nil {
			if flag.Model().Value.Set(*element.Value) != nil {
				return fmt.Errorf("--%s: %w", flag.Model().Name, err)
			}
		}
	}
	return err
}

// validate checks what the types of the flags do not.
func (c *config) validate() error {
	switch {
	case !c.inventory.TCP && !c.inventory.UDP:
		return errors.New("--no-collector.tcp and --no-collector.udp together leave nothing to read")
	case c.outputSet && c.list.Output == "": // of a variable that is not set
		return errors.New("--output must not be empty: want a file, or - for standard output")
	case c.renewSet && c.leasing.Renew == "", c.endSet && c.leasing.End == "": // likewise
		return errors.New("--renew and --end must not be empty: want the id of a lease, as lease --format=json shows it")
	case slices.Contains(*c.server.Web.WebListenAddresses, ""):
		// Package net would listen on a random port of every interface.
		return fmt.Errorf("--web.listen-address must not be empty: want an address such as %s", defaultAddress)
	}
	if err := server.ValidateTelemetryPath(c.server.TelemetryPath); err != nil {
		return fmt.Errorf("--web.telemetry-path: %w", err)
	}
	if c.command == serveCommand {
		return c.lease.validate(c.stateFile, c.inventory.TCP && c.inventory.UDP)
	}
	return nil
}
