package plain

// For the tests of the codecs, which need no service.
var (
	DecodeStart     = decodeStart
	AppendBlockPage = appendBlockPage
)

// Row tells what the error tables say of err.
func Row(err error) (status int, code string) {
	row, _ := explain(err)
	return row.status, string(row.code)
}

// For the tests of ranges.
var (
	ParseRanges = parseRanges
	MatchesTag  = matchesTag
)

// RangeError is what parseRanges refuses with.
type RangeError = rangeError

func (r byteRange) Offset() int64 { return r.offset }

func (r byteRange) Length() int64 { return r.length }

// For the tests of streams and tags.
var (
	SendExtents = sendExtents
	DecodeTags  = decodeTags
)

// AppendSnapshot is what is shown of a snapshot.
var AppendSnapshot = appendSnapshot
