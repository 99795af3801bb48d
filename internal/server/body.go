//go:build linux

package server

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

// part is a piece of a body. Bodies that follow each other share those that are equal.
type part struct {
	text     []byte
	once     sync.Once
	deflated []byte
}

// deflate returns the part in DEFLATE format, without an end. It is compressed once. Without state between two calls nothing is kept
// in memory, and parts can be put together in any order.
func (p *part) deflate() []byte {
	p.once.Do(func() { p.deflated = deflate(p.text) })
	return p.deflated
}

func deflate(text []byte) []byte {
	var compressed bytes.Buffer
	_ = flate.StatelessDeflate(&compressed, text, false, nil) // a Buffer takes everything
	return bytes.Clone(compressed.Bytes())                    // without what the buffer has in reserve
}

// body is a body of an answer, which never changes.
type body struct {
	parts  []*part
	once   sync.Once
	packed *member // nil until somebody asks for it
}

// newPacked returns a body that is kept compressed only. Nearly all clients take gzip, and it takes a twentieth of the memory.
func newPacked(fill func(io.Writer) error) (*body, error) {
	packed := newMember()
	if err := fill(packed); err != nil {
		return nil, err
	}
	packed.end()
	return &body{packed: packed}, nil
}

// text returns the body as it is.
func (b *body) text() sendable {
	if b.parts == nil && b.packed != nil {
		return (*unpacked)(b.packed)
	}
	all := make(pieces, len(b.parts))
	for n, p := range b.parts {
		all[n] = p.text
	}
	return all
}

// gzipped returns the compressed body. It is put together once.
func (b *body) gzipped() sendable {
	b.once.Do(func() {
		if b.packed == nil {
			packed := newMember()
			for _, p := range b.parts {
				packed.add(p.text, p.deflate())
			}
			packed.end()
			b.packed = packed
		}
	})
	return b.packed.pieces
}

// sendable is what can be sent.
type sendable interface {
	size() int
	write(w io.Writer) error
}

// pieces are sent one after the other.
type pieces [][]byte

func (p pieces) size() (sum int) {
	for _, piece := range p {
		sum += len(piece)
	}
	return sum
}

func (p pieces) write(w io.Writer) error {
	for _, piece := range p {
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

// member is a member of gzip (RFC 1952, section 2.3).
type member struct {
	pieces pieces
	sum    uint32
	length int // uncompressed
}

func newMember() *member {
	return &member{pieces: pieces{{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}}} // a header without a name and a time
}

// Write implements io.Writer. What is written is compressed at once, without what was written before.
func (m *member) Write(text []byte) (int, error) {
	m.add(text, deflate(text))
	return len(text), nil
}

func (m *member) add(text, deflated []byte) {
	m.pieces = append(m.pieces, deflated)
	m.sum = crc32.Update(m.sum, crc32.IEEETable, text)
	m.length += len(text)
}

// end adds an empty last block and the trailer.
func (m *member) end() {
	trailer := binary.LittleEndian.AppendUint32([]byte{1, 0, 0, 0xff, 0xff}, m.sum)
	m.pieces = append(m.pieces, binary.LittleEndian.AppendUint32(trailer, uint32(m.length))) // modulo 2^32, as the RFC has it
}

// unpacked is the content of a member.
type unpacked member

func (u *unpacked) size() int { return u.length }

func (u *unpacked) write(w io.Writer) error {
	var packed []io.Reader
	for _, piece := range u.pieces {
		packed = append(packed, bytes.NewReader(piece))
	}
	content, err := gzip.NewReader(io.MultiReader(packed...))
	if err != nil {
		return err
	}
	_, err = io.Copy(w, content)
	return err
}

// takesGzip reports whether a client accepts gzip and does not prefer an uncompressed answer (RFC 9110, section 12.5.3). A client
// that sends no preference gets no compression.
func takesGzip(request http.Header) bool {
	weights := make(map[string]float64) // by coding
	for element := range strings.SplitSeq(strings.Join(request.Values("Accept-Encoding"), ","), ",") {
		coding, parameter, _ := strings.Cut(element, ";")
		weight := 1.0
		if name, value, ok := strings.Cut(parameter, "="); ok && strings.EqualFold(strings.TrimSpace(name), "q") {
			var err error
			if weight, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
				weight = 0
			}
		}
		coding = strings.ToLower(strings.TrimSpace(coding))
		if coding == "x-gzip" {
			coding = "gzip"
		}
		weights[coding] = weight
	}
	weightOf := func(coding string) float64 {
		if weight, named := weights[coding]; named {
			return weight
		}
		return weights["*"]
	}
	return weightOf("gzip") > 0 && weightOf("gzip") >= weightOf("identity")
}
