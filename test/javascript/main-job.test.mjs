// The main job with the AWS SDK for JavaScript: a real disk in, its changes, and
// both out again. Spec: ebs-direct §14.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { stat } from "node:fs/promises";
import { after, before, describe, test } from "node:test";

import { EBSClient, ListSnapshotBlocksCommand } from "@aws-sdk/client-ebs";
import { DeleteSnapshotCommand, DescribeSnapshotsCommand, EC2Client } from "@aws-sdk/client-ec2";

import { differing, download, listBlocks, listChanged, readImage, upload } from "./disk.mjs";

const { SHALE_IMAGE, SHALE_CHANGED_IMAGE } = process.env;

describe("a disk and its changes", () => {
  const ebs = new EBSClient();
  const ec2 = new EC2Client();
  let disk, changed, changes, first, second;

  before(async () => {
    [disk, changed] = await Promise.all([readImage(SHALE_IMAGE), readImage(SHALE_CHANGED_IMAGE)]);
    changes = differing(disk, changed);
    assert.ok(disk.size > 100 && changes.size > 3, `the images have ${disk.size} and ${changes.size} blocks`);
  });
  after(() => {
    ebs.destroy();
    ec2.destroy();
  });

  test("upload, and what changed as a child", async () => {
    first = await upload(ebs, ec2, disk, { Description: "a disk", Tags: [{ Key: "kind", Value: "déjà vu" }] });
    second = await upload(ebs, ec2, changes, { ParentSnapshotId: first });
  });

  test("DescribeSnapshots tells both", async () => {
    const { Snapshots } = await ec2.send(new DescribeSnapshotsCommand({ SnapshotIds: [first, second] }));
    const [a, b] = [first, second].map((id) => Snapshots.find((s) => s.SnapshotId === id));
    assert.equal(a.State, "completed");
    assert.equal(a.Description, "a disk");
    assert.deepEqual(a.Tags, [{ Key: "kind", Value: "déjà vu" }]);
    assert.ok(Math.abs(Date.now() - a.StartTime) < 600_000, `StartTime ${a.StartTime}`);
    assert.equal(a.FullSnapshotSizeInBytes, disk.size * 524288);
    assert.equal(b.VolumeSize, 1);
    assert.equal(b.Progress, "100%");
  });

  test("the listing has the blocks written, in pages", async () => {
    const { entries, count } = await listBlocks(ebs, first, 100);
    assert.deepEqual(
      entries.map((e) => e.BlockIndex),
      [...disk.keys()],
    );
    assert.equal(count, Math.ceil(disk.size / 100));
  });

  test("the comparison has what changed, and no more", async () => {
    const { entries } = await listChanged(ebs, first, second);
    assert.deepEqual(
      entries.map((e) => e.BlockIndex),
      [...changes.keys()],
    );
    for (const { BlockIndex, FirstBlockToken, SecondBlockToken } of entries) {
      assert.equal(FirstBlockToken !== undefined, disk.has(BlockIndex), `first token of ${BlockIndex}`);
      assert.ok(SecondBlockToken, `second token of ${BlockIndex}`);
    }
  });

  for (const [name, original, id] of [
    ["the disk", SHALE_IMAGE, () => first],
    ["the changed disk", SHALE_CHANGED_IMAGE, () => second],
  ]) {
    test(`${name} comes back bit for bit`, async () => {
      const restored = original + ".restored";
      await download(ebs, id(), restored, (await stat(original)).size);
      execFileSync("cmp", [original, restored]);
      execFileSync("e2fsck", ["-fn", restored], { stdio: "ignore" });
    });
  }

  test("deleting the parent leaves the child whole", async () => {
    await ec2.send(new DeleteSnapshotCommand({ SnapshotId: first }));
    await assert.rejects(ec2.send(new DescribeSnapshotsCommand({ SnapshotIds: [first] })), { name: "InvalidSnapshot.NotFound" });
    await assert.rejects(ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: first })), {
      name: "ResourceNotFoundException",
      Reason: "SNAPSHOT_NOT_FOUND",
    });
    const restored = SHALE_CHANGED_IMAGE + ".orphan";
    await download(ebs, second, restored, (await stat(SHALE_CHANGED_IMAGE)).size);
    execFileSync("cmp", [SHALE_CHANGED_IMAGE, restored]);
    await ec2.send(new DeleteSnapshotCommand({ SnapshotId: second }));
  });
});
