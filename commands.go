//go:build linux

package main

import (
	"strings"

	"github.com/alecthomas/kingpin/v2"

	"github.com/listen-exporter/listen_exporter/internal/command"
)

// addCommands declares the commands and their own flags.
func addCommands(app *kingpin.Application, c *config) {
	app.Command(serveCommand, "Serve metrics.")
	list := app.Command(listCommand, "List the current listeners. With a port or a service: who listens on it, with PIDs and users, and what the exporter remembers of it. Exit code 1 if nothing listens on it.")
	list.Flag("format", "Output format: table, json, registry for a ports.yml that declares the current listeners, or prometheus for node_exporter's textfile collector. With --registry.file, registry is that file with what is new, and with marks where a service has gone.").
		Default(command.FormatTable).SetValue(&choice{&c.list.Format, []string{command.FormatTable, command.FormatJSON, command.FormatRegistry, command.FormatPrometheus}})
	list.Flag("output", "File to write instead of standard output. It is replaced in one step.").
		PlaceHolder("FILE").IsSetByUser(&c.outputSet).StringVar(&c.list.Output)
	list.Flag("process", "Show only listeners held by a process of this name, such as nginx or \"php-fpm*\". Repeatable.").
		PlaceHolder("GLOB").StringsVar(&c.list.Only.Processes)
	list.Flag("scope", "Show only listeners with these scopes: any, public, multicast, private, link-local, loopback. Repeatable.").
		PlaceHolder("SCOPES").SetValue(&c.list.Only.Scopes)
	list.Flag("state", "Show only what is in these states: "+strings.Join(command.States(), ", ")+". All but ephemeral need a registry. Repeatable.").
		PlaceHolder("STATES").SetValue(&c.list.Only.States)
	list.Flag("watch", "Show the table until a signal ends it, and redraw it every 2 s.").
		BoolVar(&c.list.Watch)
	list.Arg("PORT", "Port, such as 22, 8000-8010 or tcp/22, or the name of a service of the registry. Repeatable. Without --registry.file, the registry is the one of the exporter, from its --state.file.").StringsVar(&c.list.Ports)
	audit := app.Command(auditCommand, "Compare current listeners with --registry.file: show each violation and each missing service. Exit code 1 if there is any.")
	formatFlag(audit, &c.auditFormat)
	check := app.Command(checkCommand, "Check registries and Kubernetes manifests for faults. Exit code 1 if there is any.")
	check.Flag("manifests", "Check the ports of these Kubernetes manifests: a directory, a file, or - for standard input. Repeatable. Each directory is one cluster.").
		PlaceHolder("PATH").StringsVar(&c.check.Manifests)
	check.Flag("exclude", "Leave out files and directories of the manifests: a name, or a path, with * and **. Repeatable.").
		PlaceHolder("GLOB").StringsVar(&c.check.Manifest.Exclude)
	check.Flag("namespace", "Namespace of manifests that name none.").
		PlaceHolder("NAME").StringVar(&c.check.Manifest.Namespace)
	check.Flag("service-ports", "Check the port of each Service by reserved ranges as well, not only its nodePort.").
		BoolVar(&c.check.Manifest.ServicePorts)
	formatFlag(check, &c.check.Format)
	check.Arg("FILE", "Registry (ports.yml) to check, or a directory of such files, or - for stdin. Several make one registry.").StringsVar(&c.check.Registry)
	addLeaseCommand(app, &c.leasing, &c.renewSet, &c.endSet)
}

// addLeaseCommand declares lease and its flags.
func addLeaseCommand(app *kingpin.Application, o *command.LeaseOptions, renewSet, endSet *bool) {
	lease := app.Command(leaseCommand, "Lease a port of a range that the registry reserves, and run a command with it as PORT in its environment. The lease is renewed while the command runs, and ends with it. Without a command: print the port. Needs an exporter with --lease.enable.")
	lease.Flag("team", "Team from whose ranges to lease. By default the only one from whose ranges you may.").
		StringVar(&o.Request.Team)
	lease.Flag("name", "Name of the lease, which is the service_name of a listener on its ports. By default that of the command, or of the team.").
		StringVar(&o.Request.Name)
	lease.Flag("proto", "Protocol: tcp or udp.").
		Default("tcp").SetValue(&choice{&o.Request.Proto, []string{"tcp", "udp"}})
	lease.Flag("ttl", "For how long to lease, unless the lease is renewed. By default 5m, or the exporter's --lease.max-ttl if that is shorter.").
		PlaceHolder("5m").SetValue((*duration)(&o.Request.TTL))
	lease.Flag("count", "How many ports to lease: PORT_1 is the first one, PORT_2 the second one.").
		Default("1").SetValue(&number{&o.Request.Count, 1})
	lease.Flag("key", "Word that makes it safe to repeat a request: a lease that you took with the same one, and that is still there, is the answer.").
		PlaceHolder("WORD").StringVar(&o.Request.Key)
	lease.Flag("format", "Output format without a command: text for one port a line, or json for the whole lease, with its id.").
		Default(command.FormatText).SetValue(&choice{&o.Format, []string{command.FormatText, command.FormatJSON}})
	lease.Flag("renew", "Renew the lease with this id instead, for the time that it was taken for.").
		PlaceHolder("ID").IsSetByUser(renewSet).StringVar(&o.Renew)
	lease.Flag("end", "End the lease with this id instead.").
		PlaceHolder("ID").IsSetByUser(endSet).StringVar(&o.End)
	lease.Arg("COMMAND", "Command to run, with its arguments, after a --.").StringsVar(&o.Command)
}

// formatFlag declares the flag --format of check or audit.
func formatFlag(to *kingpin.CmdClause, format *string) {
	to.Flag("format", "Output format: text, json, or sarif (SARIF 2.1.0, which code scanning reads).").
		Default(command.FormatText).SetValue(&choice{format, []string{command.FormatText, command.FormatJSON, command.FormatSARIF}})
}
