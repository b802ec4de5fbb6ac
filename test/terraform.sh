#!/usr/bin/env bash
# Terraform, or OpenTofu, and its AWS provider against shale: keys, an alias, the
# account's defaults, a copy of a snapshot under a key, and who may use it. After
# each apply a plan has to find nothing to do. The provider comes from Terraform's
# registry, or from where the CLI's configuration says. Needs curl, e2fsprogs, Go
# and bin/shale. Status 77 says that it was skipped.
set -euo pipefail

cd "$(dirname "$0")/.."
source test/server.sh

terraform=$(command -v terraform || command -v tofu) || skip "Terraform: neither terraform nor tofu is here"
export CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1 TF_INPUT=0

tf() { "$terraform" -chdir="$work/configuration" "$@"; }

"$terraform" fmt -check -diff test/terraform
cp -r test/terraform "$work/configuration"
fetch "Terraform's AWS provider" tf init -no-color

start_server

# call SERVICE CURL-ARGUMENT... sends one signed request and prints the answer.
call() {
  local service=$1
  shift
  curl --silent --show-error --aws-sigv4 "aws:amz:us-east-1:$service" --user "$key" "$@" "$endpoint/"
}
key=$(sed -n 's/^aws_access_key_id *= *//p' "$work/data/credentials"):$(sed -n 's/^aws_secret_access_key *= *//p' "$work/data/credentials")

make_images
snapshot=$("$shale" upload "$SHALE_IMAGE" --json | sed -n 's/.*"snapshot_id": "\(.*\)".*/\1/p')
export TF_VAR_endpoint=$endpoint TF_VAR_snapshot=$snapshot
TF_VAR_account=$(call ec2 --data "Action=DescribeSnapshots&SnapshotId.1=$snapshot" | sed -n 's/.*<ownerId>\(.*\)<\/ownerId>.*/\1/p')
export TF_VAR_account

# apply brings the server to what the configuration says, and finds it there.
apply() {
  tf apply -no-color -auto-approve
  tf plan -no-color -detailed-exitcode >"$work/plan" || { cat "$work/plan"; echo "the plan after the apply is not empty"; exit 1; }
  [[ $(tf output -raw state) == completed ]]
}

export TF_VAR_purpose=first TF_VAR_encrypt=true TF_VAR_recipients='["210987654321"]'
apply
copy=$(tf output -raw copy)
"$shale" download "$copy" "$work/restored"
cmp "$SHALE_IMAGE" "$work/restored"

export TF_VAR_purpose=second TF_VAR_encrypt=false TF_VAR_recipients='["210987654321", "321098765432"]'
apply
[[ $(tf output -raw copy) == "$copy" ]]

tf destroy -no-color -auto-approve
answer=$(call ec2 --data "Action=DescribeSnapshots&SnapshotId.1=$copy")
[[ $answer == *InvalidSnapshot.NotFound* ]]
answer=$(call ec2 --data "Action=GetSnapshotBlockPublicAccessState")
[[ $answer == *unblocked* ]]
echo "Terraform: applied, changed and destroyed, without a difference in between"
