package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxValues bounds the memory that a file costs: the library keeps about 200 bytes for each value. 65 535 services with every
// key have 1.3 million.
const maxValues = 2_000_000

func decode(data []byte) (first, second *yaml.Node, err error) {
	return decodeFrom(bytes.NewReader(data))
}

// decodeFrom returns the first YAML document that r has, and the second one if there is another. It fails with io.EOF if
// there is none.
func decodeFrom(r io.Reader) (first, second *yaml.Node, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			first, second, err = nil, nil, fmt.Errorf("yaml: %v", problem)
		}
	}()
	decoder := yaml.NewDecoder(r)
	var one, two yaml.Node
	if err := decoder.Decode(&one); err != nil {
		return nil, nil, err
	}
	switch err := decoder.Decode(&two); {
	case errors.Is(err, io.EOF):
		return &one, nil, nil
	case err != nil:
		return nil, nil, err
	}
	return &one, &two, nil
}

// plainText notes the first character that YAML does not allow (YAML 1.2.2, 5.1), and tells whether there is none. The
// library would not tell its place.
func (p *parser) plainText(data []byte) bool {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		p.add(1, 1, "is a text in UTF-16: want UTF-8")
		return false
	}
	line, column := 1, 1
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			p.add(line, column, "byte 0x%02x is not UTF-8: want a text file in UTF-8", data[i])
			return false
		case r == '\ufeff' && i == 0:
			i += size
			continue
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r < 0xa0 && r != 0x85, r == '\ufeff', r == 0xfffe, r == 0xffff:
			p.add(line, column, "%U is a control character: want printable text", r)
			return false
		}
		i += size
		column++
		if r == '\n' || r == '\r' && (i == len(data) || data[i] != '\n') {
			line, column = line+1, 1
		}
	}
	return true
}

// tooManyValues notes a file that would cost too much memory. It counts the values that YAML's indicators stand for; in text
// they stand for none, so that it counts too many rather than too few.
func (p *parser) tooManyValues(data []byte) bool {
	count, line := 0, 1
	for i, c := range data {
		switch c {
		case '\n':
			line++
		case ',', '{':
			count++
		case '[':
			count += 2 // the list and its first item
		case '-', ':', '?':
			switch {
			case c == ':' && i > 0 && data[i-1] == '"':
				count += 2 // as JSON writes it
			case i+1 < len(data) && !strings.ContainsRune(" \t\r\n", rune(data[i+1])):
			case c == '-':
				count++
			default:
				count += 2 // a key and what it holds
			}
		}
		if count > maxValues {
			p.add(line, 1, "has more than %d values up to here, which is the most: want a shorter file", maxValues)
			return true
		}
	}
	return false
}

// single notes a second document.
func (p *parser) single(second *yaml.Node) {
	if second != nil {
		p.at(second, "a second YAML document begins here: want one document in a file")
	}
}

// supported notes what YAML has and a registry does not: it is read as it stands, and nothing expands.
func (p *parser) supported(n *yaml.Node) {
	switch {
	case n.Kind == yaml.AliasNode:
		p.at(n, "alias *%s: anchors and aliases are not supported: write the value out, or in quotes if it begins with *", n.Value)
		return
	case n.Anchor != "":
		p.at(n, "anchor &%s: anchors and aliases are not supported: write the value out, or in quotes if it begins with &", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		p.at(n, "tag %s: tags are not supported: leave it out", quoted(n.Tag))
	}
	for _, child := range n.Content {
		p.supported(child)
	}
}

const (
	// maxRepairs is how many unquoted globs are told at once: each costs one more look at the file, or several.
	maxRepairs = 20
	// maxRepairWork is how many bytes are looked at for that: about three seconds' worth.
	maxRepairWork = 4 << 20
)

// repaired notes why data is not YAML. The likeliest reason is a glob such as *.example.org without quotes: those are put
// right and told all, so that what else is wrong is told with them, and so are tabs. It returns the root, if that was all.
func (p *parser) repaired(data []byte, err error) *yaml.Node {
	data = bytes.Clone(data)
	work, at := maxRepairWork, -1
	if isTab(data, err) {
		fixed, fixedErr := p.untabbed(data, err, &work)
		if fixed == nil {
			return nil
		}
		if data, err = fixed, fixedErr; err == nil {
			first, second, _ := decode(data)
			p.single(second)
			return first.Content[0]
		}
	}
	for range maxRepairs {
		if at = looseGlob(data, err, &work); at < 0 {
			break
		}
		line, column := placeOf(data, at)
		p.add(line, column, `%s begins with *: want it in quotes: '%[1]s'`, globAt(data[at:]))
		data[at] = 'x'
		work -= len(data)
		var first, second *yaml.Node
		if first, second, err = decode(data); err == nil {
			p.single(second)
			return first.Content[0]
		}
	}
	if at < 0 {
		p.syntax(data, err)
	}
	return nil
}

var (
	unknownAnchor = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
	// loose is a * where a value begins, with what stands before it.
	loose = regexp.MustCompile(`(?:^|[\s\[,])(\*)`)
)

// looseGlob returns where the * stands for which err was told, or -1 if err has another reason or no work is left.
func looseGlob(data []byte, err error, work *int) int {
	want, tries := "", maxRepairs
	if m := unknownAnchor.FindStringSubmatch(err.Error()); m != nil {
		want = m[1]
	} else if !strings.Contains(err.Error(), looseMessage) {
		return -1
	}
	for _, m := range loose.FindAllSubmatchIndex(data, -1) {
		at := m[2]
		if !bytes.HasPrefix(data[at+1:], []byte(want)) {
			continue
		}
		if bytes.ContainsRune(data[bytes.LastIndexByte(data[:at], '\n')+1:at], '#') {
			continue // most likely in a comment
		}
		if *work -= len(data); *work < 0 {
			return -1
		}
		// It is the one if the library takes offence at anything else there.
		data[at] = '@'
		_, _, instead := decode(data)
		data[at] = '*'
		if instead != nil && instead.Error() != err.Error() {
			return at
		}
		if tries--; tries == 0 {
			break
		}
	}
	return -1
}

const (
	looseMessage = "expected alphabetic or numeric character"
	tabAdvice    = "a tab: want spaces"
)

func globAt(data []byte) string {
	if end := bytes.IndexAny(data, " \t\r\n,]"); end >= 0 {
		data = data[:end]
	}
	return string(data[:min(len(data), maxQuoted)])
}

// advice says what would be right, for each of the library's messages that a mistake in a registry leads to. If the line
// holds one of marks, that is the place.
var advice = []struct{ message, marks, text string }{
	{"tab character", "\t", tabAdvice},
	{"cannot start any token", "\t", tabAdvice},
	{"cannot start any token", "@ ` %", "a value cannot begin with @, ` or %: want it in quotes"},
	{"mapping values are not allowed", "::", `a colon too many: want a value such as "::" in quotes`},
	{"mapping values are not allowed", "", `a colon too many: want this line indented like its neighbours, and a value that holds ": " in quotes`},
	{"mapping keys are not allowed", "?", "a value cannot begin with ?: want it in quotes"},
	{"sequence entries are not allowed", "", "a list item where none can stand: want each on a line of its own, indented like its neighbours"},
	{"expected node content", "::", `a value is missing: want a value such as "::" in quotes`},
	{"expected node content", "", "a value is missing: want one"},
	{looseMessage, "* &", "a value cannot begin with * or &: want it in quotes"},
	{"expected ',' or ']'", "[", "this list is not closed: want , between its items, ] at its end, and items that hold [, ] or ? in quotes"},
	{"expected ',' or '}'", "{", "this mapping is not closed: want , between its items and } at its end"},
	{"expected key", "", "does not fit the lines above: want it indented like its neighbours"},
	{"expected '-' indicator", "", `does not fit the list above: want "- ", indented like the items before it`},
	{"could not find expected ':'", "", `no colon: want "key: value"`},
	{"unexpected end of stream", "\" '", "these quotes are not closed: want the same at the end"},
	{"unknown escape", "\\", `\ begins an escape in double quotes: want \\, or single quotes`},
	{"exceeded max depth", "", "nested too deeply: want lists of services and ranges"},
	{"expected <document start>", "", "goes on behind the end of the document: want one document in a file"},
	{"comment or line break", "| >", "text cannot begin with | or >: want it in quotes"},
}

// syntax notes an error of the YAML library. Its line is most often that of what the bad part belongs to, or none: so the
// line is looked for.
func (p *parser) syntax(data []byte, err error) {
	message := messageOf(err)
	if at := openAtEnd(data); at >= 0 && strings.Contains(message, "expected node content") {
		line, column := placeOf(data, at)
		p.add(line, column, "nothing stands behind this %c: want what it holds, and %c at its end", data[at], closing[data[at]])
		return
	}
	line := badLine(data, message)
	text, column := lineAt(data, line)
	for _, a := range advice {
		if !strings.Contains(message, a.message) {
			continue
		}
		if a.marks == "" {
			p.add(line, column, "%s", a.text)
			return
		}
		for mark := range strings.SplitSeq(a.marks, " ") {
			if before, _, found := strings.Cut(text, mark); found {
				p.add(line, utf8.RuneCountInString(before)+1, "%s", a.text)
				return
			}
		}
	}
	p.add(line, column, "is not YAML: %s", strings.TrimPrefix(message, "yaml: "))
}
