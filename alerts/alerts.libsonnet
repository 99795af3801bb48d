// The groups of rules. Prometheus evaluates the rules of a group in their order, so recorded and alerting rules are in one.
{
  local config = $._config,
  local rules(file) = file(config),
  local main =
    rules(import 'rules/recorded.libsonnet') +
    rules(import 'rules/ports.libsonnet') +
    rules(import 'rules/exporter.libsonnet') +
    rules(import 'rules/listeners.libsonnet') +
    rules(import 'rules/services.libsonnet') +
    rules(import 'rules/registry.libsonnet') +
    rules(import 'rules/leases.libsonnet'),

  local unknown = std.setDiff(std.objectFields(config.alerts), std.set([rule.alert for rule in main if 'alert' in rule])),

  prometheusAlerts+::
    assert unknown == [] : '_config.alerts has %s: there is no such alert' % std.join(', ', unknown);
    {
      groups+: [
        {
          comment:: |||
            What the alerts have in common. One group: Prometheus evaluates its rules in this order.
          |||,
          name: 'listen_exporter',
          rules: main,
        },
      ] + if !config.standIn then [] else [
        {
          comment:: |||
            The stand-in for exporters of 0.4, and for those without a loaded state (--state.file): only Prometheus can know that a port
            is lost. This is the one rule that reads series for healthy listeners. Remove the group when all your exporters have a state.
          |||,
          name: 'listen_exporter_stand_in',
          interval: '2m',
          rules: rules(import 'rules/stand_in.libsonnet'),
        },
      ],
    },
}
