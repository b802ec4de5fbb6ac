// Encrypted snapshots, with keys of the server's own KMS. Spec: ebs-direct §6.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { EBSClient, StartSnapshotCommand, ValidationException } from "@aws-sdk/client-ebs";
import { DescribeSnapshotsCommand, EC2Client } from "@aws-sdk/client-ec2";
import {
  CreateAliasCommand,
  CreateKeyCommand,
  DescribeKeyCommand,
  DisableKeyCommand,
  EnableKeyCommand,
  KMSClient,
  NotFoundException,
} from "@aws-sdk/client-kms";

import { BLOCK_SIZE, get, listBlocks, upload } from "./disk.mjs";

describe("encryption", () => {
  const options = { maxAttempts: 1 };
  const [ebs, ec2, kms] = [new EBSClient(options), new EC2Client(options), new KMSClient(options)];
  const data = Buffer.alloc(BLOCK_SIZE, "A");
  let key, snapshot;

  before(async () => {
    key = (await kms.send(new CreateKeyCommand({ Description: "a test's" }))).KeyMetadata;
  });
  after(() => [ebs, ec2, kms].forEach((client) => client.destroy()));

  test("a snapshot under a key of one's own", async () => {
    snapshot = await upload(ebs, ec2, new Map([[7, data]]), { Encrypted: true, KmsKeyArn: key.Arn });
    const [found] = (await ec2.send(new DescribeSnapshotsCommand({ SnapshotIds: [snapshot] }))).Snapshots;
    assert.equal(found.Encrypted, true);
    assert.equal(found.KmsKeyId, key.Arn);
    const { entries } = await listBlocks(ebs, snapshot);
    assert.ok(data.equals(await get(ebs, snapshot, 7, entries[0].BlockToken)));
  });

  test("its child has the key of its parent", async () => {
    const child = await ebs.send(new StartSnapshotCommand({ VolumeSize: 1, ParentSnapshotId: snapshot }));
    assert.equal(child.KmsKeyArn, key.Arn);
  });

  test("a disabled key denies its blocks until it is enabled", async () => {
    const { entries } = await listBlocks(ebs, snapshot);
    await kms.send(new DisableKeyCommand({ KeyId: key.KeyId }));
    await assert.rejects(get(ebs, snapshot, 7, entries[0].BlockToken), (e) => {
      assert.ok(e instanceof ValidationException, e.name);
      assert.equal(e.Reason, "INVALID_DEPENDENCY_REQUEST");
      return true;
    });
    await kms.send(new EnableKeyCommand({ KeyId: key.KeyId }));
    assert.ok(data.equals(await get(ebs, snapshot, 7, entries[0].BlockToken)));
  });

  test("a key that does not exist", async () => {
    const KmsKeyArn = key.Arn.replace(/[^/]*$/, "00000000-0000-4000-8000-000000000000");
    await assert.rejects(ebs.send(new StartSnapshotCommand({ VolumeSize: 1, KmsKeyArn })), {
      name: "ValidationException",
      Reason: "INVALID_CUSTOMER_KEY",
    });
    await assert.rejects(kms.send(new DescribeKeyCommand({ KeyId: KmsKeyArn })), (e) => e instanceof NotFoundException);
  });

  test("an alias names the key", async () => {
    await kms.send(new CreateAliasCommand({ AliasName: "alias/disks", TargetKeyId: key.KeyId }));
    const { KeyMetadata } = await kms.send(new DescribeKeyCommand({ KeyId: "alias/disks" }));
    assert.equal(KeyMetadata.Arn, key.Arn);
  });
});
