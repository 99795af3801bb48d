//go:build linux

package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A state file is a line of text and a JSON object:
//
//	listen_exporter state 1 3f0c…
//	{"machine":"…","written":"…","content":…}
//
// The line has the version and the SHA-256 of the object: who finds a file sees what it is, and a file that was written only in
// part is no JSON that happens to be whole.
const (
	magic = "listen_exporter state "
	// version grows when programs of the version before would take what they read for something else. A key that they do not know
	// changes nothing for them.
	version = 1
	// maxSize is how many bytes a state file may have. The largest registry has 10 MiB, in base64 14, and the memory has at most 8.
	maxSize = 24 << 20
	// maxLine is longer than the first line of any version.
	maxLine = 256
)

// object is the JSON object of a state file.
type object[Content any] struct {
	Machine string    `json:"machine"`
	Written time.Time `json:"written"`
	Content Content   `json:"content"`
}

// errForeign is the error of a file that this program has not written, in any version.
var errForeign = errors.New("not a state file of listen_exporter")

// unfit is the error of a state file that is not of use here.
type unfit string

func (u unfit) Error() string { return string(u) }

const (
	errMissing = unfit("missing")
	errEmpty   = unfit("empty")
	errDamaged = unfit("damaged")
	errOther   = unfit("of another machine")
)

// format returns a state file.
func format(machine string, content any) ([]byte, error) {
	var text bytes.Buffer
	// The line is put in when its checksum is known.
	text.Write(make([]byte, len(line([sha256.Size]byte{}))))
	start := text.Len()
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object[any]{machine, time.Now().UTC(), content}); err != nil {
		return nil, err
	}
	data := text.Bytes()
	if len(data) > maxSize {
		return nil, fmt.Errorf("%d MiB to remember, at most %d are kept: want smaller files of --registry.file", len(data)>>20, maxSize>>20)
	}
	copy(data, line(sha256.Sum256(data[start:])))
	return data, nil
}

func line(sum [sha256.Size]byte) string { return fmt.Sprintf("%s%d %x\n", magic, version, sum) }

// parse reads a state file of a machine. The error is errForeign, or unfit.
func parse(data []byte, machine string) (*saved, error) {
	first, _, whole := bytes.Cut(data[:min(len(data), maxLine)], []byte("\n"))
	words, ours := strings.CutPrefix(string(first), magic)
	switch {
	case len(data) == 0:
		return nil, errEmpty
	case !ours && !whole && strings.HasPrefix(magic, string(first)), len(bytes.Trim(data, "\x00")) == 0:
		return nil, errDamaged // cut off within the line, or never filled in before the power was cut
	case !ours:
		return nil, errForeign
	case !whole:
		return nil, errDamaged
	}
	number, _, _ := strings.Cut(words, " ")
	if v, err := strconv.ParseUint(number, 10, 32); err == nil && v > version {
		return nil, unfit(fmt.Sprintf("of version %d, which a newer listen_exporter has written", v))
	}
	body := data[len(first)+1:]
	if string(data[:len(first)+1]) != line(sha256.Sum256(body)) {
		return nil, errDamaged
	}
	var o object[json.RawMessage]
	switch err := json.Unmarshal(body, &o); {
	case err != nil:
		return nil, errDamaged
	case o.Machine != machine:
		return nil, errOther
	}
	return &saved{o.Written, o.Content}, nil
}

func (s *saved) decode(content any) error { return json.Unmarshal(s.content, content) }
