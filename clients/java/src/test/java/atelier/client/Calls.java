package atelier.client;

import atelier.v1.GenerateRequest;
import atelier.v1.GetGenerationRequest;
import atelier.v1.HealthRequest;
import atelier.v1.PlanGenerationRequest;
import atelier.v1.State;
import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.util.JsonFormat;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** The calls of the cases. */
final class Calls {
  private final AtelierClient client;
  private final Conformance.Case one;

  Calls(AtelierClient client, Conformance.Case one) {
    this.client = client;
    this.one = one;
  }

  /** Makes the call, and returns what it has found. */
  JsonElement make() throws InvalidProtocolBufferException {
    return switch (one.call()) {
      case "generate" -> generate();
      case "stream" -> stream();
      case "attach" -> attach();
      case "cancel" -> leave();
      case "cancelled" -> cancelled();
      case "transfer" -> transfer();
      case "download" ->
          toJson(Map.of("size", client.download(one.request().get("artifactId").getAsString()).length));
      case "get" -> write(client.stub().getGeneration(read(GetGenerationRequest.newBuilder()).build()));
      case "plan" -> write(client.stub().planGeneration(read(PlanGenerationRequest.newBuilder()).build()));
      case "health" -> write(client.stub().health(HealthRequest.getDefaultInstance()));
      default -> throw new IllegalArgumentException("no such call: " + one.call());
    };
  }

  private GenerateRequest request() throws InvalidProtocolBufferException {
    return read(GenerateRequest.newBuilder()).build();
  }

  private JsonElement generate() throws InvalidProtocolBufferException {
    var generation = client.generate(request());
    var found = write(generation).getAsJsonObject();
    found.addProperty("inlineBytes", generation.getOutputsList().stream().mapToInt(one -> one.getData().size()).sum());
    return found;
  }

  private JsonElement stream() throws InvalidProtocolBufferException {
    var last = "";
    List<Integer> sequences = new ArrayList<>();
    try (var events = client.stream(request())) {
      for (var event : events) {
        sequences.add(event.getSequence());
        last = event.hasGeneration() ? event.getGeneration().getState().name() : last;
      }
    }
    return toJson(Map.of("state", last, "consecutive", areConsecutive(sequences, 1)));
  }

  private JsonElement attach() throws InvalidProtocolBufferException {
    var generation = client.generate(request());
    List<Integer> sequences = new ArrayList<>();
    try (var events = client.attach(generation.getId(), 2)) {
      events.forEachRemaining(event -> sequences.add(event.getSequence()));
    }
    return toJson(Map.of("first", sequences.get(0), "consecutive", areConsecutive(sequences, 3)));
  }

  private static boolean areConsecutive(List<Integer> sequences, int first) {
    for (var index = 0; index < sequences.size(); index++) {
      if (sequences.get(index) != first + index) {
        return false;
      }
    }
    return true;
  }

  /** Leaves the stream of a task once it runs, and waits for its end. */
  private JsonElement leave() throws InvalidProtocolBufferException {
    var id = "";
    try (var events = client.stream(request())) {
      for (var event : events) {
        id = event.getGenerationId();
        if (event.getState() == State.STATE_RUNNING) {
          break;
        }
      }
    }
    for (; ; ) {
      var answer = client.stub().getGeneration(GetGenerationRequest.newBuilder().setGenerationId(id).build());
      if (answer.getGeneration().hasEndTime()) {
        return write(answer.getGeneration());
      }
    }
  }

  /** Cancels a task once it runs, and asks for its outcome. */
  private JsonElement cancelled() throws InvalidProtocolBufferException {
    try (var events = client.stream(request())) {
      for (var event : events) {
        if (event.getState() == State.STATE_RUNNING) {
          client.cancel(event.getGenerationId());
        }
      }
    }
    return write(client.generate(request()));
  }

  private JsonElement transfer() {
    var data = new byte[one.size()];
    for (var index = 0; index < data.length; index++) {
      data[index] = (byte) ((index * 31L + (index >> 8)) % 251);
    }
    var artifact = client.upload(data, one.media_type());
    var back = client.download(artifact.getId());
    return toJson(Map.of("size", artifact.getSize(), "same", Arrays.equals(data, back)));
  }

  private <B extends Message.Builder> B read(B builder) throws InvalidProtocolBufferException {
    JsonFormat.parser().merge(one.request().toString(), builder);
    return builder;
  }

  private static JsonElement write(MessageOrBuilder message) throws InvalidProtocolBufferException {
    return JsonParser.parseString(JsonFormat.printer().print(message));
  }

  private static JsonElement toJson(Object value) {
    return Conformance.JSON.toJsonTree(value);
  }
}
