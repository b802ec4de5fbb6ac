package query

import (
	"unicode/utf8"
)

// Header begins every XML document that is sent.
const Header = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// AppendElement appends an element with text.
func AppendElement(b []byte, name, text string) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = AppendText(b, text)
	return append(append(append(b, '<', '/'), name...), '>')
}

// AppendText appends s as character data. It escapes no more than it has to,
// as AWS does: quotes stay, which xml.EscapeText would replace. A carriage
// return would come out of a parser as a line feed, if it stayed. What XML 1.0
// cannot carry becomes U+FFFD.
func AppendText(b []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r == '&':
			b = append(b, "&amp;"...)
		case r == '<':
			b = append(b, "&lt;"...)
		case r == '>':
			b = append(b, "&gt;"...)
		case r == '\r':
			b = append(b, "&#xD;"...)
		case r < ' ' && r != '\t' && r != '\n', r == 0xFFFE, r == 0xFFFF:
			b = utf8.AppendRune(b, utf8.RuneError)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}
