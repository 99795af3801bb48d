//go:build linux

package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/listen-exporter/listen_exporter/internal/lease"
	"github.com/listen-exporter/listen_exporter/internal/wording"
)

// decodeRequest parses the body of POST /api/v1/leases. The error is a *lease.FieldError if a field is bad.
func decodeRequest(body []byte) (lease.Request, error) {
	r := lease.Request{}
	fields := []field{
		{"team", func(value []byte) error { return decodeText(value, &r.Team) }},
		{"name", func(value []byte) error { return decodeText(value, &r.Name) }},
		{"proto", func(value []byte) error { return decodeText(value, &r.Proto) }},
		{"ttl", func(value []byte) (err error) { r.TTL, err = decodeTTL(value); return err }},
		{"count", func(value []byte) (err error) { r.Count, err = decodeCount(value); return err }},
		{"key", func(value []byte) error { return decodeText(value, &r.Key) }},
	}
	return r, decodeObject(body, fields)
}

// field is a field of an object.
type field struct {
	name   string
	decode func(value []byte) error
}

// decodeObject parses a JSON object. Unlike encoding/json it takes neither a field that is unknown, or written in other letters, nor one
// that is there twice.
func decodeObject(text []byte, fields []field) error {
	text = bytes.TrimSpace(text)
	if !utf8.Valid(text) || !json.Valid(text) || text[0] != '{' {
		message := fmt.Sprintf(`the body is %s: want a JSON object such as {"ttl": "5m"}`, wording.Quoted(string(text)))
		return &Error{Status: http.StatusBadRequest, Message: message}
	}
	tokens := json.NewDecoder(bytes.NewReader(text))
	_, err := tokens.Token() // the opening brace
	seen := make(map[string]bool)
	for err == nil && tokens.More() {
		var key json.Token
		var value json.RawMessage
		if key, err = tokens.Token(); err == nil {
			err = tokens.Decode(&value)
		}
		if err != nil {
			return err
		}
		name, _ := key.(string)
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if at < 0 {
			return &lease.FieldError{Field: strings.ToValidUTF8(name[:min(len(name), maxText)], ""), Problem: "no such field: want " + names(fields)}
		}
		if seen[name] {
			return &lease.FieldError{Field: name, Problem: "the field is there twice: want it once"}
		}
		seen[name] = true
		if err := fields[at].decode(value); err != nil {
			return &lease.FieldError{Field: name, Problem: err.Error()}
		}
	}
	return err
}

func names(fields []field) string {
	if len(fields) == 0 {
		return "none"
	}
	var all []string
	for _, f := range fields {
		all = append(all, f.name)
	}
	return strings.Join(all[:len(all)-1], ", ") + " or " + all[len(all)-1]
}

// maxText is how long a string is at most, in bytes: no lease has a longer one, and what is refused is echoed.
const maxText = 255

// decodeText parses a string. encoding/json would take null too, and leave the default.
func decodeText(value []byte, text *string) error {
	if value[0] != '"' {
		return fmt.Errorf("%s is no string", shown(value))
	}
	if err := json.Unmarshal(value, text); err != nil {
		return err
	}
	if len(*text) > maxText {
		return fmt.Errorf("%s is too long: want at most %d bytes", wording.Quoted(*text), maxText)
	}
	return nil
}

func decodeTTL(value []byte) (time.Duration, error) {
	var text string
	if err := decodeText(value, &text); err != nil {
		return 0, fmt.Errorf(`%w: want one such as "5m"`, err)
	}
	ttl, err := ParseDuration(text)
	if err == nil && ttl < lease.MinTTL { // 0 would be the default
		err = fmt.Errorf("%s is too short: want %s at least", wording.Quoted(text), lease.MinTTL)
	}
	return ttl, err
}

func decodeCount(value []byte) (count int, err error) {
	if json.Unmarshal(value, &count) != nil || count < 1 || count > lease.MaxCount { // 0 would be the default, and so would null
		return 0, fmt.Errorf("%s is wrong: want a whole number from 1 to %d", shown(value), lease.MaxCount)
	}
	return count, nil
}

// shown returns a value as it was sent: a text has its quotes, and a number has none.
func shown(value []byte) string {
	const longest = 60 // characters
	text := []rune(wording.Printable(string(value)))
	if len(text) > longest {
		return string(text[:longest]) + "…"
	}
	return string(text)
}
