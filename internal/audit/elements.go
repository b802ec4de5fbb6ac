package audit

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/url"
	"strings"
	"time"
)

// leaves says how the text of an element is shown; of all others it is shown as
// it is, for a tag may have any.
var leaves = map[string]func(text string) any{
	"return": Typed, "encrypted": Typed, "ebsEncryptionByDefault": Typed,
	"volumeSize": Typed, "lockDuration": Typed, "coolOffPeriod": Typed,
	"maxSessionDuration": Typed, "packedPolicySize": Typed,
	"kmsKeyId":   func(string) any { return Hidden },
	"createDate": date, "expiration": date,
	"assumeRolePolicyDocument": unescaped,
}

// withheld are the elements that are left out: CloudTrail does not even say that
// they were there.
var withheld = map[string]bool{"secretAccessKey": true, "sessionToken": true}

// date shows a time as those of answers in JSON are.
func date(text string) any {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	return Date(t)
}

// unescaped shows a policy as it was before it was percent-encoded, in which no
// ARN of a key would be found.
func unescaped(text string) any {
	policy, err := url.PathUnescape(text)
	if err != nil {
		return text
	}
	return policy
}

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
			if withheld[name] {
				continue
			}
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
	if show := leaves[name]; show != nil {
		return show(text)
	}
	return text
}
