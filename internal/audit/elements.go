package audit

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
)

// typed are the elements of answers that are numbers or booleans; of all others
// the text is shown, for a tag may have any.
var typed = map[string]bool{
	"return": true, "encrypted": true, "ebsEncryptionByDefault": true,
	"volumeSize": true, "lockDuration": true, "coolOffPeriod": true,
}

// concealed are the elements of answers whose text is not shown.
var concealed = map[string]bool{"kmsKeyId": true, "secretAccessKey": true, "sessionToken": true}

// Elements returns the elements of an answer in XML as CloudTrail has those of
// the Query protocol: lists of <item> are {"items":[…]}, lists of <member> are
// lists, and <return> is _return. It returns what it understood, if the XML is
// not whole.
func Elements(answer []byte) map[string]any {
	d := xml.NewDecoder(io.MultiReader(strings.NewReader("<x>"), bytes.NewReader(answer), strings.NewReader("</x>")))
	if _, err := d.Token(); err != nil {
		return nil
	}
	m, _ := children(d, 0).(map[string]any)
	return m
}

// maxElements is how deep elements are nested in any answer.
const maxElements = 16

// children reads the content of an element up to its end: a text, a list, or an
// object.
func children(d *xml.Decoder, depth int) any {
	m, text := map[string]any{}, ""
	var list []any
	for depth < maxElements {
		token, err := d.Token()
		if err != nil {
			break
		}
		switch token := token.(type) {
		case xml.CharData:
			text += string(token)
		case xml.StartElement:
			name := LowerFirst(token.Name.Local)
			child := children(d, depth+1)
			if content, ok := child.(string); ok {
				child = leaf(name, content)
			}
			switch name {
			case "item":
				list = append(list, child)
				m["items"] = list
			case "member":
				list = append(list, child)
			case "return":
				m["_return"] = child
			default:
				m[name] = child
			}
			continue
		case xml.EndElement:
			switch {
			case len(m) > 0 || depth == 0:
				return m
			case list != nil:
				return list
			}
			return text
		}
	}
	return m
}

func leaf(name, text string) any {
	switch {
	case concealed[name]:
		return Hidden
	case typed[name]:
		return Typed(text)
	}
	return text
}
