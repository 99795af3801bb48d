// The exporter itself.
local duration = import '../lib/duration.libsonnet';
local texts = import '../lib/texts.libsonnet';

function(config)
  local expressions = (import '../lib/expressions.libsonnet')(config);
  local rule = (import '../lib/rule.libsonnet')(config);
  local after(name) = config.alerts[name].after;
  local words(name) = duration.words(after(name));
  local replicas = expressions.without();
  [
    rule.alert(
      'ListenExporterDown',
      comment=|||
        No answer for 5 minutes, or since Prometheus was started. An exporter that answers now and then is ListenExporterFlapping.
      |||,
      expr=|||
        max %s (listen_exporter:down)
      ||| % replicas,
      // listen_exporter:down takes 3 of the minutes.
      wait=
      local seconds = duration.seconds(after('ListenExporterDown'));
      assert seconds > 180 : 'alerts.ListenExporterDown.after is %s: want more than 3m' % after('ListenExporterDown');
      if seconds % 60 == 0 then '%dm' % ((seconds - 180) / 60) else '%ds' % (seconds - 180),
      summary='Nobody watches the ports of {{ $labels.instance }}: its exporter does not answer.',
      description=
      'listen_exporter at {{ $labels.instance }} has not answered Prometheus for some minutes. Either the host is down, ' +
      'or the exporter is, or the network between them. Until it answers, no alert watches the ports of this host. ' +
      'Its address and the reason are on {{ $externalURL }}/targets, or type on the machine of Prometheus: ' +
      "curl -sS '{{ $externalURL }}/api/v1/targets?state=active' | jq '.data.activeTargets[] | " +
      'select(.labels.instance=="{{ $labels.instance }}" and .labels.job=="{{ $labels.job }}") | .scrapeUrl, .lastError\'',
    ),

    rule.alert(
      'ListenExporterFlapping',
      comment=|||
        Scrapes that fail now and then, or a process that is started again and again. The alerts on ports go on meanwhile, by what
        the exporter remembers.
      |||,
      expr=|||
        max %s (
          (
            changes(up[30m]) >= 6
            or on (job, instance) changes(process_start_time_seconds[30m]) >= 3
          )
          and on (job, instance) listen_exporter:up
        )
        # ListenExporterDown
        unless on (job, instance) listen_exporter:down
      ||| % replicas,
      wait=after('ListenExporterFlapping'),
      summary='The exporter of {{ $labels.instance }} answers only now and then.',
      description=
      'Within 30 minutes, scrapes of listen_exporter at {{ $labels.instance }} failed at least 3 times and succeeded again, ' +
      'or the exporter was started again at least 3 times. Events may be reported late. ' +
      'Log in to the host and type: systemctl status listen_exporter',
    ),

    rule.alert(
      'ListenCollectorFailed',
      comment=|||
        One alert per host, whatever the reason: "or on (job, instance)" takes the first side that has the host.
      |||,
      expr=|||
        (
          # A collector failed within the last 3 minutes. Reads that fail now and then blind the alerts on ports too, so this does not
          # require failures without a gap. A single failure is over before the alert fires. ListenEventsFailed is about those by eBPF.
          min %(collectors)s (min_over_time(host_listen_collector_success{collector!~"registry|event|traffic"}[3m])) == 0
          # The registry's file does not answer, or comparing with it fails. A bad file has its own alert.
          or on (job, instance)
          (
            min %(collectors)s (min_over_time(host_listen_collector_success{collector="registry"}[3m])) == 0
            unless on (job, instance) last_over_time(host_listen_registry_last_reload_successful[3m]) == 0
          )
          # The exporter answers, but does not report whether its reads succeeded.
          or on (job, instance)
          max %(replicas)s (listen_exporter:up) == 1
          unless on (job, instance) host_listen_collector_success{collector=~"tcp|udp"}
          # The exporter fails to gather its metrics. Other programs have this counter too.
          # cause="encoding" is left out: it counts clients that hung up before they had read the answer.
          or on (job, instance)
          max %(causes)s (
            increase(promhttp_metric_handler_errors_total{cause="gathering"}[5m]) > 0 and on (job, instance) listen_exporter:up
          )
        )
        # ListenExporterDown
        unless on (job, instance) listen_exporter:silent
      ||| % { collectors: expressions.without(['collector']), causes: expressions.without(['cause']), replicas: replicas },
      wait=after('ListenCollectorFailed'),
      summary='Not all ports of {{ $labels.instance }} are watched: its exporter fails.',
      description=
      'The exporter at {{ $labels.instance }} answers, but has not worked properly for at least ' + words('ListenCollectorFailed') + '. ' +
      '{{ with printf "min by (collector) (min_over_time(host_listen_collector_success{job=%q,instance=%q,collector!~\'event|traffic\'}[3m])) == 0" ' +
      '$labels.job $labels.instance | query -}} It fails to read: ' + texts.each('collector', '{{ $s.Labels.collector }}') + '. ' +
      '{{- else -}} Either host_listen_collector_success is missing from its metrics, or it counts errors while it gathers them ' +
      '(promhttp_metric_handler_errors_total{cause="gathering"}). {{- end }} Until this is repaired, a lost port may go unnoticed. ' +
      'Log in to the host and type: journalctl --since -15min -u listen_exporter',
    ),

    rule.alert(
      'ListenEventsFailed',
      comment=|||
        Without eBPF the exporter still looks at its host every few seconds, so no lost port goes unnoticed.
      |||,
      expr=|||
        min %s (min_over_time(host_listen_collector_success{collector=~"event|traffic"}[3m])) == 0
        unless on (job, instance) listen_exporter:silent
      ||| % expressions.without(['collector']),
      wait=after('ListenEventsFailed'),
      summary='The exporter of {{ $labels.instance }} learns nothing by eBPF.',
      description=
      'For at least ' + words('ListenEventsFailed') + ' the exporter at {{ $labels.instance }}, which was started with --collector.events ' +
      'or --collector.traffic, has got nothing from the kernel by eBPF. It still looks at its host every few seconds. But it misses ' +
      'listeners that live for less and counts no connections, or it counts no packets. Most likely it lacks a capability, or the kernel lacks BTF. ' +
      'Log in to the host and type: journalctl -u listen_exporter | grep -iE "event|traffic"',
    ),

    rule.alert(
      'ListenEventsLost',
      comment=|||
        Once is enough: what was lost may have been what somebody wanted to hide.
      |||,
      expr=|||
        max %s (increase(host_listen_events_lost_total[15m])) > 0
        unless on (job, instance) listen_exporter:silent
      ||| % replicas,
      wait=after('ListenEventsLost'),
      summary='The exporter of {{ $labels.instance }} has lost events of the kernel.',
      description=
      'Within 15 minutes the exporter at {{ $labels.instance }} lost {{ printf "%.0f" $value }} events of the kernel, ' +
      'because listeners opened and closed faster than it could read. Brief listeners may be missing from its log, ' +
      'from host_listen_opened_total and from host_listen_violations_total. To see who opens so many, ' +
      "log in to the host and type: journalctl --since -30min -u listen_exporter | grep 'listener opened' | tail",
    ),

    rule.alert(
      'ListenPortsOmitted',
      comment=|||
        Now and then is enough: a port that is out of --collector.max-ports at every other scrape is not watched. A single scrape is
        not enough.
      |||,
      expr=|||
        max %s (max_over_time(host_listen_ports_omitted[4m])) > 0
        unless on (job, instance) listen_exporter:silent
      ||| % replicas,
      wait=after('ListenPortsOmitted'),
      summary='Not all ports of {{ $labels.instance }} are watched: it has too many.',
      description=
      'For at least ' + words('ListenPortsOmitted') + ' the exporter at {{ $labels.instance }} has left out up to ' +
      '{{ printf "%.0f" $value }} listeners, because there are more than --collector.max-ports. ' +
      'Declared ports and ports that other machines can reach are left out last. To see who opens so many, ' +
      "log in to the host and type: sudo listen_exporter list | awk '{ print $7 }' | sort | uniq -c | sort -n | tail",
    ),

    rule.alert(
      'ListenNamespacesNeverRead',
      comment=|||
        Only with --collector.netns=all. A user who makes namespaces without end must not hide what listens in others
        unnoticed. 15 minutes outlast the first turns of an exporter that was just started next to many namespaces.
      |||,
      expr=|||
        max %s (last_over_time(host_listen_namespaces_never_read[3m])) > 0
      ||| % replicas,
      wait=after('ListenNamespacesNeverRead'),
      summary='Not all network namespaces of {{ $labels.instance }} are watched: it has too many.',
      description=
      'For at least ' + words('ListenNamespacesNeverRead') + ' the exporter at {{ $labels.instance }} has found ' +
      '{{ printf "%.0f" $value }} network namespaces that it has never read, so the listeners in them are missing. ' +
      'Either there are more than it keeps, or reading them takes too long. To see who has so many, log in to the host and type: ' +
      'sudo lsns -t net -n -o USER,COMMAND | sort | uniq -c | sort -n | tail',
    ),

    rule.alert(
      'ListenStateNotWritten',
      comment=|||
        What the exporter remembers would be lost with its next restart.
      |||,
      expr=|||
        min %s (last_over_time(host_listen_state_last_write_successful[3m])) == 0
        unless on (job, instance) listen_exporter:silent
      ||| % replicas,
      wait=after('ListenStateNotWritten'),
      summary='The exporter of {{ $labels.instance }} cannot write what it remembers.',
      description=
      'For at least ' + words('ListenStateNotWritten') + ' the exporter at {{ $labels.instance }} has not been able to write its ' +
      '--state.file. A port that is lost while the exporter or the host restarts may go unnoticed. ' +
      'Log in to the host and type: journalctl --since -15min -u listen_exporter',
    ),
  ]
