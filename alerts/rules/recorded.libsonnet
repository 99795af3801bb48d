// What the alerts have in common.
local lines = import '../lib/lines.libsonnet';

function(config)
  local expressions = (import '../lib/expressions.libsonnet')(config);
  local rule = (import '../lib/rule.libsonnet')(config);
  local after(name) = config.alerts[name].after;
  local values = {
    selector: config.listenExporterSelector,
    lastRead: expressions.lastRead(),
    replicas: expressions.without(),
  };
  [
    rule.record('listen_exporter:up', |||
      up and on (job, instance) (
        up{%(selector)s}
        or host_listen_source_info
        or last_over_time(listen_exporter:up[80m])
      )
    ||| % values, |||
      The exporters: by the job's name, and every target that has served the exporter's metrics, whatever its job is called.
      EDIT 1: the job name of the exporter in your scrape configuration. Without it, only a target that never answered is missing.
    |||),

    rule.record('listen_exporter:read', |||
      max by (job, instance, proto) (label_replace(
        max_over_time(timestamp(host_listen_collector_success{collector=~"tcp|udp"} == 1)[10m:29s]),
        "proto", "$1", "collector", "(.+)"
      ))
    |||, |||
      When a protocol was last known to be read, by Prometheus' clock. A protocol that is switched off is never read.
    |||),

    rule.record('listen_exporter:troubled:read', |||
      max by (job, instance, proto) (listen_exporter:read)
      and on (job, instance) last_over_time(
        {__name__=~"host_listen_.+_start_timestamp_seconds|host_listen_port_gone_timestamp_seconds|host_listen_port_flapping"}[10m]
      )
    |||, |||
      The same for the few hosts where something is wrong.
    |||),

    rule.record('listen_exporter:troubled:host_time', |||
      max by (job, instance, proto) (listen_exporter:troubled:read)
      + on (job, instance) group_left () max by (job, instance) (
        last_over_time(host_listen_time_seconds[10m:29s]) - max_over_time(timestamp(host_listen_time_seconds)[10m:29s])
      )
    |||, |||
      The same moment by the host's own clock, which may be hours off.
    |||),

    rule.record('listen_exporter:silent', |||
      max by (job, instance) (up) == 0
      and on (job, instance) changes(up[10m]) <= 2
      and on (job, instance) listen_exporter:up
    |||, |||
      Exporters that have gone down. One that answers now and then is not among them.
    |||),

    rule.record('listen_exporter:down', |||
      max %(replicas)s (
        max_over_time(up[3m]) and on (job, instance) listen_exporter:up
      ) == 0
    ||| % values, |||
      Exporters that have not answered once in 3 minutes.
    |||),

    rule.record('listen_exporter:violation', |||
      min by (job, instance, proto, port, service_name, reason, scope) (
      %s
      )
    ||| % lines.indented(expressions.known('host_listen_port_violation_start_timestamp_seconds{netns=""}'), 2), |||
      Violations, by since when. They explain why a service is not up, and more than %d on a host are one alert.
    ||| % config.tooMany),

    rule.record('listen_exporter:violation:lasting', |||
      max by (job, instance, reason) (
        listen_exporter:violation
          %s
        unless listen_exporter:violation{reason=~"unregistered|reserved"}
          %s
        unless listen_exporter:violation{reason=~"unregistered|reserved|bind",scope="loopback"}
      )
    ||| % [expressions.longAgo(after('ForbiddenListener')), std.strReplace(expressions.longAgo(after('UnregisteredListener')), '<=', '>')], |||
      The newest of the violations that have lasted until an alert of their own, by since when: BriefViolation is about the others.
    |||),

    rule.record('listen_exporter:undeclared:count', |||
      count by (job, instance, reason) (min by (job, instance, proto, port, reason) (
        (
          listen_exporter:violation{reason=~"unregistered|reserved",scope!="loopback"}
          # LeaseOverstayed
          unless on (job, instance, proto, port) last_over_time(host_listen_lease_overstayed_start_timestamp_seconds[10m])
          or listen_exporter:violation{reason="forbidden"}
        )
        %s
      ))
    ||| % expressions.longAgo('30s'), |||
      How many undeclared or forbidden ports a host has. It counts before any of them may fire: VictoriaMetrics shows what is recorded only
      to the next evaluations.
    |||),

    rule.record('listen_exporter:flapping', |||
      max by (job, instance, proto, port, service_name) (
        max_over_time(timestamp(host_listen_port_flapping > 0)[10m:29s])
        %(lastRead)s
        unless on (job, instance, proto, port) %(leased)s
      )
    ||| % values { leased: expressions.leased }, |||
      Ports that flap. Whatever else could be reported about them is one event with that. A port that is or was leased may open as often
      as the job likes.
    |||),

    rule.record('listen_exporter:udp_client_port', |||
      max by (job, instance, proto, port) (last_over_time(host_listen_port{netns="",proto="udp",range="ephemeral"}[10m]))
      or
      max by (job, instance, proto, port) (listen_exporter:violation{proto="udp"})
      and on (job, instance, proto, port) last_over_time(listen_exporter:udp_client_port[2h])
    |||, |||
      UDP ports that were in the ephemeral range at some time since they were opened. Undeclared, they are most often clients, such
      as a resolver or a VPN. The series refers to itself, so that a port stays in it if a sysctl is edited and the exporter restarted.
    |||),

    rule.record('listen_exporter:unexpected_port', |||
      max %(without)s (
        max_over_time(timestamp(
          # EDIT 2: the expected ports, one line a protocol. To expect SMTP and DNS too, write port!~"22|25|53|80|443".
          host_listen_port{netns="",scope!="loopback",port=~"%(below)s",proto="tcp",port!~"%(tcp)s"}
          or host_listen_port{netns="",scope!="loopback",port=~"%(below)s",proto="udp",port!~"%(udp)s"}
        )[10m:29s])
        %(lastRead)s
      )
      unless on (job, instance) last_over_time(host_listen_registry_last_reload_success_timestamp_seconds[15m])
    ||| % config.expectedPorts {
      below: '[1-9][0-9]{0,2}|10[01][0-9]|102[0-3]',
      without: expressions.without(expressions.listener),
      lastRead: expressions.lastRead('listen_exporter:read'),
    }, |||
      Ports below 1024 that other machines can reach, and that nobody expects, of hosts without a registry.

      Below 1024 is decided by the port number: net.ipv4.ip_unprivileged_port_start moves range="privileged". Reachable is every
      scope except loopback: other machines can also reach link-local, private and multicast addresses, if not from everywhere.
    |||),
  ]
