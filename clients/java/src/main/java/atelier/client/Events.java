package atelier.client;

import atelier.v1.StreamProgressRequest;
import atelier.v1.StreamProgressResponse;
import io.grpc.Deadline;
import io.grpc.StatusException;
import io.grpc.stub.BlockingClientCall;
import java.util.Iterator;
import java.util.NoSuchElementException;

/**
 * The events of a generation, each once, to the last, which has the generation, also one that has failed.
 *
 * <p>{@link #hasNext} and {@link #next} wait, and throw an {@link AtelierException} if the task was rejected or the server
 * stays out of reach. Closing the events of {@link AtelierClient#stream} early cancels the task. Not for several threads,
 * but for {@link #close}.
 */
public final class Events implements Iterator<StreamProgressResponse>, Iterable<StreamProgressResponse>, AutoCloseable {
  private final AtelierClient client;
  private final StreamProgressRequest.Builder request;
  private final Deadline deadline;
  private final Reachability reach;
  private volatile BlockingClientCall<?, StreamProgressResponse> call;
  private volatile boolean isClosed;
  private StreamProgressResponse next;
  private boolean isOver;

  Events(AtelierClient client, StreamProgressRequest request) {
    this.client = client;
    this.request = request.toBuilder();
    deadline = client.newDeadline();
    reach = new Reachability(client, deadline);
  }

  @Override
  public boolean hasNext() {
    while (next == null && !isOver && !isClosed) {
      try {
        receive();
      } catch (InterruptedException interruption) {
        close();
        throw Reachability.interrupted();
      } catch (StatusException failure) {
        call = null;
        if (!isClosed) {
          reach.await(AtelierException.from(failure));
        }
      }
    }
    return next != null && !isClosed;
  }

  private void receive() throws InterruptedException, StatusException {
    if (call == null) {
      call = client.callStub(deadline).streamProgress(request.build());
      if (isClosed) { // meanwhile, by another thread, which did not see the call
        close();
      }
    }
    var event = call.read();
    isOver = event == null;
    if (!isOver) {
      reach.answered();
      if (event.getSequence() > request.getAfterSequence()) { // otherwise sent again, to keep the connection open
        request.setAfterSequence(event.getSequence());
        next = event;
      }
    }
  }

  @Override
  public StreamProgressResponse next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    var event = next;
    next = null;
    return event;
  }

  /** These events, which can be run through once. */
  @Override
  public Iterator<StreamProgressResponse> iterator() {
    return this;
  }

  /** Ends the stream; before its end, that cancels a task that it has started. */
  @Override
  public void close() {
    isClosed = true;
    var open = call;
    if (open != null && !isOver) {
      open.cancel("the events were closed", null);
    }
  }
}
