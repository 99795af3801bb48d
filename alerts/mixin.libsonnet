// The alerts and dashboards of listen_exporter, as a mixin: https://monitoring.mixins.dev. README.md shows how to use it.
(import 'config.libsonnet') +
(import 'alerts.libsonnet') +
(import 'dashboards.libsonnet')
