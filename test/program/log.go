//go:build linux

package program

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// LogLine is a log line: keys and values.
type LogLine []struct{ Key, Value string }

// Get returns the first value of a key, or an empty string.
func (l LogLine) Get(key string) string {
	for _, field := range l {
		if field.Key == key {
			return field.Value
		}
	}
	return ""
}

func (l LogLine) count(key string) int {
	n := 0
	for _, field := range l {
		if field.Key == key {
			n++
		}
	}
	return n
}

// ParseLine parses a log line in logfmt or JSON.
func ParseLine(line string) (LogLine, error) {
	if strings.HasPrefix(line, "{") {
		return parseJSON(line)
	}
	return parseLogfmt(line)
}

var logfmtField = regexp.MustCompile(`^([a-z_][a-z0-9_]*)=("(?:[^"\\]|\\.)*"|[^ "=]*)(?: |$)`)

func parseLogfmt(line string) (LogLine, error) {
	var fields LogLine
	for rest := line; rest != ""; {
		match := logfmtField.FindStringSubmatch(rest)
		if match == nil {
			return nil, fmt.Errorf("no logfmt: %q, at %q", line, rest)
		}
		value := match[2]
		if strings.HasPrefix(value, `"`) {
			var err error
			if value, err = strconv.Unquote(value); err != nil {
				return nil, fmt.Errorf("no logfmt: %q: %w", line, err)
			}
		}
		fields = append(fields, struct{ Key, Value string }{match[1], value})
		rest = rest[len(match[0]):]
	}
	return fields, nil
}

// parseJSON keeps duplicate keys, which a map would hide.
func parseJSON(line string) (LogLine, error) {
	if !json.Valid([]byte(line)) {
		return nil, fmt.Errorf("no JSON: %q", line)
	}
	var fields LogLine
	tokens := json.NewDecoder(strings.NewReader(line))
	if _, err := tokens.Token(); err != nil {
		return nil, err
	}
	for tokens.More() {
		key, err := tokens.Token()
		if err != nil {
			return nil, err
		}
		var value any
		if err := tokens.Decode(&value); err != nil {
			return nil, err
		}
		fields = append(fields, struct{ Key, Value string }{fmt.Sprint(key), fmt.Sprint(value)})
	}
	return fields, nil
}

var callerForm = regexp.MustCompile(`^[a-z0-9_]+\.go:[1-9][0-9]*$`)

// CheckLines parses a log and checks the keys that every line must have.
func CheckLines(t testing.TB, format, text string) []LogLine {
	t.Helper()
	if !strings.HasSuffix(text, "\n") {
		t.Errorf("the log does not end with a complete line: %q", text)
	}
	var all []LogLine
	for _, line := range Lines(text) {
		parse := parseLogfmt
		if format == "json" {
			parse = parseJSON
		}
		fields, err := parse(line)
		if err != nil {
			t.Error(err)
			continue
		}
		all = append(all, fields)
		for _, key := range []string{"ts", "level", "msg"} {
			if n := fields.count(key); n != 1 {
				t.Errorf("%d times the key %s, want once: %s", n, key, line)
			}
		}
		if _, err := time.Parse(time.RFC3339Nano, fields.Get("ts")); err != nil {
			t.Errorf("timestamp: %v: %s", err, line)
		}
		if !slices.Contains([]string{"debug", "info", "warn", "error"}, fields.Get("level")) || fields.Get("msg") == "" {
			t.Errorf("want a level and a message: %s", line)
		}
		if fields.count("time") > 0 || fields.count("caller") > 1 {
			t.Errorf("want no second timestamp and at most one caller: %s", line)
		}
		if caller := fields.Get("caller"); caller != "" && !callerForm.MatchString(caller) {
			t.Errorf("the caller %q is no line of a file: %s", caller, line)
		}
	}
	return all
}
