// Package test holds the black-box tests: they start the built program as
// users do and know nothing of its inside. Those that need Go are here; those
// of boto3, the AWS CLI and curl are in clients. Clients that nobody here wrote
// have a script each, which .ci/run calls: coldsnap.sh, javascript.sh, java.sh,
// moto.sh, terraform.sh. server.sh is what the scripts share.
package test
