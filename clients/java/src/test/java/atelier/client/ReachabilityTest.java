package atelier.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import org.junit.jupiter.api.Test;

final class ReachabilityTest {
  private static final Duration MINUTE = Duration.ofMinutes(1);

  private static AtelierException lost() {
    return AtelierException.from(Status.UNAVAILABLE.withDescription("closing").asException());
  }

  private static AtelierException withReason(String reason, Duration retryAfter) {
    var delay = com.google.protobuf.Duration.newBuilder().setSeconds(retryAfter.toSeconds());
    var violation = BadRequest.FieldViolation.newBuilder().setField("generate.image.width").setDescription("at least 16");
    var status =
        com.google.rpc.Status.newBuilder()
            .setCode(Status.Code.UNAVAILABLE.value())
            .addDetails(Any.pack(ErrorInfo.newBuilder()
                .setDomain("atelier").setReason(reason).putMetadata("generation_id", "g").build()))
            .addDetails(Any.pack(BadRequest.newBuilder().addFieldViolations(violation).build()))
            .addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()))
            .build();
    return AtelierException.from(StatusProto.toStatusException(status));
  }

  @Test
  void errorsHaveTheDetailsOfTheirStatus() {
    var error = withReason("INVALID_REQUEST", Duration.ofSeconds(5));
    assertEquals("INVALID_REQUEST", error.reason());
    assertEquals("g", error.generationId());
    assertEquals("at least 16", error.fields().get("image.width"));
    assertEquals(Duration.ofSeconds(5), error.retryAfter().orElseThrow());
  }

  @Test
  void onlyLostCallsAreMadeAgain() {
    assertTrue(lost().isLost());
    assertTrue(withReason("DRAINING", Duration.ZERO).isLost());
    for (var error : new AtelierException[] {
      withReason("QUEUE_FULL", Duration.ofSeconds(1)),
      AtelierException.from(Status.INVALID_ARGUMENT.asException()),
      new AtelierException(Status.Code.DEADLINE_EXCEEDED, "", "that of the caller", ""),
    }) {
      assertThrows(AtelierException.class, () -> new Reachability(null, null).delayAfter(error, MINUTE, 0));
    }
  }

  @Test
  void delaysDoubleAndHaveAnEnd() {
    var reach = new Reachability(null, null);
    reach.answered();
    for (var most : new long[] {100, 200, 400, 800, 1600, 3000, 3000}) {
      var delay = reach.delayAfter(lost(), MINUTE, 0).toMillis();
      assertTrue(most / 2 <= delay && delay <= most, delay + " ms, at most " + most);
    }
    var told = withReason("DRAINING", Duration.ofSeconds(5));
    assertEquals(Duration.ofSeconds(5), reach.delayAfter(told, MINUTE, 0));
    assertThrows(AtelierException.class, () -> reach.delayAfter(lost(), MINUTE, MINUTE.toNanos()));
  }

  @Test
  void aClosedClientTriesNothingAgain() {
    var client = AtelierClient.builder("http://localhost:1").reconnectTimeout(Duration.ofHours(1)).connect();
    var reach = new Reachability(client, null);
    reach.answered();
    reach.await(lost()); // a server that comes back
    client.close();
    assertThrows(AtelierException.class, () -> reach.await(lost()));
  }

  @Test
  void aWrongAddressIsToldSoon() {
    var reach = new Reachability(null, null);
    reach.delayAfter(lost(), Duration.ofHours(1), 0);
    var later = Duration.ofSeconds(2).toNanos();
    assertThrows(AtelierException.class, () -> reach.delayAfter(lost(), Duration.ofHours(1), later));
    assertThrows(IllegalArgumentException.class, () -> AtelierClient.builder("localhost:50051").connect());
  }
}
