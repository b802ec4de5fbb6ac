// The bodies of PutSnapshotBlock as this SDK can send them. Each test looks at
// the request that left, so that it cannot pass by sending another kind. Spec:
// ebs-direct §2.1, §14.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";

import { EBSClient, PutSnapshotBlockCommand, StartSnapshotCommand } from "@aws-sdk/client-ebs";
import { EC2Client } from "@aws-sdk/client-ec2";

import { BLOCK_SIZE, block, checksum, complete, get, listBlocks } from "./disk.mjs";

// A Recorder keeps the headers of the last request that a client sent, and may
// add some before they are signed.
class Recorder {
  headers;

  constructor(client, add = {}) {
    client.middlewareStack.add(
      (next) => (args) => {
        Object.assign(args.request.headers, add);
        return next(args);
      },
      { step: "build" },
    );
    client.middlewareStack.add(
      (next) => (args) => {
        this.headers = args.request.headers;
        return next(args);
      },
      { step: "deserialize", priority: "low" },
    );
  }
}

// pieces are some bytes as a stream of unknown length gives them.
function* pieces(data) {
  for (let at = 0; at < data.length; at += 10_000) yield data.subarray(at, at + 10_000);
}

describe("bodies", () => {
  const ebs = new EBSClient({ maxAttempts: 1 });
  const sent = new Recorder(ebs);
  const ec2 = new EC2Client();
  const written = [];
  let SnapshotId;

  const put = async (input) => {
    const answer = await ebs.send(new PutSnapshotBlockCommand(input));
    assert.equal(answer.Checksum, input.Checksum);
    assert.equal(answer.ChecksumAlgorithm, "SHA256");
    return sent.headers;
  };
  const fresh = () => {
    const data = randomBytes(BLOCK_SIZE);
    return { data, input: block(SnapshotId, written.push(data) - 1, data) };
  };

  before(async () => {
    ({ SnapshotId } = await ebs.send(new StartSnapshotCommand({ VolumeSize: 1 })));
  });
  after(() => {
    ebs.destroy();
    ec2.destroy();
  });

  test("bytes, with their length and their digest", async () => {
    const { data, input } = fresh();
    const headers = await put(input);
    assert.equal(headers["content-length"], String(BLOCK_SIZE));
    assert.equal(headers["x-amz-content-sha256"], Buffer.from(checksum(data), "base64").toString("hex"));
  });

  test("a file as a stream, whose length is known", async () => {
    const { data, input } = fresh();
    const path = process.env.SHALE_IMAGE + ".block";
    await writeFile(path, data);
    const headers = await put({ ...input, BlockData: createReadStream(path) });
    assert.equal(headers["content-length"], String(BLOCK_SIZE));
    assert.equal(headers["x-amz-content-sha256"], "UNSIGNED-PAYLOAD");
  });

  test("a stream of unknown length, in chunks", async () => {
    const { data, input } = fresh();
    const headers = await put({ ...input, BlockData: Readable.from(pieces(data)) });
    assert.equal(headers["content-length"], undefined);
    assert.equal(headers["x-amz-content-sha256"], "UNSIGNED-PAYLOAD");
  });

  test("a stream of unknown length that ends early", async () => {
    const { data, input } = fresh();
    await assert.rejects(ebs.send(new PutSnapshotBlockCommand({ ...input, BlockData: Readable.from(pieces(data.subarray(1))) })), {
      name: "ValidationException",
      Reason: "INVALID_PARAMETER_VALUE",
      message: "Failed to read block data",
    });
    written.pop();
  });

  test("a stream of unknown length that goes on too long", async () => {
    const { data, input } = fresh();
    const long = Buffer.concat([data, Buffer.alloc(1)]);
    await assert.rejects(ebs.send(new PutSnapshotBlockCommand({ ...input, BlockData: Readable.from(pieces(long)) })), {
      name: "ValidationException",
      Reason: "INVALID_BLOCK",
    });
    written.pop();
  });

  test("Expect: 100-continue, taken and refused", async () => {
    const waiting = new EBSClient({ maxAttempts: 1 });
    const seen = new Recorder(waiting, { expect: "100-continue" });
    const { input } = fresh();
    const answer = await waiting.send(new PutSnapshotBlockCommand(input));
    assert.equal(seen.headers.expect, "100-continue");
    assert.equal(answer.Checksum, input.Checksum);
    await assert.rejects(waiting.send(new PutSnapshotBlockCommand({ ...input, SnapshotId: "snap-0123456789abcdef0" })), {
      name: "ResourceNotFoundException",
    });
    waiting.destroy();
  });

  test("all of them were stored", async () => {
    await complete(ebs, ec2, SnapshotId, written);
    const { entries } = await listBlocks(ebs, SnapshotId);
    assert.equal(entries.length, written.length);
    for (const { BlockIndex, BlockToken } of entries) {
      assert.ok(written[BlockIndex].equals(await get(ebs, SnapshotId, BlockIndex, BlockToken)), `block ${BlockIndex}`);
    }
  });
});
