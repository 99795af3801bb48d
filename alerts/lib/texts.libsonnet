// Parts of texts that several alerts have. Names that programs, units and services gave themselves end in chats, so only plain
// characters are shown, and at most 60.
local plain(value, characters='a-zA-Z0-9._()-') = '%s | reReplaceAll "[^%s]" "?" | printf "%%.60s"' % [value, characters];
local plainOf(value, characters='a-zA-Z0-9._()-') = 'reReplaceAll "[^%s]" "?" %s | printf "%%.60s"' % [characters, value];
local port = '{{ toUpper $labels.proto }} port {{ $labels.port }}';
local list = 'sudo listen_exporter list {{ reReplaceAll "," " " $labels.port }}';

// The matchers of the host, or of the port, and their values.
local host = { matchers: 'job=%q,instance=%q', values: '$labels.job $labels.instance' };
local hostPort = { matchers: host.matchers + ',proto=%q,port=%q', values: host.values + ' $labels.proto $labels.port' };

{
  plain:: plain,
  port: port,
  service: '{{ %s }}' % plain('$labels.service_name'),
  team: '{{ %s }}' % plain('$labels.team'),
  list: 'Log in to the host and type: ' + list,
  firewall: 'A firewall may still close it; the exporter does not see firewalls.',

  // a, b, c: a template for the series of a query.
  each(label, template): '{{ range $i, $s := sortByLabel "%s" . }}{{ if $i }}, {{ end }}%s{{ end }}' % [label, template],

  // Who holds the port now, on the addresses on which the series is. There can be several.
  heldBy(series, matchers=''):
    '{{- with printf "max by (process, unit) (last_over_time(host_listen_port_holder_info{%[1]s}[100s]) and on (family, address, device) last_over_time(' +
    series + '{%[1]s' + matchers + '}[100s]))" (printf "job=%q,instance=%q,netns=\'\',proto=%q,port=%q" ' + hostPort.values + ') | query }} It is held by ' +
    '{{ range $i, $s := sortByLabel "unit" . | sortByLabel "process" }}{{ if $i }}, {{ end }}' +
    '{{ or $s.Labels.process "a program without a name" | reReplaceAll "[^a-zA-Z0-9 ._()-]" "?" | printf "%.60s" }}' +
    '{{ with $s.Labels.unit }} of {{ ' + plainOf('.') + ' }}{{ end }}{{ end }}.{{ end }}',

  // Who held it, by the labels of the series, and what to type.
  lastHeldBy(series, verb):
    '{{- with printf "last_over_time(' + series + '{' + hostPort.matchers + '}[10m])" ' + hostPort.values + ' | query }}{{ with . | first }} ' +
    '{{- if .Labels.process }} It was ' + verb + ' by {{ ' + plainOf('.Labels.process') + ' }} ' +
    '{{- with .Labels.unit }} of {{ ' + plainOf('.') + ' }}{{ end }} {{- with .Labels.address }} at {{ . }}{{ end }}.{{ end }} ' +
    'Log in to the host and type: {{- if and .Labels.unit (ne .Labels.unit "(many)") }} systemctl status {{ ' +
    plainOf('.Labels.unit', 'a-zA-Z0-9._-') + ' }} or{{ end }} ' + list + '{{ end }}{{ end }}',

  // On which addresses, and since when.
  addresses(matchers):
    '{{ with printf "min by (address) (last_over_time(host_listen_port_violation_start_timestamp_seconds' +
    "{job=%q,instance=%q,netns='',proto=%q,port=%q, " + matchers + '}[10m]))" ' + hostPort.values + ' | query }}' +
    self.each('address', '{{ $s.Labels.address }} since {{ humanizeTimestamp $s.Value }}') + '{{ end }}.',

  // As what the port is leased, and by whom, if it is.
  leased:
    '{{- with printf "max by (service_name, uid) (last_over_time(host_listen_lease_info{' + hostPort.matchers + '}[2m]))" ' + hostPort.values +
    ' | query }} It is leased as ' + self.each('service_name', '{{ %s }} to the user with the uid {{ $s.Labels.uid }}' % plain('$s.Labels.service_name')) +
    ', whose socket this is not.{{ end }}',

  // The owner that the registry names, if any.
  owner(labels=['instance']):
    '{{- with printf "host_listen_service_info{job=%q,' + std.join('', [label + '=%q,' for label in labels]) +
    'service_name=%q,owner!=\'\'}" $labels.job ' + std.join('', ['$labels.' + label + ' ' for label in labels]) +
    '$labels.service_name | query }} Owner: {{ ' + plain('. | first | label "owner"', 'a-zA-Z0-9 ._()-') + ' }}.{{ end }}',
}
