// Durations as in a rule's "for": a whole number and a unit.
local units = {
  s: { seconds: 1, name: 'second' },
  m: { seconds: 60, name: 'minute' },
  h: { seconds: 3600, name: 'hour' },
};

local parse(text) =
  local number = std.substr(text, 0, std.length(text) - 1);
  local unit = std.substr(text, std.length(text) - 1, 1);
  assert unit in units && number != '' && std.stripChars(number, '0123456789') == '' :
         'the duration %s is wrong: want a whole number and s, m or h, such as 5m' % text;
  units[unit] { number: std.parseInt(number) };

{
  seconds(text):
    local duration = parse(text);
    duration.number * duration.seconds,

  // For texts: 1 minute, 5 minutes.
  words(text):
    local duration = parse(text);
    '%d %s%s' % [duration.number, duration.name, if duration.number == 1 then '' else 's'],
}
