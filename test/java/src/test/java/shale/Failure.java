package shale;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;

/** What an asynchronous call failed with, as a blocking one would have thrown it. */
final class Failure {
  private Failure() {}

  static <T> T unwrapped(CompletableFuture<T> future) {
    try {
      return future.join();
    } catch (CompletionException e) {
      if (e.getCause() instanceof RuntimeException cause) {
        throw cause;
      }
      throw e;
    }
  }
}
