// Listeners that something is wrong with, declared or not.
local lines = import '../lib/lines.libsonnet';
local texts = import '../lib/texts.libsonnet';
local full = 'host_listen_port_accept_queue_full_start_timestamp_seconds';
local dropping = 'host_listen_port_dropping_start_timestamp_seconds';
local flapping = 'host_listen_port_flapping';

function(config)
  local expressions = (import '../lib/expressions.libsonnet')(config);
  local rule = (import '../lib/rule.libsonnet')(config);
  local after(name) = config.alerts[name].after;
  [
    rule.alert(
      'PortFlapping',
      comment=|||
        A port that opens again and again: a crash loop, or a program that somebody hides. It covers what else the port is, except
        forbidden: a service that is missing in between, a port that is gone or undeclared.
      |||,
      expr=|||
        max %(holder)s (
        %(flapping)s
        )
        # Jobs open a port that they have leased as often as they like.
        unless on (job, instance, proto, port) %(leased)s
        # ManyUndeclaredListeners. The registry bounds the declared ones.
        unless on (job, instance, service_name) count by (job, instance, service_name) (
          max by (job, instance, proto, port, service_name) (last_over_time(host_listen_port_flapping{service_name=""}[10m]))
        ) > %(tooMany)d
      ||| % {
        holder: expressions.without(expressions.holder),
        flapping: lines.indented(expressions.known(flapping), 2),
        leased: expressions.leased,
        tooMany: config.tooMany,
      },
      summary=texts.port + ' opens again and again on {{ $labels.instance }}.',
      description=
      'Within 15 minutes, ' + texts.port + ' of {{ $labels.instance }} ' +
      '{{- if $labels.service_name }}, the service ' + texts.service + ',{{ end }} opened {{ $value }} times. ' +
      'Most likely the program that holds it crashes and is started again. ' + texts.lastHeldBy(flapping, 'held'),
    ),

    rule.alert(
      'AcceptQueueFull',
      comment=|||
        The kernel lets one connection more than the limit wait, and drops the next. The exporter decides what is full: it looks every few
        seconds, and an idle port with listen(0) never is. The procfs source knows no limit, so there is no alert.
        critical, unlike most others: clients that wait in vain are proof that somebody needs this port now.
      |||,
      expr=expressions.oldest(expressions.listener, full + '{netns=""}', after('AcceptQueueFull')),
      summary=texts.port + ' no longer accepts on {{ $labels.instance }}.',
      description=
      'The accept queue of ' + texts.port + ' of {{ $labels.instance }} has been full since {{ humanizeTimestamp $value }}. ' +
      'The kernel drops every new connection. The program is most likely stuck, or far too slow. ' +
      texts.heldBy(full) + ' ' + texts.list,
    ),

    rule.alert(
      'ListenerDropping',
      comment=|||
        More than a packet a second, for 7 minutes. A port that no longer accepts drops packets too: that is AcceptQueueFull.
      |||,
      expr=expressions.oldest(expressions.listener, dropping + '{netns=""}', after('ListenerDropping'), |||
        unless on (job, instance, proto, port) last_over_time(%s{netns=""}[10m])
      ||| % full),
      summary=texts.port + ' loses packets on {{ $labels.instance }}.',
      description=
      'Since {{ humanizeTimestamp $value }} the kernel of {{ $labels.instance }} has discarded more than a packet a second at ' +
      texts.port + '. The program that listens there most likely {{ if eq $labels.proto "tcp" }}accepts too slowly, ' +
      'or its backlog is too small{{ else }}reads too slowly{{ end }}. ' + texts.heldBy(dropping) + ' ' + texts.list,
    ),
  ]
