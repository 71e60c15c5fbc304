package atelier.client;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/**
 * Runs the cases of clients/conformance with this client: {@code Conformance FILE}.
 *
 * <p>FILE is JSON with servers and cases. Each case ends with one line of JSON on standard output: its name, and what was
 * wrong, which is empty if nothing was.
 */
final class Conformance {
  static final Gson JSON = new Gson();

  record Server(String address, String token, String ca) {}

  record Case(
      String name,
      String call,
      String server,
      String token,
      Long timeout_ms,
      JsonObject request,
      int size,
      String media_type,
      JsonElement expect,
      JsonElement error) {}

  record Told(Map<String, Server> servers, List<Case> cases) {}

  public static void main(String[] arguments) throws IOException {
    var told = JSON.fromJson(Files.readString(Path.of(arguments[0])), Told.class);
    for (var one : told.cases()) {
      var server = told.servers().get(one.server() == null ? "plain" : one.server());
      try (var client = connect(server, one)) {
        System.out.println(JSON.toJson(Map.of("name", one.name(), "wrong", run(client, one))));
      }
    }
    System.exit(0); // threads of calls that were left may go on
  }

  private static AtelierClient connect(Server server, Case one) {
    var token = one.token() == null ? server.token() : one.token();
    var connection = AtelierClient.builder(server.address()).reconnectTimeout(Duration.ofMinutes(5));
    connection.token(token == null ? "" : token);
    if (server.ca() != null) {
      connection.authorities(server.ca().getBytes(StandardCharsets.UTF_8));
    }
    var client = connection.connect();
    return one.timeout_ms() == null ? client : client.withTimeout(Duration.ofMillis(one.timeout_ms()));
  }

  /** What was wrong; empty if nothing was. */
  private static String run(AtelierClient client, Case one) throws IOException {
    try {
      var found = new Calls(client, one).make();
      return one.error() != null ? "succeeded with " + found : differ(one.expect(), found, "");
    } catch (RuntimeException thrown) {
      var error = AtelierException.from(thrown);
      if (one.error() == null) {
        return "failed: " + error.code() + " " + error;
      }
      var found = Map.of("code", error.code().name(), "reason", error.reason(), "fields", error.fields().keySet());
      return differ(one.error(), JSON.toJsonTree(found), "error");
    }
  }

  /** Where what was found is not what was expected, which may name less; empty if nowhere. */
  private static String differ(JsonElement expected, JsonElement found, String path) {
    if (expected == null || (!expected.isJsonObject() && isSame(expected, found))) {
      return "";
    }
    if (!expected.isJsonObject()) {
      return path + " is " + found + ", not " + expected;
    }
    for (var entry : expected.getAsJsonObject().entrySet()) {
      var wrong = differ(entry.getValue(), part(found, entry.getKey()), path + "." + entry.getKey());
      if (!wrong.isEmpty()) {
        return wrong;
      }
    }
    return "";
  }

  private static JsonElement part(JsonElement found, String key) {
    if (found != null && found.isJsonArray()) {
      var index = Integer.parseInt(key);
      return index < found.getAsJsonArray().size() ? found.getAsJsonArray().get(index) : null;
    }
    return found == null ? null : found.getAsJsonObject().get(key);
  }

  private static boolean isSame(JsonElement expected, JsonElement found) {
    if (found != null && expected.isJsonPrimitive() && expected.getAsJsonPrimitive().isNumber()) {
      return found.getAsDouble() == expected.getAsDouble();
    }
    return expected.equals(found);
  }
}
