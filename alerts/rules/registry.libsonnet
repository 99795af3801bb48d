// Ports that no service of the registry declares, and the registry itself.
local duration = import '../lib/duration.libsonnet';
local lines = import '../lib/lines.libsonnet';
local texts = import '../lib/texts.libsonnet';
local violation(matchers) = 'host_listen_port_violation_start_timestamp_seconds{%s}' % matchers;

function(config)
  local expressions = (import '../lib/expressions.libsonnet')(config);
  local rule = (import '../lib/rule.libsonnet')(config);
  local after(name) = config.alerts[name].after;
  local words(name) = duration.words(after(name));
  [
    rule.alert(
      'UnregisteredListener',
      comment=|||
        For what counts as reachable, and why 5 minutes, see UnexpectedPrivilegedListener.
      |||,
      expr=expressions.oldest(
        expressions.listener,
        violation('netns="",reason=~"unregistered|reserved",scope!="loopback"'),
        after('UnregisteredListener'),
        |||
          unless on (job, instance, proto, port) listen_exporter:udp_client_port
          unless on (job, instance, proto, port) listen_exporter:flapping
          # LeaseOverstayed
          unless on (job, instance, proto, port) last_over_time(host_listen_lease_overstayed_start_timestamp_seconds[10m])
          # ManyUndeclaredListeners
          unless on (job, instance, reason) max by (job, instance, reason) (listen_exporter:undeclared:count) > %d
          # PortRegistryWithoutServices
          unless on (job, instance) min_over_time(host_listen_registry_services[2m]) == 0
        ||| % config.tooMany
      ),
      summary='Undeclared ' + texts.port + ' on {{ $labels.instance }}.',
      description=
      'A program listens on ' + texts.port + ' of {{ $labels.instance }}, which no service of the registry declares for this host ' +
      '{{- if eq $labels.reason "reserved" }}, and which is reserved for the team ' + texts.service + '{{ end }}. ' + texts.leased + ' ' +
      'Other machines can reach it: ' + texts.addresses("reason=~'unregistered|reserved',scope!='loopback'") + ' ' +
      texts.heldBy('host_listen_port_violation_start_timestamp_seconds', ",reason=~'unregistered|reserved'") + ' ' +
      texts.firewall + ' ' + texts.list,
    ),

    rule.alert(
      'ManyUndeclaredListeners',
      comment=|||
        More than %d ports of one host are undeclared, forbidden, unexpected or flap: one alert, not thousands.
      ||| % config.tooMany,
      expr=|||
        count without (proto, port, service_name) (min %(listener)s (
          last_over_time(%(violation)s[10m])
            %(longAgo)s
          and on (job, instance, reason) listen_exporter:undeclared:count > %(tooMany)d
          unless on (job, instance) min_over_time(host_listen_registry_services[2m]) == 0
        ))
        or on (job, instance)
        count without (proto, port) (max %(replicas)s (listen_exporter:unexpected_port)) > %(tooMany)d
        or on (job, instance)
        count without (proto, port) (max %(holder)s (
        %(flapping)s
        )) > %(tooMany)d
      ||| % {
        listener: expressions.without(expressions.listener),
        holder: expressions.without(expressions.holder),
        replicas: expressions.without(),
        violation: violation('netns=""'),
        longAgo: expressions.longAgo(after('ManyUndeclaredListeners')),
        flapping: lines.indented(expressions.known('host_listen_port_flapping{service_name=""}'), 2),
        tooMany: config.tooMany,
      },
      summary='{{ $labels.instance }} has more than %d listeners that it should not have.' % config.tooMany,
      description=
      '{{ $value }} ports of {{ $labels.instance }} are open that {{ with $labels.reason }}{{ if eq . "forbidden" }}' +
      'the registry forbids{{ else }}no service of the registry declares{{ end }}{{ else }}' +
      'nobody expects, or open again and again{{ end }}. There is no alert for each of them. ' +
      'Log in to the host and type: sudo listen_exporter list',
    ),

    rule.alert(
      'BriefViolation',
      comment=|||
        With the kernel's events: what opened, violated the registry, and is gone again. What lasts has an alert of its own, and none here,
        neither now nor once it ends.
      |||,
      expr=|||
        max %(replicas)s (
          increase(host_listen_violations_total{reason="forbidden"}[15m]) > 0
          or (
            increase(host_listen_violations_total[15m]) > 0
            # PortFlapping
            unless on (job, instance) last_over_time(listen_exporter:flapping[20m])
            # PortRegistryWithoutServices
            unless on (job, instance) min_over_time(host_listen_registry_services[2m]) == 0
          )
        )
        # Without events, looks count what a start or an upgrade opens for a minute.
        and on (job, instance) last_over_time(host_listen_collector_success{collector="event"}[10m]) == 1
        # A violation that began meanwhile and lasts, or had an alert of its own. 5 minutes more, in which scrapes may fail.
        unless on (job, instance, reason) (
          max by (job, instance, reason) (
            listen_exporter:violation
            unless listen_exporter:violation{reason=~"unregistered|reserved|bind",scope="loopback"}
            or max_over_time(listen_exporter:violation:lasting[20m])
          )
          > on (job, instance) group_left () (max by (job, instance) (last_over_time(host_listen_time_seconds[10m])) - 1200)
        )
        # LeaseOverstayed, or a lease that overstayed for less
        unless on (job, instance, reason) label_replace(
          max by (job, instance) (last_over_time(host_listen_lease_overstayed_start_timestamp_seconds[20m])),
          "reason", "reserved", "", ""
        )
        # ManyUndeclaredListeners
        unless on (job, instance, reason) max by (job, instance, reason) (max_over_time(listen_exporter:undeclared:count[20m])) > %(tooMany)d
      ||| % { replicas: expressions.without(), tooMany: config.tooMany },
      wait=after('BriefViolation'),
      summary='A listener violated the registry on {{ $labels.instance }}, and is gone again.',
      description=
      'Within 15 minutes, the registry of {{ $labels.instance }} was violated ' +
      '{{ with printf "%.0f" $value }}{{ if eq . "1" }}once{{ else }}{{ . }} times{{ end }}{{ end }}: ' +
      '{{ with $labels.reason }}{{ if eq . "forbidden" }}a port that it forbids was open' +
      '{{ else if eq . "bind" }}a declared port was open on an address that is not declared' +
      '{{ else if eq . "process" }}another program or unit than declared held a port' +
      '{{ else }}a port that no service declares was open{{ end }}{{ end }}. This is over. ' +
      'The log of an exporter that runs with --log.events has the port, and who opened it. ' +
      'Log in to the host and type: journalctl --since -30min -u listen_exporter | grep state={{ $labels.reason }}',
    ),

    rule.alert(
      'PortRegistryReloadFailed',
      comment=|||
        5 minutes forgive a file that is saved half done. Meanwhile the exporter uses the last good one, and so do the alerts above.
      |||,
      expr=|||
        min %s (last_over_time(host_listen_registry_last_reload_successful[3m])) == 0
        unless on (job, instance) listen_exporter:silent
      ||| % expressions.without(),
      wait=after('PortRegistryReloadFailed'),
      summary='The exporter at {{ $labels.instance }} uses an old registry: the file is bad.',
      description=
      'For at least ' + words('PortRegistryReloadFailed') + ' the exporter at {{ $labels.instance }} has not been able to reload ' +
      'its registry: the file is missing or has faults. ' +
      '{{- with printf "host_listen_registry_last_reload_success_timestamp_seconds{job=%q,instance=%q}" $labels.job $labels.instance | query }} ' +
      'It uses the version that it read at {{ . | first | value | humanizeTimestamp }}. {{- end }} ' +
      'Later changes of the file have no effect yet. Log in to the host and type: listen_exporter check /etc/listen_exporter/ports.yml',
    ),

    rule.alert(
      'PortRegistryWithoutServices',
      comment=|||
        The host was renamed, or the file was emptied: nothing of it is for this host any more, so no alert about a missing service can fire.
      |||,
      expr=|||
        min %s (last_over_time(host_listen_registry_services[3m])) == 0
        unless on (job, instance) listen_exporter:silent
      ||| % expressions.without(),
      wait=after('PortRegistryWithoutServices'),
      summary='The registry has no service for {{ $labels.instance }}.',
      description=
      'For at least ' + words('PortRegistryWithoutServices') + ' the registry of {{ $labels.instance }} has had no service for this host. ' +
      'Either the host was renamed, or the file was emptied. No service of this host is watched. ' +
      'Log in to the host and type: journalctl -u listen_exporter | grep -i registry',
    ),
  ]
