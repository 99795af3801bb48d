package main

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// pageBuffer is how much of a page is written at once. The encoder's own buffer makes a system call of every 4 KiB.
const pageBuffer = 256 << 10

// compressed collects what a handler writes, and compresses it for the clients that take that. A page has much that repeats:
// the fastest level makes it hardly larger than the best one does, and costs a small part of the time.
func compressed(next http.Handler) http.Handler {
	writers := sync.Pool{New: func() any {
		// The level is one that there is.
		compressor, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
		return &pageWriter{buffer: bufio.NewWriterSize(io.Discard, pageBuffer), gzip: compressor}
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writer := writers.Get().(*pageWriter)
		writer.ResponseWriter, writer.takesGzip, writer.body = w, takesGzip(r.Header), nil
		writer.buffer.Reset(w)
		next.ServeHTTP(writer, r)
		// A client that hung up is nobody's trouble. After a panic the page is left unfinished.
		if writer.body == writer.gzip {
			_ = writer.gzip.Close()
		}
		_ = writer.buffer.Flush()
		writer.ResponseWriter = nil
		writer.buffer.Reset(io.Discard)
		writers.Put(writer)
	})
}

// pageWriter is a response whose body goes through a buffer.
type pageWriter struct {
	http.ResponseWriter
	buffer    *bufio.Writer
	gzip      *gzip.Writer
	takesGzip bool
	body      io.Writer // buffer or gzip, once the header is written
}

// WriteHeader implements http.ResponseWriter. Errors are never compressed.
func (p *pageWriter) WriteHeader(code int) {
	if p.body == nil {
		p.body = p.buffer
		if code == http.StatusOK {
			p.Header().Add("Vary", "Accept-Encoding")
			if p.takesGzip {
				p.Header().Set("Content-Encoding", "gzip")
				p.gzip.Reset(p.buffer)
				p.body = p.gzip
			}
		}
	}
	p.ResponseWriter.WriteHeader(code)
}

// Write implements io.Writer.
func (p *pageWriter) Write(b []byte) (int, error) {
	if p.body == nil {
		p.WriteHeader(http.StatusOK)
	}
	return p.body.Write(b)
}

// takesGzip tells whether a client takes gzip at least as gladly as no compression (RFC 9110, section 12.5.3). One that does
// not say anything gets none.
func takesGzip(request http.Header) bool {
	const unnamed = -1
	zipped, identity, others := float64(unnamed), float64(unnamed), 0.0
	for _, field := range request.Values("Accept-Encoding") {
		for element := range strings.SplitSeq(field, ",") {
			coding, parameter, _ := strings.Cut(element, ";")
			weight := 1.0
			if name, value, ok := strings.Cut(parameter, "="); ok && strings.EqualFold(strings.TrimSpace(name), "q") {
				var err error
				if weight, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
					weight = 0
				}
			}
			switch strings.ToLower(strings.TrimSpace(coding)) {
			case "gzip", "x-gzip":
				zipped = weight
			case "identity":
				identity = weight
			case "*":
				others = weight
			}
		}
	}
	if zipped == unnamed {
		zipped = others
	}
	if identity == unnamed {
		identity = others
	}
	return zipped > 0 && zipped >= identity
}
