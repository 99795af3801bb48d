local each(text) = std.split(std.rstripChars(text, '\n'), '\n');

// The last line has no end.
{
  // An empty line stays empty.
  indented(text, spaces): std.join('\n', [if line == '' then '' else std.repeat(' ', spaces) + line for line in each(text)]),

  commented(text): std.join('\n', [if line == '' then '#' else '# ' + line for line in each(text)]),
}
