use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

use crate::Error;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(3);
/// While the server has never answered, a wrong address is told soon.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Decides when a lost call is made again, and when to give up.
pub(crate) struct Reachability {
    timeout: Duration,
    reached: bool,
    failures: u32,
    since: Option<Instant>, // of the first failure after the last answer
}

impl Reachability {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, reached: false, failures: 0, since: None }
    }

    pub(crate) fn answered(&mut self) {
        *self = Self { timeout: self.timeout, reached: true, failures: 0, since: None };
    }

    /// Waits until the next attempt; the error itself is returned if none helps, or the time is over.
    pub(crate) async fn wait(&mut self, error: Error) -> Result<(), Error> {
        let delay = self.delay_after(error, Instant::now())?;
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// The time to wait, which doubles from 0.1 to 3 s unless the server gives one.
    fn delay_after(&mut self, error: Error, now: Instant) -> Result<Duration, Error> {
        let since = *self.since.get_or_insert(now);
        self.reached |= !error.reason.is_empty();
        let timeout = if self.reached { self.timeout } else { self.timeout.min(FIRST_ANSWER_TIMEOUT) };
        let left = timeout.saturating_sub(now - since);
        if !error.is_lost() || left.is_zero() {
            return Err(error);
        }
        let doubled = (FIRST_DELAY * (1 << self.failures.min(5))).min(MAX_DELAY);
        self.failures += 1;
        Ok(error.retry_after.unwrap_or_else(|| jittered(doubled)).min(left))
    }
}

/// From half of it to all: those that lost one server come back apart.
pub(crate) fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(0.5 + f64::from(random::<1>()[0]) / 510.0)
}

/// Bytes that nobody can foresee.
pub(crate) fn random<const COUNT: usize>() -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    SystemRandom::new().fill(&mut bytes).expect("this system has no random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;

    fn lost() -> Error {
        Status::new(Code::Unavailable, "closing").into()
    }

    #[test]
    fn only_lost_calls_are_made_again() {
        let reason = |reason: &str| Error { reason: reason.into(), ..lost() };
        let cases = [
            (lost(), true),
            (reason("DRAINING"), true),
            (reason("QUEUE_FULL"), false),
            (Status::new(Code::InvalidArgument, "").into(), false),
            (Status::new(Code::OutOfRange, "larger than max").into(), false),
            (Error::new(Code::DeadlineExceeded, "that of the caller"), false),
        ];
        for (error, again) in cases {
            let mut reach = Reachability::new(Duration::from_secs(60));
            assert_eq!(reach.delay_after(error.clone(), Instant::now()).is_ok(), again, "{error}");
        }
    }

    #[test]
    fn delays_double_and_have_an_end() {
        let mut reach = Reachability::new(Duration::from_secs(60));
        reach.answered();
        let start = Instant::now();
        for most in [100, 200, 400, 800, 1600, 3000, 3000].map(Duration::from_millis) {
            let delay = reach.delay_after(lost(), start).unwrap();
            assert!(most / 2 <= delay && delay <= most, "{delay:?}, at most {most:?}");
        }
        let told = Error { retry_after: Some(Duration::from_secs(5)), ..lost() };
        assert_eq!(reach.delay_after(told, start).unwrap(), Duration::from_secs(5));
        assert!(reach.delay_after(lost(), start + Duration::from_secs(60)).is_err());
    }

    #[test]
    fn a_wrong_address_is_told_soon() {
        let mut reach = Reachability::new(Duration::from_secs(3600));
        let start = Instant::now();
        assert!(reach.delay_after(lost(), start).is_ok());
        assert!(reach.delay_after(lost(), start + FIRST_ANSWER_TIMEOUT).is_err());
    }
}
