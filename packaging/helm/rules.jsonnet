// The rules of the chart, listen-exporter/files/rules.yml: templates/prometheusrule.yaml puts values where @ is.
(import '../../alerts/rules.jsonnet')({
  expectedPorts: { tcp: '@tcp@', udp: '@udp@' },
  clusterLabels: ['@clusterLabel@'],
  replicaLabels: ['@replicaLabels@'],
  runbookURLPattern: '@runbookURL@#%s',
})
