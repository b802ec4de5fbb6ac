// A disk image as a client of the EBS direct APIs takes it: block by block,
// several at a time.

import { createHash } from "node:crypto";
import { open } from "node:fs/promises";

import {
  CompleteSnapshotCommand,
  GetSnapshotBlockCommand,
  ListChangedBlocksCommand,
  ListSnapshotBlocksCommand,
  PutSnapshotBlockCommand,
  StartSnapshotCommand,
} from "@aws-sdk/client-ebs";
import { waitUntilSnapshotCompleted } from "@aws-sdk/client-ec2";

export const BLOCK_SIZE = 524288;

const ZERO = Buffer.alloc(BLOCK_SIZE);

const digest = (data) => createHash("sha256").update(data).digest();

// checksum is a block's, as the wire has it.
export const checksum = (data) => digest(data).toString("base64");

// aggregate is the LINEAR checksum of blocks given in the order of their indexes.
export const aggregate = (blocks) => checksum(Buffer.concat(blocks.map(digest)));

// readImage returns the blocks of an image by index, without those of zeros.
export async function readImage(path) {
  const file = await open(path);
  const blocks = new Map();
  try {
    const { size } = await file.stat();
    for (let index = 0; index < size / BLOCK_SIZE; index++) {
      const data = Buffer.alloc(BLOCK_SIZE);
      await file.read(data, 0, BLOCK_SIZE, index * BLOCK_SIZE);
      if (!data.equals(ZERO)) blocks.set(index, data);
    }
  } finally {
    await file.close();
  }
  return blocks;
}

// differing returns the blocks of a Map that are not in another, or not the
// same there. A block that became zeros is one of zeros.
export function differing(before, after) {
  const found = new Map();
  for (const index of new Set([...before.keys(), ...after.keys()])) {
    const [old, now] = [before.get(index) ?? ZERO, after.get(index) ?? ZERO];
    if (!old.equals(now)) found.set(index, now);
  }
  return new Map([...found].sort(([a], [b]) => a - b));
}

// each calls work with every item, eight at a time.
async function each(items, work) {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

// block is the input of PutSnapshotBlock for some bytes.
export const block = (SnapshotId, BlockIndex, data) => ({
  SnapshotId,
  BlockIndex,
  BlockData: data,
  DataLength: BLOCK_SIZE,
  Checksum: checksum(data),
  ChecksumAlgorithm: "SHA256",
});

// upload makes a completed snapshot of a Map from index to bytes.
export async function upload(ebs, ec2, blocks, start) {
  const { SnapshotId } = await ebs.send(new StartSnapshotCommand({ VolumeSize: 1, Timeout: 10, ...start }));
  await each(blocks, ([index, data]) => ebs.send(new PutSnapshotBlockCommand(block(SnapshotId, index, data))));
  await complete(ebs, ec2, SnapshotId, [...blocks.values()]);
  return SnapshotId;
}

// complete completes a snapshot of these blocks and waits for it as users do.
export async function complete(ebs, ec2, SnapshotId, written) {
  const { Status } = await ebs.send(
    new CompleteSnapshotCommand({
      SnapshotId,
      ChangedBlocksCount: written.length,
      Checksum: aggregate(written),
      ChecksumAlgorithm: "SHA256",
      ChecksumAggregationMethod: "LINEAR",
    }),
  );
  if (Status !== "pending") throw new Error(`CompleteSnapshot answered ${Status}`);
  await waitUntilSnapshotCompleted({ client: ec2, minDelay: 1, maxDelay: 2, maxWaitTime: 60 }, { SnapshotIds: [SnapshotId] });
}

// pages follows NextToken and returns the entries of all pages, and how many
// pages there were.
async function pages(member, next) {
  const entries = [];
  let count = 0;
  for (let NextToken; count === 0 || NextToken; count++) {
    const page = await next(NextToken);
    entries.push(...page[member]);
    NextToken = page.NextToken;
  }
  return { entries, count };
}

export const listBlocks = (ebs, SnapshotId, MaxResults) =>
  pages("Blocks", (NextToken) => ebs.send(new ListSnapshotBlocksCommand({ SnapshotId, MaxResults, NextToken })));

export const listChanged = (ebs, FirstSnapshotId, SecondSnapshotId) =>
  pages("ChangedBlocks", (NextToken) =>
    ebs.send(new ListChangedBlocksCommand({ FirstSnapshotId, SecondSnapshotId, MaxResults: 100, NextToken })),
  );

// get reads one block and holds it against the checksum that came with it.
export async function get(ebs, SnapshotId, BlockIndex, BlockToken) {
  const answer = await ebs.send(new GetSnapshotBlockCommand({ SnapshotId, BlockIndex, BlockToken }));
  const data = Buffer.from(await answer.BlockData.transformToByteArray());
  if (answer.DataLength !== BLOCK_SIZE || data.length !== BLOCK_SIZE || answer.Checksum !== checksum(data)) {
    throw new Error(`block ${BlockIndex} of ${SnapshotId}: ${data.length} bytes, ${checksum(data)}, but the headers say otherwise`);
  }
  return data;
}

// download writes a snapshot into a file of the given length in bytes.
export async function download(ebs, snapshot, path, length) {
  const { entries } = await listBlocks(ebs, snapshot, 100);
  const file = await open(path, "w");
  try {
    await file.truncate(length);
    await each(entries, async ({ BlockIndex, BlockToken }) => {
      await file.write(await get(ebs, snapshot, BlockIndex, BlockToken), 0, BLOCK_SIZE, BlockIndex * BLOCK_SIZE);
    });
  } finally {
    await file.close();
  }
}
