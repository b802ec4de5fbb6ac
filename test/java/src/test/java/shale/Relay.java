package shale;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;

/**
 * Stands between a client and shale and keeps what goes either way, since only the wire shows what
 * an HTTP client added by itself. It is for one client whose requests come one after the other.
 */
final class Relay implements AutoCloseable {
  private final ServerSocket listener;
  private final URI shale;
  private final ByteArrayOutputStream sent = new ByteArrayOutputStream();
  private final ByteArrayOutputStream answered = new ByteArrayOutputStream();

  /** Listens on a free port of the loopback interface until it is closed. */
  Relay(URI shale) throws IOException {
    this.shale = shale;
    listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    start(this::accept);
  }

  URI address() {
    return URI.create("http://127.0.0.1:" + listener.getLocalPort());
  }

  /** What the client sent so far, a character for each byte. */
  String sent() {
    return text(sent);
  }

  /** What shale answered so far. */
  String answered() {
    return text(answered);
  }

  @Override
  public void close() throws IOException {
    listener.close();
  }

  private static String text(ByteArrayOutputStream kept) {
    return kept.toString(StandardCharsets.ISO_8859_1);
  }

  private void accept() {
    while (true) {
      try {
        var client = listener.accept();
        var server = new Socket(shale.getHost(), shale.getPort());
        start(() -> pump(client, server, sent));
        start(() -> pump(server, client, answered));
      } catch (IOException e) {
        return; // closed
      }
    }
  }

  private static void pump(Socket from, Socket to, ByteArrayOutputStream kept) {
    var buffer = new byte[64 << 10];
    try (from; to) {
      InputStream in = from.getInputStream();
      OutputStream out = to.getOutputStream();
      for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
        kept.write(buffer, 0, n); // before it is passed on, so that an answer finds it kept
        out.write(buffer, 0, n);
      }
    } catch (IOException e) {
      // Either side may hang up; the client tells the test what that meant.
    }
  }

  private static void start(Runnable work) {
    var thread = new Thread(work);
    thread.setDaemon(true);
    thread.start();
  }
}
