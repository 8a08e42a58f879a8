//! How long a client may take over its requests. Only the time spent waiting for it counts.

use std::time::Instant;

use super::place::Place;
use crate::body_pace::BodyPace;
use crate::config::Timeouts;
use crate::refusal::Refusal;

/// What is over when a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// No further request came: the connection is closed without a word.
    Idle,
    /// A request did not come to its end.
    Request(Refusal),
}

/// The waits of one connection.
#[derive(Debug)]
pub(super) struct ClientTimeouts {
    timeouts: Timeouts,
    /// Where in the stream, and since when, the client has been waited for.
    wait: Option<(Place, Instant)>,
    body: BodyPace,
}

impl ClientTimeouts {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        Self { body: BodyPace::new(&timeouts), timeouts, wait: None }
    }

    /// There is nothing to read at this place: until when the client is waited for, and what is
    /// over then. Between two requests the wait begins with the last answer.
    pub(super) fn deadline(
        &mut self,
        place: Place,
        last_answer: Option<Instant>,
        now: Instant,
    ) -> (Instant, Overdue) {
        if place == Place::Body {
            return (self.body.deadline(now), Overdue::Request(Refusal::BodyTimeout));
        }
        let since = match self.wait {
            Some((at, since)) if at == place => since,
            _ if place == Place::Between => last_answer.unwrap_or(now),
            _ => now,
        };
        self.wait = Some((place, since));
        match place {
            Place::Between => (since.max(last_answer.unwrap_or(since)) + self.timeouts.idle, Overdue::Idle),
            Place::Head | Place::Body => (since + self.timeouts.head, Overdue::Request(Refusal::HeadTimeout)),
        }
    }

    /// `bytes` came, and the next byte belongs to `place`.
    pub(super) fn received(
        &mut self,
        place: Place,
        bytes: usize,
        now: impl Fn() -> Instant,
    ) -> Result<(), Refusal> {
        // A head has one deadline from its first byte on, however many pieces it comes in.
        if place == Place::Head && matches!(self.wait, Some((Place::Head, _))) {
            return Ok(());
        }
        self.wait = None;
        if place == Place::Body { self.body.received(bytes, now) } else { Ok(()) }
    }

    /// A head has come to its end: its body, if it has one, is waited for from now on.
    pub(super) fn begin_body(&mut self) {
        self.body = BodyPace::new(&self.timeouts);
        self.wait = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timeouts() -> Timeouts {
        let second = Duration::from_secs(1);
        Timeouts {
            head: 10 * second,
            body: 30 * second,
            idle: 60 * second,
            minimum_rate: 100,
            ..Timeouts::default()
        }
    }

    #[test]
    fn a_head_in_drops_has_one_deadline() {
        let start = Instant::now();
        let mut timeouts_of = ClientTimeouts::new(timeouts());
        let (first, _) = timeouts_of.deadline(Place::Head, None, start);
        for second in 1..9 {
            let now = start + Duration::from_secs(second);
            timeouts_of.received(Place::Head, 1, || now).unwrap();
            assert_eq!(
                timeouts_of.deadline(Place::Head, None, now),
                (first, Overdue::Request(Refusal::HeadTimeout))
            );
        }
    }

    #[test]
    fn a_body_in_drops_is_too_slow_after_a_while_and_a_steady_one_is_not() {
        for (bytes, slow) in [(1, true), (200, false)] {
            let start = Instant::now();
            let mut timeouts_of = ClientTimeouts::new(timeouts());
            let result = (0..60).try_for_each(|second| {
                timeouts_of.deadline(Place::Body, None, start + Duration::from_secs(second));
                timeouts_of.received(Place::Body, bytes, || start + Duration::from_secs(second + 1))
            });
            assert_eq!(result.is_err(), slow);
        }
    }

    #[test]
    fn idle_time_begins_with_the_last_answer() {
        let start = Instant::now();
        let mut timeouts_of = ClientTimeouts::new(timeouts());
        assert_eq!(
            timeouts_of.deadline(Place::Between, None, start),
            (start + timeouts().idle, Overdue::Idle)
        );
        let answer = start + Duration::from_secs(50);
        let much_later = start + Duration::from_secs(55);
        assert_eq!(
            timeouts_of.deadline(Place::Between, Some(answer), much_later).0,
            answer + timeouts().idle
        );
    }

    #[test]
    fn time_in_which_nobody_waited_for_the_body_does_not_count() {
        let start = Instant::now();
        let mut timeouts_of = ClientTimeouts::new(timeouts());
        timeouts_of.received(Place::Body, 1, || start).unwrap();
        let much_later = start + Duration::from_secs(500);
        assert_eq!(timeouts_of.deadline(Place::Body, None, much_later).0, much_later + timeouts().body);
    }
}
