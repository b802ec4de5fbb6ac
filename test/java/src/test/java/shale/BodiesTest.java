package shale;

import static org.junit.jupiter.api.Assertions.*;

import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import software.amazon.awssdk.core.async.AsyncRequestBody;
import software.amazon.awssdk.core.async.SdkPublisher;
import software.amazon.awssdk.services.ebs.EbsAsyncClient;
import software.amazon.awssdk.services.ebs.model.*;

/** The bodies of PutSnapshotBlock as this SDK's HTTP clients put them on the wire. Spec: ebs-direct §2.1, §14. */
class BodiesTest {
  private static final String UNKNOWN = "snap-0123456789abcdef0";

  private final byte[] data = random();

  private static byte[] random() {
    var data = new byte[Disk.BLOCK_SIZE];
    new Random().nextBytes(data);
    return data;
  }

  /** The address that `shale env` gives to a user. */
  private static URI shale() throws Exception {
    var config = Files.readString(Path.of(System.getenv("AWS_CONFIG_FILE")));
    var found = Pattern.compile("endpoint_url *= *(\\S+)").matcher(config);
    assertTrue(found.find(), config);
    return URI.create(found.group(1));
  }

  private static String start(Ebs ebs) {
    return ebs.start(StartSnapshotRequest.builder().volumeSize(1L).build()).snapshotId();
  }

  private static boolean has(String wire, String header, String value) {
    return Pattern.compile("\r\n" + header + ": *" + Pattern.quote(value) + "\r\n", Pattern.CASE_INSENSITIVE).matcher(wire).find();
  }

  /** Over plain HTTP the digest of the body itself is signed, whatever the model says. */
  @ParameterizedTest
  @EnumSource
  void bytesWithTheirDigest(Ebs.Over over) throws Exception {
    try (var relay = new Relay(shale());
        var ebs = over.client(b -> b.endpointOverride(relay.address()))) {
      var answer = ebs.put(Disk.put(start(ebs), 0, data), data);
      assertEquals(Disk.checksum(data), answer.checksum());
      var put = relay.sent().substring(relay.sent().indexOf("PUT /snapshots/"));
      assertTrue(has(put, "x-amz-content-sha256", HexFormat.of().formatHex(Disk.digest(data))), put.substring(0, 900));
      assertTrue(has(put, "Content-Length", "524288"), put.substring(0, 900));
    }
  }

  /** Apache's client asks before it sends a body: what is refused is never sent. */
  @Test
  void apacheExpects100Continue() throws Exception {
    try (var relay = new Relay(shale());
        var ebs = Ebs.Over.APACHE.client(b -> b.endpointOverride(relay.address()))) {
      ebs.put(Disk.put(start(ebs), 0, data), data);
      assertTrue(has(relay.sent(), "Expect", "100-continue"), "the client did not ask");
      assertTrue(relay.answered().contains("HTTP/1.1 100 Continue\r\n"), "the server did not answer 100");

      int before = relay.sent().length();
      assertThrows(ResourceNotFoundException.class, () -> ebs.put(Disk.put(UNKNOWN, 0, data), data));
      int more = relay.sent().length() - before;
      assertTrue(more > 0 && more < Disk.BLOCK_SIZE, more + " bytes sent");
    }
  }

  /** A publisher of unknown length goes out in chunks. */
  @Test
  void nettyInChunks() throws Exception {
    try (var relay = new Relay(shale());
        var ebs = Ebs.Over.NETTY.client();
        var client = EbsAsyncClient.builder().endpointOverride(relay.address()).build()) {
      var id = start(ebs);
      var pieces = new ArrayList<ByteBuffer>();
      for (int at = 0; at < data.length; at += 10_000) {
        pieces.add(ByteBuffer.wrap(data, at, Math.min(10_000, data.length - at)).slice());
      }
      var body = AsyncRequestBody.fromPublisher(SdkPublisher.fromIterable(List.copyOf(pieces)));
      var answer = Failure.unwrapped(client.putSnapshotBlock(Disk.put(id, 0, data), body));
      assertEquals(Disk.checksum(data), answer.checksum());
      assertTrue(has(relay.sent(), "Transfer-Encoding", "chunked"), relay.sent().substring(0, 900));
    }
  }
}
