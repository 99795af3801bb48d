package registry

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is how many bytes a name may have: it becomes the value of a label.
const maxName = 200

// checkName returns what is wrong with a name, or nothing.
func checkName(text string) string {
	if strings.TrimSpace(text) == "" {
		return "is empty: want text"
	}
	if !utf8.ValidString(text) {
		return "is not UTF-8: want text"
	}
	if len(text) > maxName {
		return fmt.Sprintf("has %d bytes: want at most %d,", len(text), maxName)
	}
	for _, r := range text {
		if kind := unprintable(r); kind != "" {
			return fmt.Sprintf("contains the %s character %U: want printable text", kind, r)
		}
	}
	return ""
}

// unprintable returns the kind of a character that nobody can see, or nothing. Such characters can reverse the text after
// them, or make two names look the same. U+200C and U+200D, which join letters or keep them apart, are part of some scripts.
func unprintable(r rune) string {
	switch {
	case unicode.IsControl(r):
		return "control"
	case unicode.IsPrint(r), r == '\u200c', r == '\u200d':
		return ""
	}
	return "invisible"
}
