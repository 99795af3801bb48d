// The plain file, listen_exporter.rules.yml. For a file of your own:
//
//   jsonnet -S --tla-code config='{ expectedPorts+: { tcp: "22|443" } }' rules.jsonnet
local yaml = import 'lib/yaml.libsonnet';
local mixin = import 'mixin.libsonnet';

local head = |||
  ---
  # Alerts on the listening ports of hosts, from the metrics of listen_exporter.
  # README.md in this directory has a runbook for each alert, and lists what these alerts leave out on purpose.
  # Unit tests: promtool test rules listen_exporter.test.yml. Prometheus 2.42 or newer, or VictoriaMetrics.
  #
  # Scrape at least once a minute. In your copy, four places are meant to be edited: search for EDIT. In the repository this file is
  # generated: edit rules/ and config.libsonnet, and run make rules.
  #
  # The exporter remembers what happened and when. The rules compare its timestamps with the host's own clock:
  #
  # - An alert keeps the labels that you give to your targets (cluster, env, team, ...), so that Alertmanager can route
  #   by them. "without (...)" drops only the labels that distinguish the listeners of one port.
  #   EDIT 4: prometheus, prometheus_replica and replica distinguish the copies of a series from replicas of Prometheus. If
  #   yours have other names, replace these names in the whole file.
  # - "last_over_time(x[10m]) ... and max_over_time(timestamp(x > 0)[10m:29s]) >= ... listen_exporter:troubled:read" is x as it was when
  #   the protocol was last read. A scrape or a read that fails neither ends an alert nor starts one, until nothing is known
  #   for 10 minutes. 29 s, because a step that divides the scrape interval may meet only scrapes that fail. Less 30: a scrape that times
  #   out between two rules takes a step away from x that the rule before still saw.
  # - Recorded series only limit what fires, and are aggregated by job and instance: a ruler may add labels to them.
  # - netns="" is the main network namespace. A port in a container's namespace is not a port of the host.
  # - Nearly all series that are read exist only where something is wrong, so that a large fleet costs little.
  # - Names that programs, units and services gave themselves end in chats: texts show plain characters only.
|||;

function(config={}) head + '\n' + yaml.groups((mixin { _config+:: config }).prometheusAlerts.groups)
