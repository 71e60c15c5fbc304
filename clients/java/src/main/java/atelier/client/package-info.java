/**
 * A client of Atelier, a service that generates images and audio: a thin layer over the stubs in {@code atelier.v1}.
 *
 * <pre>{@code
 * try (var client = AtelierClient.builder("http://localhost:50051").token(key).connect();
 *     var events = client.stream(GenerateRequest.newBuilder()
 *         .setImage(ImageTask.newBuilder().setPrompt("a red apple"))
 *         .build())) {
 *   for (var event : events) System.out.println(event.getStage() + " " + event.getProgress());
 * }
 * }</pre>
 *
 * <p>A task carries a request id, so it may be sent again. A stream whose connection is lost is opened again after its
 * last event, for up to 30 seconds without an answer; no event comes twice. A download goes on at its last byte, an
 * upload begins anew. Calls with one answer are retried by gRPC, with the delay that the server gives.
 *
 * <p>Closing {@link atelier.client.Events} early, and interrupting the thread that waits, cancel the task. Every error of
 * a call is an {@link atelier.client.AtelierException}.
 */
package atelier.client;
