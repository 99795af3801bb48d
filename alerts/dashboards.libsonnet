{
  grafanaDashboards+:: {
    'listen_exporter.json': import '../examples/grafana/listen_exporter.json',
    'listen_exporter_health.json': import '../examples/grafana/listen_exporter_health.json',
  },
}
