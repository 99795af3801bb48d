// Services that the registry declares, and ports that it forbids.
local duration = import '../lib/duration.libsonnet';
local lines = import '../lib/lines.libsonnet';
local texts = import '../lib/texts.libsonnet';
local down = 'host_listen_service_down_start_timestamp_seconds';
local violation(matchers) = 'host_listen_port_violation_start_timestamp_seconds{netns="",%s}' % matchers;

function(config)
  local expressions = (import '../lib/expressions.libsonnet')(config);
  local rule = (import '../lib/rule.libsonnet')(config);
  local after(name) = config.alerts[name].after;

  // One alert a port, whatever the reasons.
  local violated = ['reason'] + expressions.listener;
  local heldBy(reason) = texts.heldBy('host_listen_port_violation_start_timestamp_seconds', ",reason=~'%s'" % reason);

  // The labels that the hosts of a service have in common, in several places of ServiceOnNoHost.
  local shared = config.clusterLabels;
  local by(labels) = 'by (%s)' % std.join(', ', ['job'] + shared + labels);
  [
    rule.alert(
      'ForbiddenListener',
      comment=|||
        With a registry, each port gets the first of these that applies, since one event may show in several series:
        ForbiddenListener, ListenerHolderChanged, ListenerExposed, PortGoneMissing. All wait 2 minutes, and all are critical, because
        each may mean that clients cannot use the service.

        A loopback address is no excuse: the registry would tolerate it if it said so. Neither is a port that flaps.
      |||,
      expr=expressions.oldest(violated, violation('reason="forbidden"'), after('ForbiddenListener'), |||
        unless on (job, instance, reason) max by (job, instance, reason) (listen_exporter:undeclared:count) > %d
      ||| % config.tooMany),
      summary='Forbidden ' + texts.port + ' is open on {{ $labels.instance }}.',
      description=
      'The registry forbids ' + texts.port + ' of {{ $labels.instance }}, but a program listens on it: ' +
      texts.addresses("reason=~'forbidden'") + ' ' + heldBy('forbidden') + ' ' + texts.list,
    ),

    rule.alert(
      'ListenerHolderChanged',
      expr=expressions.oldest(violated, violation('reason="process"'), after('ListenerHolderChanged')),
      summary='Another program holds ' + texts.port + ' (' + texts.service + ') on {{ $labels.instance }}.',
      description=
      texts.port + ' of {{ $labels.instance }} belongs to the service ' + texts.service +
      ', but since {{ humanizeTimestamp $value }} another program or unit than declared has held it. ' + heldBy('process') +
      ' Clients of the service may be talking to a program that you do not know. ' + texts.owner() + ' ' + texts.list,
    ),

    rule.alert(
      'ListenerExposed',
      comment=|||
        A listener on another loopback address exposes nothing. If a service is missing because of it, PortGoneMissing fires.
        If two services share a port, the registry cannot know which of them the listener was meant to be: the port counts.
      |||,
      expr=expressions.oldest(violated, violation('reason="bind",scope!="loopback"'), after('ListenerExposed'), |||
        unless on (job, instance, proto, port) listen_exporter:violation{reason="process"}
      |||),
      summary=texts.port + ' (' + texts.service + ') is exposed on {{ $labels.instance }}.',
      description=
      texts.port + ' of {{ $labels.instance }}, the service ' + texts.service +
      ', listens on an address that is not declared and that other machines can reach: ' +
      texts.addresses("reason=~'bind',scope!='loopback'") + ' ' + heldBy('bind') +
      ' {{- with printf "min by (service_name) (last_over_time(' + down + '{job=%q,instance=%q,proto=%q,port=%q}[100s]))" ' +
      '$labels.job $labels.instance $labels.proto $labels.port | query }} Not up as declared: ' +
      texts.each('service_name', '{{ %s }}' % texts.plain('$s.Labels.service_name')) + '. {{- end }} ' +
      texts.owner() + ' ' + texts.firewall + ' ' + texts.list,
    ),

    rule.alert(
      'PortGoneMissing',
      comment=|||
        A service that was just declared, and not started yet, is missing too.
      |||,
      expr=expressions.oldest(expressions.holder, down, after('PortGoneMissing'), |||
        # It may be on another host: ServiceOnNoHost.
        unless on (job, instance, service_name) last_over_time(host_listen_service_info{required="one-host"}[10m])
        unless on (job, instance, proto, port) listen_exporter:flapping
        # ForbiddenListener, ListenerHolderChanged and ListenerExposed come first, and for 2 minutes after them: whoever mends such a
        # violation may stop one program before the other is up. A program that holds the port belongs to one service; a
        # listener on a wrong address may belong to any service that shares the port.
        unless on (job, instance, proto, port) last_over_time(listen_exporter:violation{reason="forbidden"}[2m])
        unless on (job, instance, proto, port, service_name) last_over_time(listen_exporter:violation{reason="process"}[2m])
        unless on (job, instance, proto, port) last_over_time(listen_exporter:violation{reason="bind",scope!="loopback"}[2m])
        # Of a service with one of several ports, any of them may be violated.
        unless on (job, instance, proto, service_name) (
          last_over_time(host_listen_service_down_start_timestamp_seconds{port=~".+[-,].+"}[10m])
          and on (job, instance, proto, service_name) (
            last_over_time(listen_exporter:violation{reason="process"}[2m])
            or last_over_time(listen_exporter:violation{reason="bind",scope!="loopback"}[2m])
          )
        )
      |||),
      summary=texts.port + ' (' + texts.service + ') is missing on {{ $labels.instance }}.',
      description=
      'The registry requires the service ' + texts.service + ' on ' + texts.port +
      ' of {{ $labels.instance }}, but since {{ humanizeTimestamp $value }} it has not listened there as declared. ' + texts.owner() +
      ' {{- with printf "count by (address) (host_listen_port{job=%q,instance=%q,netns=\'\',proto=%q,port=%q})" ' +
      '$labels.job $labels.instance $labels.proto $labels.port | query }} The port is open, but not where this service should listen: ' +
      texts.each('address', '{{ $s.Labels.address }}') + '.{{ end }} ' + texts.lastHeldBy(down, 'last held'),
    ),

    rule.alert(
      'ServiceOnNoHost',
      comment=|||
        A service that must listen on one of its hosts (required: one-host) does on none. A host that cannot be read may have it.
      |||,
      expr=|||
        # EDIT 3: in the whole expression, the labels that the hosts of a service have in common, apart from job: cluster, or env and region, ...
        count %(ports)s (max %(portsOfHosts)s (
        %(since)s
          # ListenerHolderChanged or ListenerExposed says why it is not up.
          unless on (job, instance, proto, port) listen_exporter:violation{reason="forbidden"}
          unless on (job, instance, proto, port, service_name) listen_exporter:violation{reason="process"}
          unless on (job, instance, proto, port) listen_exporter:violation{reason="bind",scope!="loopback"}
        ))
        == on (%(on)s) group_left ()
        count %(services)s (max %(servicesOfHosts)s (
          last_over_time(host_listen_service_info{required="one-host"}[10m])
          # A host that had the service within the last day, is still a target, and cannot be read.
          or last_over_time(host_listen_service_info{required="one-host"}[1d]) and on (job, instance) listen_exporter:up
          unless on (job, instance) last_over_time(host_listen_time_seconds[10m])
        ))
      ||| % {
        ports: by(['service_name', 'proto', 'port']),
        portsOfHosts: by(['instance', 'service_name', 'proto', 'port']),
        services: by(['service_name']),
        servicesOfHosts: by(['instance', 'service_name']),
        on: std.join(', ', ['job'] + shared + ['service_name']),
        since: lines.indented(expressions.since(down, after('ServiceOnNoHost')), 2),
      },
      summary=
      texts.port + ' (' + texts.service + ') is on no host' +
      std.join('', [' {{- with $labels.%s }} of {{ . }}{{ end }}' % label for label in shared]) + '.',
      description=
      'The registry requires the service ' + texts.service + ' on ' + texts.port + ' of one of its hosts, but for at least ' +
      duration.words(after('ServiceOnNoHost')) + ' none of them has had it as declared: ' +
      '{{ with printf "min by (instance) (last_over_time(' + down + '{job=%q,' + std.join('', [label + '=%q,' for label in shared]) +
      'service_name=%q,proto=%q,port=%q}[10m]))" $labels.job ' + std.join('', ['$labels.' + label + ' ' for label in shared]) +
      '$labels.service_name $labels.proto $labels.port | query }}' +
      texts.each('instance', '{{ $s.Labels.instance }} (not since {{ humanizeTimestamp $s.Value }})') + '{{ end }}. ' +
      texts.owner(shared) + ' The failover has most likely not worked. Log in to one of the hosts and type: ' +
      'sudo listen_exporter list {{ reReplaceAll "," " " $labels.port }}',
    ),
  ]
