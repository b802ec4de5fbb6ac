package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"shale/internal/catalog"
	"shale/internal/transfer"
)

const useServer = `eval "$(shale env --data-dir DIR)"`

// hint returns the next step after an error, or nothing where none is known
// that helps.
func hint(err error) string {
	var (
		noCredentials *noCredentialsError
		unreachable   *transfer.UnreachableError
		leftover      *transfer.LeftoverError
		changed       *transfer.ImageChangedError
		state         *transfer.StateError
		service       *transfer.ServiceError
	)
	switch {
	case errors.As(err, &noCredentials), errors.As(err, new(noRegionError)):
		return "For a server of your own: " + useServer + ". For AWS: give --profile and --region."
	case errors.As(err, &leftover) && leftover.Sealed:
		return "See what became of it: shale list"
	case errors.As(err, &leftover):
		return "Later: shale delete " + leftover.Snapshot
	case errors.As(err, &unreachable) && isAWS(unreachable.Endpoint):
		return "For a server of your own: " + useServer + ", or give --endpoint-url."
	case errors.As(err, &unreachable) && errors.As(err, new(x509.UnknownAuthorityError)):
		return "Name the file of the authority's certificate in AWS_CA_BUNDLE, or for a server of your own: " + useServer
	case errors.As(err, &unreachable):
		return "Is it running? Start it with: shale serve --data-dir DIR. Another address: --endpoint-url."
	case errors.As(err, &changed):
		return "Take the disk out of use for the upload, or upload a copy of it."
	case errors.As(err, &state) && state.State == "pending":
		return "Its upload is not finished; see: shale list"
	case errors.Is(err, fs.ErrExist):
		return "Give another name, or --force to replace it."
	case transfer.IsNotFound(err):
		return "See what there is: shale list"
	case errors.As(err, &service):
		return serviceHint(service)
	case catalog.IsRuined(err):
		return "Put the right catalog back, or move this one aside and make it anew: shale rebuild --data-dir DIR --force"
	}
	return ""
}

func serviceHint(e *transfer.ServiceError) string {
	switch {
	case strings.Contains(e.Message, "region is not served"):
		return "Give the server's region with --region, or use its profile: " + useServer
	case e.Code == "OperationNotPermitted" && strings.Contains(e.Message, "is locked"):
		return "Until when, and whether it can be unlocked: aws ec2 describe-locked-snapshots"
	case strings.Contains(e.Message, "DisabledException"), strings.Contains(e.Message, "KMSInvalidStateException"):
		return "Its snapshots can be read once the key can be used again: aws kms describe-key --key-id ARN"
	}
	switch e.Code {
	case "":
		return "Is it the right address? Another: --endpoint-url."
	case "UnrecognizedClientException", "AuthFailure", "InvalidClientTokenId", "InvalidSignatureException",
		"SignatureDoesNotMatch", "MissingAuthenticationToken":
		return fmt.Sprintf("The credentials in use are not this server's. For a server of your own: %s", useServer)
	case "ExpiredTokenException", "ExpiredToken", "RequestExpired":
		return "Sign in anew, and look at this machine's clock."
	}
	return ""
}
