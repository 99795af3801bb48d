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
          # ManyUndeclaredListeners
          unless on (job, instance, reason) max by (job, instance, reason) (listen_exporter:undeclared:count) > %d
          # PortRegistryWithoutServices
          unless on (job, instance) min_over_time(host_listen_registry_services[2m]) == 0
        ||| % config.tooMany
      ),
      summary='Undeclared ' + texts.port + ' on {{ $labels.instance }}.',
      description=
      'A program listens on ' + texts.port + ' of {{ $labels.instance }}, which no service of the registry declares for this host ' +
      '{{- if eq $labels.reason "reserved" }}, and which is reserved for the team ' + texts.service + '{{ end }}. ' +
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
