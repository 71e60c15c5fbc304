package atelier

import (
	"math/rand/v2"
	"time"
)

const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = 3 * time.Second
	// While the server has never answered, a wrong address is told soon.
	firstAnswerTimeout = 2 * time.Second
)

// reachability decides when a lost call is made again, and when to give up.
type reachability struct {
	timeout  time.Duration
	reached  bool // whether there is a server at all
	failures int
	since    time.Time // of the first failure after the last answer
}

func (reach *reachability) answered() {
	reach.reached, reach.failures, reach.since = true, 0, time.Time{}
}

// delayAfter returns the time to wait before the next attempt, which doubles from 0.1 to 3 s unless the server gives
// one; false if another attempt does not help, or the time is over.
func (reach *reachability) delayAfter(failure *Error) (time.Duration, bool) {
	if reach.since.IsZero() {
		reach.since = time.Now()
	}
	timeout := reach.timeout
	if failure.Reason != "" {
		reach.reached = true
	}
	if !reach.reached {
		timeout = min(timeout, firstAnswerTimeout)
	}
	left := timeout - time.Since(reach.since)
	if !failure.isLost() || left <= 0 {
		return 0, false
	}
	delay := failure.RetryAfter
	if delay == 0 {
		delay = min(firstDelay<<min(reach.failures, 5), maxDelay)
		delay = time.Duration(float64(delay) * (0.5 + rand.Float64()/2)) // many that lost one server come back apart
	}
	reach.failures++
	return min(delay, left), true
}
