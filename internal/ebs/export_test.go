package ebs

// For the tests of the codecs, which need no service.
var (
	DecodeStart       = decodeStart
	AppendStarted     = appendStarted
	AppendBlockPage   = appendBlockPage
	AppendChangedPage = appendChangedPage
)

// Row tells what the error table says of err.
func Row(err error) (status int, code, reason string) {
	row, _ := describe(err)
	return row.status, row.code, row.reason
}
