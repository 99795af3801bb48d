package server

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
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
	p.once.Do(func() {
		var compressed bytes.Buffer
		_ = flate.StatelessDeflate(&compressed, p.text, false, nil) // a Buffer takes everything
		p.deflated = bytes.Clone(compressed.Bytes())                // without what the buffer has in reserve
	})
	return p.deflated
}

// body is a body of an answer, which never changes.
type body struct {
	parts []*part
	once  sync.Once
	gzip  [][]byte
}

// text returns the pieces of the body.
func (b *body) text() [][]byte {
	pieces := make([][]byte, len(b.parts))
	for n, p := range b.parts {
		pieces[n] = p.text
	}
	return pieces
}

// The ends of a gzip member (RFC 1952, section 2.3): a header without a name and a time, and an empty last block before the trailer.
var (
	gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}
	lastBlock  = []byte{1, 0, 0, 0xff, 0xff}
)

// gzipped returns the pieces of the body as a gzip member. It is put together once.
func (b *body) gzipped() [][]byte {
	b.once.Do(func() {
		pieces, sum, size := [][]byte{gzipHeader}, uint32(0), 0
		for _, p := range b.parts {
			pieces = append(pieces, p.deflate())
			sum = crc32.Update(sum, crc32.IEEETable, p.text)
			size += len(p.text)
		}
		trailer := binary.LittleEndian.AppendUint32(bytes.Clone(lastBlock), sum)
		b.gzip = append(pieces, binary.LittleEndian.AppendUint32(trailer, uint32(size))) // modulo 2^32, as the RFC has it
	})
	return b.gzip
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
