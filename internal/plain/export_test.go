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
