// The same rules for the Prometheus Operator: ../examples/kubernetes/prometheus-operator/prometheusrule.yaml.
local lines = import 'lib/lines.libsonnet';
local yaml = import 'lib/yaml.libsonnet';
local mixin = import 'mixin.libsonnet';

local head = |||
  ---
  # The alerts of alerts/listen_exporter.rules.yml for the Prometheus Operator, rule for rule. That file says what they have in
  # common, and which four places of your copy are meant to be edited. alerts/README.md has a runbook for each. In the repository
  # this file is generated: edit alerts/rules/ and alerts/config.libsonnet, and run make rules.
  apiVersion: monitoring.coreos.com/v1
  kind: PrometheusRule
  metadata:
    name: listen-exporter
    namespace: listen-exporter
    labels:
      app.kubernetes.io/name: listen-exporter
  spec:
|||;

function(config={}) head + lines.indented(yaml.groups((mixin { _config+:: config }).prometheusAlerts.groups), 2)
