// Ports that are leased for a time.
local duration = import '../lib/duration.libsonnet';
local texts = import '../lib/texts.libsonnet';
local available = 'host_listen_lease_ports_available';
local overstayed = 'host_listen_lease_overstayed_start_timestamp_seconds';

// The labels of a lease, and those of a team on a host, in a query of a text.
local team = { matchers: 'job=%q,instance=%q,team=%q', values: '$labels.job $labels.instance $labels.team' };
local lease = { matchers: team.matchers + ',service_name=%q,proto=%q', values: team.values + ' $labels.service_name $labels.proto' };
local list = 'Log in to the host and type: sudo listen_exporter list';
local horizon = '4h';

function(config)
  local expressions = (import '../lib/expressions.libsonnet')(config);
  local rule = (import '../lib/rule.libsonnet')(config);
  local after(name) = config.alerts[name].after;
  local replicas = expressions.without();
  [
    rule.alert(
      'LeaseOverstayed',
      comment=|||
        One alert a lease, or for all of the same name, on however many ports. 5 minutes are for a program that is slow to end.
        UnregisteredListener and BriefViolation leave out what this is about.
      |||,
      expr=expressions.oldest(['port'], overstayed, after('LeaseOverstayed')),
      summary='The lease ' + texts.service + ' of ' + texts.team + ' has expired on {{ $labels.instance }}, but a program still listens there.',
      description=
      'The lease ' + texts.service + ' of the team ' + texts.team + ' on {{ $labels.instance }} had expired by ' +
      '{{ humanizeTimestamp $value }}, and a program still listens on its {{ toUpper $labels.proto }} ports. ' +
      '{{- with printf "max by (uid) (last_over_time(host_listen_lease_info{' + lease.matchers + '}[10m]))" ' + lease.values + ' | query }} ' +
      'The user who took it has the uid ' + texts.each('uid', '{{ $s.Labels.uid }}') + '. {{- end }} ' +
      'Nobody else gets its ports before they are closed. ' + list +
      '{{ with printf "max by (port) (last_over_time(' + overstayed + '{' + lease.matchers + '}[10m]))" ' + lease.values + ' | query }}' +
      '{{ range sortByLabel "port" . }} {{ .Labels.port }}{{ end }}{{ end }}',
    ),

    rule.alert(
      'LeaseRangeExhausted',
      comment=|||
        Not for less: jobs that take all ports and give them back are what a range is for.
      |||,
      expr=|||
        max %s (last_over_time(%s[3m])) == 0
        # LeaseStoreUnavailable
        unless on (job, instance) last_over_time(host_listen_lease_store_up[3m]) == 0
        unless on (job, instance) listen_exporter:silent
      ||| % [replicas, available],
      wait=after('LeaseRangeExhausted'),
      summary='No port of ' + texts.team + ' is left to lease on {{ $labels.instance }}.',
      description=
      'For at least ' + duration.words(after('LeaseRangeExhausted')) + ', no port of the team ' + texts.team +
      ' could be leased on {{ $labels.instance }}: requests are refused. ' +
      '{{- with printf "max (last_over_time(host_listen_leases{' + team.matchers + '}[3m]))" ' + team.values + ' | query }} ' +
      '{{ . | first | value }} are leased there. {{- end }} ' +
      'The others are leased on other hosts, in use, declared by a service, forbidden, or given to clients by the kernel. ' + list,
    ),

    rule.alert(
      'LeaseRangeFillingUp',
      comment=|||
        By the last hour, none will be left in %s. By the last 20 minutes too: a job that takes many at once does so once, and that is
        over before the alert fires. A range of which half is free, of what was within a day, has time.
      ||| % duration.words(horizon),
      expr=|||
        max %(replicas)s (
          last_over_time(%(available)s[3m])
            < 0.5 * max_over_time(%(available)s[1d])
          # LeaseRangeExhausted
            > 0
          and predict_linear(%(available)s[1h], %(horizon)d) < 0
          and predict_linear(%(available)s[20m], %(horizon)d) < 0
        )
        unless on (job, instance) listen_exporter:silent
      ||| % { replicas: replicas, available: available, horizon: duration.seconds(horizon) },
      wait=after('LeaseRangeFillingUp'),
      summary='The ports of ' + texts.team + ' that can be leased on {{ $labels.instance }} will run out.',
      description=
      '{{ $value }} ports of the team ' + texts.team + ' are left to lease on {{ $labels.instance }}. ' +
      'As they went in the last hour, none will be in ' + duration.words(horizon) + '. Either jobs do not end, or the range is too small. ' + list,
    ),

    rule.alert(
      'LeaseStoreUnavailable',
      expr=|||
        min %s (last_over_time(host_listen_lease_store_up[3m])) == 0
        unless on (job, instance) listen_exporter:silent
      ||| % replicas,
      wait=after('LeaseStoreUnavailable'),
      summary='No port can be leased on {{ $labels.instance }}: the store of leases cannot be reached or written.',
      description=
      'For at least ' + duration.words(after('LeaseStoreUnavailable')) + ' the exporter at {{ $labels.instance }} has not been able to ' +
      'reach its store of leases, such as etcd, or to write to it. Nobody gets a new lease there. ' +
      'Log in to the host and type: journalctl --since -15min -u listen_exporter',
    ),
  ]
