// Ports of hosts without a registry.
local duration = import '../lib/duration.libsonnet';
local texts = import '../lib/texts.libsonnet';
local gone = 'host_listen_port_gone_timestamp_seconds';

function(config)
  local expressions = (import '../lib/expressions.libsonnet')(config);
  local rule = (import '../lib/rule.libsonnet')(config);
  local after(name) = config.alerts[name].after;
  [
    rule.alert(
      'PortVanished',
      comment=|||
        A port that was open for --collector.settled-after (1 h) is gone. The exporter forgets it when it is back, after
        --collector.remember (24 h), or when a registry is loaded.
      |||,
      expr=|||
        %(oldest)s
        # Exporters without a loaded state. The value is no time.
        or on (job, instance, proto, port)
        max %(replicas)s (
          0 * listen_exporter:port_vanished
          and on (job, instance, proto) listen_exporter:read
          unless on (job, instance, proto, port) listen_exporter:flapping
        )
      ||| % {
        replicas: expressions.without(),
        oldest: expressions.oldest(expressions.holder, gone, after('PortVanished'), |||
          unless on (job, instance, proto, port) listen_exporter:flapping
          # ManyPortsVanished
          unless on (job, instance) count by (job, instance) (
            max by (job, instance, proto, port) (last_over_time(%s[10m]))
          ) > %d
        ||| % [gone, config.tooMany]),
      },
      summary=texts.port + ' is gone on {{ $labels.instance }}.',
      description=
      'Nothing has listened on ' + texts.port + ' of {{ $labels.instance }} {{ if $value }}since {{ humanizeTimestamp $value }}. ' +
      'It had been open for long. This alert stays until the port is back, a registry is loaded, or --collector.remember is over. ' +
      texts.lastHeldBy(gone, 'last held') + ' {{- else }}for at least 4 minutes. It was open most of the last hour. ' +
      'This alert ends half an hour after the loss, since the exporter does not remember what was there before it started. ' +
      texts.list + '{{ end }}',
    ),

    rule.alert(
      'ManyPortsVanished',
      comment=|||
        More than %d ports of a host are gone: one alert, whoever had opened them.
      ||| % config.tooMany,
      expr=
      'count without (proto, port) (%s) > %d\n' %
      [expressions.oldest(expressions.holder, gone, after('ManyPortsVanished')), config.tooMany],
      summary='{{ $value }} ports are gone on {{ $labels.instance }}.',
      description=
      '{{ $value }} ports of {{ $labels.instance }} that had been open for long are gone, and nothing has listened on them ' +
      'for at least %s. Log in to the host and type: systemctl --failed' % duration.words(after('ManyPortsVanished')),
    ),

    rule.alert(
      'UnexpectedPrivilegedListener',
      comment=|||
        5 minutes outlast a package upgrade, which may start a daemon with its default configuration before the right one is in place.
      |||,
      expr=|||
        max %s (listen_exporter:unexpected_port)
        unless on (job, instance, proto, port) listen_exporter:flapping
        # ManyUndeclaredListeners
        unless on (job, instance) count by (job, instance) (listen_exporter:unexpected_port) > %d
      ||| % [expressions.without(), config.tooMany],
      wait=after('UnexpectedPrivilegedListener'),
      summary='Unexpected ' + texts.port + ' on {{ $labels.instance }}.',
      description=
      'A program listens on ' + texts.port + ' of {{ $labels.instance }}, on an address that other machines can reach, ' +
      'and this port is not on the list of expected ports. ' + texts.firewall + ' ' +
      texts.heldBy('host_listen_port') + ' ' + texts.list,
    ),
  ]
