// Errors as this SDK's classes: what its users catch. Spec: ebs-direct §9,
// ec2-snapshots §1.3.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";

import {
  ConflictException,
  EBSClient,
  EBSServiceException,
  GetSnapshotBlockCommand,
  ListSnapshotBlocksCommand,
  PutSnapshotBlockCommand,
  ResourceNotFoundException,
  StartSnapshotCommand,
  ValidationException,
} from "@aws-sdk/client-ebs";
import { DeleteSnapshotCommand, DescribeSnapshotsCommand, EC2Client, EC2ServiceException } from "@aws-sdk/client-ec2";

import { BLOCK_SIZE, block, listBlocks, upload } from "./disk.mjs";

const UNKNOWN = "snap-0123456789abcdef0";

describe("errors", () => {
  const ebs = new EBSClient({ maxAttempts: 1 });
  const ec2 = new EC2Client({ maxAttempts: 1 });
  let snapshot;

  // refused sends a command, which has to fail with an error of a class, and
  // returns the error.
  const refused = async (client, command, kind, status) => {
    try {
      await client.send(command);
    } catch (e) {
      assert.ok(e instanceof kind, `${e.name} is not a ${kind.name}: ${e.message}`);
      assert.equal(e.$metadata.httpStatusCode, status);
      assert.ok(e.$metadata.requestId, "the error has no request id");
      assert.equal(e.$fault, status < 500 ? "client" : "server");
      return e;
    }
    assert.fail("was not refused");
  };

  before(async () => {
    snapshot = await upload(ebs, ec2, new Map([[0, Buffer.alloc(BLOCK_SIZE, "A")]]));
  });
  after(() => {
    ebs.destroy();
    ec2.destroy();
  });

  test("an unknown snapshot", async () => {
    const e = await refused(ebs, new ListSnapshotBlocksCommand({ SnapshotId: UNKNOWN }), ResourceNotFoundException, 404);
    assert.equal(e.Reason, "SNAPSHOT_NOT_FOUND");
    assert.equal(e.message, `The snapshot '${UNKNOWN}' does not exist.`);
  });

  test("a bad block token", async () => {
    const input = { SnapshotId: snapshot, BlockIndex: 0, BlockToken: "bm9uc2Vuc2U" };
    const e = await refused(ebs, new GetSnapshotBlockCommand(input), ValidationException, 400);
    assert.equal(e.Reason, "INVALID_BLOCK_TOKEN");
    assert.equal(e.message, "The block token bm9uc2Vuc2U is invalid.");
  });

  test("another block's token", async () => {
    const { entries } = await listBlocks(ebs, snapshot);
    const input = { SnapshotId: snapshot, BlockIndex: 1, BlockToken: entries[0].BlockToken };
    const e = await refused(ebs, new GetSnapshotBlockCommand(input), ValidationException, 400);
    assert.equal(e.Reason, "INVALID_BLOCK_TOKEN");
  });

  test("a bad page token", async () => {
    const input = { SnapshotId: snapshot, NextToken: "bm9uc2Vuc2U" };
    const e = await refused(ebs, new ListSnapshotBlocksCommand(input), ValidationException, 400);
    assert.equal(e.Reason, "INVALID_PAGE_TOKEN");
  });

  test("a client token, repeated and with another request", async () => {
    const input = { VolumeSize: 1, ClientToken: randomUUID(), Description: "one" };
    const first = await ebs.send(new StartSnapshotCommand(input));
    const again = await ebs.send(new StartSnapshotCommand(input));
    assert.equal(again.SnapshotId, first.SnapshotId);
    assert.deepEqual(again.StartTime, first.StartTime);
    const e = await refused(ebs, new StartSnapshotCommand({ ...input, Description: "two" }), ConflictException, 409);
    assert.equal(e.message, "Current request does not match request stored with this token.");
  });

  test("a constraint", async () => {
    const e = await refused(ebs, new ListSnapshotBlocksCommand({ SnapshotId: snapshot, MaxResults: 99 }), ValidationException, 400);
    assert.match(e.message, /^1 validation error detected: Value '99' at 'maxResults'/);
    assert.equal(e.Reason, undefined);
  });

  test("a wrong checksum", async () => {
    const { SnapshotId } = await ebs.send(new StartSnapshotCommand({ VolumeSize: 1 }));
    const input = { ...block(SnapshotId, 0, Buffer.alloc(BLOCK_SIZE, "A")), BlockData: Buffer.alloc(BLOCK_SIZE, "B") };
    const e = await refused(ebs, new PutSnapshotBlockCommand(input), EBSServiceException, 403);
    assert.equal(e.name, "InvalidSignatureException");
    assert.match(e.message, /^The value passed in as x-amz-Checksum does not match the computed checksum\./);
  });

  test("an unknown key", async () => {
    const credentials = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "wrong" };
    const [stranger, other] = [new EBSClient({ credentials, maxAttempts: 1 }), new EC2Client({ credentials, maxAttempts: 1 })];
    const e = await refused(stranger, new ListSnapshotBlocksCommand({ SnapshotId: snapshot }), EBSServiceException, 403);
    assert.equal(e.name, "UnrecognizedClientException");
    const f = await refused(other, new DescribeSnapshotsCommand({}), EC2ServiceException, 401);
    assert.equal(f.name, "AuthFailure");
    stranger.destroy();
    other.destroy();
  });

  test("EC2's", async () => {
    const e = await refused(ec2, new DescribeSnapshotsCommand({ SnapshotIds: [UNKNOWN] }), EC2ServiceException, 400);
    assert.equal(e.name, "InvalidSnapshot.NotFound");
    assert.equal(e.message, `The snapshot '${UNKNOWN}' does not exist.`);
    const f = await refused(ec2, new DeleteSnapshotCommand({ SnapshotId: snapshot, DryRun: true }), EC2ServiceException, 412);
    assert.equal(f.name, "DryRunOperation");
  });
});
