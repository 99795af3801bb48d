// Writes rules as a person would: with comments, their fields in this order, and texts folded.
local lines = import 'lines.libsonnet';

// The longest line of a folded text, without its indentation.
local width = 112;

// A text of one line as the lines of a folded scalar.
local folded(text) =
  local words = std.split(text, ' ');
  local fold(state, word) =
    if std.length(state.line) + 1 + std.length(word) <= width
    then { full: state.full, line: state.line + ' ' + word }
    else { full: state.full + state.line + '\n', line: word };
  local end = std.foldl(fold, words[1:], { full: '', line: words[0] });
  end.full + end.line;

// Any string is safe between single quotes. The usual severities need none.
local scalar(text) =
  if std.member(['critical', 'warning', 'info'], text) then text else "'" + std.strReplace(text, "'", "''") + "'";

local comment(text) = if text == '' then [] else [lines.commented(text)];

local labels(of) = [
  '  labels:',
] + ['    %s: %s' % [name, scalar(of[name])] for name in std.objectFields(of)];

local annotations(of) = [
  '  annotations:',
] + ['    %s: >-\n%s' % [name, lines.indented(folded(of[name]), 6)] for name in ['summary', 'description', 'runbook_url']];

local rule(of) = std.join('\n', comment(of.comment) + [
                                  if 'alert' in of then '- alert: ' + of.alert else '- record: ' + of.record,
                                  '  expr: |\n' + lines.indented(of.expr, 4),
                                ] + (if 'for' in of then ['  for: ' + of['for']] else []) +
                                (if 'alert' in of then labels(of.labels) + annotations(of.annotations) else []));

local group(of) = std.join('\n', comment(of.comment) + [
  '- name: ' + of.name,
] + (if 'interval' in of then ['  interval: ' + of.interval] else []) + [
  '  rules:',
  std.join('\n\n', [lines.indented(rule(each), 4) for each in of.rules]),
]);

{
  groups(groups): 'groups:\n' + std.join('\n\n', [lines.indented(group(of), 2) for of in groups]),
}
