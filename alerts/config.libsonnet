// What users of the mixin may change. README.md explains each field.
{
  _config+:: {
    local config = self,

    // EDIT 1 to 4 of the plain file.
    listenExporterSelector: 'job=~"(.+/)?listen[-_]exporter"',
    expectedPorts: { tcp: '22|80|443', udp: '68|546' },
    clusterLabels: ['cluster'],
    replicaLabels: ['prometheus', 'prometheus_replica', 'replica'],

    tooMany: 20,
    standIn: true,

    runbookURLPattern: 'https://github.com/listen-exporter/listen_exporter/blob/main/alerts/README.md#%s',
    alertLabels: {},
    criticalSeverity: 'critical',
    warningSeverity: 'warning',

    local critical = { severity: config.criticalSeverity },
    local warning = { severity: config.warningSeverity },
    alerts: {
      // With a registry.
      PortGoneMissing: critical { after: '2m' },
      ServiceOnNoHost: critical { after: '2m' },
      ForbiddenListener: critical { after: '2m' },
      ListenerExposed: critical { after: '2m' },
      ListenerHolderChanged: critical { after: '2m' },
      UnregisteredListener: warning { after: '5m' },
      BriefViolation: {
        after: '2m',
        severity: '{{ if eq $labels.reason "forbidden" }}%s{{ else }}%s{{ end }}' % [config.criticalSeverity, config.warningSeverity],
      },
      PortRegistryReloadFailed: warning { after: '5m' },
      PortRegistryWithoutServices: warning { after: '5m' },

      // With leases.
      LeaseOverstayed: warning { after: '5m' },
      LeaseRangeExhausted: warning { after: '5m' },
      LeaseRangeFillingUp: warning { after: '30m' },
      LeaseStoreUnavailable: warning { after: '2m' },

      // Without a registry.
      PortVanished: warning { after: '2m' },
      ManyPortsVanished: warning { after: '2m' },
      UnexpectedPrivilegedListener: warning { after: '5m' },

      // On every host.
      PortFlapping: {
        // A port that a service declares, and another.
        severity: '{{ if $labels.service_name }}%s{{ else }}%s{{ end }}' % [config.criticalSeverity, config.warningSeverity],
      },
      ManyUndeclaredListeners: critical { after: '2m' },
      AcceptQueueFull: critical { after: '2m' },
      ListenerDropping: warning { after: '7m' },
      ListenExporterDown: warning { after: '5m' },
      ListenExporterFlapping: warning { after: '1m' },
      ListenCollectorFailed: warning { after: '5m' },
      ListenEventsFailed: warning { after: '15m' },
      ListenEventsLost: warning { after: '2m' },
      ListenPortsOmitted: warning { after: '5m' },
      ListenNamespacesNeverRead: warning { after: '15m' },
      ListenStateNotWritten: warning { after: '5m' },
    },
  },
}
