// The loss of ports of exporters that do not remember.
function(config)
  local expressions = (import '../lib/expressions.libsonnet')(config);
  local rule = (import '../lib/rule.libsonnet')(config);
  [
    rule.record('listen_exporter:port_vanished', |||
      (
        # How many scrapes of the last hour showed the port, on the address that was seen longest. The sum joins series that an edited
        # sysctl split by changing the range label. A second address does not count twice.
        max %s (
          sum without (scope, range) (
            count_over_time(host_listen_port{netns=""}[1h])
            # This comes before the aggregations, so that they see only the few ports that are gone.
            unless on (job, instance, proto, port) last_over_time(host_listen_port{netns=""}[4m])
            unless on (job, instance) last_over_time(host_listen_state_loaded[10m]) == 1
          )
        )
        # More than half of the scrapes that could read the protocol, and more than 5 minutes of them: on a host that was just added, a
        # few scrapes are most of the hour.
        > on (job, instance, proto) group_left () 0.5 * max by (job, instance, proto) (label_replace(
          sum_over_time(host_listen_collector_success{collector=~"tcp|udp"}[1h]), "proto", "$1", "collector", "(.+)"
        ))
        > on (job, instance, proto) group_left () max by (job, instance, proto) (label_replace(
          count_over_time(host_listen_collector_success{collector=~"tcp|udp"}[5m]), "proto", "$1", "collector", "(.+)"
        ))
      )
      # Two reads at least did not see it.
      and on (job, instance, proto) label_replace(
        sum_over_time(host_listen_collector_success{collector=~"tcp|udp"}[4m]) > 1, "proto", "$1", "collector", "(.+)"
      )
      # Ephemeral ports come and go. The window is longer than the hour above: if an edited sysctl takes a client's port out of the
      # range, it must not look like a service that was open most of that hour.
      unless on (job, instance, proto, port) max_over_time(host_listen_port{netns="",range="ephemeral"}[2h])
      # The list of this host is cut off at --collector.max-ports: the port may still be open, beyond the cut.
      unless on (job, instance) max_over_time(host_listen_ports_omitted[1h]) > 0
      # A registry knows whether the port must be open. The exporter remembers it.
      unless on (job, instance) last_over_time(host_listen_registry_last_reload_success_timestamp_seconds[15m])
      unless on (job, instance, proto, port) last_over_time(host_listen_port_gone_timestamp_seconds[10m])
    ||| % expressions.without(['family', 'address', 'device']), |||
      A port that was open most of the last hour has been gone for 4 minutes. PortVanished ends half an hour after the loss: then the port
      was no longer open most of the last hour.
    |||),
  ]
