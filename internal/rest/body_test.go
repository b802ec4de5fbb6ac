package rest_test

import (
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"shale/internal/rest"
)

func TestCheckEncoding(t *testing.T) {
	for _, tt := range []struct {
		values []string
		refuse string
	}{
		{nil, ""},
		{[]string{""}, ""},
		{[]string{"identity"}, ""},
		{[]string{"Identity, identity"}, ""},
		{[]string{"gzip"}, "gzip"},
		{[]string{"aws-chunked"}, "aws-chunked"},
		{[]string{"identity,gzip"}, "gzip"},
		{[]string{"identity", "br"}, "br"},
	} {
		r := httptest.NewRequest("PUT", "/", nil)
		r.Header["Content-Encoding"] = tt.values
		err := rest.CheckEncoding(r)
		e, _ := errors.AsType[*rest.Error](err)
		if (err == nil) != (tt.refuse == "") || e != nil && (e.Kind != rest.BadEncoding || e.Value != tt.refuse) {
			t.Errorf("%q: got %v, want %q refused", tt.values, err, tt.refuse)
		}
	}
}

func TestReadBody(t *testing.T) {
	read := func(body io.Reader) ([]byte, error) {
		return rest.ReadBody(httptest.NewRequest("POST", "/", body), 4)
	}
	if b, err := read(strings.NewReader("1234")); err != nil || string(b) != "1234" {
		t.Errorf("at the limit: got %q, %v", b, err)
	}
	if e, ok := errors.AsType[*rest.Error](second(read(strings.NewReader("12345")))); !ok || e.Kind != rest.BodyTooLong {
		t.Errorf("past the limit: got %v", e)
	}
	gone := errors.New("gone")
	err := second(read(io.MultiReader(strings.NewReader("1"), iotest.ErrReader(gone))))
	if e, ok := errors.AsType[*rest.Error](err); !ok || e.Kind != rest.BodyUnread || !errors.Is(err, gone) {
		t.Errorf("broken off: got %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestDecodeObject(t *testing.T) {
	type target struct {
		Size  *int64
		Small *int32
		Flag  *bool
		Name  *string
		List  []struct{ Key string }
	}
	deep := strings.Repeat("[", 30000)
	tests := []struct {
		name, body string
		kind       rest.Kind
		field      string
	}{
		{"empty", ``, rest.BadJSON, ""},
		{"blank", " \n", rest.BadJSON, ""},
		{"null", `null`, rest.BadJSON, ""},
		{"list", `[]`, rest.BadJSON, ""},
		{"string", `"{}"`, rest.BadJSON, ""},
		{"cut short", `{"Size":1`, rest.BadJSON, ""},
		{"trailing object", `{}{}`, rest.BadJSON, ""},
		{"trailing letter", `{} x`, rest.BadJSON, ""},
		{"duplicate", `{"Size":1,"Size":1}`, rest.BadJSON, ""},
		{"duplicate after escape", `{"Size":1,"\u0053ize":1}`, rest.BadJSON, ""},
		{"duplicate of unknown", `{"x":1,"x":1}`, rest.BadJSON, ""},
		{"duplicate inside unknown", `{"x":{"y":1,"y":1}}`, rest.BadJSON, ""},
		{"bad UTF-8", "{\"Name\":\"\xff\"}", rest.BadJSON, ""},
		{"bad UTF-8 in unknown", "{\"x\":\"\xff\"}", rest.BadJSON, ""},
		{"lone surrogate", `{"Name":"\ud800"}`, rest.BadJSON, ""},
		{"comment", `{/**/}`, rest.BadJSON, ""},
		{"byte order mark", "\ufeff{}", rest.BadJSON, ""},
		{"too deep", `{"x":` + deep + strings.Repeat("]", 30000) + `}`, rest.BadJSON, ""},
		{"string for integer", `{"Size":"1"}`, rest.WrongType, "Size"},
		{"fraction", `{"Size":1.5}`, rest.WrongType, "Size"},
		{"exponent", `{"Size":1e3}`, rest.WrongType, "Size"},
		{"64 bits exceeded", `{"Size":9223372036854775808}`, rest.WrongType, "Size"},
		{"32 bits exceeded", `{"Small":2147483648}`, rest.WrongType, "Small"},
		{"boolean for integer", `{"Size":true}`, rest.WrongType, "Size"},
		{"string for boolean", `{"Flag":"true"}`, rest.WrongType, "Flag"},
		{"number for string", `{"Name":1}`, rest.WrongType, "Name"},
		{"object for list", `{"List":{}}`, rest.WrongType, "List"},
		{"string in list", `{"List":["a"]}`, rest.WrongType, "List.0"},
		{"number in list", `{"List":[{"Key":"a"},{"Key":1}]}`, rest.WrongType, "List.1.Key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := rest.DecodeObject([]byte(tt.body), new(target))
			e, ok := errors.AsType[*rest.Error](err)
			if !ok || e.Kind != tt.kind || e.Field != tt.field {
				t.Errorf("got %#v (%v), want kind %d of field %q", err, err, tt.kind, tt.field)
			}
		})
	}

	var got target
	good := "\r\n\t {\"size\":\"x\",\"Size\":2,\"Small\":null,\"other\":[[[{}]]],\"Name\":\"\\u00e9\\ud83d\\ude00\"} \n"
	if err := rest.DecodeObject([]byte(good), &got); err != nil {
		t.Fatal(err)
	}
	if got.Size == nil || *got.Size != 2 || got.Small != nil || got.Name == nil || *got.Name != "é😀" {
		t.Errorf("got %+v", got)
	}
}
