// A rule. Its comment is for the plain file; JSON has no place for one.
function(config) {
  // With the end of its last line, YAML shows an expression as a block.
  local block(expr) = std.rstripChars(expr, '\n') + '\n',

  record(name, expr, comment): { comment:: comment, record: name, expr: block(expr) },

  alert(name, expr, summary, description, wait=null, comment=''): {
    comment:: comment,
    alert: name,
    expr: block(expr),
    [if wait != null then 'for']: wait,
    labels: { severity: config.alerts[name].severity } + config.alertLabels,
    annotations: {
      summary: summary,
      description: description,
      runbook_url: std.strReplace(config.runbookURLPattern, '%s', std.asciiLower(name)),
    },
  },
}
