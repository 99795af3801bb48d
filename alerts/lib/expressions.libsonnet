// Parts of expressions that several rules have.
local duration = import 'duration.libsonnet';
local lines = import 'lines.libsonnet';

function(config) {
  local expressions = self,

  // The labels that distinguish the listeners of one port, and those of a port that is gone or flaps.
  listener: ['family', 'address', 'device', 'scope', 'range'],
  holder: ['address', 'process', 'unit'],

  // Leases, for as long as their openings count.
  leased: 'last_over_time(host_listen_lease_info[20m])',

  // An aggregation over these labels, and over the copies of a series from replicas of Prometheus.
  without(labels=[]): 'without (%s)' % std.join(', ', labels + config.replicaLabels),

  // Compares a time of the host's clock: this long ago, and longer, when the protocol was last read.
  longAgo(after):
    '<= on (job, instance, proto) group_left () (max by (job, instance, proto) (listen_exporter:troubled:host_time) - %d)' %
    duration.seconds(after),

  // Compares the time of a scrape: as of when the protocol was last read, or later. Less 30: a scrape that times out between two
  // rules takes a step away from the series that the rule before still saw.
  lastRead(recorded='listen_exporter:troubled:read'):
    '>= on (job, instance, proto) group_left () (max by (job, instance, proto) (%s) - 30)' % recorded,

  // The series as they were when the protocol was last read. 29 s, because a step that divides the scrape interval may meet only
  // scrapes that fail.
  known(series): |||
    last_over_time(%(series)s[10m])
    and max_over_time(timestamp(%(series)s > 0)[10m:29s])
      %(lastRead)s
  ||| % { series: series, lastRead: expressions.lastRead() },

  // The same for times of the host's clock, if they are so long ago.
  since(series, after): |||
    last_over_time(%(series)s[10m])
      %(longAgo)s
    and max_over_time(timestamp(%(series)s > 0)[10m:29s])
      %(lastRead)s
  ||| % { series: series, longAgo: expressions.longAgo(after), lastRead: expressions.lastRead() },

  // The family of alerts on something that is so since a time: one alert a port, by the oldest of its series, except what the
  // clauses take away.
  oldest(labels, series, after, clauses=''):
    'min %s (\n%s\n)' % [expressions.without(labels), lines.indented(expressions.since(series, after) + clauses, 2)],
}
