{{/* The name of the objects: the release's, if that says what it is. */}}
{{- define "listen-exporter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 37 | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end -}}

{{/* The labels by which pods are selected. The name is the job's name too, by which the alerts find the exporter: no value changes it. */}}
{{- define "listen-exporter.selector" -}}
app.kubernetes.io/name: listen-exporter
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "listen-exporter.labels" -}}
{{ include "listen-exporter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "listen-exporter.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "listen-exporter.priorityClass" -}}
{{- if .Values.priorityClass.create -}}
{{- include "listen-exporter.fullname" . -}}
{{- else -}}
{{- .Values.priorityClass.name -}}
{{- end -}}
{{- end -}}

{{/* The ConfigMap is mounted without a registry too, and is optional, so that a registry that comes later changes nothing else. */}}
{{- define "listen-exporter.registry" -}}
{{- .Values.registry.existingConfigMap | default (printf "%s-registry" (include "listen-exporter.fullname" .)) -}}
{{- end -}}

{{/* An alert names the node, not an address, and a new pod on the same node continues its series. The port is there so that the
commands in alerts reach the exporter. A rollout changes the pod's name: as a label, it would make every series a new one. */}}
{{- define "listen-exporter.endpoint" -}}
{{- $own := .Values.monitor.endpoint -}}
port: metrics
path: /metrics
interval: {{ .Values.monitor.interval }}
relabelings:
  - action: replace
    sourceLabels: [__meta_kubernetes_pod_node_name]
    regex: (.+)
    replacement: $1:{{ .Values.port }}
    targetLabel: instance
  - action: labeldrop
    regex: {{ if eq .Values.monitor.kind "ServiceMonitor" }}pod|container|endpoint|service{{ else }}pod|container|endpoint{{ end }}
  {{- with $own.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with omit $own "relabelings" }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Pod Security allows host namespaces and hostPath volumes only at its level privileged. At another level, the DaemonSet would be
created and every pod refused, which nobody sees. helm template cannot ask the cluster, so it does not check. */}}
{{- define "listen-exporter.checkPodSecurity" -}}
{{- $namespace := lookup "v1" "Namespace" "" .Release.Namespace -}}
{{- $level := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "" $namespace -}}
{{- if and $level (ne $level "privileged") -}}
{{- fail (printf "namespace %s enforces the Pod Security level %s, which refuses the exporter's pods: want a namespace of its own, with kubectl label namespace %s --overwrite pod-security.kubernetes.io/enforce=privileged" .Release.Namespace $level .Release.Namespace) -}}
{{- end -}}
{{- end -}}
