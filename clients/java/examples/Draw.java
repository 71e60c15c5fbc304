import atelier.client.AtelierClient;
import atelier.v1.GenerateRequest;
import atelier.v1.Generation;
import atelier.v1.ImageTask;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Generates an image with a progress bar, and saves it: {@code java -cp 'target/classes:target/dependency/*'
 * examples/Draw.java "a red apple" apple.png [http://localhost:50051]}.
 */
public final class Draw {
  public static void main(String[] arguments) throws IOException {
    var prompt = arguments.length > 0 ? arguments[0] : "a red apple";
    var file = Path.of(arguments.length > 1 ? arguments[1] : "apple.png");
    var address = arguments.length > 2 ? arguments[2] : "http://localhost:50051";
    var token = System.getenv().getOrDefault("ATELIER_TOKEN", "");
    var request = GenerateRequest.newBuilder().setImage(ImageTask.newBuilder().setPrompt(prompt)).build();
    try (var client = AtelierClient.builder(address).token(token).connect();
        var events = client.stream(request)) { // leaving it early cancels the task
      var generation = Generation.getDefaultInstance();
      for (var event : events) {
        var bar = "#".repeat((int) (event.getProgress() * 30));
        System.err.printf("\r[%-30s] %-12s", bar, event.getStage());
        generation = event.getGeneration();
      }
      if (generation.getOutputsCount() == 0) {
        throw new IOException("no image: " + generation.getState() + " " + generation.getFailure().getMessage());
      }
      Files.write(file, client.download(generation.getOutputs(0).getArtifact().getId()));
      System.err.println("\n" + file);
    }
  }
}
