package atelier.client;

import io.grpc.Deadline;
import io.grpc.Status;
import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/** Decides when a lost call is made again, and when to give up. */
final class Reachability {
  private static final Duration FIRST_DELAY = Duration.ofMillis(100);
  private static final Duration MAX_DELAY = Duration.ofSeconds(3);
  // While the server has never answered, a wrong address is told soon.
  private static final Duration FIRST_ANSWER_TIMEOUT = Duration.ofSeconds(2);

  private final AtelierClient client;
  private final Deadline deadline;
  private boolean reached;
  private int failures;
  private long since; // nanoseconds of the first failure after the last answer, if there are failures

  /** {@code deadline} is that of the caller, or null. */
  Reachability(AtelierClient client, Deadline deadline) {
    this.client = client;
    this.deadline = deadline;
  }

  void answered() {
    reached = true;
    failures = 0;
  }

  /** Waits until the next attempt; the error itself is thrown if none helps, or the time is over. */
  void await(AtelierException error) {
    var late = deadline != null && deadline.isExpired();
    if (late) {
      throw error.code() == Status.Code.DEADLINE_EXCEEDED ? error : late();
    }
    if (client.channel.isShutdown()) {
      throw error;
    }
    var delay = delayAfter(error, client.reconnectTimeout, System.nanoTime());
    if (deadline != null) {
      delay = min(delay, Duration.ofNanos(Math.max(1, deadline.timeRemaining(TimeUnit.NANOSECONDS))));
    }
    try {
      Thread.sleep(delay.toMillis());
    } catch (InterruptedException interruption) {
      throw interrupted();
    }
    client.channel.resetConnectBackoff(); // its own delays grow to two minutes
  }

  /** The time to wait, which doubles from 0.1 to 3 s unless the server gives one. */
  Duration delayAfter(AtelierException error, Duration timeout, long now) {
    if (failures++ == 0) {
      since = now;
    }
    reached |= !error.reason().isEmpty();
    var left = (reached ? timeout : min(timeout, FIRST_ANSWER_TIMEOUT)).minusNanos(now - since);
    if (!error.isLost() || left.isNegative() || left.isZero()) {
      throw error;
    }
    var doubled = min(FIRST_DELAY.multipliedBy(1L << Math.min(failures - 1, 5)), MAX_DELAY);
    // Those that lost one server come back apart.
    var jittered = Duration.ofNanos((long) (doubled.toNanos() * ThreadLocalRandom.current().nextDouble(0.5, 1)));
    return min(error.retryAfter().orElse(jittered), left);
  }

  private static Duration min(Duration one, Duration other) {
    return one.compareTo(other) < 0 ? one : other;
  }

  private static AtelierException late() {
    return new AtelierException(Status.Code.DEADLINE_EXCEEDED, "", "the timeout of the call has passed", "");
  }

  /** The error of a thread that was interrupted, which it stays. */
  static AtelierException interrupted() {
    Thread.currentThread().interrupt();
    return new AtelierException(Status.Code.CANCELLED, "", "the thread was interrupted", "");
  }
}
