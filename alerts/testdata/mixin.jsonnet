// A user of the mixin, who changes everything that is there to be changed.
local mixin = (import 'github.com/listen-exporter/listen_exporter/alerts/mixin.libsonnet') {
  _config+:: {
    listenExporterSelector: 'job="ports"',
    expectedPorts+: { tcp: '22|25' },
    clusterLabels: ['env', 'region'],
    replicaLabels: ['pod'],
    tooMany: 2,
    standIn: false,
    runbookURLPattern: 'https://wiki.example.org/%s?from=50%25',
    alertLabels: { team: "web's" },
    criticalSeverity: 'page',
    warningSeverity: 'ticket',
    alerts+: {
      AcceptQueueFull+: { after: '30s', severity: 'phone' },
      ServiceOnNoHost+: { after: '1h' },
      ListenExporterDown+: { after: '10m' },
      ListenStateNotWritten+: { after: '1m' },
    },
  },
};
std.manifestYamlDoc(mixin.prometheusAlerts)
